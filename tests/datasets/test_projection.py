"""Projections are the sums they say, wherever the atoms are; their hand-written adjoint is that of their derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cryosip.datasets import cryojax_images, projection
from cryosip.datasets.projection import (
    fourier_basis,
    means_on_frequencies,
    means_over_pixels,
    on_frequencies,
    on_pixels,
    project,
    separable,
    splatted,
)


def direct(size, pixel_size, std, weights, centers):
    """One atom after the other, not separated."""
    grid = pixel_size * (np.arange(size) - size // 2)
    images = np.zeros((len(centers), size, size))
    for image, atoms in zip(images, np.asarray(centers, np.float64), strict=True):
        for weight, (x, y) in zip(weights, atoms, strict=True):
            image += weight * np.exp(-((grid - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * std**2))
    return images


@pytest.mark.parametrize(("size", "pixel_size", "std"), [(16, 1.0, 1.3), (15, 2.0, 3.1), (9, 1.5, 0.8), (1, 1.0, 1.0)])
def test_images_are_the_sum(x64, size, pixel_size, std):
    """Atoms near the border, beyond it, and far away, with weights of either sign."""
    weights = np.array([1.0, 4.0, -0.5, 2.0, 1.0])
    half = size * pixel_size / 2
    centers = half * np.random.default_rng(0).uniform(-1.2, 1.2, (4, 5, 2))
    centers[0, 0], centers[1, 1] = (half, -half), 30 * half
    expected = direct(size, pixel_size, std, weights, centers)
    rendered = jax.jit(lambda c: project(size, pixel_size, std, weights, c))
    assert_allclose(rendered(jnp.asarray(centers)), expected, atol=1e-12)
    single = rendered(jnp.asarray(centers, jnp.float32))
    assert single.dtype == jnp.float32
    assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize("size", [64, 65])
def test_the_window_does_not_change_the_image(x64, size):
    """The furthest atom of all images is just inside of what a window may hold, or just outside: then the next is."""
    std, weights = 2.0, np.array([1.0, 2.0, 3.0])
    windows = [min(size, 2 * -(-eighths * size // 16)) for eighths in projection.WINDOWS]
    rendered = jax.jit(lambda c: project(size, 1.0, std, weights, c))
    cases = [(w // 2 - 1 - projection.REACH * std - 1e-9, w) for w in windows[:-1]]
    cases += [(furthest + 2e-9, after) for (furthest, _), after in zip(cases, windows[1:], strict=True)]
    for furthest, window in [*cases, (size, size)]:
        centers = np.zeros((2, 3, 2))
        centers[1, 2], centers[0, 1, 0] = (1.0, -furthest), furthest / 2
        found = np.asarray(rendered(jnp.asarray(centers)))
        assert_allclose(found, direct(size, 1.0, std, weights, centers), atol=1e-6)
        # no Gaussian vanishes within 38 stds in float64: what is zero has not been computed
        start = size // 2 - window // 2
        for axis in (0, 1):
            assert_array_equal(np.flatnonzero(found[0].any(axis)), np.arange(start, start + window))


PROFILES = {
    "window": lambda weights, centers: project(16, 1.5, 1.9, weights, centers),
    "pixels": lambda weights, centers: separable(on_pixels(13, 1.5, 1.9), weights, centers),
    "frequencies": lambda weights, centers: separable(on_frequencies(13, 1.5, 1.9, 5), weights, centers),
    "means": lambda weights, centers: separable(
        means_over_pixels(13, 1.5, np.array([0.7, 1.9]), np.array([2.0, -1.0])), weights, centers
    ),
    "splatted": lambda weights, centers: splatted(
        13, 1.5, np.array([0.7, 1.9]), np.array([2.0, -1.0]), weights, centers
    ),
    "frequencies of means": lambda weights, centers: separable(
        means_on_frequencies(13, 1.5, np.array([0.7, 0.9]), np.array([2.0, -1.0]), 5), weights, centers
    ),
}


@pytest.mark.parametrize(
    ("profile", "cached"),
    [
        ("window", 2**18),
        ("pixels", 2 * 5 * 13),
        ("frequencies", 1),
        ("frequencies", 2 * 5 * 13),
        ("means", 2**18),
        ("frequencies of means", 1),
    ],
)
def test_derivatives_three_ways(x64, monkeypatch, profile, cached):
    """J^T v is that of finite differences, and <J u, v> = <u, J^T v>; all three images at a time, or two, or one."""
    monkeypatch.setattr(projection, "CACHED", cached)
    weights = np.array([1.0, -2.0, 0.5, 3.0, 1.0])
    rng = np.random.default_rng(1)
    centers, u = 3 * rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2))

    @jax.jit
    def f(c):
        return PROFILES[profile](weights, c)

    @jax.jit
    def pulled_and_pushed(centers, v, u):
        return jax.vjp(f, centers)[1](v)[0], *jax.jvp(f, (centers,), (u,))

    v = rng.normal(size=f(centers).shape)
    pulled, again, pushed = pulled_and_pushed(centers, v, u)
    assert_allclose(again, f(centers), atol=1e-14)
    assert float((pushed * v).sum()) == pytest.approx(float((u * pulled).sum()), rel=1e-12)

    def difference(direction):
        return (f(centers + 1e-5 * direction) - f(centers - 1e-5 * direction)) / 2e-5

    assert_allclose(pushed, difference(u), atol=1e-7)
    # the images are independent: one coordinate of all of them is moved at once
    slopes = [(difference(e) * v).sum((1, 2)) for e in np.eye(10).reshape(10, 5, 2)]
    assert_allclose(pulled, np.stack(slopes, axis=1).reshape(pulled.shape), atol=1e-7)


@pytest.mark.parametrize(("size", "n_frequencies"), [(24, 11), (25, 12), (24, 4), (25, 1)])
def test_coefficients_are_those_of_the_image(x64, size, n_frequencies):
    weights = np.array([1.0, 2.0, -0.5])
    centers = np.random.default_rng(2).uniform(-3, 3, (3, 3, 2))
    basis = fourier_basis(size, n_frequencies)
    profile = on_frequencies(size, 1.5, 2.7, n_frequencies)
    coefficients = jax.jit(lambda c: separable(profile, weights, c))
    found = coefficients(centers)
    assert found.shape == (3, profile.size, profile.size)
    expected = basis @ direct(size, 1.5, 2.7, weights, centers) @ basis.T
    assert_allclose(found, expected, atol=1e-6)  # of aliasing, exp(-(pi 2.7 / 1.5)^2 / 2)
    assert_allclose(coefficients(centers + 1.5 * size), found, atol=1e-12)


@pytest.mark.parametrize(("size", "n_frequencies"), [(8, 3), (9, 4), (9, 2), (64, 31)])
def test_the_basis_is_orthonormal(size, n_frequencies):
    basis = fourier_basis(size, n_frequencies)
    assert_allclose(basis @ basis.T, np.eye(1 + 2 * n_frequencies), atol=1e-14)
    # the lowest frequencies, by numpy's transform
    share = (np.abs(np.fft.rfft(basis)) ** 2).sum(0)
    assert (share[n_frequencies + 1 :] < 1e-20).all()


@pytest.mark.parametrize("voltage", [100.0, 300.0])
def test_the_ctf_is_cryojaxs(x64, voltage):
    frequency = jnp.linspace(0, 0.4, 200)
    for defocus in (-3_000.0, 0.0, 25_000.0):
        found = projection.contrast_transfer(frequency, jnp.asarray(defocus), voltage)
        assert float(found[0]) == pytest.approx(-projection.AMPLITUDE_CONTRAST)
        assert_allclose(found, cryojax_images.contrast_transfer(frequency, defocus, voltage), atol=1e-9)


def test_splatted_atoms_are_the_means_over_their_pixels(x64):
    """The same as with all pixels for all atoms, over the edges and beyond them too."""
    stds, integrals, weights = np.array([0.3, 1.1]), np.array([2.0, -1.0]), np.array([1.0, 2.0, 0.5, 1.0, 3.0])
    centers = jnp.asarray(np.random.default_rng(3).uniform(-14, 14, (6, 5, 2)))
    expected = separable(means_over_pixels(15, 1.5, stds, integrals), weights, centers)
    assert_allclose(splatted(15, 1.5, stds, integrals, weights, centers), expected, atol=1e-7)
