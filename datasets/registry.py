"""Names of problems that users type, and the factories behind them."""

from collections.abc import Callable

from cryosip.datasets.ensemble import ensemble
from cryosip.datasets.instance import Instance
from cryosip.datasets.nanocluster import nanocluster
from cryosip.datasets.oned import oned
from cryosip.datasets.protein import adk, hsp90

DATASETS: dict[str, Callable[..., Instance]] = {
    "adk": adk,
    "ensemble": ensemble,
    "hsp90": hsp90,
    "nanocluster": nanocluster,
    "oned": oned,
}
