"""The bound: EM climbs to a certified maximum, and a family is recovered from its own exact likelihoods."""

import numpy as np
import pytest

from cryosip.bench.execute import ALONE
from cryosip.bench.studies.exact_likelihood import Likelihoods
from cryosip.bench.studies.laws import best_mixtures, mixtures_of, npmle
from cryosip.bench.studies.measured_bound import measure_bound
from cryosip.bench.studies.registry import STUDIES


def on_the_line(m: int = 400) -> tuple[Likelihoods, np.ndarray]:
    """N(1, 0.5^2) seen through noise of std 0.3, on a fine grid."""
    rng = np.random.default_rng(0)
    theta, grid = 1 + 0.5 * rng.normal(size=(m, 1)), np.linspace(-2, 4, 301)[:, None]
    y = theta + 0.3 * rng.normal(size=theta.shape)
    return Likelihoods(grid, np.full(301, 1 / 301), -0.5 * ((y - grid.T) / 0.3) ** 2, np.nan), y


def test_em_climbs_and_the_gap_bounds_what_is_left():
    steps = list(npmle(on_the_line()[0], [1, 10, 100, 1_000]))
    objectives = np.array([s.objective for s in steps])
    assert (np.diff(objectives) > 0).all()
    assert all(s.objective + s.gap >= objectives[-1] - 1e-5 for s in steps)
    assert steps[-1].gap < 0.01


def test_a_gaussian_has_the_moments_of_the_data_less_the_noise():
    known, y = on_the_line()
    law = best_mixtures(known, mixtures_of(y, [1]))
    assert law.means[0][0, 0] == pytest.approx(y.mean(), abs=0.01)
    variance = y.var() - 0.3**2  # of maximum likelihood, in closed form; EM ends where a step gains below 1e-6
    assert law.covariances[0][0, 0, 0] == pytest.approx(variance, abs=0.01)


def test_the_study_measures_its_smallest_runs():
    study = STUDIES["bound"]
    config = next(c for c in study.configs(study.sizes["smoke"]) if c.problem == "oned")
    result, _ = measure_bound(config, ALONE)
    assert result.metrics["stopped_w2"] <= result.metrics["npmle_w2"]
    assert set(result.data_floors) >= {"w1", "w2"}
    assert np.isfinite([result.metrics[f"parametric_{n}"] for n in ("w1", "w2", "energy_distance_squared")]).all()
