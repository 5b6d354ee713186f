"""Slices estimate the energy distance without bias, exactly on the line, and state their standard error."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.methods.problem import Span
from cryosip.methods.registry import DISCREPANCIES
from cryosip.methods.sliced_energy import directions, mean_projection, sliced_energy


def clouds(p):
    rng = np.random.default_rng(p)
    return jnp.asarray(rng.normal(0, 1.5, (30, p))), jnp.asarray(rng.normal(0.5, 1, (40, p)))


@pytest.mark.parametrize("p", [2, 12])
def test_value_and_gradient_are_unbiased(x64, p):
    """Over many redrawn targets the mean is that of all pairs, within 5 standard errors of the mean."""
    y, observed = clouds(p)
    exact = DISCREPANCIES["energy"]("pairwise").bind(observed, 0.0)
    target = sliced_energy(8).bind(observed, 0.0)

    def once(key):
        drawn = target.redrawn(key)
        return drawn.value(y), drawn.gradient(y)

    values, gradients = jax.jit(lambda keys: jax.lax.map(once, keys))(jr.split(jr.key(0), 400))
    for found, expected in ((values, exact.value(y)), (gradients, exact.gradient(y))):
        error = np.std(found, axis=0) / np.sqrt(len(found))
        assert (np.abs(np.mean(found, axis=0) - expected) < 5 * error).all()


def test_the_stated_error_is_the_scatter(x64):
    """Of the component that scatters most, over redrawn targets: a mean square over 400 draws is known to a tenth."""
    y, observed = clouds(3)
    target = sliced_energy(20).bind(observed, 0.0)

    def once(key):
        drawn = target.redrawn(key)
        return drawn.gradient(y), drawn.gradient_error(y)

    gradients, errors = jax.jit(lambda keys: jax.lax.map(once, keys))(jr.split(jr.key(1), 400))
    assert float(jnp.median(errors)) == pytest.approx(float(jnp.std(gradients, axis=0).max()), rel=0.25)


def test_on_the_line_every_slice_is_exact(x64):
    y, observed = clouds(1)
    exact, sliced = DISCREPANCIES["energy"]("sorted").bind(observed, 0.0), sliced_energy(2).bind(observed, 0.0)
    np.testing.assert_allclose(sliced.gradient(y), exact.gradient(y), atol=1e-12)
    assert float(sliced.value(y)) == pytest.approx(float(exact.value(y)), abs=1e-12)


def test_the_constant_is_the_mean_projection(x64):
    for p in (1, 2, 3, 50):
        found = jnp.abs(directions(jr.key(p), 20_000, p)[:, 0])
        assert float(found.mean()) == pytest.approx(
            mean_projection(p), abs=5 * float(found.std()) / np.sqrt(20_000) + 1e-12
        )
    assert mean_projection(3) == pytest.approx(0.5)


def test_a_span_has_the_distance_of_its_coordinates(x64):
    _, observed = clouds(12)
    basis = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(12, 2)))[0])
    y = clouds(2)[0]
    span = Span(lambda images: images @ basis, lambda theta, _pose: theta, 0.0)
    inside = sliced_energy(6).bind_span(observed, 0.5, span, False)
    assert float(inside.value(y)) == pytest.approx(float(sliced_energy(6).bind(observed @ basis, 0.0).value(y)))


def test_weights_count_points(x64):
    y, observed = clouds(4)
    target = sliced_energy(5).bind(observed, 0.0).weighted
    weights = jnp.full(30, 1 / 31).at[0].set(2 / 31)
    twice = jnp.concatenate([y[:1], y])
    assert float(target.value(y, weights)) == pytest.approx(float(target.value(twice, jnp.full(31, 1 / 31))), rel=1e-9)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sliced_energy(0), "n_slices is 0"),
        (lambda: sliced_energy(1), "n_slices is 1; wanted 2 or more"),
        (lambda: sliced_energy().bind(jnp.ones((3, 2)), 1.0), "cannot integrate out noise"),
    ],
)
def test_bad_input_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
