"""The energy distance of images: pairs and moments against sums in float64, in the span and on pixels."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.stats
from examples import measured
from scipy.special import poch

from cryosip.datasets.nanocluster import nanocluster
from cryosip.methods import images, pairwise
from cryosip.methods.flow import flow_target, particle_flow
from cryosip.methods.images import Observed
from cryosip.methods.noisy_distance import NoisyDistance
from cryosip.methods.registry import DISCREPANCIES

ENERGY = DISCREPANCIES["energy"]


def exact_distance(squares, std, dims):
    """E |u + std xi| of |u|^2 = squares by the Poisson mixture of central chi laws, and its derivative."""
    rate = squares / std**2 / 2
    k = np.arange(int(rate + 12 * np.sqrt(rate + 1) + 40))
    weight = scipy.stats.poisson.pmf(k, rate)
    central = np.sqrt(2.0) * poch(dims / 2 + k, 0.5)
    ahead = np.sqrt(2.0) * poch(dims / 2 + k + 1, 0.5)
    return std * weight @ central, weight @ (ahead - central) / (2 * std)


@pytest.mark.parametrize("dims", [2, 3, 16, 256, 4_096])
@pytest.mark.parametrize("std", [0.3, 2.0])
def test_the_closed_form_of_noise(dims, std):
    """Against the exact law, to the relative errors that are stated."""
    distance = NoisyDistance(std, dims)
    squares = np.concatenate([[0.0], np.geomspace(1e-2, 1e2, 30) * dims * std**2])
    exact = np.array([exact_distance(s, std, dims) for s in squares])
    np.testing.assert_allclose(distance.value(squares), exact[:, 0], rtol=0.03 / dims**2 + 1e-9)
    np.testing.assert_allclose(distance.slope(squares), exact[:, 1], rtol=distance.slope_error + 1e-7)
    assert distance.slope_error == 0.15 / dims**2


def test_without_noise_it_is_the_root():
    for distance in (NoisyDistance(0.0, 16), NoisyDistance(1.0, 0)):
        assert distance.value(np.array([4.0])) == 2.0
        assert distance.slope(np.array([4.0])) == 0.25
        assert distance.slope_error == 0


def written_out(y, observed):
    """Half the squared distance and its gradient in numpy, for simulated images y and Observed."""
    y, seen = np.asarray(y, np.float64), np.asarray(observed.coordinates, np.float64)
    to_observed, to_simulated = images.kernels(observed)
    out, own = ((y[:, None] - x) for x in (seen, y))
    squares_out, squares_own = ((d**2).sum(2) for d in (out, own))
    squares_out = squares_out + observed.outside
    value = to_observed.value(squares_out).mean() - to_simulated.value(squares_own).mean() / 2 - observed.within / 2
    with np.errstate(divide="ignore"):
        slopes = [
            np.where(s > 0, k.slope(s), 0.0) for k, s in ((to_observed, squares_out), (to_simulated, squares_own))
        ]
    pulls = [2 * (w[..., None] * d).mean(1) for w, d in zip(slopes, (out, own), strict=True)]
    return value, pulls[0] - pulls[1]


def observed_images(p, m=70, outside=0.0, noise_std=0.0, noise_dims=0, seed=0):
    rng = np.random.default_rng(seed)
    seen = rng.normal(0.5, 1.0, (m, p)) * rng.choice([1, 3], (m, 1))
    widths = outside * rng.uniform(0.5, 1.5, m)
    return Observed(seen, widths, 2.5, noise_std, noise_dims)


CASES = {
    "pixels": {},
    "noise integrated out": {"noise_std": 0.7, "noise_dims": 12},
    "in a span": {"noise_std": 2.0, "noise_dims": 300, "outside": 1_100.0},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tile", [None, 7 * 70, pytest.param(1, marks=pytest.mark.slow)])
def test_pairs_are_the_written_out_sums(x64, case, tile):
    observed = observed_images(12, **CASES[case])
    y = jnp.asarray(np.random.default_rng(1).normal(size=(50, 12))).at[3].set(observed.coordinates[5])
    target = images.pairs(observed, tile)
    value, gradient = written_out(y, observed)
    found, pulled, slope = jax.jit(lambda y: (target.value(y), target.gradient(y), jax.grad(target.value)(y)))(y)
    assert float(found) == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(pulled, gradient, atol=1e-12)
    difference = len(y) * slope - gradient
    if case != "pixels":  # there a distance of 0 has no slope
        np.testing.assert_allclose(difference, 0, atol=1e-11)


@pytest.mark.parametrize("noise_std", [1.0, 2.0])
def test_moments_agree_with_pairs_within_their_bound(x64, noise_std):
    observed = observed_images(12, noise_std=noise_std, noise_dims=4_000, outside=4_000 * noise_std**2)
    plan = images.expansion(observed)
    fast, exact = images.from_moments(observed, plan, None), images.pairs(observed, None)
    y = jnp.asarray(np.random.default_rng(1).normal(size=(50, 12)))
    found, expected = measured(fast, y), measured(exact, y)
    error, size = np.abs(found.gradient - expected.gradient).max(), np.abs(expected.gradient).max()
    assert 0 < error <= found.error < 0.2 * size
    assert found.value == pytest.approx(expected.value, rel=2e-3)
    difference = len(y) * jax.jit(jax.grad(fast.value))(y) - found.gradient
    np.testing.assert_allclose(difference, 0, atol=1e-12)


def test_particles_beyond_the_reach_of_moments_are_not_extrapolated(x64):
    observed = observed_images(12, noise_std=1.0, noise_dims=4_000, outside=4_000.0)
    plan = images.expansion(observed)
    fast, exact = images.from_moments(observed, plan, None), images.pairs(observed, None)
    y = jnp.asarray(np.random.default_rng(1).normal(size=(50, 12))).at[0].set(2 * plan.furthest)
    found, expected = measured(fast, y), measured(exact, y)
    np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-12)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.error == expected.error
    assert measured(fast, y.at[0].set(0.0)).error > expected.error


def nanoclusters(**options):
    return nanocluster(**{"n_observations": 200, "image_size": 32, "tau": 0.5, "seed": 5} | options).problem


@pytest.mark.parametrize(
    ("options", "moments"), [({"image_size": 64}, True), ({"noise_std": 0.05}, False), ({"n_observations": 20}, False)]
)
def test_auto_takes_moments_where_they_are_exact_enough_and_cheaper(options, moments):
    problem = nanoclusters(**options)
    target = ENERGY().bind_span(problem.observations, problem.noise_std, problem.span, True)
    assert target.algorithm.startswith("second moments" if moments else "all pairs")
    assert f"noise of {problem.observations.shape[1]} dimensions integrated out" in target.algorithm


@pytest.mark.parametrize("algorithm", ["moments", pytest.param("pairwise", marks=pytest.mark.slow)])
def test_the_span_changes_nothing_but_the_work(x64, algorithm):
    """With the noise integrated out, value and drift are those of all pixels, to the error of the span."""
    problem = nanoclusters(image_size=64)
    theta = problem.sample_init(jr.key(1), 60)
    pixels = ENERGY("pairwise").bind(problem.observations, problem.noise_std)
    span = ENERGY(algorithm).bind_span(problem.observations, problem.noise_std, problem.span, True)
    rendered, pull_pixels = jax.vjp(lambda t: problem.render(t, ()), theta)
    coordinates, pull = jax.vjp(lambda t: problem.span.coordinates(t, ()), theta)
    expected = pull_pixels(pixels.gradient(rendered))[0]
    found = pull(span.gradient(coordinates))[0]
    assert float(span.value(coordinates)) == pytest.approx(float(pixels.value(rendered)), rel=0.01)
    np.testing.assert_allclose(found, expected, atol=0.02 * float(jnp.abs(expected).max()))


@pytest.mark.slow
def test_drawn_noise_in_the_span_drifts_as_on_pixels():
    """Method 1 in the span has the mean drift of Method 1 on all pixels, within 4 standard errors and its own error."""
    problem, n, repeats = nanoclusters(image_size=16, n_observations=100, noise_std=0.4), 30, 800
    theta = problem.sample_init(jr.key(1), n)

    def drifts(of):
        reduced, target = flow_target(of, ENERGY("pairwise"), "method-1")

        def at(key):
            clean, pull = jax.vjp(lambda t: reduced.render(t, ()), theta)
            y = clean + problem.noise_std * jr.normal(key, clean.shape)
            return pull(target.gradient(y))[0].reshape(-1)

        return np.asarray(jax.jit(lambda keys: jax.lax.map(at, keys))(jr.split(jr.key(9), repeats)), np.float64)

    pixels, span = drifts(problem._replace(span=None)), drifts(problem)
    error = np.sqrt((pixels.var(0) + span.var(0)) / repeats)
    size = np.abs(pixels.mean(0)).max()
    assert (np.abs(pixels.mean(0) - span.mean(0)) < 4 * error + 0.02 * size).all()
    assert size > 50 * error.max()


def test_float32_on_noisy_images_of_many_pixels():
    """Centred Gram products at highest precision lose no digit that matters."""
    rng = np.random.default_rng(2)
    y, seen = 2 + 1.5 * rng.normal(size=(40, 4_096)), 2 + 1.5 * rng.normal(size=(50, 4_096))
    observed = Observed(seen, np.zeros(50), images.mean_distance(seen, seen), 0.0, 0)
    value, gradient = written_out(y, observed)
    target = ENERGY("pairwise").bind(jnp.asarray(seen, jnp.float32), 0.0)
    y = jnp.asarray(y, jnp.float32)
    np.testing.assert_allclose(target.gradient(y), gradient, atol=1e-5 * np.abs(gradient).max())
    assert float(target.value(y)) == pytest.approx(value, abs=1e-4)


def test_float32_on_clean_images_that_almost_agree():
    """Distances that cancel in a Gram product err by less than the root of its rounding, and none is not a number."""
    base = np.asarray(nanoclusters().render(jnp.array([[3.0, 4.0], [5.0, 5.5]]), ()), np.float64).repeat(20, 0)
    rng = np.random.default_rng(3)
    y, seen = base + 1e-4 * rng.normal(size=base.shape), base + 1e-4 * rng.normal(size=base.shape)
    observed = Observed(seen, np.zeros(len(seen)), images.mean_distance(seen, seen), 0.0, 0)
    value, gradient = written_out(y, observed)
    target = ENERGY("pairwise").bind(jnp.asarray(seen, jnp.float32), 0.0)
    found = np.asarray(target.gradient(jnp.asarray(y, jnp.float32)))
    norm = float(np.sqrt((base**2).sum(1)).max())
    assert np.abs(found - gradient).max() < 1  # unit vectors between near duplicates are lost, not the far ones
    assert np.isfinite(found).all()
    assert float(target.value(jnp.asarray(y, jnp.float32))) == pytest.approx(value, abs=3 * norm * np.sqrt(1e-6))


def test_a_tile_bounds_what_is_formed():
    """More images than fit are taken a tile at a time: no array of all pairs, none of all pairs and pixels."""
    from math import prod
    from re import findall

    rng = np.random.default_rng(0)
    y, seen = rng.normal(size=(3_000, 20)), rng.normal(size=(2_000, 20))
    target = ENERGY("pairwise", tile=50_000).bind(jnp.asarray(seen, jnp.float32), 0.5)
    for what in (target.value, target.gradient):
        text = jax.jit(what).lower(jnp.asarray(y, jnp.float32)).as_text()
        shapes = [prod(map(int, shape.split("x"))) for shape in findall(r"tensor<(\d+(?:x\d+)*)x[a-z]", text)]
        assert max(shapes) <= max(50_000, 3_000 * 21)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ENERGY(tile=0), "tile is 0; wanted a whole number >= 1"),
        (lambda: ENERGY("moments").bind(jnp.ones((3, 2)), 0.0), "'moments' and no noise is integrated out"),
        (lambda: ENERGY("moments").bind(jnp.ones((3, 1)), 1.0), "'moments' for observations of dimension 1"),
        (
            lambda: ENERGY("sorted").bind(jnp.ones((3, 2)), 1.0),
            "'sorted' for observations of dimension 2; wanted 'auto'",
        ),
    ],
)
def test_bad_input_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_equal_observations_need_no_moments():
    target = ENERGY().bind(jnp.ones((30, 3)), 1.0)
    assert np.isfinite(target.gradient(jnp.zeros((4, 3)))).all()


@pytest.mark.slow
def test_discrepancies_of_images_have_the_contract(x64):
    """On images of the nanocluster: n d value / d y_i = gradient_i, for those that are potentials."""
    problem = nanoclusters(image_size=16, n_observations=40)
    y = problem.observations[:20] + 0.3
    for name in ("energy", "mmd"):
        target = DISCREPANCIES[name]().bind(problem.observations, 0.0)
        np.testing.assert_allclose(len(y) * jax.grad(target.value)(y), target.gradient(y), atol=1e-9)
    for name in DISCREPANCIES:
        target = DISCREPANCIES[name]().bind(problem.observations, 0.0)
        assert np.isfinite(target.gradient(y)).all()
        assert float(target.value(y)) > float(target.value(problem.observations))


@pytest.mark.parametrize("sampling", ["method-1", "method-2", "method-3", "closed-form"])
def test_a_flow_in_the_span_is_scored_and_moves(sampling):
    """The distance falls, with noise drawn in the span or integrated out."""
    problem = nanoclusters(noise_std=0.5)
    draws = {"n_draws": 2} if sampling in ("method-2", "method-3") else {}
    method = particle_flow(problem, ENERGY(), optax.adam(0.05), 100, sampling=sampling, **draws)
    state = jax.jit(method.init)(jr.key(0))
    before = float(jax.jit(method.step)(jr.key(1), state)[1].objective)
    run = jax.jit(lambda s: jax.lax.fori_loop(0, 60, lambda t, s: method.step(jr.fold_in(jr.key(2), t), s)[0], s))
    after = float(jax.jit(method.step)(jr.key(1), run(state))[1].objective)
    assert after < 0.8 * before


def test_mean_distance_of_two_clouds(x64):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, 30)), rng.normal(size=(7, 30))
    expected = np.sqrt(((x[:, None] - y) ** 2).sum(2)).mean()
    assert images.mean_distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert images.mean_distance(x, y, tile=2) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", [2, 30])
@pytest.mark.parametrize("tile", [None, 40])
def test_slopes_between_clouds_whose_means_are_far_off_and_apart(p, tile):
    rng = np.random.default_rng(5)
    y, observed = (rng.normal(mean, 1.0, (n, p)).astype(np.float32) for mean, n in ((300.0, 21), (302.0, 33)))

    def mean_slope(kernel, cloud):
        gaps = y[:, None].astype(float) - cloud
        r = np.sqrt((gaps**2).sum(2))[..., None]
        return np.where(r > 0, kernel.slope(r) / np.where(r > 0, r, 1.0) * gaps, 0.0).mean(1)

    own, other = pairwise.Radial(np.abs, np.ones_like), pairwise.Radial(np.abs, lambda r: r**0.5)
    expected = mean_slope(own, y) - mean_slope(other, observed)
    cloud = pairwise.around_mean(jnp.asarray(observed))
    found = pairwise.slope_gap(own._replace(slope=jnp.ones_like), other, jnp.asarray(y), cloud, tile)
    np.testing.assert_allclose(found, expected, atol=2e-4)
