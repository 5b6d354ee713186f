"""What decides the result of a run, by parts: an edit of the sources voids the records of no other runs."""

import ast
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from cryosip.bench import metrics
from cryosip.bench.environment import folder, version
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import DISCREPANCIES, METHODS, OPTIMIZERS
from cryosip.records.schema import Identity, RunConfig

# what makes a record of a configuration, with all that it imports, and what it takes by name: energy, the distance of
# simulated data from the observations
ENGINE = ("cryosip.bench.execute", "cryosip.methods.energy")
# imported by what decides a result, and decides none: names of factories, files, what a record says of the machine
NEUTRAL = {
    "cryosip.bench.cache",
    "cryosip.bench.environment",
    "cryosip.bench.sources",
    "cryosip.bench.stopping",
    "cryosip.bench.studies.study",
    "cryosip.datasets.registry",
    "cryosip.methods.registry",
}
RECORDS = "cryosip.records."  # nor does what writes and reads records
OF_FLOWS = "cryosip.methods.flow"  # the engine asks it for the error of a flow's own discrepancy
NUMERICAL = ("jax", "jaxlib", "optax", "numpy", "scipy", "pot")  # libraries of every run
OF_PROBLEMS = {"healpix", "prody"}  # of the problems that import them

Factory = Callable[..., Any]


def identity_of(config: RunConfig, measure: Factory, root: Path | None = None) -> Identity:
    """The parts of a run that `measure` makes, from the sources in use, or from those of the checkout `root`."""
    discrepancy, optimizer = (config.method_options.get(name, {}).get("name") for name in ("discrepancy", "optimizer"))
    method = [METHODS.get(config.method), DISCREPANCIES.get(discrepancy), OPTIMIZERS.get(optimizer)]
    return Identity(
        engine(root), _part(method, root), _part([DATASETS.get(config.problem)], root), _measures(measure, root)
    )


def homes_of(config: RunConfig) -> dict[str, str]:
    """Where a method and a problem come from that are not of this package: a distribution, or a file and its hash."""
    factories = {"method_from": METHODS.get(config.method), "problem_from": DATASETS.get(config.problem)}
    modules = {key: factory.__module__ for key, factory in factories.items() if factory is not None}
    return {key: _home(module) for key, module in modules.items() if not module.startswith("cryosip.")}


def _home(module: str) -> str:
    if name := distribution(module):
        return f"{name} {version(name)}"
    file = _files(module)[0]
    return f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


def problem_code(name: str) -> str:
    """The part of the problem alone."""
    return _part([DATASETS.get(name)], None)


def metric_code() -> str:
    """The part of the metrics that are not the engine's, "" where there are none."""
    return _measures(None, None)


def _measures(measure: Factory | None, root: Path | None) -> str:
    """The measure, and what else is measured: metrics from outside by their names, which no configuration has."""
    part = _part([measure, *metrics.METRICS.values()], root)
    names = [name for name, metric in metrics.METRICS.items() if metric.__module__ not in _engine_modules(root)]
    return _hash(json.dumps([part, names]).encode()) if names else part


def engine(root: Path | None = None) -> str:
    """Of the modules that every run passes, and of the numerical libraries."""
    return _digest(_engine_modules(root), NUMERICAL, root)


def _part(factories: Iterable[Factory | None], root: Path | None) -> str:
    """Of the modules behind some functions that are not the engine's. An unknown name has none: its run is an error."""
    modules = {factory.__module__ for factory in factories if factory is not None}
    starts = {name for name in modules - _engine_modules(root) if name.partition(".")[0] not in NUMERICAL}
    own = behind(frozenset(starts), frozenset(NEUTRAL), root) - _engine_modules(root)
    packages = {module: name for module in own if (name := distribution(module))}
    libraries = {name for module in own for name in _imported(module, root) if name in OF_PROBLEMS}
    return _digest(own.difference(packages), tuple(sorted(libraries.union(packages.values()))), root)


@cache
def distribution(module: str) -> str:
    """The installed distribution that a module is of; "" for this package, a file, and what is installed editable.

    Whoever edits the sources of the latter does not raise its version.
    """
    package = module.partition(".")[0]
    names = importlib.metadata.packages_distributions().get(package, []) if package != "cryosip" else []
    for name in names:
        origin = json.loads(importlib.metadata.distribution(name).read_text("direct_url.json") or "{}")
        if not origin.get("dir_info", {}).get("editable"):
            return name
    return ""


def _engine_modules(root: Path | None) -> frozenset[str]:
    return behind(frozenset(ENGINE), frozenset(NEUTRAL | {OF_FLOWS}), root)


@cache
def behind(starts: frozenset[str], without: frozenset[str], root: Path | None = None) -> frozenset[str]:
    """Modules with all modules of this package that they import, and those in turn, but for some.

    A file of the user also brings those of its own folder that it imports.
    """
    found, waiting = set[str](), set(starts)
    while waiting:
        found |= waiting
        followed = {
            name
            for module in waiting
            for name in _imported(module, root)
            if (name.startswith("cryosip.") and not name.startswith(RECORDS)) or _is_beside(name, module)
        }
        waiting = followed - found - without
    return frozenset(found)


def _is_beside(name: str, module: str) -> bool:
    """Whether a name is a file in the folder of a file of the user."""
    other = getattr(sys.modules.get(name), "__file__", None)
    return other is not None and not module.startswith("cryosip.") and Path(other).parent == _files(module)[0].parent


@cache
def _digest(modules: frozenset[str], libraries: tuple[str, ...], root: Path | None) -> str:
    if not modules and not libraries:
        return ""
    parts = [
        [module, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(module, root))]
        for module in sorted(modules)
    ]
    return _hash(json.dumps([parts, [[name, version(name)] for name in libraries]]).encode())


@cache
def _imported(module: str, root: Path | None) -> frozenset[str]:
    """The modules of this package that a module imports anywhere in it, and the first names of all others."""
    names = set[str]()
    for node in (node for file in _files(module, root) for node in ast.walk(ast.parse(file.read_bytes()))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    own = {name for name in names if name.startswith("cryosip.") and _files(name, root)[0].is_file()}
    return frozenset(own | {name.partition(".")[0] for name in names if not name.startswith("cryosip")})


def _files(module: str, root: Path | None = None) -> list[Path]:
    """The source of a module of this package or of a file of the user; all files of a package of the user."""
    package, *names = module.split(".")
    if package == "cryosip":
        return [(root or folder("methods").parent).joinpath(*names).with_suffix(".py")]
    if paths := getattr(sys.modules.get(package), "__path__", []):
        return sorted(file for path in paths for file in Path(path).rglob("*.py"))
    return [Path(str(sys.modules[module].__file__))]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
