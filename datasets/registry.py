"""Names of problems that users type, and the factories behind them."""

from collections.abc import Callable

from cryosip.datasets.instance import Instance
from cryosip.datasets.nanocluster import nanocluster
from cryosip.datasets.oned import oned

DATASETS: dict[str, Callable[..., Instance]] = {"nanocluster": nanocluster, "oned": oned}
