"""The formulas themselves, against derivatives, samples, other libraries and each other."""

import numpy as np
import pytest
import scipy.stats

from cryosip.bench.check import formulas, images


def clouds(p):
    rng = np.random.default_rng(p)
    return rng.normal(0, 1.5, (20, p)), rng.normal(0.5, 1.0, (30, p))


@pytest.mark.parametrize("p", [1, 7])
@pytest.mark.parametrize("name", ["energy", "kl"])
def test_gradients_are_slopes_of_the_first_variation(name, p):
    """To the error of central differences."""
    y, seen = clouds(p)
    gradient = {"energy": formulas.energy_gradient, "kl": formulas.kl_gradient}[name](y, seen)
    axis = np.arange(len(y)) % p
    expected = formulas.slopes(formulas.FORMULAS[name](seen, 0.0), y, axis)
    np.testing.assert_allclose(gradient[np.arange(len(y)), axis], expected, atol=1e-7 * np.abs(gradient).max())


def test_the_energy_gradient_under_noise_is_a_slope_of_the_first_variation():
    """Where all dimensions are in the subspace, to the error of the spline."""
    y, seen = clouds(5)
    gradient = formulas.noisy_energy_gradient(y, seen, np.zeros(len(seen)), 0.8, 5)
    expected = formulas.slopes(formulas.energy(seen, 0.8), y, np.full(len(y), 2))
    np.testing.assert_allclose(gradient[:, 2], expected, atol=1e-6)


@pytest.mark.parametrize("dims", [3, 400])
def test_the_energy_gradient_under_noise_is_the_mean_over_noise(dims):
    """Against samples, to five standard errors."""
    rng = np.random.default_rng(0)
    y, observed, std = rng.normal(size=(6, dims)), rng.normal(1.0, 1.0, (5, dims)), 0.8
    exact = formulas.noisy_energy_gradient(y, observed, np.zeros(5), std, dims)
    noise = rng.normal(0, std, (2_000, *y.shape))
    samples = np.stack([formulas.energy_gradient(y + xi, observed) for xi in noise])
    # in the mean over simulated images a particle meets itself: zero in a sample, and zero in the expectation
    error = samples.std(0) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(0) - exact) < 5 * error + 1e-9).all()


def test_values_on_the_line_are_those_of_scipy():
    y, seen = clouds(1)
    energy = scipy.stats.energy_distance(y[:, 0], seen[:, 0]) ** 2 / 2
    assert formulas.energy(seen, 0.0).value(y) == pytest.approx(energy)
    h = formulas.silverman(seen)
    of_y, of_seen = (scipy.stats.gaussian_kde(x[:, 0], bw_method=h / x.std(ddof=1)) for x in (y, seen))
    ratio = (of_y.logpdf(y[:, 0]) - of_seen.logpdf(y[:, 0])).mean()
    assert formulas.kl(seen, 0.0).value(y) == pytest.approx(ratio)


@pytest.mark.parametrize("average", [False, True])
def test_images_and_their_pull_back_are_derivatives_of_each_other(average):
    rng, grid = np.random.default_rng(0), 1.5 * (np.arange(12) - 6)
    centers, cotangent = rng.normal(0, 5, (2, 4, 2)), rng.normal(size=(2, 12, 12))
    before = images.gaussians(grid, 2.5, centers, average=average)
    pulled = images.pulled_back(grid, 2.5, centers, cotangent, average)
    for axis in (0, 1):
        moved = centers.copy()
        moved[1, 2, axis] += 1e-6
        change = images.gaussians(grid, 2.5, moved, average=average) - before
        assert (change * cotangent).sum() / 1e-6 == pytest.approx(pulled[1, 2, axis], rel=1e-4)


def test_means_over_pixels_are_means():
    """Of the values on a grid nine times as fine, by the midpoint rule, and lower than at the centre of a peak."""
    grid, centers = 1.5 * (np.arange(8) - 4), np.zeros((1, 1, 2))
    fine = images.gaussians(np.add.outer(grid, 1.5 * np.arange(-4, 5) / 9).ravel(), 2.5, centers)
    means = images.gaussians(grid, 2.5, centers, average=True)
    np.testing.assert_allclose(means[0], fine[0].reshape(8, 9, 8, 9).mean((1, 3)), atol=5e-4)
    assert means.max() < images.gaussians(grid, 2.5, centers).max()


def test_the_centre_of_a_gaussian_is_along_columns_then_rows():
    (image,) = images.gaussians(np.arange(9.0), 1.0, np.array([[[2.0, 6.0]]]), weights=[3.0])
    assert np.unravel_index(image.argmax(), image.shape) == (6, 2)
    assert image.max() == 3.0


def test_invariants_are_those_of_a_quarter_turn():
    """Which moves pixels onto pixels, where the side is odd."""
    image = np.random.default_rng(0).normal(size=(3, 11, 11))
    straight, rotated = (
        images.rotation_invariants(a.reshape(3, -1), 1.6) for a in (image, np.rot90(image, axes=(1, 2)))
    )
    np.testing.assert_allclose(rotated, straight, rtol=1e-10)
