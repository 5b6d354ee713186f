"""What a study of stability changes, and how far apart it says that estimates are."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench import metrics, volume_metrics
from cryosip.bench.execute import ALONE
from cryosip.bench.studies import measured_stability
from cryosip.bench.studies.measured_stability import CHANGES, NOISE_SHARE, Run, compared, measure_stability
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.stability import stability
from cryosip.bench.studies.study import Size
from cryosip.datasets.volume_frame import frame
from cryosip.methods.problem import Problem

SMOKE = STUDIES["stability"].sizes["smoke"]


def changed(name):
    """400 observations; nobody renders."""
    y = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    run = Run(Problem("given", jnp.asarray(y), 1.0, *[None] * 5), {"n_components": 4}, jr.key(1))
    return run, *CHANGES[name](run, jr.key(2))


def test_each_change_is_of_one_thing():
    given, first, second = changed("seed")
    assert first is given
    assert second.problem is given.problem
    assert second.options == given.options
    assert (jr.key_data(second.key) != jr.key_data(given.key)).any()
    given, first, second = changed("components")
    assert first is given
    assert second == given._replace(options={"n_components": 10})
    given, first, second = changed("half")
    y = np.asarray(given.problem.observations)
    np.testing.assert_array_equal(first.problem.observations, y[::2])
    np.testing.assert_array_equal(second.problem.observations, y[1::2])
    assert first.key is second.key is given.key


def test_noise_has_its_share_of_the_energy():
    given, first, second = changed("noise")
    assert first is given
    y = np.asarray(given.problem.observations, float)
    added = np.asarray(second.problem.observations, float) - y
    # the mean of 1200 squares has a std of 4 %
    assert (added**2).mean() / (y**2).mean() == pytest.approx(NOISE_SHARE, rel=0.2)
    assert second.problem._replace(observations=None) == given.problem._replace(observations=None)
    assert second[1:] == given[1:]


def test_an_estimate_that_moves_by_two_has_moved_by_two():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(60, 3)) @ np.eye(3, 20)
    (first,) = metrics.equally_weighted(true[None])
    values = compared([first, first._replace(theta=true + 2.0 * np.eye(20)[7])], frame(true))
    assert values == pytest.approx({"stability_w2": 2.0, "volume_w2": 0.0, "volume_w2_changed": 2.0}, abs=1e-5)


def test_all_methods_have_all_changes_and_half_the_images_as_many_epochs():
    runs = stability(Size(1, 1_000, 1.0, images="small"))
    pairs = {(run.labels.variant, run.method_options["change"]) for run in runs}
    assert len(pairs) == len(runs) == len(CHANGES) * len({run.labels.variant for run in runs})
    assert {change for _, change in pairs} == set(CHANGES)
    assert all(run.labels.value == run.method_options["change"] for run in runs)
    steps = {run.labels.value: run.steps for run in runs if run.method == "autoencoder"}
    assert steps["half"] == steps["seed"] / 2 == 400


def test_a_change_that_nobody_knows_is_refused():
    run = stability(SMOKE)[0]
    run.method_options["change"] = "colour"
    with pytest.raises(ValueError, match="change is 'colour'; wanted one of"):
        measure_stability(run, ALONE)


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(volume_metrics, "DRAWS", 60)
    monkeypatch.setattr(measured_stability, "FLOOR_PAIRS", 2)


@pytest.mark.slow  # two runs of a method on volumes
@pytest.mark.filterwarnings("ignore:volume_size")
def test_the_same_run_twice_moves_nothing_and_half_the_images_move_it(few_draws, monkeypatch):
    monkeypatch.setitem(CHANGES, "seed", lambda run, _key: (run, run))
    runs = {run.labels.value: run for run in stability(SMOKE) if run.method == "class3d"}
    same, half = (measure_stability(runs[change], ALONE)[0] for change in ("seed", "half"))
    assert same.metrics["stability_w2"] == pytest.approx(0.0, abs=1e-3)
    assert same.metrics["volume_w2"] == same.metrics["volume_w2_changed"]
    assert half.metrics["stability_w2"] > 0.1 * half.metrics["volume_w2"] > 0
    assert (same.floors["stability_w2"].n, half.floors["stability_w2"].n) == (SMOKE.n, SMOKE.n // 2)
    over = half.metrics["stability_w2"] / half.floors["stability_w2"].median
    assert half.metrics["stability_over_floor"] == pytest.approx(over)
