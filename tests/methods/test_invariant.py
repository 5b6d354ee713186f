"""Features of images that turn in their plane do not change, and their energy distance is one of laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.methods.invariant import invariant_energy, moduli, steerable_basis

SIZES = [(5, 1.25), (7, 1.6), (9, 0.5), (11, 1.6), (21, 2.3), (21, 5.25)]


def noise(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, size, size))


def blobs(size: int, angle: float, n: int = 6) -> np.ndarray:
    """Sums of wide Gaussians well inside of the image, their centres turned about the centre pixel."""
    rng = np.random.default_rng(4)
    centers, heights = rng.uniform(-0.16, 0.16, (n, 5, 2)) * size, rng.normal(size=(n, 5))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x = np.arange(size) - size // 2
    grid = np.stack(np.meshgrid(x, x), axis=-1)
    gaps = grid[None, None] - (centers @ turn.T)[:, :, None, None]
    return np.einsum("nb,nbij->nij", heights, np.exp(-0.5 * (gaps**2).sum(-1) / (0.08 * size) ** 2))


def features(images: np.ndarray, ring_width: float) -> np.ndarray:
    return np.asarray(
        moduli(steerable_basis(images.shape[1], ring_width), jnp.asarray(images.reshape(len(images), -1)))
    )


@pytest.mark.parametrize(("size", "ring_width"), SIZES)
def test_a_quarter_turn_changes_nothing(x64, size, ring_width):
    """Pixels go to pixels, and the centre, which has no angle, stays."""
    images = noise(5, size)
    expected = features(images, ring_width)
    for quarters in (1, 2, 3):
        turned = features(np.rot90(images, quarters, axes=(1, 2)), ring_width)
        np.testing.assert_allclose(turned, expected, atol=1e-9)
    assert np.abs(features(np.roll(images, 1, axis=2), ring_width) - expected).max() > 0.1


@pytest.mark.parametrize("degrees", [30.0, 77.0])
def test_other_turns_of_smooth_images_change_little(x64, degrees):
    straight, turned = blobs(33, 0.0), blobs(33, np.deg2rad(degrees))
    for ring_width in (1.6, 3.0):
        before, after = features(straight, ring_width), features(turned, ring_width)
        size = np.linalg.norm(before, axis=1)
        assert (np.linalg.norm(after - before, axis=1) < 1e-2 * size).all()  # the error of the pixels
        assert (np.linalg.norm(turned - straight, axis=(1, 2)) > 0.3 * size).all()
        assert (size > 0.7 * np.linalg.norm(straight, axis=(1, 2))).all()  # and yet hold most of the image


@pytest.mark.parametrize(("size", "ring_width"), [*SIZES, (4, 1.0), (12, 1.6)])
def test_each_angular_frequency_has_an_orthonormal_basis(size, ring_width):
    """Which frequency a function has shows in what a quarter turn multiplies it by, and in its real sums."""
    real, imaginary = steerable_basis(size, ring_width)
    basis, at, m = real + 1j * imaginary, 0, 0
    n_rings = max(1, int((size // 2 - 1) / ring_width))
    rings = (np.arange(n_rings) + 0.5) * ring_width
    while at < basis.shape[1]:
        count = int((2 * np.pi * rings / 2 >= m * ring_width).sum())
        part = basis[:, at : at + count]
        np.testing.assert_allclose(part.conj().T @ part, np.eye(count), atol=1e-8)
        at, m = at + count, m + 1
    assert at == basis.shape[1]
    assert m == int(np.pi * rings[-1] / ring_width) + 1


def test_white_noise_gives_every_feature_the_same_second_moment(x64):
    """The squared modulus of two normal coordinates: exponential but for m = 0, its std at most sqrt(2)."""
    n, sigma = 20_000, 1.3
    square = features(sigma * noise(n, 11, seed=5), 1.6) ** 2
    error = square.std(0) / np.sqrt(n)
    assert (np.abs(square.mean(0) - sigma**2) < 5 * error).all()
    assert square.std(0).max() < 1.6 * sigma**2


def test_the_smallest_images(x64):
    """The widest ring that is allowed for each size is one ring."""
    for size in (4, 5, 6, 7):
        real, _ = steerable_basis(size, size / 4)
        assert real.shape == (size**2, 2)


def test_equal_laws_are_at_distance_zero(x64):
    observed = jnp.asarray(noise(40, 9).reshape(40, -1))
    target = invariant_energy().bind(observed, 0.0)
    assert float(target.value(observed)) == pytest.approx(0.0, abs=1e-12)
    assert float(target.value(observed + 1.0)) > 0.01
    assert "in-plane invariants" in target.algorithm


def test_the_gradient_is_that_of_the_value(x64):
    observed, y = (jnp.asarray(noise(n, 9, seed).reshape(n, -1)) for n, seed in ((30, 0), (20, 1)))
    target = invariant_energy(ring_width=1.1).bind(observed, 0.0)
    gradient = target.gradient(1.5 * y)
    np.testing.assert_allclose(20 * jax.grad(target.value)(1.5 * y), gradient, atol=1e-12)
    direction = jnp.asarray(np.random.default_rng(3).normal(size=y.shape))
    ahead, behind = (float(target.value(1.5 * y + step * direction)) for step in (1e-5, -1e-5))
    assert 20 * (ahead - behind) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_the_gradient_is_finite_for_an_empty_image():
    """The modulus has no derivative at 0."""
    observed = jnp.asarray(noise(10, 9).reshape(10, -1), jnp.float32)
    gradient = invariant_energy().gradient(jnp.zeros((2, 81)), observed)
    assert bool(jnp.isfinite(gradient).all())


@pytest.mark.parametrize("quarters", [1, 2])
def test_turned_images_have_the_same_distance(x64, quarters):
    """All of them, or one by one: the law of the features stays."""
    observed, y = noise(30, 11), 1.3 * noise(20, 11, seed=1)
    target = invariant_energy().bind(jnp.asarray(observed.reshape(30, -1)), 0.0)
    value = float(target.value(jnp.asarray(y.reshape(20, -1))))
    turned = np.rot90(y, quarters, axes=(1, 2))
    some = np.concatenate([turned[:7], y[7:]])
    for images in (turned, some):
        assert float(target.value(jnp.asarray(images.reshape(20, -1)))) == pytest.approx(value, rel=1e-12)
    assert value > 0.01


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: invariant_energy(0.0), "ring_width is 0.0; wanted a positive finite number"),
        (lambda: invariant_energy(-1.6), "ring_width is -1.6; wanted a positive finite number"),
        (lambda: invariant_energy(float("nan")), "ring_width is nan; wanted a positive finite number"),
        (
            lambda: invariant_energy(2.3).bind(jnp.ones((3, 81)), 0.0),
            "ring_width is 2.3 pixels for images of 9; wanted 0.5 to 2.25",
        ),
        (
            lambda: invariant_energy(0.3).bind(jnp.ones((3, 81)), 0.0),
            "ring_width is 0.3 pixels for images of 9; wanted 0.5 to 2.25",
        ),
        (lambda: invariant_energy().bind(jnp.ones((3, 80)), 0.0), "80 pixels; wanted those of a square image of 4 x 4"),
        (lambda: invariant_energy(0.5).bind(jnp.ones((3, 9)), 0.0), "9 pixels; wanted those of a square image of 4 x"),
        (lambda: invariant_energy(tile=0), "tile is 0; wanted a whole number >= 1"),
        (
            lambda: invariant_energy().bind(jnp.ones((3, 81)), 0.5),
            "invariant-energy cannot integrate out noise; wanted sampled noise, such as 'method-1'",
        ),
        (lambda: invariant_energy().bind(jnp.full((3, 81), jnp.nan), 0.0), "NaN or infinite"),
    ],
)
def test_bad_input_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
