"""What users bring from files and packages: it joins the registries, is known by its content, and errors name it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench import sources
from cryosip.bench.app import cli, outside
from cryosip.bench.app.planning import Selection, plan
from cryosip.bench.execute import record_of, run_method
from cryosip.bench.sources import identity_of
from cryosip.methods.method import CONTRACT
from cryosip.methods.registry import METHODS
from cryosip.records.read import record_files
from cryosip.records.schema import Labels, RunConfig

STILL = '''
"""A method that stays where it began."""
import jax.numpy as jnp
from cryosip.methods.method import Info, Method, WeightedPoints

def still(problem, n_points: int = 7):
    """What the initial distribution drew, for ever."""
    return Method(lambda key: problem.sample_init(key, n_points),
                  lambda key, theta: (theta, Info(jnp.zeros(()), jnp.asarray(0))),
                  lambda theta: WeightedPoints(theta, jnp.full(n_points, 1 / n_points)))

def spread(estimate, truth):
    """The difference of two standard deviations."""
    return abs(float(estimate.theta.std() - truth.theta.std()))

number = 3
'''


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """The registries and the path, as they were before the test; sources are read anew."""
    monkeypatch.setattr(outside, "_origins", {})
    path, kept = list(sys.path), {kind: dict(registry) for kind, registry in outside.REGISTRIES.items()}
    yield
    sys.path[:] = path
    for kind, registry in outside.REGISTRIES.items():
        registry.clear()
        registry.update(kept[kind])
    read_anew()


def read_anew():
    for cached in (sources._digest, sources._imported, sources.behind, sources.distribution):
        cached.cache_clear()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(STILL)
    return path


def config(method, **options):
    return RunConfig("otd-vs-dto", Labels(), "oned", {"n_observations": 20}, method, options, 5, 1, 0)


def run_id(method):
    return record_of(config(method), "", run_method).run_id


def test_a_file_joins_and_its_content_is_its_identity(file, tmp_path):
    before = {name: run_id(name) for name in METHODS if name != "flow"}
    assert outside.find("method", f"{file}:still") == "still"
    first = run_id("still")
    assert outside.find("method", f"{file}:still") == "still"  # again
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (moved := elsewhere / "mine.py").write_text(STILL)
    outside._origins.clear()
    METHODS.pop("still")
    outside.find("method", f"{moved}:still")
    assert run_id("still") == first  # wherever it lies
    moved.write_text(STILL + "# edited\n")
    outside.find("method", f"{moved}:still")
    assert run_id("still") != first
    assert {name: run_id(name) for name in before} == before


def test_a_function_that_the_file_takes_from_elsewhere_is_known_by_the_file(tmp_path):
    ids = set()
    for components in (3, 4):
        (tmp_path / "few.py").write_text(
            "from functools import partial\nfrom cryosip.methods.mixture import mixture\n"
            f"few = partial(mixture, n_components={components})\n"
        )
        outside.find("method", f"{tmp_path / 'few.py'}:few")
        ids.add(identity_of(config("few"), run_method).method)
    assert len(ids) == 2


def test_an_edit_of_a_file_beside_it_gives_another_id(tmp_path, monkeypatch):
    (tmp_path / "beside_it.py").write_text("POINTS = 7\n")
    (tmp_path / "mine.py").write_text(f"from beside_it import POINTS\n{STILL}")
    outside.find("method", f"{tmp_path / 'mine.py'}:still")
    first = run_id("still")
    (tmp_path / "beside_it.py").write_text("POINTS = 8\n")
    read_anew()
    assert run_id("still") != first
    monkeypatch.delitem(sys.modules, "beside_it")


def test_another_process_loads_the_same_or_says_that_it_changed(file):
    outside.find("method", f"{file}:still")
    origins = outside.loaded()
    assert [(o.kind, o.name, o.place) for o in origins] == [("method", "still", f"{file.resolve()}:still")]
    METHODS.pop("still")
    outside._origins.clear()
    outside.load(origins)
    assert "still" in METHODS
    file.write_text(STILL + "# edited\n")
    with pytest.raises(ValueError, match="has changed since the command began"):
        outside.load(origins)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("{folder}/none.py:still", "method", r"none.py:still: No such file or directory; wanted FILE.py:NAME"),
        ("{file}:missing", "method", r"mine.py:missing: nothing of that name; wanted one of still, spread"),
        ("{file}:number", "method", r"mine.py:number is a int; wanted a function"),
        ("{file}:still", "study", r"wanted a Study"),
        ("{file}:still", "problem", r"takes no n_observations and no seed"),
        ("{folder}/broken.py:still", "method", r"broken.py:still: its import ends by ZeroDivisionError: division"),
        ("{folder}/wrong.py:still", "method", r"wrong.py:still: its import ends by SyntaxError"),
        ("{folder}/leaves.py:still", "method", r"leaves.py:still: its import ends by SystemExit: 3"),
        ("{folder}/ours.py:mixture", "method", r"ours.py:mixture: cryosip has a method 'mixture'; wanted another name"),
        ("{folder}/later.py:still", "method", rf"built for version 99 of the contract; .* has version {CONTRACT}"),
        ("no_such.module:still", "method", r"the import of 'no_such.module' ends by ModuleNotFoundError"),
        ("{folder}:still", "method", r"ends by .*; wanted FILE.py:NAME or package.module:NAME"),
        ("stil", "method", r"method is 'stil'; wanted one of"),
        ("{file}", "method", r"method is '.*mine.py'; wanted .*mine.py:NAME, with the name of a function"),
    ],
)
def test_what_cannot_be_taken_is_named(file, tmp_path, text, kind, says):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "wrong.py").write_text("def still(:\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "ours.py").write_text("from cryosip.methods.mixture import mixture\n")
    (tmp_path / "later.py").write_text(f"CONTRACT = 99\n{STILL}")
    before = set(METHODS)
    with pytest.raises(ValueError, match=says):
        outside.find(kind, text.format(file=file, folder=tmp_path))
    assert set(METHODS) == before


def test_what_makes_no_method_says_so_when_it_is_built(file):
    outside.find("method", f"{file}:spread")
    with pytest.raises(ValueError, match=r"what method .*mine.py:spread returns is .*, a float; wanted a Method"):
        METHODS["spread"](*[type("C", (), {"theta": np.ones(2)})] * 2)


def test_two_files_of_one_name_are_refused(file, tmp_path):
    outside.find("method", f"{file}:still")
    (tmp_path / "other.py").write_text(STILL)
    with pytest.raises(ValueError, match=r"'still' is given twice: .*mine.py:still and .*other.py:still"):
        outside.find("method", f"{tmp_path / 'other.py'}:still")


def install(folder: Path, name: str, version: str, points: str, source: str = STILL) -> None:
    """What pip would leave of a package of one module; `points` are its entry points."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(f"{name}\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_an_installed_package_is_loaded_when_it_is_named_and_known_by_its_version(site):
    install(site, "quiet", "1.2", "[cryosip.methods]\nstill-one = quiet:still\n")
    assert "quiet" not in sys.modules
    assert outside.find("method", "still-one") == "still-one"
    assert "quiet" in sys.modules
    first = run_id("still-one")
    (site / "quiet.py").write_text(STILL + "# edited\n")
    read_anew()
    assert run_id("still-one") == first  # an installed package says by its version what is in it
    (site / "quiet-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: quiet\nVersion: 1.3\n")
    read_anew()
    assert run_id("still-one") != first


def test_the_list_names_what_is_installed_and_what_is_not_available(site):
    install(site, "quiet", "1.2", "[cryosip.methods]\nstill = quiet:still\n")
    install(site, "broken", "3", "[cryosip.methods]\nsunk = broken:still\n", "import no_such_module\n")
    install(site, "twin", "4", "[cryosip.methods]\nmixture = twin:still\n")
    rows = dict(outside.rows("method"))
    assert rows["still"] == "What the initial distribution drew, for ever. (quiet 1.2)"
    assert rows["sunk"].startswith(
        "unavailable: method sunk of broken 3: the import of 'broken' ends by ModuleNotFound"
    )
    assert "'mixture' is in cryosip and in twin 4" in rows["mixture"]
    result = CliRunner().invoke(cli.app, ["list"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    assert sum(" sunk " in line for line in result.output.splitlines()) == 1


def test_two_packages_of_one_name_are_an_error_that_names_both(site):
    install(site, "quiet", "1.2", "[cryosip.methods]\nstill = quiet:still\n")
    install(site, "loud", "7", "[cryosip.methods]\nstill = loud:still\n")
    with pytest.raises(ValueError, match=r"method 'still' is in loud 7 and in quiet 1.2"):
        outside.find("method", "still")
    assert not {"quiet", "loud"} & set(sys.modules)


def test_a_metric_that_is_named_is_part_of_the_run(file):
    first = run_id("mixture")
    outside.find("metric", f"{file}:spread")
    second = run_id("mixture")
    assert second != first
    outside.REGISTRIES["metric"]["wide"] = outside.REGISTRIES["metric"].pop("spread")  # the same code, another name
    assert run_id("mixture") not in (first, second)


def test_a_named_method_runs_alone(few_draws, file, tmp_path):
    words = ["run", "otd-vs-dto", "--profile", "smoke", "--only", "oned", "--method", f"{file}:still"]
    more = ["--set", "method.n_points=9", "--metric", f"{file}:spread", "--results", str(tmp_path / "r")]
    result = CliRunner().invoke(cli.app, [*words, *more], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    assert "1 executed, 0 already recorded, 0 failed" in result.output
    (path,) = record_files(tmp_path / "r")
    text = path.read_text()
    assert '"n_points": 9' in text
    assert '"spread": ' in text
    assert "n_points=9" in text
    assert '"method_from": "mine.py ' in text
    assert "problem_from" not in text


def test_what_no_study_runs_is_wrong_usage(file):
    with pytest.raises(ValueError, match=r"paper-1d has no run of .*mine.py:still in profile small; studies of any"):
        plan(["paper-1d"], Selection(methods=[f"{file}:still"]))


@pytest.mark.slow  # each process starts Python and JAX anew
def test_it_reaches_other_processes(file, tmp_path):
    words = ["run", "otd-vs-dto", "--profile", "smoke", "--only", "oned", "--method", f"{file}:still", "--jobs", "2"]
    done = subprocess.run(
        [sys.executable, "-c", "from cryosip.bench.app.cli import main; main()", *words, "--replicates", "2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 executed, 0 already recorded, 0 failed" in done.stdout
    assert len(record_files(tmp_path / "results")) == 2
