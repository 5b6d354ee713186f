"""The study of scaling: every method of the registry is in it, and labels say what its configuration holds."""

import jax
import jax.numpy as jnp
import pytest

from cryosip.bench.execute import execute, run_method
from cryosip.bench.studies import scaling as module
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.scaling import scaling
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.registry import METHODS, on_any_problem

SIZES = STUDIES["scaling"].sizes
READ = {
    "N": lambda run: run.method_options["n_particles"],
    "K": lambda run: run.method_options.get("n_components", run.method_options.get("n_support")),
    "draws": lambda run: run.method_options["n_draws"],
    "order": lambda run: run.method_options["quadrature_order"],
    "M": lambda run: run.problem_options["n_observations"],
    "sigma": lambda run: run.problem_options["noise_std"],
}


def standing(problem):
    """A method of one line: points of the initial law that stay."""
    theta = problem.sample_init(jax.random.key(0), 5)
    return Method(
        lambda _key: theta,
        lambda _key, state: (state, Info(jnp.zeros(()), jnp.asarray(0))),
        lambda state: WeightedPoints(state, jnp.full(5, 0.2)),
    )


@pytest.mark.parametrize("profile", SIZES)
def test_labels_say_what_the_configuration_holds(profile):
    runs = scaling(SIZES[profile])
    for run in runs:
        assert run.labels.value == READ[run.labels.axis](run), run
    assert {run.labels.axis for run in runs} == set(READ) - ({"order"} if profile != "paper" else set())


@pytest.mark.parametrize("profile", SIZES)
@pytest.mark.parametrize("axis", ["M", "sigma"])
def test_every_method_is_swept_over_observations_and_noise(profile, axis):
    for problem in ("oned", "nanocluster") if axis == "M" and profile != "smoke" else ("oned",):
        swept = {}
        for run in scaling(SIZES[profile]):
            if run.problem == problem and run.labels.axis == axis:
                swept.setdefault(run.method, []).append(READ[axis](run))
        assert set(swept) == set(on_any_problem())
        most = max(swept.values(), key=len)
        for method, values in swept.items():
            base = module.BASES[problem][method]
            assert values == [v for v in most if axis == "sigma" or v <= base.most]
            assert len(set(values)) == len(values) >= 2


def test_a_larger_profile_goes_further():
    reached = {
        profile: max(READ["N"](run) for run in scaling(size) if run.labels.axis == "N")
        for profile, size in SIZES.items()
    }
    assert reached["smoke"] < reached["small"] < reached["paper"]


@pytest.mark.slow
def test_a_method_of_one_line_in_the_registry_is_in_the_study(monkeypatch):
    monkeypatch.setitem(METHODS, "standing", standing)
    runs = [run for run in scaling(SIZES["small"]) if run.method == "standing"]
    others = [run for run in scaling(SIZES["small"]) if run.method == "flow" and run.labels.axis in ("M", "sigma")]
    assert [(run.problem, run.labels) for run in runs] == [(run.problem, run.labels) for run in others]
    assert {(run.steps, str(run.method_options)) for run in runs} == {(module.DEFAULT_STEPS, "{}")}

    (run,) = [run for run in scaling(SIZES["smoke"]) if run.method == "standing" and run.labels.text == "M=100"]
    record, _ = execute(run, "smoke", run_method)
    assert (record.status, record.message) == ("ok", "")
    assert record.metrics["w2"] > 0


def test_a_method_that_needs_more_leaves_a_record_that_says_where_it_failed(monkeypatch):
    monkeypatch.setitem(METHODS, "demanding", lambda problem, patience: standing(problem))
    (run,) = [run for run in scaling(SIZES["smoke"]) if run.method == "demanding" and run.labels.text == "M=100"]
    record, _ = execute(run, "smoke", run_method)
    assert record.status == "error"
    assert "patience" in record.message
    assert record.config.problem.options["n_observations"] == 100
