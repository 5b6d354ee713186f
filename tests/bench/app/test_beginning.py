"""`cryosip new method`: names, files, and a package that can be installed as it is."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench import runner
from cryosip.bench.app import beginning, cli, outside
from cryosip.datasets.registry import DATASETS
from cryosip.methods.method import CONTRACT
from cryosip.methods.registry import METHODS


def cryosip(*words):
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_command_writes_a_package_whose_method_runs(tmp_path):
    code, text = cryosip("new", "method", "my-own", "--out", tmp_path / "there")
    folder = tmp_path / "there" / "my-own"
    assert (code, text.strip()) == (0, str(folder))
    assert {file.name for file in folder.iterdir()} == {"pyproject.toml", "README.md", "my_own.py", "test_my_own.py"}
    assert not any("$module" in file.read_text() or "$name" in file.read_text() for file in folder.iterdir())
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["dependencies"]) == ("my-own", ["cryosip"])
    assert project["entry-points"] == {"cryosip.methods": {"my-own": "my_own:my_own"}}

    spec = importlib.util.spec_from_file_location("my_own", folder / "my_own.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.CONTRACT == CONTRACT
    problem = DATASETS["oned"](n_observations=200).problem
    first, last = runner.run(jax.random.key(0), module.my_own(problem, n_structures=10), steps=20, every=20)
    assert np.ptp(first.estimate.weights) == 0 < np.ptp(last.estimate.weights)
    assert last.forward_evaluations == 200
    objectives = [snapshot.objective for snapshot in runner.run(jax.random.key(0), module.my_own(problem), 8, 2)][1:]
    assert objectives == sorted(objectives, reverse=True)  # EM never raises it


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "wanted small letters, digits and -") for name in ("My", "a_b", "1a", "-a", "a-", "a--b", "../a", "")),
        ("flow", "there is a method of that name"),
        ("oned", "there is a problem of that name"),
        ("class", "a word or a module of Python"),
        ("numpy", "a word or a module of Python"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name, words, tmp_path):
    code, text = cryosip("new", "method", "--out", tmp_path, "--", name)
    assert (code, text.startswith(f"cryosip: name is {name!r}; wanted ")) == (1, True), text
    assert words in text
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_an_installed_package_is_refused(tmp_path, monkeypatch):
    entry = importlib.metadata.EntryPoint("theirs", "their_package:theirs", "cryosip.methods")
    monkeypatch.setattr(outside, "installed", lambda kind: {"theirs": [entry]} if kind == "method" else {})
    with pytest.raises(ValueError, match="there is a method of that name"):
        beginning.write_method("theirs", tmp_path)


def test_a_folder_that_exists_is_left_as_it_is(tmp_path):
    (tmp_path / "mine").mkdir()
    code, text = cryosip("new", "method", "mine", "--out", tmp_path)
    assert (code, text) == (1, f"cryosip: {tmp_path / 'mine'} exists; wanted a folder that is to be made\n")
    assert list((tmp_path / "mine").iterdir()) == []


def test_another_kind_is_wrong_usage(tmp_path):
    code, text = cryosip("new", "oracle", "mine", "--out", tmp_path)
    assert code == 2
    assert "'oracle' cannot be begun; wanted 'method'" in text


@pytest.mark.slow
def test_the_package_is_installed_listed_and_checked(tmp_path):
    """With pip, into a folder of its own; its own test is what a user runs."""
    folder, site = beginning.write_method("my-own", tmp_path), tmp_path / "site"
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, folder]
    subprocess.run([sys.executable, *map(str, words)], check=True, timeout=300)
    (found,) = importlib.metadata.distributions(path=[str(site)])
    assert found.version == "0.1.0"
    assert [(e.group, e.name, e.value) for e in found.entry_points] == [("cryosip.methods", "my-own", "my_own:my_own")]

    main = f"import sys; sys.path.insert(0, {str(site)!r}); from cryosip.bench.app.cli import main; main()"
    for command, wanted in ((["list"], "my-own"), (["check", "--method", "my-own"], "all passed")):
        done = subprocess.run([sys.executable, "-c", main, *command], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert wanted in done.stdout
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_own.py"]
    assert subprocess.run(test, cwd=folder, timeout=600).returncode == 0
    assert "my-own" not in METHODS
