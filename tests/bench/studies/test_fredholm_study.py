"""The study fredholm: the published estimators to the last digit, the density, and settings without the truth."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

from cryosip.bench.execute import ALONE
from cryosip.bench.studies import fredholm_published as published
from cryosip.bench.studies.density import bandwidth, integrated_squared_error, kernel_density
from cryosip.bench.studies.fredholm_settings import CHOSEN, TRIED, held_out_likelihood, sized
from cryosip.bench.studies.measured_marginal import ERROR, measure_marginal
from cryosip.bench.studies.registry import STUDIES
from cryosip.datasets.fredholm import fredholm
from cryosip.datasets.gaussian_mixture import gaussian_mixture
from cryosip.methods.data_kl import data_kl
from cryosip.methods.registry import METHODS

STUDY = STUDIES["fredholm"]


def runs(profile, method, d, variant=""):
    return [
        run
        for run in STUDY.configs(STUDY.sizes[profile])
        if (run.method, run.labels.value, run.labels.variant) == (method, d, variant)
    ]


def measured(config):
    result, arrays = measure_marginal(config, ALONE)
    assert result.status == "ok"
    nodes, truth, density = arrays["marginal"].T
    np.testing.assert_allclose(truth, norm.pdf(nodes, 0.3, 0.07) / 3 + 2 * norm.pdf(nodes, 0.7, 0.1) / 3, atol=1e-5)
    # the arrays are in float32
    assert result.metrics[ERROR] == pytest.approx(((density - truth) ** 2).sum() / 99, rel=1e-4)
    assert result.data_floors[ERROR].q05 <= result.data_floors[ERROR].median <= result.data_floors[ERROR].q95
    return result


@pytest.mark.parametrize(
    ("d", "error"),
    # of the files em_vs_wgf_1d.txt ... em_vs_wgf_4d.txt of the public code
    [(1, 0.10372395752799056), (2, 0.12559461977112255), (3, 3.671141564938319), (4, 4.234899240254079)],
)
def test_one_step_late_em_is_that_of_the_public_code(d, error):
    """Sums of 10^4 terms in another order, in 49 steps."""
    (config,) = runs("small", "one-step-late-em", d, "published")
    config = replace(config, problem_options=config.problem_options | {"n_observations": 10})  # it takes none
    assert measured(config).metrics[ERROR] == pytest.approx(error, rel=1e-10)


def test_a_slice_is_the_marginal_in_the_plane_alone():
    pi = np.random.default_rng(0).random((4, 4, 4))
    np.testing.assert_allclose(published.slice_sums(pi[0]), pi[0].sum(1))
    np.testing.assert_allclose(published.slice_sums(pi), pi[0].sum(1))
    assert np.abs(published.slice_sums(pi) - pi.sum((1, 2))).min() > 1


def test_em_of_counted_observations_comes_to_em_of_their_density():
    axis = published.nodes(100, 2)
    y = np.asarray(fredholm(n_observations=200_000, dimension=2, seed=1).problem.observations)
    counted = published.counted_density(y, axis)
    (config,) = runs("smoke", "one-step-late-em", 2, "published")
    assert config.problem_options["dimension"] == 2
    law = gaussian_mixture((0.3, 0.7), (0.07, 0.1), (1 / 3, 2 / 3))
    exact = published.exact_density(law, 0.15, axis, 2) * (axis[1] - axis[0]) ** 2
    # the density is not constant within a cell: a tenth of its largest
    np.testing.assert_allclose(counted, exact, atol=0.1 * exact.max())
    assert counted.sum() == pytest.approx(exact.sum(), rel=0.1)


def test_the_noisy_flow_follows_the_gradient_of_the_likelihood(monkeypatch):
    """One step without noise, against data_kl with the noise integrated out."""
    monkeypatch.setattr(published, "PENALTY", 0.0)
    y = fredholm(n_observations=30, dimension=2).problem.observations
    theta = jr.normal(jr.key(1), (30, 2)) / 5
    key = jr.key(3)
    drawn = y[jr.randint(jr.split(key)[0], (30,), 0, 30)]
    moved = published._step.__wrapped__(key, theta, y, 0.15, 1.0)
    drift = -data_kl().bind(drawn, 0.15).gradient(theta)
    h = published.STEP_LENGTH
    expected = theta + h * drift / (1 + h * jnp.linalg.norm(drift, axis=1, keepdims=True))
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5)  # sums in float32


def test_the_noisy_flow_is_attracted_or_repelled_by_the_reference():
    y = fredholm(n_observations=300, dimension=1).problem.observations
    spread = {a: float(published.noisy_flow(jr.key(0), y, 0.15, 300, a).std()) for a in (1.0, -1.0)}
    assert spread[1.0] < spread[-1.0]


def test_the_bandwidth_is_that_of_cross_validation():
    """The sums written out, on a fine grid of bandwidths; a hundredth of a step in score, a few in the bandwidth."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=40) / 10, rng.dirichlet(np.ones(40))
    apart = x[:, None] - x

    def score(h):
        others = norm.pdf(apart, 0, h) * (1 - np.eye(40))
        return w @ norm.pdf(apart, 0, np.sqrt(2) * h) @ w - 2 * (w * (others @ w) / (1 - w)).sum()

    scale = np.sqrt(w @ (x - w @ x) ** 2) * (w @ w) ** 0.2
    tried = scale * np.geomspace(0.25, 1.5, 300)
    assert score(bandwidth(x, w)) <= min(score(h) for h in tried) + 1e-4 * abs(score(0.05))


def test_the_error_of_a_sample_falls_with_its_size_and_is_free_of_unused_points():
    rng = np.random.default_rng(1)
    nodes = np.linspace(-3, 3, 200)

    def error(x, w):
        return integrated_squared_error(kernel_density(x, w, nodes), norm.pdf, nodes)

    few, many = (error(rng.normal(size=n), np.full(n, 1 / n)) for n in (100, 10_000))
    assert many < few / 3
    x = rng.normal(size=100)
    w = np.full(100, 0.01)
    assert error(x, w) == pytest.approx(error(np.append(x, 50.0), np.append(w, 0.0)))
    assert error(x, w) == pytest.approx(error(np.append(x, x), np.append(w / 2, w / 2)))  # one point, said twice
    assert bandwidth(np.repeat(x[:10], 10) + 1e-9 * x, w) > 0.01  # clusters
    with pytest.raises(ValueError, match="the points are all equal"):
        bandwidth(np.ones(3), np.ones(3))


def test_every_method_has_as_many_settings_and_one_chosen_in_each_dimension():
    assert {method for method, _ in TRIED.values()} <= set(METHODS)
    assert {len(settings) for _, settings in TRIED.values()} == {4}
    assert set(CHOSEN) == set(TRIED)
    assert all(len(own) == 4 and set(own) <= set(range(4)) for own in CHOSEN.values())


def test_the_held_out_likelihood_is_that_of_the_other_half():
    """One component at the mean of the first half, by hand."""
    problem = fredholm(n_observations=40, dimension=2).problem
    setting = TRIED["mixture"][1][0]._replace(steps=30, options={"n_components": 1})
    y = np.asarray(problem.observations, np.float64)
    expected = -0.5 * ((y[1::2] - y[::2].mean(0)) ** 2).sum(1).mean() / 0.15**2
    assert held_out_likelihood(problem, "mixture", setting) == pytest.approx(expected, rel=1e-4)


def test_all_runs_are_different_and_a_flow_has_no_more_particles_than_the_published():
    for size in STUDY.sizes.values():
        configs = STUDY.configs(size)
        assert len({str((c.method, c.labels, c.method_options, c.problem_options)) for c in configs}) == len(configs)
    method, settings = TRIED["energy flow"]
    assert sized(settings[0], method, 10**6)["n_particles"] == 10_000


@pytest.mark.parametrize("method", ["mixture", "noisy-flow"])
def test_a_run_has_the_error_of_its_marginal(method):
    config = runs("smoke", method, 2, "published" if method == "noisy-flow" else "")[0]
    assert measured(config).metrics[ERROR] > 0
