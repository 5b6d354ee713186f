"""OTD against DTO: an equal sweep on other replicates, settings by budget, and a new method in every comparison."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench.app import cli
from cryosip.bench.app.planning import Selection, plan
from cryosip.bench.execute import execute, record_of, run_method
from cryosip.bench.studies import otd_dto, tuning
from cryosip.bench.studies.otd_dto import DEFAULTS, PAPER, SMALL, SMOKE, chosen, otd_vs_dto
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.sweeps import sweep
from cryosip.datasets.registry import DATASETS
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.registry import METHODS, on_any_problem
from cryosip.records.schema import Labels, Result, RunConfig

TUNED_PROBLEMS = [budgeted for budgeted in SMALL.problems if budgeted.name not in otd_dto.SAME_SETTINGS]


def swept(budgeted):
    return sweep(budgeted.name, budgeted.options["n_observations"])


def still(problem):
    """The trivial method: what the initial law drew, for ever."""
    return Method(
        lambda key: problem.sample_init(key, 7),
        lambda key, theta: (theta, Info(jnp.zeros(()), jnp.asarray(0))),
        lambda theta: WeightedPoints(theta, jnp.full(7, 1 / 7)),
    )


@pytest.mark.parametrize("budgeted", TUNED_PROBLEMS, ids=lambda budgeted: budgeted.name)
def test_every_method_has_as_many_settings_in_the_swept(budgeted):
    settings = swept(budgeted)
    assert set(settings) <= set(METHODS)
    assert {len(tried) for tried in settings.values()} == {4}
    for tried in settings.values():
        assert len({json.dumps(setting, sort_keys=True) for setting in tried}) == 4


def test_what_is_tuned_on_is_never_reported():
    tuned = {run.replicate for run in plan(["tuning"], Selection())}
    reported = {run.replicate for run in plan(["otd-vs-dto"], Selection("paper"))}
    assert not tuned & reported
    assert len(reported) >= 5


def test_a_problem_of_somebody_else_joins_with_as_many_settings_of_each_method(monkeypatch):
    monkeypatch.setitem(DATASETS, "tripled", lambda n_observations=70, seed=0: None)
    for size in (SMOKE, SMALL, PAPER):
        (other,) = (budgeted for budgeted in size.all_problems if budgeted.problem == "tripled")
        assert other.options == {"n_observations": 70}
        assert {len(tried) for tried in swept(other).values()} == {tuning.TRIALS}
    runs = [run for run in otd_vs_dto(SMALL) if run.problem == "tripled"]
    assert [run.method for run in runs] == on_any_problem()
    assert {run.labels.variant for run in runs} == {"untuned"}
    assert runs[0].method_options["n_particles"] == 70
    tried = [run for run in tuning.tuning(SMALL) if run.problem == "tripled"]
    assert len(tried) == tuning.TRIALS * len(on_any_problem())


def test_the_committed_sweep_is_the_one_that_is_written_here():
    """If this fails, `cryosip tune` has to be run again."""
    told = json.loads(otd_dto.tuned_file().read_text())
    for budgeted in TUNED_PROBLEMS:
        own = told[budgeted.name]
        assert own["profile"] == "small"
        assert len(own["replicates"]) >= 3
        for method, settings in swept(budgeted).items():
            known = own["methods"][method]
            assert known["settings"] == json.loads(json.dumps(settings)), (budgeted.problem, method)
            errors = np.array(known["held_out"], float)  # null is nan
            assert errors.shape == np.shape(known["w2"]) == (4, len(budgeted.seconds))
            assert known["best"] == np.where(np.isnan(errors), np.inf, errors).argmin(0).tolist()


@pytest.mark.parametrize("size", [SMALL, PAPER], ids=["small", "paper"])
def test_each_budget_has_one_setting_of_each_method(size):
    for budgeted in size.problems:
        for method in on_any_problem():
            found = chosen(budgeted, method, otd_dto.tuned())
            for currency in ("seconds", "forward_evaluations"):
                budgets = sorted(b for _, own in found for b in own[currency])
                assert budgets == sorted(getattr(budgeted, currency)), (budgeted.problem, method)


def test_the_settings_are_those_that_the_sweep_found_best(monkeypatch):
    budgeted = SMALL.problems[0]
    settings = [{"options": {"n_components": k}, "steps": k} for k in (3, 5_000)]
    known = {"oned": {"methods": {"mixture": {"settings": settings, "best": [1, 0, 1]}}}}
    monkeypatch.setattr(otd_dto, "tuned", lambda _file: known)
    (first, of_first), (second, of_second) = chosen(budgeted, "mixture", known)
    short, middle, long = budgeted.seconds
    assert first == {"options": {"n_components": 1_000}, "steps": 5_000}  # no more components than data
    assert of_first == {"seconds": [short, long], "forward_evaluations": list(budgeted.forward_evaluations)}
    assert second["options"] == {"n_components": 3}
    assert of_second == {"seconds": [middle], "forward_evaluations": []}
    runs = [run for run in otd_vs_dto(SMALL) if (run.problem, run.method) == ("oned", "mixture")]
    assert [run.stop_after_seconds for run in runs] == [long, middle]


@pytest.mark.slow
def test_a_new_method_is_seen_in_every_comparison(monkeypatch):
    """One line in the registry: it runs in otd-vs-dto on every problem, with its defaults until a sweep knows it."""
    monkeypatch.setitem(METHODS, "still", still)
    runs = [run for run in otd_vs_dto(SMOKE) if run.method == "still"]
    assert [run.problem for run in runs] == [budgeted.problem for budgeted in SMOKE.problems]
    assert all(run.steps == DEFAULTS["steps"] for run in runs)
    for run in runs[:2]:
        record, _ = execute(run, "smoke", run_method)
        assert record.status == "ok", record.message
        assert set(record.curve) >= {"seconds", "forward_evaluations", "w1", "w2", "energy_distance_squared"}
        assert record.config.budgets["seconds"] == list(run.budgets["seconds"])


def looked(setting, replicate, w2, status="ok", setup=0.0, method="mixture"):
    """A record with looks after 1, 2 and 3 seconds."""
    config = RunConfig("tuning", Labels(axis="number", value=setting), "oned", {}, method, {}, 3, 1, replicate)
    curve = {"seconds": np.array([1.0, 2.0, 3.0]), "w2": np.array(w2), "held_out": -np.array(w2)}
    return record_of(config, "smoke", run_method, Result(status=status, setup_seconds=setup, curve=curve))


def test_the_error_within_a_budget_is_that_of_the_last_look():
    record = looked(0, 100, [9.0, 5.0, 7.0], setup=0.5)
    assert tuning.error_at(record, "w2", 2.4) == 9.0  # building it took half a second
    assert tuning.error_at(record, "w2", 2.5) == 5.0
    assert tuning.error_at(record, "held_out", 99.0) == -7.0
    assert tuning.error_at(record, "w2", 1.4) == np.inf
    assert tuning.error_at(looked(0, 100, [9.0, 5.0, 7.0], status="diverged"), "w2", 99.0) == np.inf


def test_the_best_setting_has_the_lowest_median_score_and_failures_are_far(monkeypatch):
    budgeted = otd_dto.BudgetedProblem("oned", {"n_observations": 9}, (1.0, 3.0), (2.0,))
    configs = [
        RunConfig("tuning", Labels(axis="number", value=i), "oned", {}, "mixture", {}, i, 1, 100) for i in range(3)
    ]
    records = [
        *(looked(0, r, [1.0, 4.0, 4.0]) for r in (100, 101, 102)),
        *(looked(1, r, [2.0, 3.0, 3.0], status=status) for r, status in ((100, "ok"), (101, "error"), (102, "ok"))),
        *(looked(2, r, [0.1, 0.1, 0.1], status=status) for r, status in ((100, "ok"), (101, "error"), (102, "error"))),
    ]
    told = tuning.found(budgeted, configs, records)
    assert told["replicates"] == [100, 101, 102]
    own = told["methods"]["mixture"]
    assert own["w2"] == [[1.0, 4.0], [2.0, 3.0], [None, None]]
    assert own["held_out"] == [[-1.0, -4.0], [-2.0, -3.0], [None, None]]
    assert own["best"] == [1, 0]  # whatever W2 says


@pytest.mark.slow
def test_tune_writes_what_the_study_reads_and_keeps_other_problems(monkeypatch, tmp_path):
    few = {"reweighting": [{"options": {"n_support": k}, "steps": 3} for k in (20, 40)]}
    monkeypatch.setattr(tuning, "sweep", lambda *_: few)
    monkeypatch.setattr(tuning, "on_any_problem", lambda: ["reweighting"])
    file = tmp_path / "deep" / "tuned.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"nanocluster": "as it was"}))
    words = ["tune", "--profile", "smoke", "--only", "oned", "--replicates", "2", "--results", str(tmp_path)]
    result = CliRunner().invoke(cli.app, [*words, "--out", str(file)], env={"TERM": "dumb"})
    assert result.exit_code == 0, result.output
    told = json.loads(file.read_text())
    assert told["nanocluster"] == "as it was"
    own = told["oned"]
    assert (own["profile"], own["metric"], own["replicates"]) == ("smoke", "held_out", [100, 101])
    assert own["methods"]["reweighting"]["settings"] == few["reweighting"]
    assert len(own["methods"]["reweighting"]["best"]) == len(SMOKE.problems[0].seconds)
    assert all(setting in few["reweighting"] for setting, _ in chosen(SMOKE.problems[0], "reweighting", told))


def test_a_wrong_problem_is_refused_before_anything_runs(tmp_path):
    result = CliRunner().invoke(cli.app, ["tune", "--only", "hsp", "--results", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert not (tmp_path / "r").exists()


def test_a_structure_is_for_proteins_alone(tmp_path):
    runs = plan(["otd-vs-dto"], Selection("paper", 1, structure=tmp_path / "some.pdb"))
    told = {run.problem: "structure" in run.problem_options for run in runs}
    assert told == dict.fromkeys(set(DATASETS) - otd_dto.OF_VOLUMES, False) | {"adk": True, "hsp90": True}
    assert dataclasses.asdict(runs[0])["budgets"] is not None
    assert STUDIES["otd-vs-dto"].sizes["small"].replicates >= 5
