"""From a configuration to a record, whatever becomes of the run; and the truth stays on this side."""

import dataclasses
import inspect
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import SMALL

from cryosip.bench import frames
from cryosip.bench.build import build_instance
from cryosip.bench.execute import Session, execute, record_of, run_method
from cryosip.datasets.registry import DATASETS
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.registry import METHODS
from cryosip.records.schema import Choice, Labels, Result, RunConfig, as_json, from_table

TIMES = {"setup_seconds", "trace_seconds", "compile_seconds", "program", "run_seconds", "peak_memory_mb", "created"}
ENVIRONMENT = {
    "commit", "dirty", "cryosip", "python", "jax", "jaxlib", "numpy", "pot", "cryojax", "prody", "host", "machine",
    "device", "cpu", "threads", "jobs", "dtype",
}  # fmt: skip
DISTANCES = {"w1", "w2", "energy_distance", "energy_distance_squared"}
TO_DATA = {"w1_to_data", "w2_to_data"}
ARRAYS = {"theta", "weights", "theta_init", "theta_true", "y_estimated", "y_init", "y_observed"}
N = SMALL["oned"]["n_observations"]

pytestmark = pytest.mark.usefixtures("few_draws")

CONFIG = RunConfig(
    study="paper-1d",
    labels=Labels("published"),
    problem="oned",
    problem_options=SMALL["oned"],
    method="flow",
    method_options={
        "discrepancy": {"name": "kl", "options": {"bandwidth": "paper"}},
        "optimizer": {"name": "adam", "learning_rate": 0.05},
        "n_particles": N - 10,
    },
    steps=7,
    every=3,
    replicate=2,
    stop_below={"w2": 1e-9},
)


def executed(config=CONFIG, **changes):
    config = dataclasses.replace(config, **changes)
    seen = []
    record, arrays = execute(config, "smoke", run_method, Session(seen.append))
    assert as_json(from_table(json.loads(as_json(record)))) == as_json(record)
    return record, arrays, seen


@pytest.fixture(scope="module")
def ok(few_draws):
    record, arrays, seen = executed()
    assert record.status == "ok", record.message
    return record, arrays, seen


def test_a_run_stops_when_its_seconds_are_over():
    record, _, seen = executed(stop_below=None, stop_after_seconds=1e-9, steps=50, every=1)
    assert (record.status, record.steps, len(seen)) == ("ok", 0, 1)
    record, _, _ = executed(stop_below=None, stop_after_seconds=1e9)
    assert record.steps == 7


@pytest.mark.slow
def test_what_building_a_method_costs_is_told(monkeypatch):
    """Weights on a fixed support are cheap because the likelihoods were computed before the first step."""

    def slow(problem):
        time.sleep(0.2)
        return METHODS["reweighting"](problem, n_support=300)

    monkeypatch.setitem(METHODS, "slow", slow)
    record, _, _ = executed(method="slow", method_options={}, stop_below=None)
    assert 0.2 <= record.setup_seconds < 2
    assert record.run_seconds < 0.2
    assert record.oracle_metrics["w2"] < record.metrics["w2"]


def test_products_are_as_precise_as_the_numbers():
    """Of a GPU; a processor knows one precision alone, so the program is looked at."""

    def measure(_config, _session):
        told = jax.jit(lambda a: a @ a).lower(jax.numpy.ones((2, 2))).as_text()
        return Result(metrics={"highest": float("HIGHEST" in told)}), {}

    record, _ = execute(CONFIG, "smoke", measure)
    assert record.metrics == {"highest": 1.0}


def test_a_record_has_all_keys(ok):
    record, arrays, seen = ok
    assert set(record.environment) >= ENVIRONMENT
    assert set(record.metrics) == DISTANCES | TO_DATA | {"discrepancy"}
    for name in ("floors", "data_floors"):
        assert set(getattr(record, name)) == DISTANCES
    for name in ("sampled_metrics", "initial_sampled_metrics"):
        assert set(getattr(record, name)) == {"w1", "w2", "energy_distance_squared"}
    assert record.floors["w1"].n == N - 10
    assert record.data_floors["w1"].n == N
    assert set(record.initial_metrics) >= DISTANCES
    assert record.message == ""
    assert (record.schema, record.profile, record.replicate) == (3, "smoke", 2)
    assert (record.steps, record.forward_evaluations) == (7, 7 * (N - 10))
    assert (record.problem, record.method, record.discrepancy) == ("oned", "flow", "kl")
    assert record.config.problem.options == CONFIG.problem_options
    assert (record.config.steps, record.config.every, record.config.stop_below) == (7, 3, {"w2": 1e-9})
    assert "KDE by FFT" in record.algorithm.name
    assert 0 <= record.algorithm.gradient_error < 0.1
    assert [s.step for s in seen] == [0, 3, 6, 7]
    assert set(arrays) == ARRAYS


def test_the_configuration_has_all_arguments(ok):
    """Those of the discrepancy too; what is left at its default has the default of the factory."""
    record = ok[0]
    problem, method = record.config.resolved["problem"], record.config.resolved["method"]
    assert problem["options"] | CONFIG.problem_options == problem["options"]
    assert set(problem["options"]) == set(inspect.signature(DATASETS["oned"]).parameters) - {"seed"}
    assert set(method["options"]) == set(inspect.signature(METHODS["flow"]).parameters) - {"problem"}
    assert method["options"]["sampling"] == record.config_value("method.options.sampling") == "method-1"
    assert method["options"]["discrepancy"] == {"name": "kl", "options": {"bandwidth": "paper", "algorithm": "auto"}}
    assert record.config_number("problem.options.noise_std") == 1.5
    assert np.isnan(record.config_number("problem.options.means"))
    assert record.config_value("method.options.nothing.there") is None


def test_an_option_that_is_given_its_default_is_the_same_run(ok):
    given = dataclasses.replace(CONFIG, problem_options=CONFIG.problem_options | {"noise_std": 1.5})
    assert record_of(given, "smoke", run_method).run_id == ok[0].run_id
    other = dataclasses.replace(CONFIG, problem_options=CONFIG.problem_options | {"noise_std": 1.6})
    assert record_of(other, "smoke", run_method).run_id != ok[0].run_id


def test_the_curve_goes_with_the_snapshots(ok):
    curve = ok[0].curve
    assert set(curve) >= {"step", "seconds", "forward_evaluations", "objective", "w1", "w2"}
    assert curve["step"].tolist() == [0, 3, 6, 7]
    assert {len(column) for column in curve.values()} == {4}
    assert np.isnan(curve["objective"][0])
    assert curve["w2"][-1] == ok[0].metrics["w2"]


def test_the_arrays_are_those_of_the_last_snapshot(ok):
    record, arrays, seen = ok
    np.testing.assert_array_equal(arrays["theta"], seen[-1].estimate.theta)
    assert {name: arrays[name].shape for name in ("theta", "weights", "y_estimated", "y_observed")} == {
        "theta": (N - 10, 1),
        "weights": (N - 10,),
        "y_estimated": (N, 1),
        "y_observed": (N, 1),
    }
    observed = build_instance(CONFIG).problem.observations
    np.testing.assert_array_equal(arrays["y_observed"], observed)
    assert record.metrics["w1"] < record.initial_metrics["w1"] * 2


def test_the_same_configuration_gives_the_same_record(ok):
    """All but the times; another replicate has other data and other draws."""
    again, arrays, _ = executed()
    for name, array in ok[1].items():
        np.testing.assert_array_equal(array, arrays[name])
    for name in set(json.loads(as_json(again))) - TIMES - {"curve"}:
        assert getattr(again, name) == getattr(ok[0], name), name
    other, other_arrays, _ = executed(replicate=3)
    assert other.dataset_hash != ok[0].dataset_hash
    assert not np.intersect1d(other_arrays["theta"], ok[1]["theta"]).size


@pytest.mark.parametrize("every", [1, 7])
def test_a_diverging_flow_keeps_its_last_finite_state(every):
    """The last one that was looked at, since only looking tells."""
    sgd = {"name": "sgd", "learning_rate": 1e18}
    record, arrays, seen = executed(method_options=CONFIG.method_options | {"optimizer": sgd}, steps=20, every=every)
    assert record.status == "diverged", record.message
    assert f"not finite after step {seen[-1].step}" in record.message
    assert [s.finite for s in seen] == [True] * (len(seen) - 1) + [False]
    assert record.steps == seen[-2].step == seen[-1].step - every
    np.testing.assert_array_equal(arrays["theta"], seen[-2].estimate.theta)
    assert np.isfinite(arrays["theta"]).all()
    assert record.curve["step"][-1] == record.steps


def test_a_run_stops_where_it_was_told_to():
    """At the first look where all limits hold; the limit of the other tests is never reached."""
    record, _, seen = executed(stop_below={"w2": 100.0})
    assert (record.status, record.steps, len(seen)) == ("ok", 0, 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "flows"}, "ValueError: method is 'flows'; wanted one of .*did you mean 'flow'"),
        ({"problem": "1d"}, "ValueError: problem is '1d'"),
        (
            {"method_options": CONFIG.method_options | {"optimizer": {"name": "adm", "learning_rate": 1.0}}},
            "did you mean 'adam'",
        ),
        (
            {"method_options": CONFIG.method_options | {"optimizer": {"name": "adam", "learning_rate": -1.0}}},
            "learning_rate is -1.0",
        ),
        ({"method_options": CONFIG.method_options | {"discrepancy": {"name": "KL"}}}, "discrepancy is 'KL'"),
    ],
)
def test_an_error_is_a_record(changes, says):
    record, arrays, _ = executed(**changes)
    assert record.status == "error"
    assert arrays == {}
    with pytest.raises(ValueError, match=says):
        raise ValueError(record.message)


def test_an_error_while_running_is_a_record(monkeypatch):
    def broken(problem):
        raise ZeroDivisionError("of the method")

    monkeypatch.setitem(METHODS, "broken", broken)
    record, _, _ = executed(method="broken", method_options={})
    assert (record.status, record.message) == ("error", "ZeroDivisionError: of the method")
    assert record.config.method == Choice("broken")


IMAGES = {
    "problem": "nanocluster",
    "problem_options": SMALL["nanocluster"],
    "stop_below": {},
}
READINGS = {f"images_{kind}_{statistic}" for kind in ("noisy", "clean", "mixed") for statistic in "uv"}


@pytest.mark.parametrize("sampling", ["closed-form", pytest.param("method-1", marks=pytest.mark.slow)])
def test_a_record_of_images(sampling):
    """A flow is measured by the distances of its images too; the first replicate shows some images."""
    options = CONFIG.method_options | {"discrepancy": {"name": "energy"}, "sampling": sampling}
    record, arrays, _ = executed(**IMAGES, method_options=options, replicate=0)
    assert record.status == "ok", record.message
    assert set(record.metrics) == DISTANCES | TO_DATA | READINGS
    assert set(record.initial_metrics) == DISTANCES | READINGS
    for name, at in (("initial_sampled_metrics", "initial_metrics"), ("sampled_metrics", "metrics")):
        assert getattr(record, name)["w2"].median == pytest.approx(getattr(record, at)["w2"], rel=0.3)
    assert set(record.curve) >= {"w1", "w2"}
    assert record.algorithm.name.startswith("all pairs")
    assert record.algorithm.gradient_error < 1e-4
    known = {"theta", "weights", "theta_init", "theta_true", "image_clean", "image_noisy"}
    assert set(arrays) == known | {"frames", "frame_steps"}
    instance = build_instance(dataclasses.replace(CONFIG, **IMAGES, replicate=0))
    inside = 0 if sampling == "closed-form" else instance.problem.span.project(instance.problem.observations).shape[1]
    assert f"noise of {256 - inside} dimensions" in record.algorithm.name
    np.testing.assert_array_equal(arrays["image_noisy"], instance.problem.observations[:4])
    expected = instance.problem.render(instance.truth.theta[:4], ())
    np.testing.assert_allclose(arrays["image_clean"], expected, atol=1e-6)
    _, later, _ = executed(**IMAGES, method_options=options, replicate=1)
    assert "image_clean" not in later


def test_other_methods_on_images_are_measured_by_their_parameters():
    record, _, _ = executed(**IMAGES, method="mixture", method_options={"n_components": 3})
    assert set(record.metrics) == DISTANCES | TO_DATA
    assert record.floors["w2"].n == 3
    assert record.metrics["w2_to_data"] > 0


def test_the_first_replicate_keeps_frames_of_the_same_particles(monkeypatch):
    """As many as the bounds allow, evenly among the looks, the first and the last among them."""
    monkeypatch.setattr(frames, "POINTS", 4)
    monkeypatch.setattr(frames, "FRAMES", 3)
    record, arrays, seen = executed(replicate=0, steps=8, every=1)
    assert len(seen) == 9
    assert arrays["frame_steps"].tolist() == [[0], [4], [8]]
    rows = [0, 16, 33, 49]  # of 50
    expected = np.concatenate([seen[step].estimate.theta[np.array(rows)] for step in (0, 4, 8)])
    np.testing.assert_array_equal(arrays["frames"], expected)
    assert arrays["frames"].dtype == np.float32
    np.testing.assert_array_equal(arrays["frames"][-4:], arrays["theta"][rows])
    assert record.curve["step"].tolist() == list(range(9))
    for replicate in (1, 2):
        assert "frames" not in executed(replicate=replicate)[1]


def test_frames_are_bounded():
    cloud = np.random.default_rng(0).normal(size=(10_000, 9))
    kept = frames.film([frames.frame(step, WeightedPoints(cloud + step, np.ones(10_000))) for step in range(100)])
    assert (kept["frames"].shape, kept["frame_steps"].shape) == ((12 * 300, 9), (12, 1))
    assert kept["frames"].nbytes < 150_000
    steps = kept["frame_steps"][:, 0]
    assert (steps[0], steps[-1]) == (0, 99)
    assert set(np.diff(steps)) == {9}
    shown = kept["frames"].reshape(12, 300, 9) - steps[:, None, None]
    np.testing.assert_allclose(shown, np.broadcast_to(shown[0], shown.shape), atol=1e-4)  # the same ones
    assert len(np.unique(shown[0, :, 0])) == 300


def test_rows_that_do_not_stay_the_same_points_are_no_frames():
    def looks(*sizes):
        return [frames.frame(step, WeightedPoints(np.zeros((n, 2)), np.ones(n))) for step, n in enumerate(sizes)]

    assert frames.film(looks(5, 5))["frames"].shape == (10, 2)
    assert frames.film(looks(400, 500)) == {}  # 300 of either
    assert frames.film(looks(5)) == frames.film([]) == {}


@pytest.mark.slow
def test_distances_that_overflow_are_a_divergence(x64, monkeypatch):
    """Of a state that is finite still, in the record that JSON can hold."""

    def flying(_problem):
        def step(_key, theta):
            return 1e60 * theta, Info(theta.sum(), jnp.asarray(4))

        return Method(lambda _: jnp.ones((4, 1)), step, lambda theta: WeightedPoints(theta, jnp.full(4, 0.25)))

    monkeypatch.setitem(METHODS, "flying", flying)
    record, arrays, _ = executed(method="flying", method_options={}, steps=5, every=1)
    assert (record.status, record.steps, arrays["theta"].max()) == ("diverged", 2, pytest.approx(1e120))
    assert record.metrics["w2"] == pytest.approx(1e120)


def test_a_run_that_diverges_keeps_the_frames_before():
    sgd = {"name": "sgd", "learning_rate": 1e10}
    options = CONFIG.method_options | {"optimizer": sgd, "discrepancy": {"name": "kl"}}
    record, arrays, _ = executed(replicate=0, method_options=options, steps=20, every=1)
    assert record.status == "diverged"
    assert np.isfinite(arrays["frames"]).all()
    assert arrays["frame_steps"].max() == record.steps
