"""The nanocluster draws and renders what section 4.2 prints, and its span holds every image."""

import inspect

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from examples import instance

from cryosip.datasets.nanocluster import nanocluster
from cryosip.methods.likelihood import squared_residuals
from cryosip.methods.problem import in_span

DRAWS = 20_000
OTHER = {
    "alpha": 0.7,
    "means": ((2.0, 6.0), (6.5, 1.0)),
    "covariances": (((0.2, -0.1), (-0.1, 0.4)), ((1.0, 0.0), (0.0, 0.1))),
}


def as_printed(theta, size, tau):
    """I_ij = sum_k exp(-|a_k - g_ij|^2 / (2 tau^2)), one pixel after the other; row i is along y."""
    first = np.asarray(theta) / 2
    atoms = [first * sign for sign in ([1, 1], [1, -1], [-1, 1], [-1, -1])]
    image = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            pixel = np.array([-4 + 8 * j / size, -4 + 8 * i / size])
            image[i, j] = sum(np.exp(-((atom - pixel) ** 2).sum() / (2 * tau**2)) for atom in atoms)
    return image.reshape(-1)


@pytest.mark.parametrize(
    ("size", "tau"), [(9, 1.3), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(8, 1.0), (16, 0.5)])]
)
def test_render_is_the_printed_formula(x64, size, tau):
    problem = nanocluster(3, image_size=size, tau=tau).problem
    theta = jnp.array([[3.0, 4.5], [0.0, 7.9], [-2.0, 9.0]])
    expected = [as_printed(t, size, tau) for t in theta]
    np.testing.assert_allclose(jax.jit(problem.render)(theta, ()), expected, atol=1e-12)


def test_the_defaults_are_the_papers():
    instance = nanocluster()
    assert instance.problem.observations.shape == (1_000, 128**2)
    assert instance.problem.noise_std == 1.5
    theta = np.asarray(instance.truth.sample(jr.key(0), DRAWS), np.float64)
    assert theta.mean(0) == pytest.approx([0.2 * 3 + 0.8 * 5] * 2, abs=0.05)
    start = np.asarray(instance.problem.sample_init(jr.key(0), DRAWS), np.float64)
    assert start.mean(0) == pytest.approx([4, 4], abs=0.04)
    np.testing.assert_allclose(np.cov(start.T), [[0.8, 0.3], [0.3, 0.8]], atol=0.05)
    density = scipy.stats.multivariate_normal([4, 4], [[0.8, 0.3], [0.3, 0.8]]).logpdf(start[:50])
    offset = np.asarray(instance.problem.log_prior(jnp.asarray(start[:50], jnp.float32))) - density
    np.testing.assert_allclose(offset, offset[0], atol=1e-4)


@pytest.mark.parametrize("law", [{}, OTHER], ids=["paper", "other"])
@pytest.mark.parametrize("what", ["sample", "theta"])
def test_draws_follow_the_law(law, what):
    """Along four directions the draws pass a Kolmogorov-Smirnov test against the mixture of normals."""
    truth = nanocluster(DRAWS, image_size=2, tau=4.0, seed=7, **law).truth
    theta = np.asarray(truth.sample(jr.key(5), DRAWS) if what == "sample" else truth.theta, np.float64)
    alpha = law.get("alpha", 0.2)
    means = np.array(law.get("means", ((3, 3), (5, 5))))
    covariances = np.array(law.get("covariances", (((0.5, 0), (0, 0.5)), ((0.7, 0.5), (0.5, 1)))))
    for direction in np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, -0.6]]):
        centres, stds = means @ direction, np.sqrt(np.einsum("i,kij,j->k", direction, covariances, direction))

        def cdf(x, centres=centres, stds=stds):
            return alpha * scipy.stats.norm.cdf(x, centres[0], stds[0]) + (1 - alpha) * scipy.stats.norm.cdf(
                x, centres[1], stds[1]
            )

        assert scipy.stats.kstest(theta @ direction, cdf).pvalue > 1e-4


def test_the_noise_is_white():
    instance = nanocluster(400, image_size=16, tau=0.5, noise_std=0.7, seed=1)
    noise = np.asarray(instance.problem.observations - instance.problem.render(instance.truth.theta, ()), np.float64)
    assert noise.mean() == pytest.approx(0, abs=5 * 0.7 / np.sqrt(noise.size))
    assert noise.std() == pytest.approx(0.7, abs=5 * 0.7 / np.sqrt(2 * noise.size))
    assert abs(np.corrcoef(noise.T)[0, 1:]).max() < 5 / np.sqrt(400)


CASES = [
    {"image_size": 33, "tau": 0.5, "noise_std": 0.2},
    {"image_size": 8, "tau": 1.0, "noise_std": 1e-3},
    pytest.param({"image_size": 32, "tau": 0.25}, marks=pytest.mark.slow),
    pytest.param({"image_size": 64, "tau": 0.25, "noise_std": 4.0}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", CASES)
def test_the_span_holds_every_image(x64, case):
    """Orthonormal, coordinates those of the rendered image, and no image further outside than is said."""
    problem = nanocluster(2, **case).problem
    span, p = problem.span, problem.observations.shape[1]
    basis = np.asarray(span.project(jnp.eye(p)))
    assert basis.shape[1] <= (case["image_size"] // 2 + 1) ** 2  # profiles are even
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
    theta = jr.uniform(jr.key(0), (400, 2), minval=-13.0, maxval=13.0)
    images = np.asarray(jax.jit(problem.render)(theta, ()))
    coordinates = np.asarray(jax.jit(span.coordinates)(theta, ()))
    np.testing.assert_allclose(coordinates, images @ basis, atol=1e-5 * np.abs(images).max())
    outside = np.sqrt(((images - images @ basis @ basis.T) ** 2).sum(1)).max()
    assert outside - 1e-9 <= span.error <= 0.3 * problem.noise_std
    assert span.error < 3 * outside + 1e-9  # not a loose bound
    y = problem.observations
    np.testing.assert_allclose(span.project(y), y @ basis, atol=1e-10)


def test_the_span_has_no_end():
    """Atoms that leave the image take their coordinates to zero; nothing is extrapolated, and mirror images agree."""
    span = instance("nanocluster").problem.span
    coordinates = jax.jit(span.coordinates)
    theta = jnp.array([[16.0, 4.0], [-40.0, 4.0], [1e30, -1e30]])
    np.testing.assert_array_equal(np.abs(coordinates(theta, ())) < 1e-6, True)
    slope = jax.jit(jax.jacfwd(lambda t: span.coordinates(t, ())))(theta)
    assert float(jnp.abs(slope).max()) < 1e-6
    near = jnp.array([[3.0, 5.0], [-3.0, 5.0], [3.0, -5.0]])
    mirrored = np.asarray(coordinates(near, ()))
    # a processor may take some rows several at a time and the rest one by one: exponentials differ in their last bit
    close = 4 * np.finfo(np.float32).eps * np.abs(mirrored).max()
    np.testing.assert_allclose(mirrored[1:], mirrored[:1].repeat(2, 0), rtol=0, atol=close)
    assert not np.isfinite(coordinates(jnp.array([[jnp.nan, 1.0]] * 3), ())).any()


def test_gradients_in_the_span_are_those_of_the_pixels(x64):
    problem = nanocluster(5, image_size=33, tau=0.5, noise_std=0.2).problem
    theta = jr.uniform(jr.key(1), (5, 2), minval=0.5, maxval=8.5)
    y = problem.observations

    @jax.jit
    def gradients(theta):
        images, pull_pixels = jax.vjp(lambda t: problem.render(t, ()), theta)
        coordinates, pull = jax.vjp(lambda t: problem.span.coordinates(t, ()), theta)
        return pull_pixels(images - y)[0], pull(coordinates - problem.span.project(y))[0]

    expected, found = gradients(theta)
    np.testing.assert_allclose(found, expected, atol=2e-3 * float(jnp.abs(expected).max()))


def test_likelihoods_in_the_span_differ_by_a_constant(x64):
    problem = nanocluster(5, image_size=33, tau=0.5, noise_std=0.05).problem
    theta = jr.uniform(jr.key(2), (9, 2), minval=1.0, maxval=7.0)
    reduced = in_span(problem)
    assert reduced.span is None
    pixels, coordinates = (
        np.asarray(jax.jit(lambda t, p=p: squared_residuals(p.observations, p.render(t, ())))(theta))
        for p in (problem, reduced)
    )
    constant = pixels - coordinates
    np.testing.assert_allclose(constant, constant[:, :1].repeat(9, 1), atol=0.02)
    assert np.ptp(pixels) > 1


def test_the_seed_decides_the_data():
    one, same, other = (nanocluster(5, image_size=8, tau=1.0, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.problem.observations, same.problem.observations)
    np.testing.assert_array_equal(one.truth.theta, same.truth.theta)
    assert not np.intersect1d(one.problem.observations, other.problem.observations).size


def test_the_box_holds_what_can_be_seen():
    lower, upper = nanocluster(2, image_size=32, tau=0.5).problem.theta_box
    assert lower.tolist() == [0, 0]
    assert upper.tolist() == [10, 10]


def test_atoms_smaller_than_a_pixel_are_warned_of():
    with pytest.warns(UserWarning, match=r"tau is 0\.25, below the size of a pixel, 0\.5: images are aliased"):
        nanocluster(2, image_size=16)


def test_means_outside_of_the_image_are_warned_of():
    with pytest.warns(UserWarning, match=r"means are .*: beyond 10 no atom is in the image"):
        nanocluster(2, image_size=32, tau=0.5, means=((3.0, 3.0), (50.0, 50.0)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"image_size": (128, 64)}, r"image_size \(of square images\) is \(128, 64\); wanted a whole number >= 1"),
        ({"image_size": 0}, "is 0; wanted a whole number >= 1"),
        ({"tau": 0.0}, "tau is 0.0; wanted a positive finite number"),
        ({"noise_std": -1.0}, "noise_std is -1.0"),
        ({"n_observations": 0}, "n_observations is 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"alpha": 1.0}, "alpha is 1.0; wanted a number strictly between 0 and 1"),
        ({"alpha": -0.2}, "alpha is -0.2"),
        ({"means": ((3.0, 3.0),)}, r"means has shape \(1, 2\); wanted \(2, 2\): theta is a width and a height"),
        ({"means": ((3.0,), (5.0,))}, r"means has shape \(2, 1\)"),
        ({"means": ((3.0, float("nan")), (5.0, 5.0))}, "means holds 1 NaN"),
        ({"covariances": (((0.5, 0.0), (0.0, 0.5)),)}, "there are 1 covariances; wanted as many as means, 2"),
        (
            {"covariances": (((0.5, 0.9), (0.9, 0.5)), ((1.0, 0.0), (0.0, 1.0)))},
            r"covariances\[0\] is .*wanted a symmetric positive definite matrix of shape \(2, 2\)",
        ),
        ({"covariances": (((0.5, 0.1), (0.0, 0.5)), ((1.0, 0.0), (0.0, 1.0)))}, "symmetric"),
        ({"init_mean": (4.0,)}, r"init_mean has shape \(1,\); wanted \(2,\): theta is a width and a height"),
        ({"init_covariance": ((0.0, 0.0), (0.0, 0.0))}, "init_covariance is .*wanted a symmetric positive definite"),
    ],
)
def test_bad_input_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        inspect.unwrap(nanocluster)(**{"n_observations": 2, "image_size": 8, "tau": 1.0, **options})
