"""How a method that looks at the truth is found: by what it imports, and by what it builds and reads."""

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryosip.datasets.instance import Instance, Truth

ALLOWED = "cryosip.methods"


class Peeked(Exception):
    """What is raised in a method that looks at the truth."""


@contextmanager
def watched() -> Iterator[list[str]]:
    """A block in which no instance of a problem and no truth can be made or read.

    Who tries has Peeked raised, and the attempt is in the list that the block is given.
    """
    seen: list[str] = []

    def sealed(what: str) -> Callable[..., Any]:
        def touched(*_: Any, **__: Any) -> Any:
            seen.append(what)
            raise Peeked(f"a method {what}; wanted one that knows its Problem alone")

        return touched

    held = {(kind, name): kind.__dict__[name] for kind in (Instance, Truth) for name in ("__new__", *kind._fields)}
    for kind, name in held:
        made = name == "__new__"
        seal = sealed(f"builds an object of {kind.__name__}" if made else f"reads {kind.__name__}.{name}")
        setattr(kind, name, staticmethod(seal) if made else property(seal))
    try:
        yield seen
    finally:
        for (kind, name), before in held.items():
            setattr(kind, name, before)


def imports_beyond_methods(factory: Callable[..., Any]) -> list[str]:
    """What the module of a factory imports of cryosip but its methods, and what modules of its own package and files
    beside it do that it imports."""
    found, waiting, known = [], [factory.__module__], set[str]()
    while waiting:
        module = waiting.pop()
        known.add(module)
        for name in sorted(_imported(module)):
            if name.startswith("cryosip.") and not (name + ".").startswith(ALLOWED + "."):
                found.append(f"{module} imports {name}")
            elif name not in known and _is_of_the_same(name, module):
                waiting.append(name)
    return found


def _is_of_the_same(name: str, module: str) -> bool:
    """Package or folder, as far as it is imported."""
    if name.split(".")[0] == module.split(".")[0]:
        return name in sys.modules
    files = [getattr(sys.modules.get(one), "__file__", None) for one in (name, module)]
    return all(files) and len({Path(str(file)).parent for file in files}) == 1


def _imported(module: str) -> set[str]:
    """The names that a module imports anywhere in it; none where it has no source."""
    source = getattr(sys.modules.get(module), "__file__", None)
    if source is None or not source.endswith(".py"):
        return set()
    names = set[str]()
    for node in ast.walk(ast.parse(Path(source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            if node.level:
                home = importlib.util.resolve_name(home, getattr(sys.modules[module], "__package__", None))
            names |= {f"{home}.{alias.name}" for alias in node.names} | ({home} if home != "cryosip" else set())
    return names
