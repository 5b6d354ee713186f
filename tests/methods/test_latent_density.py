"""The density of latent coordinates: two peaks that the errors of images have blurred."""

import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.methods.latent_density import NODES, density, knee
from cryosip.methods.latents import Likelihoods

PEAKS, SHARES, ERROR = np.array([-2.0, 2.0]), np.array([0.3, 0.7]), 1.0


def blurred(q, m=1_000):
    """Images that tell their coordinates with an error of 1: the first has two peaks, and the last is its square."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(m, q)) * 0.3
    z[:, 0] += PEAKS[(rng.random(m) < SHARES[1]).astype(int)]
    if q == 3:
        z[:, 2] = z[:, 0] ** 2
    told = z + ERROR * rng.normal(size=z.shape)
    curvature = jnp.broadcast_to(jnp.eye(q), (m, q, q)) / ERROR**2
    return Likelihoods(jnp.asarray(told / ERROR**2, jnp.float32), curvature, jnp.zeros(m)), jnp.diag(jnp.full(q, 4.0))


@pytest.mark.slow
@pytest.mark.parametrize("q", [1, 3])
def test_the_density_has_both_peaks_and_none_of_the_error(q):
    nodes, weights = (np.asarray(a, float) for a in density(*blurred(q)))
    d = min(q, 2)
    assert nodes.shape == (NODES[d] ** d, q)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)
    left = nodes[:, 0] < 0
    # three standard errors of the share of 1000 draws, and as much for the tails
    assert weights[left].sum() == pytest.approx(SHARES[0], abs=0.06)
    for side, peak in zip((left, ~left), PEAKS, strict=True):
        share = weights[side] / weights[side].sum()
        center = share @ nodes[side, 0]
        assert center == pytest.approx(peak, abs=0.25)
        assert share @ (nodes[side, 0] - center) ** 2 < 0.5 * (0.3**2 + ERROR**2)
    marginal = np.histogram(nodes[:, 0], 15, (-3.75, 3.75), weights=weights)[0]
    assert marginal[7] < 0.25 * marginal[[2, 3, 4, 10, 11, 12]].reshape(2, 3).max(1).min()
    if q == 3:  # the other coordinate is the mean there, which its Gaussian prior pulls towards 0 by a fifth
        apart = weights @ nodes[:, 2] - 0.8 * (PEAKS[0] ** 2 + 0.3**2)
        assert abs(apart) < 0.3


def test_the_knee_is_where_the_misfit_turns():
    assert knee(jnp.exp(jnp.array([0.0, -3.0, -6.0, -9.0, -9.1, -9.2, -9.3]))) == 3
