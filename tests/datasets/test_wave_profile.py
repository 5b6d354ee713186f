"""The polynomial profile is that of cosines and sines, and so are images and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.datasets.projection import on_frequencies, separable
from cryosip.datasets.wave_profile import cosine, on_waves


def test_it_is_the_profile_of_products():
    x = jnp.linspace(-200.0, 200.0, 401)  # beyond the image, too
    exact, ours = (f(20, 4.0, 5.0, 8) for f in (on_frequencies, on_waves))
    assert ours.size == exact.size == 17
    # angles of up to 50 radians are rounded by eps / 2 of themselves, in both
    np.testing.assert_allclose(ours.values(x), exact.values(x), atol=1e-5 * float(exact.values(x).max()))


def test_images_move_with_their_atoms():
    profile = on_waves(20, 4.0, 5.0, 8)
    centers = jnp.asarray(np.random.default_rng(0).uniform(-20, 20, (2, 5, 2)), jnp.float32)
    shift = jnp.ones_like(centers)
    image, slope = jax.jvp(lambda c: separable(profile, np.ones(5), c), (centers,), (shift,))
    step = 0.05
    ahead, behind = (separable(profile, np.ones(5), centers + s * shift) for s in (step, -step))
    assert float(jnp.abs(slope - (ahead - behind) / (2 * step)).max()) < 2e-3 * float(jnp.abs(image).max())


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 5e-7), (np.float64, 2e-10)])
def test_the_cosine_of_turns(dtype, bound):
    with jax.enable_x64(dtype is np.float64):
        turns = np.linspace(-3, 3, 1201).astype(dtype)[:, None]
        np.testing.assert_allclose(cosine(jnp.asarray(turns)), np.cos(2 * np.pi * turns.astype(float)), atol=10 * bound)
