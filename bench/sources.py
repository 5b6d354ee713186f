"""What decides the result of a run, by parts: an edit of the sources voids the records of no other runs."""

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

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
        engine(root), _part(method, root), _part([DATASETS.get(config.problem)], root), _part([measure], root)
    )


def problem_code(name: str) -> str:
    """The part of the problem alone."""
    return _part([DATASETS.get(name)], None)


def engine(root: Path | None = None) -> str:
    """Of the modules that every run passes, and of the numerical libraries."""
    return _digest(_engine_modules(root), NUMERICAL, root)


def _part(factories: Iterable[Factory | None], root: Path | None) -> str:
    """Of the modules behind some functions that are not the engine's. An unknown name has none: its run is an error."""
    modules = {factory.__module__ for factory in factories if factory is not None}
    starts = {name for name in modules - _engine_modules(root) if name.partition(".")[0] not in NUMERICAL}
    own = behind(frozenset(starts), frozenset(NEUTRAL), root) - _engine_modules(root)
    libraries = {name for module in own for name in _imported(module, root) if name in OF_PROBLEMS}
    return _digest(own, tuple(sorted(libraries)), root)


def _engine_modules(root: Path | None) -> frozenset[str]:
    return behind(frozenset(ENGINE), frozenset(NEUTRAL | {OF_FLOWS}), root)


@cache
def behind(starts: frozenset[str], without: frozenset[str], root: Path | None = None) -> frozenset[str]:
    """Modules with all modules of this package that they import, and those in turn, but for some."""
    found, waiting = set[str](), set(starts)
    while waiting:
        found |= waiting
        imported = {name for module in waiting for name in _imported(module, root)}
        ours = {name for name in imported if name.startswith("cryosip.") and not name.startswith(RECORDS)}
        waiting = ours - found - without
    return frozenset(found)


@cache
def _digest(modules: frozenset[str], libraries: tuple[str, ...], root: Path | None) -> str:
    if not modules:
        return ""
    parts = [[module, hashlib.sha256(_file(module, root).read_bytes()).hexdigest()] for module in sorted(modules)]
    return _hash(json.dumps([parts, [[name, version(name)] for name in libraries]]).encode())


@cache
def _imported(module: str, root: Path | None) -> frozenset[str]:
    """The modules of this package that a module imports anywhere in it, and the first names of all others."""
    names = set[str]()
    for node in ast.walk(ast.parse(_file(module, root).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    own = {name for name in names if name.startswith("cryosip.") and _file(name, root).is_file()}
    return frozenset(own | {name.partition(".")[0] for name in names if not name.startswith("cryosip")})


def _file(module: str, root: Path | None) -> Path:
    """The source of a module of this package, or of one that the user has imported."""
    package, *names = module.split(".")
    if package != "cryosip":
        return Path(str(sys.modules[module].__file__))
    return (root or folder("methods").parent).joinpath(*names).with_suffix(".py")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
