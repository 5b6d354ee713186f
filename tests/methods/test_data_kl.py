"""The KL of (3.1) is the likelihood of (3.4), written out, on pixels and in a span, with the noise in or out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from examples import measured

from cryosip.datasets.registry import DATASETS
from cryosip.methods import likelihood
from cryosip.methods.data_kl import data_kl
from cryosip.methods.flow import flow_target
from cryosip.methods.kl import silverman
from cryosip.methods.problem import Span, in_span


def written_out(x, y, std):
    """The value, and n times its slope in each x_k, one sum after the other."""
    squares = ((np.asarray(y)[:, None] - np.asarray(x)[None]) ** 2).sum(-1)
    logits = -0.5 * squares / std**2
    value = -(scipy.special.logsumexp(logits, axis=1) - np.log(len(x))).mean()
    share = scipy.special.softmax(logits, axis=1)
    gap = np.asarray(x)[None] - np.asarray(y)[:, None]
    return value, len(x) * (share[:, :, None] * gap).mean(0) / std**2


def clouds(p):
    rng = np.random.default_rng(p)
    return jnp.asarray(rng.normal(3, 1, (30, p))), jnp.asarray(rng.normal(2, 1.5, (40, p)))


@pytest.mark.parametrize("p", [1, 12])
@pytest.mark.parametrize("noise_std", [0.0, 0.7])
def test_value_and_gradient_are_the_sums_written_out(x64, p, noise_std):
    x, y = clouds(p)
    found = measured(data_kl().bind(y, noise_std), x)
    value, gradient = written_out(x, y, noise_std or silverman(np.asarray(y)))
    assert found.value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-10, atol=1e-12)
    assert found.error == 0


def test_tiles_do_not_change_the_sums(x64, monkeypatch):
    x, y = clouds(2)
    whole = measured(data_kl(0.5).bind(y, 0.0), x).gradient
    monkeypatch.setattr(likelihood, "TILE", 7 * len(x))
    np.testing.assert_allclose(measured(data_kl(0.5).bind(y, 0.0), x).gradient, whole, rtol=1e-12)


def in_a_plane():
    """Images of nine pixels that lie in a plane, exactly, and observations that do not."""
    rng = np.random.default_rng(3)
    basis = jnp.asarray(np.linalg.qr(rng.normal(size=(9, 2)))[0])
    observations = jnp.asarray(rng.normal(size=(20, 2))) @ basis.T + 0.8 * jnp.asarray(rng.normal(size=(20, 9)))
    return DATASETS["oned"](n_observations=2).problem._replace(
        observations=observations,
        noise_std=0.8,
        render=lambda theta, _pose: theta @ basis.T,
        span=Span(lambda images: images @ basis, lambda theta, _pose: theta, 0.0),
    )


@pytest.mark.slow
def test_a_span_changes_the_value_by_a_constant_alone(x64):
    problem = in_a_plane()
    reduced, target = flow_target(problem, data_kl(), "closed-form")
    pixels = data_kl().bind(problem.observations, problem.noise_std)
    some, other = (jnp.asarray(np.random.default_rng(i).normal(size=(8, 2))) for i in (0, 1))
    constants = [
        float(pixels.value(problem.render(theta, ())) - target.value(reduced.render(theta, ())))
        for theta in (some, other)
    ]
    assert constants[0] == pytest.approx(constants[1], rel=1e-12)
    inside = problem.span.project(pixels.gradient(problem.render(some, ())))
    np.testing.assert_allclose(target.gradient(reduced.render(some, ())), inside, rtol=1e-9, atol=1e-12)


def test_images_that_carry_their_noise_are_kernels_in_the_span(x64):
    problem = in_a_plane()
    _, target = flow_target(problem, data_kl(), "method-1")
    coordinates = np.asarray(in_span(problem).observations)
    x = np.random.default_rng(2).normal(size=(5, 2))
    expected = written_out(x, coordinates, silverman(coordinates))[0]
    assert float(jax.jit(target.value)(jnp.asarray(x))) == pytest.approx(expected, rel=1e-9)
