"""Who may import whom: a method never sees the truth, a report needs nothing that could run again."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("methods", "datasets", "records", "bench", "reports")
# each room with the rooms that its files may import, itself among them; what is not in a room below may not be known
ROOMS = {
    "methods": {"methods"},
    "records": {"records"},
    "datasets": {"datasets", "methods/problem", "methods/checks"},
    "reports": {"reports", "reports/sections", "records"},
    "reports/sections": {"reports", "reports/sections", "records"},
    "bench": {"bench", "datasets", "methods", "records"},
    "bench/studies": {"bench/studies", "bench", "datasets", "methods", "records"},
    "bench/check": {"bench/check", "bench", "datasets", "methods", "records"},
    "bench/recovery": {"bench/recovery", "bench", "datasets", "methods", "records"},
    "bench/speed": {"bench/speed", "bench/check", "bench", "datasets", "methods", "records"},
    "bench/app": {"bench/app", "bench/studies", "bench/check", "bench/speed", "bench/recovery", "bench", "reports",
                  "reports/sections", "datasets", "methods", "records"},
}  # fmt: skip
LINES, FUNCTION_LINES, FLOORS = 350, 60, 5


def imported(path: Path) -> list[str]:
    """Modules that a file imports anywhere, as full names; `from package import module` gives package.module."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def sources(room: str) -> list[Path]:
    found = sorted((ROOT / room).glob("*.py"))
    assert found
    return found


def modules(path: Path) -> set[str]:
    """The files of this package that a file imports, such as "methods/flow"."""
    names = {name.removeprefix("cryosip.") for name in imported(path) if name.startswith("cryosip.")}
    parts = [name.split(".") for name in names]
    whole = {"/".join(words) for words in parts} | {"/".join(words[:-1]) for words in parts}
    return {name for name in whole if (ROOT / name).with_suffix(".py").is_file()}


def of(module: str) -> str:
    """The room of a module."""
    return module.rsplit("/", 1)[0]


def test_every_room_is_known():
    assert {path.parent.relative_to(ROOT).as_posix() for f in FOLDERS for path in (ROOT / f).rglob("*.py")} == {
        *ROOMS, "bench/speed/benchmarks"}  # fmt: skip


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may_know(room):
    for path in sources(room):
        for module in modules(path):
            assert of(module) in ROOMS[room] or module in ROOMS[room], f"{path} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_no_imports_go_round_and_no_room_is_deep(room):
    own = {path.relative_to(ROOT).with_suffix("").as_posix(): modules(path) for path in sources(room)}
    below = {module: imports & own.keys() for module, imports in own.items()}
    floors = 0
    while below:
        ground = {module for module, imports in below.items() if not imports}
        assert ground, f"a cycle among {sorted(below)}"
        below = {module: imports - ground for module, imports in below.items() if module not in ground}
        floors += 1
    assert floors <= FLOORS or not room.startswith("bench"), f"{room} has {floors} floors"


@pytest.mark.parametrize("room", ROOMS)
def test_files_and_functions_are_short(room):
    for path in sources(room):
        text = path.read_text()
        assert len(text.splitlines()) <= LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                told = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
                assert node.end_lineno - node.lineno + 1 - told <= FUNCTION_LINES, f"{path}: {node.name}"


def test_files_of_tests_are_short():
    for path in (ROOT / "tests").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= LINES, path


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_are_absolute_and_folders_hold_no_init(folder):
    """`import datasets` would be another package's; a datasets/__init__.py would shadow it."""
    assert not (ROOT / folder / "__init__.py").exists()
    for path in (path for room in ROOMS if room.split("/")[0] == folder for path in sources(room)):
        assert not {name.split(".")[0] for name in imported(path)} & set(FOLDERS), path


def test_names_of_test_files_differ():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_every_room_is_installed():
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(installed) == sorted(["cryosip", *(f"cryosip.{room.replace('/', '.')}" for room in ROOMS)])


def test_asv_is_called_by_its_command_line_alone():
    for path in sources("bench/speed"):
        assert not any(name.split(".")[0] == "asv" for name in imported(path)), path


def test_every_expensive_test_that_is_named_is_there():
    for name in (ROOT / "tests/expensive.txt").read_text().splitlines():
        file, function = name.split("[")[0].split("::")
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), name
