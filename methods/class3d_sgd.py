"""Classes of volumes by stochastic gradient descent: random subsets of the images, momentum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from cryosip.methods.classes import FASTEST_FALL, LEAST_NOISE, Class3DState, last_told, log_joint
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import PRNGKey
from cryosip.methods.volumes import (
    Maps,
    Shells,
    Views,
    backproject_all,
    by_shell,
    image_counts,
    power,
    project_all,
    squared_residuals,
)

MOMENTUM = 0.9  # cryoSPARC's, and RELION's
RATE, DECAY = 0.05, 0.6  # of the step that the diagonal alone would take: RELION's; and the power of its decay


class DescentState(NamedTuple):
    """The classes; the velocity of their volumes; and how often an image sees a coefficient of each shell."""

    classes: Class3DState
    velocity: Maps
    sight: Shells


def descent(seen: Views, em: Method, tau2_fudge: float, n_batch: int) -> Method:
    """The classes of `em`, the steps of which are replaced by those of stochastic gradient descent [punjani2017].

    A batch B of b of the m images has shares r_ik by the E step. The objective of EM over m then has the gradient
    g_k = sum_B r_ik P_i^T (P_i V_k - y_i) / (b sigma^2) + V_k / (m T tau_k^2), and its normal equations the diagonal
    D_ks = pi_k a_s / sigma_s^2 + 1 / (m T tau_ks^2), a_s that of the mean P_i^T P_i in the shell, pi_k here at least
    1 / K. In step t U_k <- 0.9 U_k - 0.05 (1 + t)^-0.6 g_k / D_k and V_k <- V_k + U_k. pi_k and sigma_s^2 go towards
    those of the batch by its share b / m, the latter by no more than a half in a pass. In the first pass over the
    images they stay, and classes are random.

    As in cryoSPARC and RELION 3: random batches, momentum, the first rate, RELION's; the gradient is scaled by how
    often data see a frequency; noise is high at first. Not: the rate falls and the size of batches stays, where theirs
    do the opposite; frequencies are scheduled as in EM.
    """
    m, dtype = len(seen.y), seen.y.dtype
    b, counts, shells = min(m, n_batch), image_counts(seen), seen.volumes.shells

    def init(key: PRNGKey) -> DescentState:
        classes = em.init(key)
        return DescentState(classes, jnp.zeros_like(classes.maps), sight(seen))

    def step(key: PRNGKey, state: DescentState) -> tuple[DescentState, Info]:
        key_rows, key_classes = jr.split(key)
        now, k = state.classes, len(state.velocity)
        rows = jr.choice(key_rows, m, (b,), replace=False)
        y, pose = jax.tree.map(lambda a: a[rows], (seen.y, seen.pose))
        batch = seen._replace(y=y, pose=pose)
        images = project_all(batch, now.maps)
        squares = squared_residuals(batch, images)
        joint = log_joint(batch, now, squares)
        at_random = jax.nn.one_hot(jr.randint(key_classes, (b,), 0, k), k, dtype=dtype, axis=0)
        first_pass = now.n_steps * b < m
        shares = jnp.where(first_pass, at_random, jax.nn.softmax(joint, axis=0))
        prior = tau2_fudge * now.prior
        penalty = 0.5 * (now.maps**2 / prior[:, shells]).sum() / m
        objective = penalty - jax.nn.logsumexp(joint, axis=0).mean()

        weight = seen.inside / now.noise[jnp.minimum(seen.volumes.image_shells, seen.n_shells - 1)]
        slope = backproject_all(batch, shares[:, :, None] * weight * (images - y)) / b
        told = now.weights[:, None] * state.sight / now.noise
        # a class of few images takes no longer steps for it: its volume would become noise, and win none
        diagonal = jnp.maximum(told, state.sight / (k * now.noise)) + 1 / (m * prior)
        gradient = slope + now.maps / (m * prior[:, shells])
        rate = RATE / (1.0 + now.n_steps) ** DECAY
        velocity = MOMENTUM * state.velocity - rate * gradient / diagonal[:, shells]
        maps = now.maps + velocity

        fitted = (shares[:, :, None] * squares).sum((0, 1)) / (b * counts)
        least = jnp.maximum(FASTEST_FALL ** (b / m) * now.noise, LEAST_NOISE * seen.noise_std**2)
        pace = jnp.where(first_pass, 0.0, b / m)
        weights = jnp.maximum(now.weights + pace * (shares.mean(1) - now.weights), jnp.finfo(dtype).tiny)
        classes = Class3DState(
            maps,
            weights / weights.sum(),
            jnp.maximum(now.noise + pace * (fitted - now.noise), least),
            power(seen, seen.volumes.in_ball(maps)),
            last_told(m * told * prior),
            now.n_steps + 1,
        )
        return DescentState(classes, velocity, state.sight), Info(objective, jnp.asarray(3 * k * b))

    def per_image(state: DescentState) -> Float[Array, "m v"]:
        assert em.per_image is not None
        return em.per_image(state.classes)

    def estimate(state: DescentState) -> WeightedPoints:
        return em.estimate(state.classes)

    return Method(init, step, estimate, per_image)


def sight(seen: Views) -> Shells:
    """The diagonal of the mean of P_i^T P_i, averaged over each shell: signs are as good as unit vectors."""
    shells = seen.volumes.shells
    signs = jr.rademacher(jr.key(0), (1, len(shells)), seen.y.dtype)
    products = signs * backproject_all(seen, seen.inside * project_all(seen, signs)) / len(seen.y)
    return by_shell(shells, seen.n_shells, products[0]) / by_shell(shells, seen.n_shells, jnp.ones_like(signs[0]))
