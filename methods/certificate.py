"""How far an estimate can be from the largest likelihood of all distributions: its duality gap."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.methods import checks
from cryosip.methods.data import datum
from cryosip.methods.marginal import Marginal, log_p, marginal, mixed, ratio_curvature
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Points, Problem, Weights

NODES = {1: 2_000, 2: 2_500}  # of the grid, by dimension
STARTS = 1_000  # of the search in more dimensions
REFINED = 32  # of the highest nodes, from which the search goes on
NEWTON_STEPS = 12

Heights = Float[Array, " k"]


class Gap(NamedTuple):
    """max D - 1, where it is attained (d,), and whether a grid has covered the box: else the maximum may be higher."""

    value: float
    theta: np.ndarray
    covered: bool


def duality_gap(problem: Problem, estimate: WeightedPoints, quadrature_order: int = 1) -> Gap:
    """max over theta in theta_box of D(theta) - 1, D(theta) = (1/M) sum_i p(y_i | theta) / f(y_i): a certificate.

    The mean log-likelihood of no distribution on the box exceeds that of the estimate, f = sum_k w_k p(. | theta_k), by
    more; it is 0 at the nonparametric maximum likelihood estimate alone [lindsay1983].

    Parameters
    ----------
    problem
        Whose `log_likelihood` is taken, else the inner integral of (3.5).
    estimate
        Points (k, d) with weights (k,).
    quadrature_order
        Of the pose quadrature; 1 by default, the coarsest that methods use.

    Returns
    -------
    Gap
        In one and two dimensions from a grid of the box, in which the highest nodes are refined by Newton's method. In
        more it is a lower bound, from many starts, the points of the estimate among them.

    Raises
    ------
    ValueError
        The problem has no `theta_box`.
    """
    theta, weights = (jnp.asarray(a) for a in estimate)
    height, place = jax.jit(largest_ratio(problem, quadrature_order))(theta, weights)
    return Gap(float(height) - 1, np.asarray(place), theta.shape[1] in NODES)


def largest_ratio(
    problem: Problem, quadrature_order: int = 1
) -> Callable[[Points, Weights], tuple[Float[Array, ""], Float[Array, " d"]]]:
    """max D and where it is attained, as a function of theta (k, d) and weights (k,) that can be compiled."""
    if problem.theta_box is None:
        raise ValueError(f"problem {problem.name!r} has no theta_box; wanted one, in which to look for the maximum")
    lower, upper = problem.theta_box
    of = marginal(problem, checks.positive_int("quadrature_order", quadrature_order))
    nodes = jnp.asarray(_nodes(np.asarray(lower), np.asarray(upper)), jnp.asarray(lower).dtype)

    def largest(theta: Points, weights: Weights) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        log_f = mixed(log_p(of, theta), weights)
        starts = jnp.concatenate([nodes, theta]).clip(lower, upper)
        chosen = starts[jnp.argsort(-ratio(of, log_f, starts))[:REFINED]]
        found, heights = climbed(of, log_f, chosen, lower, upper)
        return heights.max(), found[heights.argmax()]

    return largest


def ratio(of: Marginal, log_f: Float[Array, " m"], theta: Points) -> Heights:
    """D at each theta."""
    return jnp.exp(log_p(of, theta) - log_f).mean(1)


def climbed(
    of: Marginal, log_f: Float[Array, " m"], theta: Points, lower: Float[Array, " d"], upper: Float[Array, " d"]
) -> tuple[Points, Heights]:
    """Local maxima of D within the box, by Newton steps that are halved until they climb."""

    def step(_: Array | int, carry: tuple[Points, Heights]) -> tuple[Points, Heights]:
        theta, height = carry
        slope, curvature = ratio_curvature(of, log_f, theta)
        values, vectors = jnp.linalg.eigh(curvature)
        size = jnp.maximum(jnp.abs(values), datum(1e-6, theta.dtype) * jnp.abs(values).max(1, keepdims=True))
        along = jnp.einsum("kji,kj->ki", vectors, slope) / jnp.maximum(size, jnp.finfo(theta.dtype).tiny)
        move = jnp.einsum("kij,kj->ki", vectors, along)
        for length in (1.0, 0.25, 0.05):
            trial = (theta + length * move).clip(lower, upper)
            higher = ratio(of, log_f, trial)
            climbs = higher > height
            theta, height = jnp.where(climbs[:, None], trial, theta), jnp.where(climbs, higher, height)
        return theta, height

    return jax.lax.fori_loop(0, NEWTON_STEPS, step, (theta, ratio(of, log_f, theta)))


def _nodes(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """A grid, corners included, or in more than two dimensions points drawn evenly."""
    d = len(lower)
    if d not in NODES:
        return lower + (upper - lower) * np.random.default_rng(0).random((STARTS, d))
    axes = [np.linspace(low, high, round(NODES[d] ** (1 / d))) for low, high in zip(lower, upper, strict=True)]
    return np.array(list(itertools.product(*axes)))
