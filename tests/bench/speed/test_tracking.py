"""`cryosip speed` on a toy project: which results are stored and where, what counts as a change, what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cryosip.bench.app import cli
from cryosip.bench.speed import tracking

ROOT = Path(__file__).parents[3]
FRONT_DOOR = (ROOT / "cryosip/__init__.py").read_text()
BENCHMARKS = """
from cryosip.methods.work import SIZES
import subprocess, sys

now = 0.0

class Toy:
    params, repeat, number, warmup_time = ["plain", "other"], 8, 1, 0
    timer = staticmethod(lambda: now)

    def time_work(self, kind):
        global now
        now += SIZES[kind] / 1000

    def track_size(self, kind):
        return SIZES[kind] + 0

    def track_size_for_a_child(self, kind):
        code = f"from cryosip.methods.work import SIZES; print(SIZES[{kind!r}])"
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
"""


class Toy:
    """A clone with one module and one file of benchmarks, from which Python imports cryosip."""

    def __init__(self, root):
        self.root = root
        self.write("bench/speed/benchmarks/__init__.py", "")
        self.write("bench/speed/benchmarks/toy.py", BENCHMARKS)
        self.write("cryosip/__init__.py", FRONT_DOOR)
        self.write(".gitignore", ".asv/\n__pycache__/\n")
        shutil.copy(ROOT / "asv.conf.json", root)
        self.git("init", "-q", "-b", "some-branch")

    def write(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def work(self, size, other=None):
        sizes = {"plain": size, "other": size if other is None else other}
        self.write("methods/work.py", f"SIZES = {sizes}\n")

    def git(self, *words):
        author = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run([*author, *words], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def commit(self, *work):
        self.work(*work)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work", "--allow-empty")
        return self.head()

    def head(self):
        return self.git("rev-parse", "HEAD").strip()

    def track(self, against=None, bench=(), publish=False):
        return tracking.track(True, list(bench), against, publish)

    def stored(self):
        """The results by name of the folder and commit."""
        files = [p for p in (self.root / ".asv/results").glob("*/*.json") if p.name != "machine.json"]
        return {(p.parent.name, p.name.split("-")[0]): json.loads(p.read_text()) for p in files}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    project = Toy(tmp_path / "project")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(project.root))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tracking, "ROOT", project.root)
    monkeypatch.setattr(tracking, "PASSES", 1)
    monkeypatch.setattr(tracking.platform, "node", lambda: "desk")

    def environment():
        dirty = bool(project.git("status", "--porcelain"))
        return {"commit": project.head(), "dirty": dirty, "device": "cpu Some (R) core", "threads": 2}

    monkeypatch.setattr(tracking, "_environment", environment)
    return project


def values(stored, name):
    return stored["results"][f"toy.Toy.{name}"][0]


def changes(text):
    """Mark and benchmark of each line that says what changed."""
    return re.findall(r"^([-+!]) .* toy\.Toy\.(\S+)$", text, flags=re.MULTILINE)


def test_results_are_stored_by_commit_and_device(toy):
    commit = toy.commit(7)
    before = dict(os.environ)
    assert toy.track() == (False, False)
    assert list(toy.stored()) == [("desk-cpu-Some-R-core", commit[:8])]
    (stored,) = toy.stored().values()
    facts = stored["params"]
    assert (stored["commit_hash"], facts["device"], facts["tree"]) == (commit, "cpu Some (R) core", "as committed")
    assert values(stored, "track_size") == values(stored, "track_size_for_a_child") == [7, 7]
    assert values(stored, "time_work") == pytest.approx([0.007, 0.007])
    assert list((toy.root.parent / "home").iterdir()) == []
    assert dict(os.environ) == before
    assert toy.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_a_tree_with_changes_has_its_own_place_and_pages_are_written(toy, capsys):
    commit = toy.commit(7)
    toy.work(9)
    toy.track(bench=["track_size"], publish=True)
    (place,) = toy.stored()
    assert place == ("desk-cpu-Some-R-core-dirty", commit[:8])
    assert toy.stored()[place]["params"]["tree"] == "with changes that are not committed"
    text, page = capsys.readouterr().out, toy.root / ".asv/html/index.html"
    assert f"{commit[:8]}, with changes that are not committed" in text
    assert text.splitlines()[-1] == str(page)
    assert "toy.Toy.track_size" in (page.parent / "index.json").read_text()
    assert toy.track("HEAD", ["track_size"]).slower  # the changes, against the commit that they are to
    assert values(toy.stored()["desk-cpu-Some-R-core", commit[:8]], "track_size") == [7, 7]


def test_commits_are_compared_even_in_processes_of_a_benchmark(toy, capsys):
    """In times as in figures, in both directions."""
    before, after = toy.commit(10, 10), toy.commit(10, 20)
    assert toy.track(before, ["size", "work"]) == (False, True)
    text = capsys.readouterr().out
    names = ("time_work", "track_size", "track_size_for_a_child")
    assert changes(text) == [("+", f"{name}('other')") for name in names]
    assert f"Something got slower, larger or less exact by more than 10% since {before[:8]}" in text
    assert re.findall(r"Pass 1 of 1: (\w+)", text) == [before[:8], after[:8]]
    for commit, size in ((before, 10), (after, 20)):
        stored = toy.stored()["desk-cpu-Some-R-core", commit[:8]]
        assert values(stored, "track_size") == values(stored, "track_size_for_a_child") == [10, size]
    toy.git("checkout", "-q", before)
    assert toy.track(after, ["time_work"]) == (False, False)
    text = capsys.readouterr().out
    assert changes(text) == [("-", "time_work('other')")]
    assert "Nothing got slower" in text


@pytest.mark.slow
def test_a_commit_without_a_folder_of_the_package_is_compared_too(toy):
    """And what is not measured today, but was another day, does not count."""
    shutil.rmtree(toy.root / "cryosip")
    toy.commit(10)
    toy.write("cryosip/__init__.py", FRONT_DOOR)
    toy.commit(10, 20)
    assert toy.track("HEAD~1", ["track_size"]).slower
    assert not toy.track("HEAD~1", [r"track_size\('plain'\)"]).slower


CHANGES = [
    ([100], [109], ""),
    ([100], [112], "+"),
    ([100], [89], "-"),
    ([10, 10], [30, 10], ""),  # one pass was disturbed
    ([10, 30], [30, 30], "+"),
    ([10, 10], [10, None], "!"),
    ([None], [None], ""),
    ([None], [10], ""),
    ([float("nan")], [10], ""),  # skipped
]


@pytest.mark.parametrize(("before", "after", "mark"), CHANGES)
def test_the_lowest_of_the_passes_counts(before, after, mark):
    lowest = (tracking._lowest([{"a": value} for value in passes])["a"] for passes in (before, after))
    worse, text = tracking._change(*lowest)
    assert (worse, text[:1]) == (mark in ("+", "!"), mark)


def test_passes_alternate(toy, monkeypatch):
    measured = []

    def measure(commit, *_):
        measured.append(commit.hash)
        return False, {"a": 10.0 if len(measured) != 2 else 30.0}

    monkeypatch.setattr(tracking, "PASSES", 2)
    monkeypatch.setattr(tracking, "_measure", measure)
    before, after = toy.commit(7), toy.commit(8)
    assert toy.track("HEAD~1") == (False, False)
    assert measured == [before, after] * 2


def test_a_benchmark_that_fails_is_reported(toy, capsys):
    toy.commit("'seven'")
    assert toy.track(bench=[r"track_size\("]).failed
    assert "TypeError" in capsys.readouterr().out


def speed(*words):
    """Exit code of the command, and what it prints, with single spaces."""
    result = CliRunner().invoke(cli.app, ["speed", *words], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"[\s│╭╮╰╯─]+", " ", result.output)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--against", "nonesuch"], "--against is 'nonesuch'; wanted a commit, a branch or a tag of "),
        (["--against", "HEAD"], "--against is 'HEAD', the commit that is checked out; wanted another one"),
        (["--against", "--help"], "--against is '--help'; wanted a commit"),
        (["--bench", "a("], "--bench is 'a('; wanted a regular expression: missing ), unterminated"),
        (["--bench", "nonesuch"], "no benchmark matches nonesuch"),
        (["--fail"], "Invalid value: --fail is given without --against; wanted the revision"),
    ],
)
def test_bad_input_is_reported_in_a_line(toy, words, says):
    toy.commit(7)
    code, text = speed(*words)
    assert code == (2 if "Invalid value" in says else 1)
    assert says in text
    assert not toy.stored()


def test_what_is_missing_is_reported_in_a_line(toy, monkeypatch):
    toy.commit(7)
    monkeypatch.setattr(tracking, "_environment", lambda: {"commit": None, "dirty": None})
    assert f"cryosip: {toy.root} has no git history; wanted a clone of the repository" in speed()[1]
    (toy.root / "asv.conf.json").unlink()
    assert f"cryosip: no asv.conf.json in {toy.root}; wanted cryosip installed from a checkout" in speed()[1]
    monkeypatch.setattr(tracking, "find_spec", lambda _name: None)
    assert "cryosip: asv is not installed; wanted it from: pip install 'cryosip[speed]'" in speed()[1]


def test_benchmarks_that_cannot_be_imported_are_reported_in_a_line(toy):
    toy.write("bench/speed/benchmarks/toy.py", "import nonesuch")
    toy.commit(7)
    code, text = speed()
    assert code == 1
    assert "cryosip: asv: Failed to build the project and import the benchmark suite." in text


@pytest.mark.parametrize(
    ("failed", "slower", "words", "code"),
    [(0, 0, [], 0), (1, 0, [], 1), (0, 1, ["--against=main"], 0), (0, 1, ["--against=main", "--fail"], 1)],
)
def test_exit_codes(failed, slower, words, code, monkeypatch):
    monkeypatch.setattr(tracking, "track", lambda *_: tracking.Outcome(bool(failed), bool(slower)))
    assert speed(*words)[0] == code


def test_the_environment_is_that_of_this_checkout():
    """From a process of its own."""
    found = tracking._environment()
    assert {"commit", "dirty", "device", "threads"} <= set(found)
    assert tracking.ROOT == ROOT


SLOWER = """
def _slower(**options):
    def bind(*data):
        target = energy(**options).bind(*data)
        return target._replace(gradient=lambda y: sum(target.gradient(y + 1e-3 * k) for k in range(5)))

    return Discrepancy(bind)

DISCREPANCIES["energy"] = _slower
"""


@pytest.mark.slow
def test_the_command_on_a_clone(tmp_path):
    """The real suite: a gradient that takes five times as long is found."""
    clone, gradient = tmp_path / "clone", r"Gradient.time_gradient\('energy', \(10000, 10000, 1\)\)"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    with (clone / "methods/registry.py").open("a") as registry:
        registry.write(SLOWER)
    program = [sys.executable, "-c", "from cryosip.bench.app.cli import main; main()"]
    words = ["speed", "--against", "HEAD", "--fail", "--bench", gradient, "--bench", "track_help"]
    environment = os.environ | {"PYTHONPATH": str(clone)}
    done = subprocess.run([*program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1, done.stdout
    assert re.search(rf"^\+ .*{gradient}$", done.stdout, flags=re.MULTILINE)
    assert json.loads(next((clone / ".asv/results").glob("*/machine.json")).read_text())["device"]
