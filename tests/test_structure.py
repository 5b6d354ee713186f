"""Who may import whom: a method never sees the truth, a report needs nothing that could run again."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("methods", "datasets", "bench", "reports")
ALLOWED = {
    "methods": {"cryosip.methods"},
    "datasets": {"cryosip.datasets", "cryosip.methods.problem", "cryosip.methods.checks"},
    "reports": {"cryosip.reports"},
}
# the command line is where a report follows the runs
REPORTS_IN_BENCH = {"cli.py"}


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


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).glob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_it_may_know(folder):
    for path in sources(folder):
        for name in imported(path):
            if name.split(".")[0] == "cryosip":
                assert any(name == a or name.startswith(f"{a}.") for a in ALLOWED[folder]), f"{path} imports {name}"


def test_only_the_command_line_knows_reports():
    for path in sources("bench"):
        known = any(name.startswith("cryosip.reports") for name in imported(path))
        assert not known or path.name in REPORTS_IN_BENCH, f"{path} imports cryosip.reports"


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_are_absolute_and_folders_hold_no_init(folder):
    """`import datasets` would be another package's; a datasets/__init__.py would shadow it."""
    assert not (ROOT / folder / "__init__.py").exists()
    for path in sources(folder):
        assert not {name.split(".")[0] for name in imported(path)} & set(FOLDERS), path


def test_names_of_test_files_differ():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_only_what_asv_runs_is_in_a_folder_below_and_not_installed():
    below = {path.parent for folder in FOLDERS for path in (ROOT / folder).glob("*/*.py")}
    assert below == {ROOT / "bench/speed"}
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert installed == [f"cryosip.{folder}" for folder in FOLDERS]


def test_one_file_knows_asv():
    assert [path.name for path in sources("bench") if any(n.split(".")[0] == "asv" for n in imported(path))] == [
        "asv_adapter.py"
    ]


def test_every_expensive_test_that_is_named_is_there():
    for name in (ROOT / "tests/expensive.txt").read_text().splitlines():
        file, function = name.split("[")[0].split("::")
        assert f"def {function}(" in (ROOT / "tests" / file).read_text(), name
