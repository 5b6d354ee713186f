"""The bound: EM climbs to a certified maximum, and a family is recovered from its own exact likelihoods."""

import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.bench.execute import ALONE
from cryosip.bench.studies.exact_likelihood import DEFENSIVE, Likelihoods, box, likelihoods
from cryosip.bench.studies.laws import best_mixtures, mixtures_from_nodes, mixtures_of, npmle
from cryosip.bench.studies.measured_bound import measure_bound
from cryosip.bench.studies.protein import PROTEIN_IMAGES
from cryosip.bench.studies.registry import STUDIES
from cryosip.datasets.registry import DATASETS


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


def test_a_gaussian_in_the_plane_keeps_its_moments_over_all_steps():
    """However narrow it is beside the noise: no error of the nodes adds up."""
    rng = np.random.default_rng(1)
    theta = np.array([1.0, -2.0]) + rng.normal(size=(600, 2)) @ np.array([[0.2, 0.1], [0.0, 0.1]])
    y = theta + 0.3 * rng.normal(size=theta.shape)

    def log_likelihood(at: np.ndarray) -> np.ndarray:
        return -0.5 * ((y[:, None] - at) ** 2).sum(2) / 0.3**2

    law = mixtures_from_nodes(log_likelihood, mixtures_of(theta, [1]))
    np.testing.assert_allclose(law.means[0][0], y.mean(0), atol=0.005)
    likeliest = np.cov(y.T) - 0.3**2 * np.eye(2)  # where that is a covariance
    assert np.linalg.eigvalsh(likeliest).min() > 0
    np.testing.assert_allclose(law.covariances[0][0], likeliest, atol=0.012)


def test_nodes_of_a_product_have_the_weights_of_their_components():
    law = mixtures_of(np.random.default_rng(2).normal(size=(500, 2)), [2, 1])
    nodes, log_weights = law.nodes()
    weights = np.exp(log_weights)
    assert weights.sum() == pytest.approx(1.0)
    mean = sum(w * m for w, m in zip(law.weights[0], law.means[0][:, 0], strict=True))
    np.testing.assert_allclose(weights @ nodes, [mean, law.means[1][0, 0]], atol=1e-3)


def test_a_support_over_poses_does_not_see_where_the_truth_is_drawn():
    """Else EM would find the truth because nothing else is on offer."""
    protein = DATASETS["adk"](n_observations=12, snr=1.0, **PROTEIN_IMAGES["smoke"])
    elsewhere = protein.truth._replace(sample=lambda key, n: jnp.zeros((n, protein.truth.theta.shape[1])))
    one, other = (likelihoods(p, 60, 0) for p in (protein, protein._replace(truth=elsewhere)))
    np.testing.assert_array_equal(one.support, other.support)
    np.testing.assert_array_equal(one.log_likelihood, other.log_likelihood)


def test_a_support_in_the_plane_has_no_points_of_its_own_around_the_truth():
    """Half of the first support lies around the truth; of the second only what the data want does."""
    plane = DATASETS["fredholm"](n_observations=100, dimension=2)
    known = likelihoods(plane, 400, 0)
    lower, upper = box(plane)
    spread = known.support[: int(DEFENSIVE * 400)]
    assert ((spread >= lower) & (spread <= upper)).all()
    inside = (spread < (lower + upper) / 2).mean(0)
    np.testing.assert_allclose(inside, 0.5, atol=0.15)  # even, not where the truth has its mass
    assert known.flat.sum() == pytest.approx(1.0)


def test_the_study_measures_its_smallest_runs():
    study = STUDIES["bound"]
    config = next(c for c in study.configs(study.sizes["smoke"]) if c.problem == "oned")
    result, _ = measure_bound(config, ALONE)
    assert result.metrics["stopped_w2"] <= result.metrics["npmle_w2"]
    assert set(result.data_floors) >= {"w1", "w2"}
    assert np.isfinite([result.metrics[f"parametric_{n}"] for n in ("w1", "w2", "energy_distance_squared")]).all()
