"""Recover distributions of molecular conformations from cryo-EM images, and compare the methods that do.

`DATASETS`, `METHODS`, `DISCREPANCIES`, `OPTIMIZERS`, `METRICS` and `STUDIES` are dictionaries from the names that users
type to functions; `run` runs a method on a problem, `load` reads folders and packs of records as a table.
"""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryosip.bench.metrics import METRICS
    from cryosip.bench.runner import run
    from cryosip.bench.studies.registry import STUDIES
    from cryosip.datasets.registry import DATASETS
    from cryosip.methods.registry import DISCREPANCIES, METHODS, OPTIMIZERS
    from cryosip.records.table import load

# In a checkout the folders of the package lie beside this one; in an installed wheel they lie in it.
if not Path(__file__).with_name("methods").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

__version__ = version("cryosip")
__all__ = ["DATASETS", "DISCREPANCIES", "METHODS", "METRICS", "OPTIMIZERS", "STUDIES", "__version__", "load", "run"]

_HOMES = {
    "DATASETS": "cryosip.datasets.registry",
    "DISCREPANCIES": "cryosip.methods.registry",
    "METHODS": "cryosip.methods.registry",
    "METRICS": "cryosip.bench.metrics",
    "OPTIMIZERS": "cryosip.methods.registry",
    "STUDIES": "cryosip.bench.studies.registry",
    "load": "cryosip.records.table",
    "run": "cryosip.bench.runner",
}


def __getattr__(name: str) -> Any:
    """Imported when first asked for: `cryosip --help` should not wait for JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cryosip' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
