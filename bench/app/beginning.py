"""`cryosip new`: a small package of one's own, which works as it is."""

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from cryosip.bench.app import outside
from cryosip.methods.method import CONTRACT

TEMPLATES = Path(__file__).with_name("templates")
# file of the package -> its template; ${module} in a name is that of the package
FILES = {
    "pyproject.toml": "pyproject.toml.template",
    "README.md": "README.md.template",
    "${module}.py": "method.py.template",
    "test_${module}.py": "test_method.py.template",
}


def write_method(name: str, out: Path) -> Path:
    """Writes a package with a method of that name, and returns its folder.

    Raises ValueError for what is no name, a name that is taken, and a folder that exists.
    """
    module = _checked(name)
    folder = out / name
    if folder.exists():
        raise ValueError(f"{folder} exists; wanted a folder that is to be made")
    values = {"name": name, "module": module, "contract": str(CONTRACT)}
    folder.mkdir(parents=True)
    for file, template in FILES.items():
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        (folder / Template(file).substitute(values)).write_text(Template(text).substitute(values), encoding="utf-8")
    return folder


def _checked(name: str) -> str:
    """The module of a name that a distribution, an entry point and a function may have, and nobody has."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"name is {name!r}; wanted small letters, digits and - between them, such as 'my-method'")
    module = name.replace("-", "_")
    for kind, registry in outside.REGISTRIES.items():
        if name in registry or name in outside.installed(kind):
            raise ValueError(f"name is {name!r}; wanted another, since there is a {kind} of that name")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise ValueError(f"name is {name!r}; wanted another, since {module} is a word or a module of Python")
    return module
