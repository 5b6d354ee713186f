"""`cryosip speed` on a toy project: what is kept and where, what is told to have changed, and what is refused."""

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
BENCHMARKS = """
from cryosip.methods.work import SECONDS, SIZES
import itertools, json, os, pathlib, subprocess, sys

VALUES = pathlib.Path(os.environ["HOME"]).parent / "values.json"  # of the calls to come
CALLS = itertools.count()
now = 0.0

class Toy:
    params = ["plain", "other"]
    repeat, number, warmup_time = 8, 1, 0
    timer = staticmethod(lambda: now)

    def time_work(self, kind):
        global now
        now += SECONDS * (1 + next(CALLS) % 8 * {"plain": 0.01, "other": 1}[kind])

    def track_size(self, kind):
        return SIZES[kind] + 0

    def track_disturbed(self, kind):
        first, *rest = json.loads(VALUES.read_text())
        VALUES.write_text(json.dumps(rest))
        return first

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
        self.write("__init__.py", "")
        self.write(".gitignore", ".asv/\n__pycache__/\n")
        shutil.copy(ROOT / "asv.conf.json", root)
        self.git("init", "-q", "-b", "some-branch")

    def write(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def work(self, seconds, size, other=None):
        sizes = {"plain": size, "other": size if other is None else other}
        self.write("methods/work.py", f"SECONDS, SIZES = {seconds}, {sizes}\n")

    def git(self, *words):
        author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *author, *words], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout

    def commit(self, *work):
        self.work(*work)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work", "--allow-empty")
        return self.head()

    def head(self):
        return self.git("rev-parse", "HEAD").strip()

    def track(self, against=None, bench=(), publish=False):
        return tracking.track(True, list(bench), against, publish)

    def kept(self):
        """Name of the folder and commit of each file, with what is in it."""
        files = [p for p in (self.root / ".asv/results").glob("*/*.json") if p.name != "machine.json"]
        return {(p.parent.name, p.name.split("-")[0]): json.loads(p.read_text()) for p in files}


FORKS = []  # of this process, in which JAX may have threads that do not survive one
os.register_at_fork(before=lambda: FORKS.append(os.getpid()))


@pytest.fixture
def toy(tmp_path, monkeypatch):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    (tmp_path / "cryosip").mkdir()
    (tmp_path / "home").mkdir()
    project = Toy(tmp_path / "cryosip")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tracking, "ROOT", project.root)
    monkeypatch.setattr(tracking, "PASSES", 1)
    monkeypatch.setattr(tracking.platform, "node", lambda: "desk")

    def environment():
        dirty = bool(project.git("status", "--porcelain"))
        return {"commit": project.head(), "dirty": dirty, "device": "cpu Some (R) core", "threads": 2}

    monkeypatch.setattr(tracking, "_environment", environment)
    FORKS.clear()
    yield project
    assert FORKS == []


def values(kept, name):
    return kept["results"][f"toy.Toy.{name}"][0]


def test_results_are_kept_by_commit_and_device(toy):
    toy.write("../values.json", "[1, 1]")
    commit = toy.commit(0.001, 7)
    before = dict(os.environ)
    assert toy.track() == (False, False)
    kept = toy.kept()
    assert list(kept) == [("desk-cpu-Some-R-core", commit[:8])]
    (told,) = kept.values()
    assert told["commit_hash"] == commit
    assert told["params"]["device"] == "cpu Some (R) core"
    assert told["params"]["tree"] == "as committed"
    assert values(told, "track_size") == values(told, "track_size_for_a_child") == [7, 7]
    assert values(told, "time_work") == pytest.approx([0.001035, 0.0045])
    assert list((toy.root.parent / "home").iterdir()) == []
    assert dict(os.environ) == before
    assert toy.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_a_tree_with_changes_is_told_and_has_its_own_place(toy, capsys):
    commit = toy.commit(0.001, 7)
    toy.work(0.001, 9)
    toy.track(bench=["track_size"])
    (place,) = toy.kept()
    assert place == ("desk-cpu-Some-R-core-dirty", commit[:8])
    assert toy.kept()[place]["params"]["tree"] == "with changes that are not committed"
    assert f"{commit[:8]}, with changes that are not committed" in capsys.readouterr().out
    assert toy.track("HEAD", ["track_size"]).slower  # the changes, against the commit that they are to
    assert values(toy.kept()["desk-cpu-Some-R-core", commit[:8]], "track_size") == [7, 7]


def test_what_got_slower_beyond_noise_is_told(toy, capsys, monkeypatch):
    """Half as long again in both kinds of work, of which the other varies eightfold."""
    monkeypatch.setattr(tracking, "PASSES", 2)
    fast, slow = toy.commit(0.004, 7), toy.commit(0.006, 7)
    assert toy.track("HEAD~1", ["time_work"]) == (False, True)
    told = capsys.readouterr().out
    assert re.findall(r"\| \+ .*4\..*ms .*6\..*ms .* 1.5 .*time_work\('(.*)'\)", told) == ["plain"], told
    assert "other" not in told.split("Ratio")[1]
    assert f"Something got slower, larger or less exact by more than 10% beyond noise since {fast[:8]}" in told
    assert {commit for _, commit in toy.kept()} == {fast[:8], slow[:8]}
    samples = toy.kept()["desk-cpu-Some-R-core", slow[:8]]
    column = samples["result_columns"].index("samples")
    assert len(samples["results"]["toy.Toy.time_work"][column][0]) == 2 * 8  # of both passes
    assert re.findall(r"For cryosip commit (\w+)", told) == [fast[:8], slow[:8]] * 2


@pytest.mark.slow
def test_what_got_faster_is_told(toy, capsys):
    slow, _ = toy.commit(0.008, 7), toy.commit(0.004, 7)
    assert toy.track(slow, [r"time_work\('plain"]) == (False, False)
    told = capsys.readouterr().out
    assert re.search(r"\| - .*toy.Toy.time_work\('plain'\)", told), told
    assert "Nothing got slower" in told


@pytest.mark.slow
def test_another_commit_is_measured_even_in_processes_of_a_benchmark(toy, capsys):
    small, large = toy.commit(0.001, 10), toy.commit(0.001, 20)
    assert toy.track(small, ["size"]).slower
    assert capsys.readouterr().out.count("| +") == 4
    for commit, size in ((small, 10), (large, 20)):
        kept = toy.kept()["desk-cpu-Some-R-core", commit[:8]]
        assert values(kept, "track_size") == values(kept, "track_size_for_a_child") == [size, size]


@pytest.mark.slow
def test_less_than_a_tenth_is_no_change(toy, capsys):
    toy.commit(0.001, 100)
    toy.commit(0.001, 109, 112)
    assert toy.track("HEAD~1", [r"track_size\("]).slower
    assert re.findall(r"\| \+ .*track_size\('(.*)'\)", capsys.readouterr().out) == ["other"]


@pytest.mark.slow
def test_the_lowest_of_the_passes_counts_where_there_are_no_samples(toy, monkeypatch):
    monkeypatch.setattr(tracking, "PASSES", 2)
    toy.commit(0.001, 7)
    toy.commit(0.001, 7)
    once, twice = [10, 10, 10, 30], [10, 30, 10, 30]
    for passes, slower in ((once, False), (twice, True)):
        toy.write("../values.json", json.dumps(passes))
        assert toy.track("HEAD~1", [r"track_disturbed\('plain"]).slower == slower


@pytest.mark.slow
def test_what_is_left_out_today_does_not_count(toy):
    """A figure of another day, which the pattern does not measure again."""
    toy.commit(0.001, 100, 100)
    toy.track(bench=["track_size"])
    toy.commit(0.001, 200, 100)
    toy.track(bench=["track_size"])
    assert not toy.track("HEAD~1", [r"track_size\('other'\)"]).slower


def test_a_benchmark_that_fails_is_told(toy, capfd):
    toy.commit(0.001, "'seven'")
    assert toy.track(bench=[r"track_size\("]).failed
    assert "TypeError" in "".join(capfd.readouterr())


@pytest.mark.slow
def test_pages_are_written_from_the_results(toy, capsys):
    """Without a fork of this process, in which JAX may have threads."""
    forks, ours = [], os.getpid()
    os.register_at_fork(before=lambda: forks.append(1) if os.getpid() == ours else None)
    toy.commit(0.001, 7)
    toy.track(bench=["track_size"], publish=True)
    page = Path(capsys.readouterr().out.splitlines()[-1])
    assert page == toy.root / ".asv/html/index.html"
    assert "toy.Toy.track_size" in (page.parent / "index.json").read_text()


def told(*words):
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
    ],
)
def test_bad_input_is_told_in_a_line(toy, words, says):
    toy.commit(0.001, 7)
    code, text = told(*words)
    assert code == 1
    assert f"cryosip: {says}" in text
    assert not toy.kept()


def test_no_asv_no_settings_and_no_history_are_told_in_a_line(toy, monkeypatch):
    toy.commit(0.001, 7)
    environment = tracking._environment()
    monkeypatch.setattr(tracking, "_environment", lambda: environment | {"commit": None, "dirty": None})
    code, text = told()
    assert code == 1
    assert f"cryosip: {toy.root} has no git history; wanted a clone of the repository" in text
    (toy.root / "asv.conf.json").unlink()
    assert f"cryosip: no asv.conf.json in {toy.root}; wanted cryosip installed from a checkout" in told()[1]
    monkeypatch.setattr(tracking, "find_spec", lambda _name: None)
    assert "cryosip: asv is not installed; wanted it from: pip install 'cryosip[speed]'" in told()[1]


def test_benchmarks_that_cannot_be_imported_are_told_in_a_line(toy):
    toy.write("bench/speed/benchmarks/toy.py", "import nonesuch")
    toy.commit(0.001, 7)
    code, text = told()
    assert code == 1
    assert "cryosip: asv: Failed to build the project and import the benchmark suite." in text


@pytest.mark.parametrize(
    ("outcome", "words", "code"),
    [
        ((False, False), [], 0),
        ((True, False), [], 1),
        ((False, True), ["--against", "main"], 0),
        ((False, True), ["--against", "main", "--fail"], 1),
        ((False, False), ["--against", "main", "--fail"], 0),
    ],
)
def test_exit_codes(outcome, words, code, monkeypatch):
    monkeypatch.setattr(tracking, "track", lambda *_: tracking.Outcome(*outcome))
    assert told(*words)[0] == code


def test_fail_wants_something_to_compare_with():
    code, text = told("--fail")
    assert code == 2
    assert "--fail is given without --against" in text


def test_what_is_told_of_this_checkout():
    """From a process of its own."""
    found = tracking._environment()
    assert {"commit", "dirty", "device", "threads"} <= set(found)
    assert tracking.ROOT == ROOT


SLOWER = """
import jax as _jax

def _slower(**options):
    whole = energy(**options)

    def bind(observations, noise_std=0.0):
        target = whole.bind(observations, noise_std)
        many = lambda y: _jax.lax.fori_loop(0, 5, lambda _, x: x - 1e-6 * target.gradient(x), y)
        return target._replace(gradient=many)

    return Discrepancy(bind)

DISCREPANCIES["energy"] = _slower
"""


@pytest.mark.slow
def test_the_command_on_a_clone(tmp_path):
    """The real suite: a gradient that takes five times as long is found, and nothing the other way."""
    clone = tmp_path / "cryosip"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    (clone / ".git/info/exclude").write_text("/__init__.py\n")
    (clone / "__init__.py").touch()
    registry = clone / "methods/registry.py"
    registry.write_text(registry.read_text() + SLOWER)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *author, "commit", "-q", "-a", "-m", "slower"], cwd=clone, check=True)

    def speed(*words):
        command = [sys.executable, "-c", "from cryosip.bench.app.cli import main; main()", "speed", *words]
        chosen = ["--bench", r"Gradient.time_gradient\('energy', \(10000, 10000, 1\)\)", "--bench", "track_help"]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run([*command, *chosen], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    code, text = speed("--against", "HEAD~1", "--fail")
    assert code == 1, text
    assert re.search(r"\+ .*time_gradient\('energy', \(10000, 10000, 1\)\)", text)
    subprocess.run(["git", "checkout", "-q", "HEAD~1"], cwd=clone, check=True)
    code, text = speed("--against", "HEAD@{1}", "--publish")
    assert code == 0, text
    assert re.search(r"- .*time_gradient\('energy', \(10000, 10000, 1\)\)", text)
    assert (clone / ".asv/html/index.html").exists()
    assert json.loads(next((clone / ".asv/results").glob("*/machine.json")).read_text())["device"]
