"""The command line: answers at once, refuses with a hint, skips what is done, tells a failure by its exit code."""

import json
import re
import subprocess
import sys

import jax
import msgspec
import pytest
from typer.testing import CliRunner

from cryosip.bench.app import cli
from cryosip.bench.studies import estimators, sampling
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.study import Size, Study
from cryosip.records.read import written_here
from cryosip.records.schema import Identity, Labels, Result, RunConfig, id_of
from cryosip.records.table import COLUMNS
from cryosip.records.write import write


def cryosip(*words):
    """Exit code and all that was printed, boxes and line breaks removed."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    return result.exit_code, re.sub(r"[\s│╭╮╰╯─]+", " ", text)


@pytest.fixture(autouse=True)
def precision():
    """--x64 sets it for the whole process."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def quick(monkeypatch):
    """The study of the variances with few repeats and without its flows."""
    monkeypatch.setattr(estimators, "REPEATS", 50)
    monkeypatch.setattr(estimators, "RESAMPLES", 20)
    monkeypatch.setattr(sampling, "SCHEMES", {})
    return ["run", "sampling", "--profile", "smoke", "--replicates", "1"]


def test_help_needs_no_heavy_import():
    """What takes long is imported inside the commands: --help answers in under half a second."""
    code = (
        "import sys\nfrom cryosip.bench.app import cli\n"
        "try:\n    cli.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('loaded:', sorted({'jax', 'numpy', 'scipy', 'optax', 'matplotlib', 'ot', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert all(command in done.stdout for command in ("reproduce", "run", "report", "list"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "paper1d"], "study is 'paper1d'; wanted one of .* did you mean 'paper-1d'"),
        (["run", "sampling", "--profile", "smol"], "profile is 'smol'; wanted one of .*did you mean 'sm"),
        (["run", "sampling", "--only", "oned2"], "problem is 'oned2'; .*did you mean 'oned'"),
        (["run", "sampling", "--replicates", "0"], "replicates is 0; wanted a whole number >= 1"),
        (["run"], "Missing argument"),
        (["reproduce", "--profile", "big"], "profile is 'big'"),
        (["perform"], "No such command 'perform'"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_hint(words, says, tmp_path):
    needs_results = words[0] in ("run", "reproduce")
    code, text = cryosip(*words, *(["--results", tmp_path] if needs_results else []))
    assert code == 2
    assert re.search(says, text), text
    assert list(tmp_path.iterdir()) == []


def test_a_study_runs_once_and_anew_when_told(quick, tmp_path):
    runs = len(STUDIES["sampling"].configs(Size(1, 300, 1.0)))
    code, text = cryosip(*quick, "--results", tmp_path)
    assert code == 0, text
    assert f"{runs} executed, 0 already recorded, 0 failed" in text
    assert "[1/12] sampling: oned, method-1, N=20 K=2, replicate 0: ok" in text
    records = {path: path.read_text() for path in (tmp_path / "sampling").glob("*.json")}
    assert len(records) == runs
    assert {path.stem for path in records} == {json.loads(record)["run_id"] for record in records.values()}

    code, text = cryosip(*quick, "--results", tmp_path)
    assert (code, f"0 executed, {runs} already recorded, 0 failed" in text) == (0, True)
    assert {path: path.read_text() for path in (tmp_path / "sampling").glob("*.json")} == records

    mark = next(iter(records))
    mark.write_text("{}")
    code, text = cryosip(*quick, "--results", tmp_path, "--fresh")
    assert (code, f"{runs} executed, 0 already recorded, 0 failed" in text) == (0, True)
    assert json.loads(mark.read_text())["run_id"] == mark.stem
    assert len(list((tmp_path / "sampling").iterdir())) == runs


def test_a_run_that_was_stopped_half_way_is_taken_up(quick, tmp_path):
    cryosip(*quick, "--results", tmp_path)
    some = sorted((tmp_path / "sampling").glob("*.json"))[:3]
    for path in some:
        path.unlink()
    code, text = cryosip(*quick, "--results", tmp_path)
    assert (code, "3 executed, 9 already recorded" in text) == (0, True)
    assert all(path.exists() for path in some)


@pytest.fixture
def failing(monkeypatch):
    """A study of two runs, the first of which cannot be."""
    names = ("broken", "fine")

    def configs(*_):
        return [RunConfig("failing", Labels(name), "oned", {"n_observations": 5}, name, {}, 1, 1, 0) for name in names]

    def measure(config, _session):
        if config.method == "broken":
            raise RuntimeError("[the] disk is on fire")
        return Result(), {}

    monkeypatch.setitem(STUDIES, "failing", Study("fails", {"smoke": Size(1, 5, 1.0)}, configs, measure))


def test_a_failed_run_exits_with_1_and_a_record_and_the_others_go_on(failing, tmp_path):
    code, text = cryosip("run", "failing", "--profile", "smoke", "--results", tmp_path)
    assert code == 1
    assert "2 executed, 0 already recorded, 1 failed" in text
    assert "error: RuntimeError: [the] disk is on fire" in text
    records = [written_here(path) for path in (tmp_path / "failing").glob("*.json")]
    assert sorted(record.status for record in records) == ["error", "ok"]
    assert [record.message for record in records if record.status == "error"] == ["RuntimeError: [the] disk is on fire"]


def test_a_failure_that_is_on_record_still_exits_with_1(failing, tmp_path):
    """Exit 0 says that all ran; asking again does not turn a failure into that."""
    words = ["run", "failing", "--profile", "smoke", "--results", tmp_path]
    assert cryosip(*words)[0] == 1
    assert cryosip(*words)[0] == 1


@pytest.fixture
def mended(failing, tmp_path):
    """Makes the failing run, mends its cause, and gives the words that run it again."""
    words = ["run", "failing", "--profile", "smoke", "--results", tmp_path]
    assert cryosip(*words)[0] == 1
    before = {path: path.read_text() for path in (tmp_path / "failing").glob("*.json")}
    study = STUDIES["failing"]
    STUDIES["failing"] = study._replace(measure=lambda *_: (Result(metrics={"w1": 1.0}), {}))
    yield words, before
    STUDIES["failing"] = study


def test_an_error_is_made_again_only_when_told_and_what_is_ok_stays(mended):
    words, before = mended
    assert cryosip(*words)[0] == 1
    code, text = cryosip(*words, "--retry-failed")
    assert (code, "1 executed, 1 already recorded, 0 failed" in text) == (0, True)
    for path, content in before.items():
        assert (path.read_text() == content) == (json.loads(content)["status"] == "ok")


@pytest.mark.parametrize(("status", "again"), [("timeout", True), ("diverged", False)])
def test_a_timeout_is_made_again_and_what_diverged_is_not(mended, status, again):
    words, before = mended
    (failed,) = (path for path, content in before.items() if json.loads(content)["status"] == "error")
    failed.write_text(json.dumps(json.loads(failed.read_text()) | {"status": status}))
    assert cryosip(*words, "--retry-failed")[0] == (0 if again else 1)
    assert json.loads(failed.read_text())["status"] == ("ok" if again else status)


def test_a_run_that_fails_again_is_told(failing, tmp_path):
    words = ["run", "failing", "--profile", "smoke", "--results", tmp_path]
    cryosip(*words)
    code, text = cryosip(*words, "--retry-failed")
    assert (code, "1 executed, 1 already recorded, 1 failed" in text) == (1, True)


def test_a_report_of_nothing_exits_with_1_and_says_so(tmp_path):
    (tmp_path / "results").mkdir()
    for results in ("results", "missing"):
        code, text = cryosip("report", "--results", tmp_path / results, "--out", tmp_path / "report")
        assert code == 1
        assert text.startswith("cryosip: ")
        assert str(tmp_path / results) in text
        assert "Traceback" not in text


@pytest.fixture
def two_records(failing, tmp_path):
    """A results folder with a run that failed and one that did not, and a file that is no record."""
    results = tmp_path / "results"
    cryosip("run", "failing", "--profile", "smoke", "--results", results)
    (results / "failing" / "cut.json").write_text("{")
    return results


def test_a_record_is_shown_by_the_beginning_of_its_id(two_records):
    paths = (two_records / "failing").glob("*[0-9a-f].json")
    ok, failed = sorted(paths, key=lambda path: "on fire" in path.read_text())
    code, text = cryosip("show", failed.stem[:6], "--results", two_records)
    assert (code, "failing: broken" in text, "error: RuntimeError: [the] disk is on fire" in text) == (0, True, True)
    assert str(failed) in text
    assert ok.stem not in text


@pytest.mark.parametrize(("run_id", "says"), [("", "3 run ids begin with ''"), ("zz", "no run id in .*'zz'")])
def test_an_id_that_is_not_one_exits_with_1_and_names_others(two_records, run_id, says):
    code, text = cryosip("show", run_id, "--results", two_records)
    assert code == 1
    assert re.match(f"cryosip: {says}.*failing/[0-9a-f]{{16}}", text), text


def test_the_report_tells_what_it_did_not_read_beside_its_path(two_records, tmp_path):
    code, text = cryosip("report", "--results", two_records, "--out", tmp_path / "page")
    assert code == 0
    assert "cryosip: files that were not read: 1 failing/cut.json: not complete JSON" in text
    assert text.strip().endswith("index.html")
    code, text = cryosip("show", "cut", "--results", two_records)
    assert code == 1
    assert re.match(r"cryosip: .*failing/cut\.json: not complete JSON", text), text


def test_records_that_younger_ones_supersede_are_counted_not_listed(two_records, tmp_path):
    older = next(path for path in (two_records / "failing").glob("*.json") if path.stem != "cut")
    record = written_here(older)
    old = Identity("of old code")
    record = msgspec.structs.replace(record, identity=old, created="2001-01-01T00:00:00+00:00")
    record = msgspec.structs.replace(record, run_id=id_of(record))
    write(older.with_name(f"{record.run_id}.json"), record, {})
    code, text = cryosip("report", "--results", two_records, "--out", tmp_path / "page")
    assert code == 0
    assert "cryosip: records superseded by younger ones, not shown: 1" in text
    assert "files that were not read: 1 failing/cut.json" in text
    assert record.run_id not in text


def test_records_are_exported_to_a_file_and_to_the_output(two_records, tmp_path):
    out = tmp_path / "new" / "all.csv"
    code, text = cryosip("export", "--results", two_records, "--out", out)
    assert code == 0
    assert "cryosip: files that were not read: 1 failing/cut.json: not complete JSON" in text
    assert text.strip().endswith(str(out))
    status = COLUMNS.index("status")
    assert sorted(line.split(",")[status] for line in out.read_text().splitlines()) == ["error", "ok", "status"]
    for words in ([], ["--out", "-"]):
        result = CliRunner().invoke(cli.app, ["export", "--results", str(two_records), *words])
        assert (result.exit_code, result.stdout) == (0, out.read_text())


def test_an_export_that_fails_leaves_the_old_file(two_records, tmp_path, monkeypatch):
    out = tmp_path / "all.parquet"
    out.write_text("old")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, text = cryosip("export", "--results", two_records, "--out", out)
    assert (code, "cryosip: Parquet needs pyarrow" in text, out.read_text()) == (1, True, "old")
    code, text = cryosip("export", "--results", tmp_path / "missing", "--out", out)
    assert (code, "cryosip: no results folder" in text, out.read_text()) == (1, True, "old")
    code, text = cryosip("export", "--results", two_records, "--out", tmp_path)
    assert (code, "exists and is not a file" in text) == (1, True)


def records_of(folder, errors, **changes):
    """One replicate for each error, all of one run."""
    (folder / "paper-1d").mkdir(parents=True)
    same = {"schema": 1, "study": "paper-1d", "profile": "small", "setting": "published", "problem": "oned",
            "method": "flow", "status": "ok", "seed": 0, "created": "", "environment": {},
            "config": {"problem": {"name": "oned"}, "method": {"name": "flow"}, "steps": 1}}  # fmt: skip
    for i, w2 in enumerate(errors):
        own = {"run_id": f"{i}", "replicate": i, "dataset_hash": f"feed{i}", "metrics": {"w2": w2}}
        (folder / "paper-1d" / f"{i}.json").write_text(json.dumps(same | own | changes))
    return folder


def test_two_folders_side_by_side_exit_with_1_only_where_that_is_asked_and_b_is_worse(tmp_path):
    a = records_of(tmp_path / "a", [0.10, 0.20, 0.30])
    b = records_of(tmp_path / "b", [0.12, 0.25, 0.36])
    code, text = cryosip("compare", a, b)
    assert code == 0
    assert "worse paper-1d (small), oned: flow, published: w2 0.2 → 0.25 1.216 [1.1" in text
    assert "Regressions from A to B: 1." in text
    assert cryosip("compare", a, b, "--fail-on-regression")[0] == 1
    assert cryosip("compare", b, a, "--fail-on-regression")[0] == 0
    code, text = cryosip("compare", a, a, "--fail-on-regression", "--out", tmp_path / "page")
    assert (code, "Nothing moved beyond its interval." in text) == (0, True)
    assert text.strip().endswith(str(tmp_path / "page" / "compare.html"))
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"compare.html"}


def test_folders_that_cannot_be_compared_are_told_in_a_line(tmp_path):
    a = records_of(tmp_path / "a", [0.1])
    b = records_of(tmp_path / "b", [0.1], setting="tuned")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    for words, says in (
        ([a, tmp_path / "missing"], f"cryosip: no results folder at {tmp_path / 'missing'}"),
        ([tmp_path / "empty", a], f"cryosip: no readable record in {tmp_path / 'empty'}"),
        ([a, b], "cryosip: nothing to compare: none of the 1 runs of A is among the 1 of B"),
        ([a, a, "--out", tmp_path / "file"], f"cryosip: [Errno 17] cannot write the report to {tmp_path / 'file'}"),
    ):
        code, text = cryosip("compare", *words)
        assert code == 1
        assert says in text
        assert "Traceback" not in text
    assert cryosip("compare", a)[0] == 2


def test_results_that_cannot_be_written_are_told_in_a_line(quick, tmp_path):
    (tmp_path / "results").write_text("a file")
    code, text = cryosip(*quick, "--results", tmp_path / "results")
    assert code == 1
    assert "cryosip: " in text
    assert "Traceback" not in text


def test_list_names_what_can_be_run():
    code, text = cryosip("list")
    assert code == 0
    for name in (*STUDIES, "oned", "flow", "mixture", "reweighting", "energy", "kl", "mmd", "composite"):
        assert re.search(rf"(study|problem|method|discrepancy) {name} ", text), name


def test_x64_computes_in_float64(failing, tmp_path):
    cryosip("run", "failing", "--profile", "smoke", "--results", tmp_path, "--x64")
    assert jax.numpy.zeros(()).dtype == "float64"
