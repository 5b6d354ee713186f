"""Options by --set: typed by the signature of the factory, named where they are wrong, and part of what a run is."""

import json

import pytest

from cryosip.bench.app import settings
from cryosip.bench.app.planning import Selection, plan
from cryosip.bench.execute import record_of, run_method
from cryosip.bench.studies import otd_dto, tuning
from cryosip.methods.registry import METHODS
from cryosip.records.schema import Labels, RunConfig


def run(method="mixture", **options):
    return RunConfig("s", Labels("as is", "K", 3), "oned", {"n_observations": 20}, method, options, 5, 1, 0)


def changed(method, *texts, **options):
    (chosen,) = settings.combinations(texts)
    return settings.with_settings(run(method, **options), chosen)


@pytest.mark.parametrize(
    ("method", "text", "option", "value"),
    [
        ("mixture", "method.n_components=20", "n_components", 20),
        ("mixture", "method.estimate_weights=true", "estimate_weights", True),
        ("mixture", "method.prior_weight=1e-3", "prior_weight", 0.001),
        ("mixture", "method.anneal=[10, 50]", "anneal", [10, 50]),
        ("mixture", "method.anneal=null", "anneal", None),
        ("flow", "method.discrepancy=kl", "discrepancy", {"name": "kl"}),
    ],
)
def test_a_value_has_the_type_of_its_argument(method, text, option, value):
    found = changed(method, text).method_options[option]
    assert json.dumps(found) == json.dumps(value)


def test_an_option_of_the_problem_and_an_option_within_a_table():
    adam = {"optimizer": {"name": "adam", "learning_rate": 0.1}, "discrepancy": {"name": "mmd", "options": {"a": 1}}}
    found = changed("flow", "method.optimizer.learning_rate=0.2", "problem.noise_std=2", **adam)
    assert found.method_options == adam | {"optimizer": {"name": "adam", "learning_rate": 0.2}}
    assert found.problem_options == {"n_observations": 20, "noise_std": 2.0}
    assert changed("flow", "method.discrepancy=kl", **adam).method_options["discrepancy"] == {"name": "kl"}


def test_the_labels_say_it_and_it_is_another_run():
    found = changed("mixture", "method.n_components=20")
    assert found.labels == Labels("as is, n_components=20", "K", 3)
    plain = RunConfig("s", Labels("as is"), "oned", {}, "mixture", {}, 5, 1, 0)
    both = [settings.parsed(text) for text in ("method.n_components=20", "problem.noise_std=2")]
    assert settings.with_settings(plain, both).labels == Labels("as is, noise_std=2", "options", "n_components=20")
    ids = {record_of(config, "", run_method).run_id for config in (run(), run(n_components=20), found)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("n_components=20", r"--set is 'n_components=20'; wanted method.OPTION=VALUE or problem.OPTION=VALUE"),
        ("method.n_components", r"--set is 'method.n_components'; wanted"),
        ("method.=3", r"--set is 'method.=3'; wanted"),
        ("other.n=3", r"--set is 'other.n=3'; wanted"),
        ("method.n_component=20", r"method 'mixture' has no option 'n_component'; wanted one of 'n_components', "),
        ("method.problem=20", r"method 'mixture' has no option 'problem'"),
        ("problem.seed=20", r"problem 'oned' has no option 'seed'"),
        ("method.n_components=many", r"n_components of method 'mixture': Expected `int \| array`, got `str`"),
        ("method.n_components=2.5", r"n_components of method 'mixture': Expected `int \| array`, got `float`"),
        ("method.prior_weight=NaN", r"prior_weight of method 'mixture': Out of range float"),
        ("method.held_out_steps=many", r"held_out_steps of method 'mixture': Expected `int`, got `str`"),
    ],
)
def test_what_is_wrong_is_named(text, says):
    with pytest.raises(ValueError, match=says):
        changed("mixture", text)


def test_a_number_has_no_options_of_its_own():
    with pytest.raises(ValueError, match="n_support of method 'reweighting' is int, and has no options of its own"):
        changed("reweighting", "method.n_support.x=3")


def test_an_unknown_discrepancy_is_named():
    with pytest.raises(ValueError, match="discrepancy is 'klm'; wanted one of"):
        changed("flow", "method.discrepancy=klm")


def test_settings_reach_all_runs_that_are_asked_for_and_each_must_take_them():
    runs = plan(["otd-vs-dto"], Selection(replicates=1, methods=["reweighting"], settings=["method.n_support=30"]))
    assert {r.method for r in runs} == {"reweighting"}
    assert {r.method_options["n_support"] for r in runs} == {30}
    with pytest.raises(ValueError, match="method 'flow' has no option 'n_support'"):
        plan(["otd-vs-dto"], Selection(replicates=1, settings=["method.n_support=30"]))
    with pytest.raises(ValueError, match=r"--set method.n: sampling has runs of no method"):
        plan(["sampling"], Selection(replicates=1, settings=["method.n=30"]))


@pytest.mark.parametrize(
    ("study", "problem", "text", "says"),
    [
        (
            "fredholm",
            "fredholm",
            "problem.dimension=3",
            r"varies dimension of fredholm itself \(1, 2, 3, 4\)",
        ),
        ("contamination", "oned", "problem.outliers=0.05", r"varies outliers of oned itself \(0.0, 0.1\)"),
        ("ensemble", "ensemble", "problem.populations=[0.5, 0.5]", r"\(\[0.3, 0.7\], its default\)"),
    ],
)
def test_what_a_study_varies_itself_cannot_be_set(study, problem, text, says):
    """Its runs would become the same, and pass for replicates."""
    with pytest.raises(ValueError, match=says):
        plan([study], Selection("smoke", problems=[problem], settings=[text]))
    other = plan([study], Selection("smoke", problems=[problem], settings=["problem.n_observations=30"]))
    assert {run.problem_options["n_observations"] for run in other} == {30}


def test_only_a_sweep_takes_several_values_and_numbers_what_it_tries(monkeypatch):
    monkeypatch.setitem(METHODS, "mine", lambda problem, a=1, b=2: None)
    several = Selection(replicates=1, problems=["oned"], methods=["mine"], settings=[f"method.a={i}" for i in range(3)])
    with pytest.raises(ValueError, match=r"--set gives an option twice: method.a=0, method.a=1, .*only `cryosip tune`"):
        plan(["otd-vs-dto"], several)
    runs = plan(["tuning"], several)
    assert [(r.labels.value, r.method_options) for r in runs] == [(i, {"a": i}) for i in range(3)]
    tuning.check_trials(runs)
    more = several._replace(settings=[*several.settings, "method.b=1", "method.b=2"])
    with pytest.raises(ValueError, match="mine would be tried with 6 settings on oned; wanted at most 4"):
        tuning.check_trials(plan(["tuning"], more))


def test_what_tune_found_is_taken_from_its_file(tmp_path):
    settings_found = [{"options": {"n_components": k}, "steps": 7} for k in (3, 4)]
    file = tmp_path / "tuned.json"
    found = {"oned": {"methods": {"mixture": {"settings": settings_found, "best": [1, 0, 1]}}}}
    file.write_text(json.dumps(found))
    asked = Selection(replicates=1, problems=["oned"], tuned=file)
    runs = {r.method: r for r in plan(["otd-vs-dto"], asked) if r.labels.variant.endswith("1 s")}
    own = plan(["otd-vs-dto"], asked._replace(tuned=None))
    assert (runs["mixture"].method_options, runs["mixture"].steps) == ({"n_components": 4}, 7)
    assert runs["flow"] in own
    assert runs["mixture"] not in own
    for wrong in ("{", "{}", '{"oned": 3}', '{"oned": {"methods": {"mixture": {"settings": [], "best": [1]}}}}'):
        file.write_text(wrong)
        with pytest.raises(ValueError, match=r"tuned.json is no file that `cryosip tune` wrote"):
            plan(["otd-vs-dto"], asked)
    with pytest.raises(ValueError, match="is no file that"):
        otd_dto.tuned(tmp_path / "none.json")
