"""An edit voids the records of the runs that it can change, and of no others; each is made on a copy of the sources."""

import shutil
from pathlib import Path

import jax
import msgspec
import pytest

from cryosip.bench import environment, execute, sources
from cryosip.bench.app.planning import PROTEINS, Selection, plan
from cryosip.bench.studies.registry import STUDIES
from cryosip.methods.registry import METHODS
from cryosip.records.schema import Identity, Labels, RunConfig, id_of

ROOT = Path(__file__).parents[2]
FOLDERS = ("methods", "datasets", "records", "bench", "reports")
RUNS = plan(list(STUDIES), Selection("small", 1))
CONFIG = RunConfig("s", Labels("as is"), "oned", {"n_observations": 20}, "mixture", {"n_components": 2}, 5, 1, 0)
OF_ALL_RUNS = {
    "bench": {"build", "checkpoint", "execute", "fixed_view", "frames", "image_distances", "limits", "measure",
              "metrics", "programs", "runner", "sharing"},
    "datasets": {"instance"},
    "methods": {"checks", "data", "devices", "discrepancy", "energy", "grid", "hosts", "image_batches", "images",
                "method", "noisy_distance", "pairwise", "problem", "ranks", "shards", "stored", "tiles"},
}  # fmt: skip


def id_from(run, root):
    """The id of a run by the sources of a checkout."""
    record = execute.record_of(run, "small", STUDIES[run.study].measure)
    identity = sources.identity_of(run, STUDIES[run.study].measure, root)
    return id_of(msgspec.structs.replace(record, identity=identity))


def ids(root):
    return [id_from(run, root) for run in RUNS]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    root = tmp_path_factory.mktemp("before")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("published", "__pycache__"))
    return root


@pytest.fixture
def changed(checkout, tmp_path):
    """The runs that have another id after an edit of a file: a line more at its end."""

    def edited(*files):
        after = tmp_path / "after"
        shutil.copytree(checkout, after)
        for file in files:
            with open(after / file, "a", encoding="utf-8") as source:
                source.write("\n# edited\n")
        return [run for run, old, new in zip(RUNS, ids(checkout), ids(after), strict=True) if old != new]

    return edited


def discrepancy(run):
    return run.method_options.get("discrepancy", {}).get("name")


def test_ids_of_a_copy_are_those_of_the_sources_in_use(checkout):
    assert len(set(ids(checkout))) == len(RUNS)
    assert ids(checkout) == ids(None)


def test_a_method_more_changes_no_id(changed):
    assert changed("methods/newcomer.py", "methods/registry.py") == []


@pytest.mark.parametrize(
    "files",
    [
        [f"bench/app/{name}.py" for name in ("cli", "campaign", "progress", "executors", "locks")],
        [
            f"bench/studies/{name}.py"
            for name in ("registry", "study", "otd_dto", "scaling", "oned", "nanocluster", "protein", "bound")
        ],
        [f"bench/studies/{name}.py" for name in ("readings", "fredholm", "fredholm_settings")],
        [
            "bench/check/run.py",
            "bench/speed/baselines.py",
            "bench/speed/out_of_core.py",
            "bench/speed/tracking.py",
            "bench/cache.py",
            "bench/stopping.py",
        ],
        ["bench/environment.py", "reports/page.py", "records/schema.py", "records/write.py", "datasets/registry.py"],
    ],
)
def test_what_decides_no_number_changes_no_id(changed, files):
    assert all((ROOT / file).is_file() for file in files)
    assert changed(*files) == []


@pytest.mark.parametrize("file", ["bench/metrics.py", "bench/runner.py", "methods/tiles.py", "methods/grid.py"])
def test_what_every_run_passes_changes_all(changed, file):
    assert changed(file) == RUNS


def test_a_method_changes_its_own_runs_and_what_measures_with_it(changed):
    runs = changed("methods/mixture.py")
    assert runs == [run for run in RUNS if run.method == "mixture" or run.study == "consistency"]
    assert 0 < len(runs) < len(RUNS)


def test_a_discrepancy_changes_the_flows_that_take_it_or_are_made_of_it(changed):
    assert changed("methods/kl.py") == [
        run for run in RUNS if discrepancy(run) in ("kl", "data-kl", "composite") or run.study == "consistency"
    ]


def test_an_optimizer_changes_the_runs_that_take_it(changed):
    runs = changed("methods/optimizers.py")
    assert runs == [run for run in RUNS if run.method_options.get("optimizer", {}).get("name") == "rms-sgd"]
    assert runs


def test_the_precision_changes_all_ids(x64):
    with jax.enable_x64(False):
        single = ids(None)
    assert not set(single) & set(ids(None))


@pytest.mark.parametrize(
    ("file", "problems"),
    [
        ("datasets/nanocluster.py", {"nanocluster"}),
        ("datasets/rotations.py", PROTEINS | {"ensemble"}),
    ],
)
def test_a_problem_changes_its_own_runs(changed, file, problems):
    assert changed(file) == [run for run in RUNS if run.problem in problems]


def test_a_measure_changes_its_own_study(changed):
    assert changed("bench/studies/certified.py") == [run for run in RUNS if run.study == "consistency"]


@pytest.mark.parametrize(
    ("library", "problems"),
    [("prody", PROTEINS | {"ensemble"}), ("jax", {run.problem for run in RUNS})],
)
def test_another_version_of_a_library_changes_the_runs_that_it_decides(monkeypatch, library, problems):
    before = ids(None)
    version = environment.version
    monkeypatch.setattr(sources, "version", lambda name: "another" if name == library else version(name))
    sources._digest.cache_clear()
    after = ids(None)
    sources._digest.cache_clear()
    changed = [run for run, old, new in zip(RUNS, before, after, strict=True) if old != new]
    assert changed == [run for run in RUNS if run.problem in problems]


def test_the_engine_is_known():
    """Whoever imports one module more into it voids all records, and should know."""
    modules = {module.removeprefix("cryosip.") for module in sources._engine_modules(None)}
    assert modules == {f"{folder}.{name}" for folder, names in OF_ALL_RUNS.items() for name in names}
    assert {name for name in sources.NEUTRAL if not sources._files(name)[0].is_file()} == set()


def test_a_record_tells_the_parts(few_draws):
    record, _ = execute.execute(CONFIG, "smoke", execute.run_method)
    assert record.identity == sources.identity_of(CONFIG, execute.run_method)
    assert record.identity.measure == ""
    assert len({getattr(record.identity, part) for part in ("engine", "method", "problem")}) == 3


def test_a_method_from_elsewhere_is_its_file(monkeypatch, tmp_path):
    source = tmp_path / "of_a_user.py"
    found = []
    for text in ("def mine(problem): ...", "def mine(problem): 1"):
        source.write_text(text)
        namespace = {"__name__": "of_a_user"}
        exec(text, namespace)
        module = type(pytest)("of_a_user")
        module.__file__ = str(source)
        monkeypatch.setitem(sources.sys.modules, "of_a_user", module)
        monkeypatch.setitem(METHODS, "mine", namespace["mine"])
        for cached in (sources._digest, sources._imported, sources.behind):
            cached.cache_clear()
        config = RunConfig("s", Labels("as is"), "oned", {}, "mine", {}, 5, 1, 0)
        found.append(sources.identity_of(config, execute.run_method))
    assert found[0].method != found[1].method
    assert msgspec.structs.replace(found[0], method="") == msgspec.structs.replace(found[1], method="")


def test_an_unknown_name_has_no_part():
    unknown = RunConfig("s", Labels("as is"), "nowhere", {}, "nobody", {}, 5, 1, 0)
    assert sources.identity_of(unknown, execute.run_method) == Identity(sources.engine())
