"""Two passes over the poses agree with the sum over all fine nodes wherever nothing that matters is left out."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special

from cryosip.datasets.registry import DATASETS
from cryosip.methods.pose_search import two_pass
from cryosip.methods.problem import Problem

THETA = [[1.0, 0.3], [-0.4, 0.9], [1.1, -0.2]]
WEIGHTS = [0.5, 0.2, 0.3]


def angles(order: int) -> tuple[dict[str, jax.Array], jax.Array]:
    """3 * 2^order cells of [-1.5, 1.5], each halved by the next order, of unequal weight."""
    n = 3 * 2**order
    middle = 3 * (np.arange(n) + 0.5) / n - 1.5
    weights = 1 + middle / 3
    return {"angle": jnp.asarray(middle)}, jnp.asarray(weights / weights.sum())


def turn(theta: jax.Array, pose: dict[str, jax.Array]) -> jax.Array:
    """Row i of theta, turned by angle i."""
    cos, sin = jnp.cos(pose["angle"]), jnp.sin(pose["angle"])
    return jnp.stack([cos * theta[:, 0] - sin * theta[:, 1], sin * theta[:, 0] + cos * theta[:, 1]], 1)


def nested(noise_std: float) -> Problem:
    """Points of the plane seen under an unknown angle."""
    rng = np.random.default_rng(2)
    theta = jnp.asarray(np.array(THETA)[rng.integers(3, size=40)])
    clean = turn(theta, {"angle": jnp.asarray(rng.uniform(-1.5, 1.5, 40))})
    return Problem(
        name="nested",
        observations=jnp.asarray(clean + noise_std * rng.normal(size=(40, 2))),
        noise_std=noise_std,
        render=turn,
        sample_pose=lambda key, n: {"angle": jr.uniform(key, (n,), minval=-1.5, maxval=1.5)},
        pose_quadrature=angles,
        sample_init=lambda key, n: jr.normal(key, (n, 2)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1),
    )


def explain(problem, order, theta, weights, sigma, survivors, block=1_000):
    """`two_pass`, compiled: op by op it takes seconds."""
    return jax.jit(lambda t, w: two_pass(problem, order, t, w, sigma, survivors, block))(theta, weights)


def everywhere(problem, order, theta, weights, sigma):
    """log w_k rho_q exp(-|y_i - x_kq|^2 / (2 sigma^2)), (m, k, q), in numpy, one image after the other."""
    pose, pose_weights = problem.pose_quadrature(order)
    y, k, q = np.asarray(problem.observations), len(theta), len(pose_weights)
    table = np.full((len(y), k, q), -np.inf)
    for number in range(k):
        images = np.asarray(problem.render(jnp.repeat(theta[number : number + 1], q, axis=0), pose))
        squares = ((y[:, None] - images) ** 2).sum(2)
        with np.errstate(divide="ignore"):
            table[:, number] = np.log(weights[number] * np.asarray(pose_weights)) - 0.5 * squares / sigma**2
    return table


def gathered(explained, m, k, q):
    """The shares as (m, k, q); a pair that came twice would add up."""
    table = np.zeros((m, k, q))
    np.add.at(table, tuple(np.asarray(a) for a in (explained.image, explained.owner, explained.node)), explained.share)
    return table


def fewest(coarse):
    """How many of the likeliest entries of each row hold 0.999 of its mass."""
    mass = np.cumsum(-np.sort(-scipy.special.softmax(coarse, axis=1), axis=1), axis=1)
    return (mass < 0.999).sum(1) + 1


@pytest.mark.parametrize("order", [0, 1])
def test_it_is_the_sum_over_all_fine_nodes_where_all_are_covered(x64, order):
    problem, sigma = nested(0.3), 2.0  # so wide that all coarse nodes matter to all images
    theta, weights = jnp.array(THETA), jnp.array(WEIGHTS)
    n_fine = 3 * 2 ** (order + 1)
    coarse = everywhere(problem, order, theta, weights, sigma).reshape(40, -1)
    assert scipy.special.softmax(coarse, axis=1).min() > 0.001
    explained = explain(problem, order, theta, weights, sigma, 3 * n_fine)
    exact = everywhere(problem, order + 1, theta, weights, sigma)
    log_likelihood = scipy.special.logsumexp(exact, axis=(1, 2))
    assert float(explained.log_likelihood) == pytest.approx(log_likelihood.mean(), abs=1e-12)
    responsibilities = np.exp(exact - log_likelihood[:, None, None])
    np.testing.assert_allclose(gathered(explained, 40, 3, n_fine), responsibilities, atol=1e-13)
    assert float(explained.cut) == 0.0
    assert int(explained.n_fine) == 40 * 3 * n_fine


def test_a_few_survivors_do_where_the_posterior_holds_few_nodes(x64):
    """The fewest coarse pairs that hold 0.999 of the mass, and their children, found again by sorting."""
    problem, sigma, survivors = nested(0.15), 0.15, 14
    theta, weights = jnp.array(THETA), jnp.array(WEIGHTS)
    explained = explain(problem, 2, theta, weights, sigma, survivors)
    coarse = everywhere(problem, 2, theta, weights, sigma).reshape(40, 36)
    exact = everywhere(problem, 3, theta, weights, sigma).reshape(40, 36, 2)
    shares, kept_mass = np.zeros((40, 72)), np.zeros(40)
    needed = fewest(coarse)
    for i in range(40):
        kept = coarse[i].argsort()[::-1][: needed[i]]
        fine = np.full((36, 2), -np.inf)
        fine[kept] = exact[i, kept]
        kept_mass[i] = scipy.special.logsumexp(fine)
        best = fine.ravel().argsort()[::-1][:survivors]
        shares[i, best] = scipy.special.softmax(fine.ravel()[best])
    assert needed.min() < needed.max() <= survivors
    assert float(explained.cut) == 0.0
    assert float(explained.log_likelihood) == pytest.approx(kept_mass.mean(), abs=1e-12)
    np.testing.assert_allclose(gathered(explained, 40, 3, 24).reshape(40, 72), shares, atol=1e-13)
    np.testing.assert_array_equal(explained.image, np.repeat(np.arange(40), survivors))
    np.testing.assert_allclose(np.asarray(explained.share).reshape(40, survivors).sum(1), 1.0, atol=1e-14)
    missing = scipy.special.logsumexp(exact, axis=(1, 2)).mean() - float(explained.log_likelihood)
    assert 0 < missing < 2e-3  # a thousandth of the mass on coarse nodes, that may be heavier on finer ones


@pytest.mark.parametrize("survivors", [1, 5])
def test_posteriors_that_do_not_fit_into_the_survivors_are_counted(x64, survivors):
    problem, theta, weights = nested(0.15), jnp.array(THETA), jnp.array(WEIGHTS)
    needed = fewest(everywhere(problem, 1, theta, weights, 0.15).reshape(40, 18))
    cut = float(explain(problem, 1, theta, weights, 0.15, survivors).cut)
    assert cut == pytest.approx((needed > survivors).mean())
    assert 0.1 < cut <= 1


def test_one_survivor_never_does_for_a_flat_posterior(x64):
    """A point at the origin looks the same under all angles."""
    explained = explain(nested(0.15), 1, jnp.zeros((1, 2)), jnp.ones(1), 0.15, 1)
    assert float(explained.cut) == 1.0


def test_blocks_do_not_change_the_result(x64):
    """40 * 5 * 2 finer images one at a time, by 7 with a rest, and all at once."""
    problem, parts = nested(0.15), (jnp.array(THETA), jnp.array(WEIGHTS), 0.15, 5)
    expected = explain(problem, 0, *parts, 10**9)
    for block in (1, 7):
        for one, other in zip(expected, explain(problem, 0, *parts, block), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-13)


@pytest.mark.parametrize("empty", [0, 2])
def test_a_component_without_weight_is_never_chosen(x64, empty):
    """What fills up the rows, the empty one or the first, has no share."""
    problem, theta = nested(0.3), jnp.array(THETA)
    weights = jnp.array(WEIGHTS).at[empty].set(0.0)
    explained = explain(problem, 0, theta, weights, 2.0, 18)
    exact = everywhere(problem, 1, theta, weights, 2.0)
    log_likelihood = scipy.special.logsumexp(exact, axis=(1, 2))
    assert float(explained.log_likelihood) == pytest.approx(log_likelihood.mean(), abs=1e-12)
    shares = gathered(explained, 40, 3, 6)
    np.testing.assert_allclose(shares, np.exp(exact - log_likelihood[:, None, None]), atol=1e-13)
    assert shares[:, empty].max() == 0.0


def test_a_protein_on_its_coarsest_nodes(x64):
    """Under wide noise all 72 directions of both structures matter; each is refined by its own 8."""
    problem = DATASETS["adk"](
        n_observations=5,
        image_size=12,
        pixel_size_in_angstroms=10.0,
        atom_std_in_angstroms=8.0,
        atoms_per_bead=4,
        snr=0.002,
        seed=3,
    ).problem
    theta, weights, sigma = problem.sample_init(jr.key(0), 2), jnp.array([0.3, 0.7]), 3.0
    explained = explain(problem, 0, theta, weights, sigma, 2 * 576, 512)
    assert scipy.special.softmax(everywhere(problem, 0, theta, weights, sigma).reshape(5, -1), axis=1).min() > 0.001
    exact = everywhere(problem, 1, theta, weights, sigma)
    log_likelihood = scipy.special.logsumexp(exact, axis=(1, 2))
    assert float(explained.cut) == 0.0
    assert float(explained.log_likelihood) == pytest.approx(log_likelihood.mean(), abs=1e-6)
    responsibilities = np.exp(exact - log_likelihood[:, None, None])
    np.testing.assert_allclose(gathered(explained, 5, 2, 576), responsibilities, atol=1e-9)
    assert np.ptp(responsibilities, axis=2).min() > 1e-5  # not all alike
