"""Methods, problems, discrepancies, metrics and studies from outside: of a file, a module or an installed package.

What is found joins the registry of its kind for as long as the process lives; nothing is loaded that nobody names.
"""

import functools
import importlib
import importlib.metadata
import inspect
import operator
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from cryosip.bench.metrics import METRICS
from cryosip.bench.sources import distribution
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.study import Study
from cryosip.datasets.instance import Instance
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.discrepancy import Discrepancy
from cryosip.methods.method import CONTRACT, Method
from cryosip.methods.registry import DISCREPANCIES, METHODS
from cryosip.records.files import digest

REGISTRIES: dict[str, dict[str, Any]] = {
    "method": METHODS,
    "problem": DATASETS,
    "discrepancy": DISCREPANCIES,
    "metric": METRICS,
    "study": STUDIES,
}
GROUPS = {
    "method": "cryosip.methods",
    "problem": "cryosip.problems",
    "discrepancy": "cryosip.discrepancies",
    "metric": "cryosip.metrics",
    "study": "cryosip.studies",
}
NEEDED = {"problem": ("n_observations", "seed")}  # arguments that studies give by name


MADE = {"method": Method, "problem": Instance, "discrepancy": Discrepancy}


class Origin(NamedTuple):
    """Where an entry of a registry came from, in full, and the version of that: a distribution's, or of the content."""

    kind: str
    name: str
    place: str
    version: str


_origins: dict[tuple[str, str], Origin] = {}


def loaded() -> list[Origin]:
    """All that joined the registries, for other processes."""
    return list(_origins.values())


def load(origins: Iterable[Origin]) -> None:
    """The same in another process. Raises ValueError where a file has changed since."""
    for origin in origins:
        name = find(origin.kind, origin.place or origin.name)
        if _origins[origin.kind, name].version != origin.version:
            raise ValueError(f"{origin.place or origin.name} has changed since the command began; run it again")


def find(kind: str, text: str) -> str:
    """The name in the registry of what was asked for by its name, as FILE.py:NAME or as package.module:NAME.

    Raises ValueError for what is not there, cannot be imported, was built for another version of the contract, or has
    a name that another entry has.
    """
    place, colon, name = text.rpartition(":")
    if not colon and text.endswith(".py"):
        raise ValueError(f"{kind} is {text!r}; wanted {text}:NAME, with the name of a function in it")
    if not colon:
        return _by_name(kind, text)
    if place.endswith(".py"):
        module = _from_file(kind, Path(place), text)
        return _joined(Origin(kind, name, f"{module.__file__}:{name}", _version(module)), module, name)
    module = _imported(kind, place, text)
    return _joined(Origin(kind, name, text, _version(module)), module, name)


def installed(kind: str) -> dict[str, list[EntryPoint]]:
    """What installed packages offer of a kind, by name."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUPS[kind]), key=lambda e: (e.name, _of(e))):
        found.setdefault(entry.name, []).append(entry)
    return found


def rows(kind: str) -> Iterator[tuple[str, str]]:
    """Each name of a kind with a sentence: the registry's, then those of installed packages, available or not."""
    own = {name: entry for name, entry in REGISTRIES[kind].items() if (kind, name) not in _origins}
    for name, entry in own.items():
        yield name, summary(entry)
    for name, entries in installed(kind).items():
        try:
            yield find(kind, name), f"{summary(REGISTRIES[kind][name])} ({_of(entries[0])})"
        except ValueError as error:
            yield name, f"unavailable: {error}"
    for _, name in (key for key in _origins if key[0] == kind and key[1] not in installed(kind)):
        yield name, f"{summary(REGISTRIES[kind][name])} ({_origins[kind, name].place})"


def summary(entry: Any) -> str:
    """The first sentence of what it says of itself."""
    return entry.summary if isinstance(entry, Study) else (inspect.getdoc(entry) or "").partition("\n")[0]


def _by_name(kind: str, name: str) -> str:
    """Of the registry, or of an installed package."""
    entries, here = installed(kind).get(name, []), name in REGISTRIES[kind]
    known = _origins.get((kind, name))
    homes = [*(["cryosip"] if here and known is None else []), *map(_of, entries)]
    if len(homes) > 1:
        raise ValueError(f"{kind} {name!r} is in {' and in '.join(homes)}; wanted a name that one of them has")
    if here or not entries:
        return checks.one_of(kind, name, [*REGISTRIES[kind], *installed(kind)])
    entry = entries[0]
    module = _imported(kind, entry.module, f"{name} of {homes[0]}")
    return _joined(Origin(kind, name, "", homes[0]), module, entry.attr)


def _of(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _from_file(kind: str, path: Path, text: str) -> ModuleType:
    """The file as a module, whose name says what is in it: two files of one name are two modules.

    Files beside it can be imported by it.
    """
    try:
        path = path.expanduser().resolve()
        source = path.read_bytes()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{kind} {text}: {getattr(error, 'strerror', None) or error}; wanted FILE.py:NAME") from error
    module = ModuleType(f"{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{digest(source)}")
    module.__file__ = str(path)
    if (before := sys.modules.get(module.__name__)) and before.__file__ == module.__file__:
        return before
    sys.modules[module.__name__] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # never what an older file has left compiled
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise ValueError(f"{kind} {text}: its import ends by {_named(error)}") from error
    return module


def _imported(kind: str, name: str, text: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        wanted = "; wanted FILE.py:NAME or package.module:NAME" if isinstance(error, ImportError) else ""
        raise ValueError(f"{kind} {text}: the import of {name!r} ends by {_named(error)}{wanted}") from error


def _named(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _version(module: ModuleType) -> str:
    name = distribution(module.__name__)
    if name:
        return f"{name} {importlib.metadata.version(name)}"
    return digest(Path(str(module.__file__)).read_bytes())


def _joined(origin: Origin, module: ModuleType, attribute: str) -> str:
    """Puts a factory into its registry, under its module, of which its identity is made."""
    kind, name = origin.kind, origin.name
    what = f"{kind} {origin.place or f'{name} of {origin.version}'}"
    try:
        entry = operator.attrgetter(attribute)(module)
    except AttributeError:
        names = [k for k, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise ValueError(f"{what}: nothing of that name; wanted one of {', '.join(names)}") from None
    _check(what, kind, name, module, entry)
    before = _origins.get((kind, name))
    if before is None and name in REGISTRIES[kind]:
        raise ValueError(f"{what}: cryosip has a {kind} {name!r}; wanted another name")
    if before is not None and before.place != origin.place:
        raise ValueError(f"{kind} {name!r} is given twice: {before.place or before.version} and {what}")
    made = MADE.get(kind)
    REGISTRIES[kind][name] = entry if isinstance(entry, Study) else _under(module.__name__, entry, what, made)
    _origins[kind, name] = origin
    return name


def _check(what: str, kind: str, name: str, module: ModuleType, entry: Any) -> None:
    package = sys.modules.get(module.__name__.partition(".")[0])
    built_for = getattr(module, "CONTRACT", getattr(package, "CONTRACT", CONTRACT))
    if built_for != CONTRACT:
        raise ValueError(f"{what}: built for version {built_for} of the contract; this cryosip has version {CONTRACT}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+=-]*", name):
        raise ValueError(f"{what}: the name is {name!r}; wanted letters, digits, _ and -")
    if kind == "study":
        checks.instance_of(what, entry, Study)
    elif not callable(entry):
        raise ValueError(f"{what} is a {type(entry).__name__}; wanted a function")
    else:
        taken = inspect.signature(entry).parameters
        lacking = [argument for argument in NEEDED.get(kind, ()) if argument not in taken]
        if lacking:
            raise ValueError(f"{what} takes no {' and no '.join(lacking)}; wanted both as arguments with defaults")


def _under(module: str, factory: Callable[..., Any], what: str, made: type | None) -> Callable[..., Any]:
    """The same function as one of a module, wherever it was defined; ValueError where its result is of another type."""

    @functools.wraps(factory)
    def named(*arguments: Any, **options: Any) -> Any:
        result = factory(*arguments, **options)
        return result if made is None else checks.instance_of(f"what {what} returns", result, made)

    named.__module__ = module
    return named
