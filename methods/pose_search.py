"""The E-step over structures and poses in two passes, as RELION searches: coarse nodes, then finer ones that matter."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.likelihood import by_blocks, render_all, squared_residuals
from cryosip.methods.problem import Points, Problem, Weights

KEPT_MASS = 0.999  # of each image's responsibilities on the coarse nodes
Scalar = Float[Array, ""]


class Explained(NamedTuple):
    """Images as seen: row e is observation `image` with structure `owner` in pose `node` of the finer quadrature.

    `share` (m * s,) are responsibilities, 0 for rows that fill up; `log_likelihood` the mean over observations; `cut`
    the share of observations of which s coarse candidates hold less than the wanted mass; `n_fine` how many images the
    second pass rendered.
    """

    image: Int[Array, " e"]
    owner: Int[Array, " e"]
    node: Int[Array, " e"]
    share: Float[Array, " e"]
    log_likelihood: Scalar
    cut: Scalar
    n_fine: int


def two_pass(
    problem: Problem, order: int, theta: Points, weights: Weights, sigma: Scalar | float, survivors: int, block: int
) -> Explained:
    """Responsibilities of all (structure, pose) for all observations, on the nodes of `order` + 1 where it matters.

    The first pass takes all nodes of `order` and keeps, for each observation, the fewest (structure, node) that hold
    0.999 of its mass. The second takes the nodes of `order` + 1 that refine these, and keeps as many of them as
    survivors.

    Parameters
    ----------
    problem
        The problem.
    order
        Of the pose quadrature of the first pass.
    theta, weights
        Structures (k, d) and their weights (k,).
    sigma
        The std of the noise, in units of y.
    survivors
        (structure, node) that each pass keeps for an observation at most.
    block
        Images that are rendered at a time.

    Returns
    -------
    Explained
        A row for each observation and each of its best fine nodes.
    """
    coarse, coarse_weights = problem.pose_quadrature(order)
    fine, fine_weights = problem.pose_quadrature(order + 1)
    y, m = problem.observations, len(problem.observations)
    n_coarse, children = len(coarse_weights), len(fine_weights) // len(coarse_weights)
    kept = min(survivors, len(theta) * n_coarse)

    def structure(
        best: tuple[Array, Array, Array], one: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array, Array], None]:
        """The best (structure, node) so far and the mass of all, after one more structure."""
        (logits, place, mass), (number, shape, weight) = best, one
        images = render_all(problem, shape[None], coarse, n_coarse)
        new = jnp.log(weight) + jnp.log(coarse_weights) - 0.5 * squared_residuals(y, images) / sigma**2
        mass = jnp.logaddexp(mass, jax.nn.logsumexp(new, axis=1))
        places = jnp.broadcast_to(number * n_coarse + jnp.arange(n_coarse, dtype=jnp.int32), new.shape)
        top, index = jax.lax.top_k(jnp.concatenate([logits, new], axis=1), kept)
        place = jnp.take_along_axis(jnp.concatenate([place, places], axis=1), index, axis=1)
        return (top, place, mass), None

    nothing = jnp.full((m, kept), -jnp.inf, y.dtype), jnp.zeros((m, kept), jnp.int32), jnp.full(m, -jnp.inf, y.dtype)
    numbers = jnp.arange(len(theta), dtype=jnp.int32)
    (logits, place, mass), _ = jax.lax.scan(structure, nothing, (numbers, theta, weights))
    share = jnp.exp(logits - mass[:, None])
    before = jnp.cumsum(share, axis=1) - share
    matters = before < KEPT_MASS
    cut = (before[:, -1] + share[:, -1] < KEPT_MASS).mean()

    owner = jnp.repeat(place // n_coarse, children, axis=1)
    node = (place % n_coarse)[..., None] * children + jnp.arange(children)
    node = node.reshape(m, -1)
    image = jnp.repeat(jnp.arange(m), kept * children)

    def misfit(image: Array, owner: Array, node: Array) -> Array:
        clean = problem.render(theta[owner], jax.tree.map(lambda a: a[node], fine))
        return ((y[image] - clean) ** 2).sum(1)

    squares = by_blocks(misfit, block, image, owner.ravel(), node.ravel()).reshape(m, -1)
    finer = jnp.log(weights)[owner] + jnp.log(fine_weights)[node] - 0.5 * squares / sigma**2
    finer = jnp.where(jnp.repeat(matters, children, axis=1), finer, -jnp.inf)
    top, index = jax.lax.top_k(finer, min(survivors, finer.shape[1]))
    log_likelihood = jax.nn.logsumexp(finer, axis=1)
    return Explained(
        jnp.repeat(jnp.arange(m), top.shape[1]),
        jnp.take_along_axis(owner, index, axis=1).ravel(),
        jnp.take_along_axis(node, index, axis=1).ravel(),
        jax.nn.softmax(top, axis=1).ravel(),
        log_likelihood.mean(),
        cut,
        squares.size,
    )
