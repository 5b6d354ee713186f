"""K and annealing are chosen on half of the data; a background takes what no structure made."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

from cryosip.datasets.registry import DATASETS
from cryosip.methods.expectation import background_of
from cryosip.methods.likelihood import e_step
from cryosip.methods.mixture import mixture
from cryosip.methods.problem import halves


def advanced(method, steps, state=None, start=0):
    """The state after some steps, and what they reported."""
    step = stepping(method)
    state, infos = jax.jit(method.init)(jr.key(0)) if state is None else state, []
    for t in range(start, start + steps):
        state, info = step(jr.fold_in(jr.key(0), t), state)
        infos.append(info)
    return state, infos


@lru_cache(maxsize=1)
def stepping(method):
    """Compiled once for a method that is advanced again."""
    return jax.jit(method.step)


def held_out(problem, theta, weights):
    """Minus the mean log-likelihood of the held-out half on the line, in numpy."""
    y = np.asarray(halves(problem)[1].observations)
    density = np.exp(-0.5 * (y - np.asarray(theta)[:, 0]) ** 2 / problem.noise_std**2)
    return -np.log(density @ np.asarray(weights)).mean()


def separate(n=200):
    """Three clusters that noise keeps apart: one component is too few, and three are as good as many."""
    return DATASETS["oned"](
        n_observations=n, noise_std=0.3, means=[-4.0, 0.0, 4.0], stds=[0.01] * 3, weights=[0.3, 0.3, 0.4], init_std=4.0
    ).problem


def test_the_choice_is_the_best_on_the_held_out_half_and_goes_on_with_all(x64):
    problem, sizes, length = separate(), [1, 3, 6], 15
    method = mixture(problem, sizes, estimate_weights=True, held_out_steps=length)
    on_half = jax.jit(mixture(halves(problem)[0], 6, estimate_weights=True).step)
    state, scores = jax.jit(method.init)(jr.key(0)), []
    for number, k in enumerate(sizes):
        assert int(state.choice) == number
        assert int((state.running.weights > 0).sum()) == k
        state, infos = advanced(method, length - 1, state, start=number * length)
        one_more, _ = on_half(jr.key(0), state.running)
        scores.append(held_out(problem, one_more.theta, one_more.weights))
        state, infos = advanced(method, 1, state, start=(number + 1) * length - 1)
        assert int(infos[0].forward_evaluations) >= 6 * 4  # expectation, Jacobian, a trial, and the held-out half
        assert float(state.score) == pytest.approx(min(scores), abs=1e-10)
    best = int(np.argmin(scores))
    assert scores[0] > scores[best] + 1
    assert int(state.choice) == 3 + best == 3 + int(state.best_choice)
    np.testing.assert_array_equal(state.running.theta, state.best.theta)

    after, infos = advanced(method, 20, state, start=3 * length)
    plain = mixture(problem, 6, estimate_weights=True)
    expected, before = advanced(plain, 20, state.best, start=3 * length)
    np.testing.assert_allclose(after.running.theta, expected.theta, atol=1e-10)
    assert float(infos[-1].objective) == pytest.approx(float(before[-1].objective), abs=1e-10)
    assert int(after.choice) == int(state.choice)
    assert float(method.estimate(after).weights.sum()) == pytest.approx(1)


def test_annealing_is_chosen_after_its_own_steps():
    """Each schedule has its steps and then `held_out_steps`; the first from afar is far too hot to be of use."""
    method = mixture(separate(), 8, anneal=[[50.0, 20], None, [4.0, 10]], held_out_steps=5)
    state = jax.jit(method.init)(jr.key(0))
    for start, length, choice in ((0, 25, 0), (25, 5, 1), (30, 15, 2)):
        assert int(state.choice) == choice
        state, _ = advanced(method, length, state, start)
    assert int(state.choice) >= 3


def test_a_list_of_one_is_that_one(x64, toys):
    problem = toys["oned"]()
    found, expected = (advanced(mixture(problem, k, anneal=a), 5)[0] for k, a in (([4], [[2.0, 3]]), (4, (2.0, 3))))
    np.testing.assert_array_equal(found.theta, expected.theta)


def test_a_background_is_one_more_term_of_the_likelihood(x64, toys):
    """Its density is that of independent Gaussians; all as scipy has it."""
    problem, share = toys["parabola"](), 0.2
    y = np.asarray(problem.observations)
    start = jax.jit(mixture(problem, 3).init)(jr.key(0))
    method = mixture(problem, 3, background=True, estimate_weights=True)
    state, info = jax.jit(method.step)(jr.key(0), start._replace(background=jnp.asarray(share)))
    images = np.asarray(problem.render(start.theta, ()))
    of_images = np.stack([scipy.stats.norm(x, 0.4).pdf(y).prod(1) for x in images]) / 3 * (1 - share)
    wide = (1 + 2 / np.sqrt(2)) * y.std(0)
    of_background = share * scipy.stats.norm(y.mean(0), wide).pdf(y).prod(1)
    evidence = of_images.sum(0) + of_background
    constant = np.log(2 * np.pi * 0.4**2)  # of p = 2 coordinates
    assert float(info.objective) == pytest.approx(-np.log(evidence).mean() - constant, abs=1e-10)
    assert float(state.background) == pytest.approx((of_background / evidence).mean(), abs=1e-10)
    shares = (of_images / evidence).mean(1)
    np.testing.assert_allclose(state.weights, shares / shares.sum(), atol=1e-10)


@pytest.mark.parametrize(("estimate_weights", "anneal"), [(False, None), (True, (3.0, 20))])
def test_em_with_a_background_never_rises(x64, toys, estimate_weights, anneal):
    method = mixture(toys["rotated"](), 3, background=True, estimate_weights=estimate_weights, anneal=anneal)
    _, infos = advanced(method, 60)
    assert np.diff([float(info.objective) for info in infos[25 if anneal else 0 :]]).max() <= 1e-10


def test_the_background_takes_junk_and_the_estimate_leaves_it_out():
    """Ten of 200 observations are far away: a component would go there, and with equal weights an eighth of all."""
    problem = separate()
    junk = problem._replace(observations=problem.observations.at[:10, 0].set(jnp.linspace(-40.0, 40.0, 10)))
    far = {}
    for background in (False, True):
        state, _ = advanced(mixture(junk, 8, background=background), 100)
        far[background] = float(jnp.abs(state.theta).max())
        assert float(state.weights.sum()) == pytest.approx(1, abs=1e-5)
    assert far[False] > 10
    assert far[True] < 5
    assert float(state.background) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("tile", [7, 10**6])
def test_the_background_of_tiles_is_that_of_all(x64, toys, tile, monkeypatch):
    problem = toys["rotated"]()
    monkeypatch.setattr("cryosip.methods.likelihood.TILE", tile * 4)
    theta, y = problem.sample_init(jr.key(0), 4), problem.observations
    moments = e_step(y, theta, jnp.log(jnp.full((4, 1), 0.2)), 0.3, lambda y: -(y[:, 0] ** 2))
    images = 0.2 * np.exp(-0.5 * ((np.asarray(y)[:, None] - np.asarray(theta)) ** 2).sum(2) / 0.09)
    evidence = images.sum(1) + np.exp(-(np.asarray(y)[:, 0] ** 2))
    assert float(moments.log_likelihood) == pytest.approx(np.log(evidence).mean(), abs=1e-12)
    np.testing.assert_allclose(moments.mass[:, 0], (images / evidence[:, None]).mean(0), atol=1e-12)


def test_equal_observations_have_a_background_of_some_width():
    assert float(background_of(jnp.ones((5, 2))).variance.min()) > 0
    assert float(background_of(jnp.zeros((5, 2))).variance.min()) > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_components": []}, r"n_components is \[\]; wanted a whole number, or a list of one or more"),
        ({"n_components": [2, 0]}, "n_components is 0; wanted a whole number >= 1"),
        ({"anneal": [None, (0.5, 3)]}, "anneal factor is 0.5; wanted a number >= 1"),
        ({"n_components": [2, 3], "prior_weight": 0.5}, "prior_weight is 0.5 with 2 choices of K and anneal; wanted 0"),
        ({"anneal": [None, (2.0, 3)], "n_starts": 2}, "n_starts is 2 with 2 choices of K and anneal; wanted 1"),
        ({"n_components": [2, 3], "held_out_steps": 0}, "held_out_steps is 0; wanted a whole number >= 1"),
        ({"background": True, "refine_poses": True}, "refine_poses is given with background; wanted one of them"),
        ({"background": True, "estimate_noise": True}, "estimate_noise is given with background; wanted one of them"),
    ],
)
def test_bad_input_is_refused(options, says, tiny):
    with pytest.raises(ValueError, match=says):
        mixture(tiny.problem, **{"n_components": 2, **options})


def test_one_observation_cannot_be_held_out(tiny):
    with pytest.raises(ValueError, match="has 1 observation; wanted 2 or more"):
        mixture(tiny.problem._replace(observations=tiny.problem.observations[:1]), [1, 2])
