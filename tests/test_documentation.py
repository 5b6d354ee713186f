"""What the documents say is so: their code runs, their commands exist, their citations have an entry."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("methods", "datasets", "records", "bench", "reports")
SOURCES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path.parent.name != "benchmarks"]


@pytest.mark.parametrize("document", ["docs/python.md", "docs/real-data.md", "docs/records.md", "docs/extending.md"])
def test_code_blocks_run(document, capsys):
    """Those that are a file of their own by themselves too; lines for a registry are another test's."""
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^(<!-- [^\n]*\n)?```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict = {"__name__": "document"}
    for marker, block in blocks:
        if marker.startswith("<!-- file"):
            exec(compile(block, document, "exec"), {"__name__": "file"})
        if not marker.startswith("<!-- add to"):
            exec(compile(block, document, "exec"), names)
    assert capsys.readouterr().out


def test_cited_keys_are_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "references.bib").read_text(), flags=re.MULTILINE))
    cited = set()
    for source in SOURCES:
        cited |= set(re.findall(r"\[([a-z]+\d{4})\]", source.read_text()))
    assert cited
    assert cited <= keys


def test_public_functions_have_docstrings():
    for source in SOURCES:
        tree = ast.parse(source.read_text())
        assert ast.get_docstring(tree), source
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{source}: {node.name}"


def test_ci_takes_the_test_command_from_the_readme():
    lines = (ROOT / "README.md").read_text().splitlines()
    command = lines[lines.index("<!-- command: tests -->") + 2]
    assert command.startswith("python3 -m venv .venv && ")
    assert "readme_command tests" in (ROOT / ".ci/run").read_text()
    assert command not in (ROOT / ".ci/run").read_text()
