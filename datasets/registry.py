"""Names of problems that users type, and the factories behind them."""

from collections.abc import Callable

from cryosip.datasets.ensemble import ensemble
from cryosip.datasets.fredholm import fredholm
from cryosip.datasets.instance import Instance
from cryosip.datasets.inverse_kinematics import inverse_kinematics
from cryosip.datasets.nanocluster import nanocluster
from cryosip.datasets.oned import oned
from cryosip.datasets.protein import adk, adk_entangled, adk_states, adk_volumes, hsp90
from cryosip.datasets.slcp import slcp
from cryosip.datasets.two_moons import two_moons

DATASETS: dict[str, Callable[..., Instance]] = {
    "adk": adk,
    "adk-entangled": adk_entangled,
    "adk-states": adk_states,
    "adk-volumes": adk_volumes,
    "fredholm": fredholm,
    "ensemble": ensemble,
    "hsp90": hsp90,
    "inverse-kinematics": inverse_kinematics,
    "nanocluster": nanocluster,
    "oned": oned,
    "slcp": slcp,
    "two-moons": two_moons,
}
