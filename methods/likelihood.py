"""What the likelihood of (3.5) is made of: images of all (component, pose), and their distances to observations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cryosip.methods.pairwise import FEW_PIXELS
from cryosip.methods.problem import Points, Pose, Problem


def squared_residuals(y: Float[Array, "m p"], images: Float[Array, "k p"]) -> Float[Array, "m k"]:
    """|y_i - x_k|^2, for many pixels from the Gram product of centred data, at highest precision."""
    if y.shape[1] <= FEW_PIXELS:
        return sum(((y[:, i, None] - images[:, i]) ** 2 for i in range(y.shape[1])), jnp.zeros(()))
    center = y.mean(0)  # of the data: a component far away must not spoil the others
    y, images = y - center, images - center
    gram = jnp.matmul(y, images.T, precision="highest")
    return jnp.maximum((y**2).sum(1)[:, None] + (images**2).sum(1) - 2 * gram, 0.0)


def render_all(problem: Problem, theta: Points, pose: Pose, n_poses: int) -> Float[Array, "kq p"]:
    """H^{omega_q} G(theta_k) for all k and q; row k * n_poses + q."""
    poses = jax.tree.map(lambda a: jnp.tile(a, (len(theta),) + (1,) * (a.ndim - 1)), pose)
    return problem.render(jnp.repeat(theta, n_poses, axis=0), poses)
