"""Fig. 8: noisy images from one direction, along the two directions in which those of the truth vary most."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.bench.image_distances import drawn
from cryosip.datasets.instance import Instance
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Points

COMPONENTS = 2


def principal_components(
    instance: Instance, initial: WeightedPoints, estimate: WeightedPoints, key: jax.Array
) -> dict[str, np.ndarray]:
    """beta_1, beta_2 of noisy images of the truth, the initial law and the estimate, each (n, 2), all in one pose.

    The pose is that behind the first observation; the axes are the principal components of images of the truth.
    """
    problem = instance.problem
    n = len(problem.observations)
    pose = jax.tree.map(lambda a: jnp.broadcast_to(a[:1], (n, *a.shape[1:])), instance.truth.pose)
    render = jax.jit(problem.render)

    def seen(theta: Points, key: jax.Array) -> np.ndarray:
        clean = render(theta, pose)
        return np.asarray(clean + problem.noise_std * jr.normal(key, clean.shape))

    key_truth, key_choice, *keys = jr.split(key, 5)
    true = seen(instance.truth.sample(key_truth, n), keys[0])
    center = true.mean(0)
    axes = np.linalg.svd(true - center, full_matrices=False)[2][:COMPONENTS].T
    clouds = {
        "beta_true": true,
        "beta_init": seen(drawn(initial, n, key_choice), keys[1]),
        "beta_estimated": seen(drawn(estimate, n, key_choice), keys[2]),
    }
    return {name: (images - center) @ axes for name, images in clouds.items()}
