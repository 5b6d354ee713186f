"""3D variability beside what any method could find: the bound that noise sets on the subspace."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench import metrics, volume_metrics
from cryosip.datasets.registry import DATASETS
from cryosip.datasets.volume_frame import frame
from cryosip.methods import latents, volumes
from cryosip.methods.variability import variability

pytestmark = pytest.mark.filterwarnings("ignore:volume_size")


@pytest.mark.slow
def test_variability_captures_what_noise_leaves_of_the_subspace():
    """The bound of van Trees: no estimate of W has errors below the inverse of the expected information and the prior.

    Of W the images hold sum_i G_i x N_i, G_i = A_i (I + A_i)^-1 with A_i = W^T N_i W, N_i = P_i^T P_i / sigma^2, in
    directions away from W. What is lost of the variance is that trace, and the components beyond the fourth.
    """
    instance = DATASETS["adk-volumes"](
        n_observations=1_000, image_size=16, pixel_size_in_angstroms=8.0, atom_std_in_angstroms=6.0, atoms_per_bead=2,
        volume_size=16, pose_error_in_degrees=0.0,
    )  # fmt: skip
    views = volumes.views(instance.problem, "test")
    draws = np.asarray(instance.truth.sample(jr.key(9), 1_500), float)
    true = volume_metrics.principal(metrics.equally_weighted(draws[None])[0], 4)
    total = ((draws - true.mean) ** 2).sum(1).mean()
    maps, mean = (jnp.asarray(a, jnp.float32) for a in (true.stds[:, None] * true.components, true.mean))
    curvature = latents.likelihoods(views, volumes.white(views), mean, maps).curvature
    shares = jnp.linalg.solve(jnp.eye(4) + curvature, curvature)
    first, second = np.triu_indices(4)
    pairs = np.zeros((4, 4), int)
    pairs[first, second] = pairs[second, first] = np.arange(10)
    whole = views.volumes.normal(views.pose, shares[:, first, second], 1 / volumes.white(views))
    precision = (1 / volumes.power(views, maps))[:, views.volumes.shells]
    axes = jnp.asarray(true.components, jnp.float32)

    @jax.jit
    def lost(key):
        """x^T A^-1 x with random signs x away from W: the trace on average."""
        signs = jr.rademacher(key, maps.shape, maps.dtype)
        away = views.volumes.in_ball(signs - signs @ axes.T @ axes)
        normal = lambda v: views.volumes.in_ball(whole(pairs, views.volumes.in_ball(v))) + precision * v  # noqa: E731
        solved, _ = volumes.conjugate_gradients(normal, away, jnp.zeros_like(away), 1 / precision, 60)
        return (away * solved).sum()

    bound = float(jax.lax.map(lost, jr.split(jr.key(0), 8)).mean())
    least = (bound + total - (true.stds**2).sum()) / total
    method = variability(instance.problem, 4)
    state, step = jax.jit(method.init)(jr.key(0)), jax.jit(method.step)
    for t in range(20):
        state, _ = step(jr.key(t), state)
    found = jax.jit(method.estimate)(state)
    captured = volume_metrics.captured_variance(volume_metrics.principal(found, 4), frame(draws))
    assert least < 1 - captured < 1.42 * least
