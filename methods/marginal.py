"""The likelihood of every observation at any structure, noise and poses integrated out, and its derivatives."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.data import datum
from cryosip.methods.gauss_newton import PairLikelihood, no_prior, pair_hessian
from cryosip.methods.likelihood import (
    TILE,
    by_blocks,
    initial_spread,
    of_all_pairs,
    render_all,
    squared_residuals,
)
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Points, Problem, Weights, in_span
from cryosip.methods.stored import in_memory

LEAST = -1e30  # in the place of log 0, which has no derivative
LEAST_WEIGHT = 1e-7  # of a particle that only searches

Scalar = Float[Array, ""]
LogP = Float[Array, "k m"]
Score = Float[Array, "k m d"]
Curvature = Float[Array, "k d d"]


class Marginal(NamedTuple):
    """log p(y_i | theta_k) up to a constant of i, pose and noise integrated out, and its derivatives.

    `log_p` takes theta (k, d) to (k, m); `score` to the same and its slopes (k, m, d); `curvature(theta, mass)` is the
    second derivative (k, d, d) of sum_i mass_ki log p(y_i | theta_k), of images as if they were linear close to theta,
    as Gauss and Newton do. `renders` is how many images, or pairs whose likelihood is given, `log_p` takes for each
    structure, and `per_axis` how many times as many derivatives take for each coordinate of theta; `block` are the
    structures that all these are to be given at a time.
    """

    log_p: Callable[[Points], LogP]
    score: Callable[[Points], tuple[LogP, Score]]
    curvature: Callable[[Points, LogP], Curvature]
    renders: int
    per_axis: int
    block: int


class Variation(NamedTuple):
    """What moves a distribution up its likelihood, at each of its points.

    `share` (k, m) is p(y_i | theta_k) / f(y_i), at most 1 / LEAST_WEIGHT, `score` (k, m, d) the slope of
    log p(y_i | theta_k), `curvature` (k, d, d) the second derivative of D(theta) = mean_i p(y_i | theta) / f(y_i) at
    theta_k, and `log_f` (m,) that of f = sum_k w_k p(. | theta_k).
    """

    share: LogP
    score: Score
    curvature: Curvature
    log_f: Float[Array, " m"]


def marginal(problem: Problem, quadrature_order: int = 1) -> Marginal:
    """p(y_i | theta): that of the problem where it offers one, else the inner integral of (3.5) over the pose
    quadrature, in the span where there is one."""
    if problem.log_likelihood is None:
        problem = in_span(problem)
        in_memory(problem.observations, "weighted-flow by implicit steps")
        return _of_images(problem, quadrature_order)
    return _offered(problem.log_likelihood, len(problem.observations), initial_spread(problem))


def _offered(given: PairLikelihood, m: int, spread: Float[Array, " d"]) -> Marginal:
    """From gradients of pairs alone, which any likelihood has."""
    image = jnp.arange(m)

    def score(theta: Points) -> tuple[LogP, Score]:
        def of_pairs(theta: Points, image: Int[Array, " e"]) -> tuple[Float[Array, " e"], Float[Array, "e d"]]:
            rows, pull_back = jax.vjp(lambda t: given(t, image), theta)
            return rows, pull_back(jnp.ones_like(rows))[0]

        rows, slopes = of_all_pairs(of_pairs, theta, image)
        possible = rows > LEAST
        return jnp.where(possible, rows, LEAST), jnp.where(possible[..., None], slopes, 0.0)

    def log_p(theta: Points) -> LogP:
        rows = of_all_pairs(given, theta, image)
        return jnp.where(rows > LEAST, rows, LEAST)

    def curvature(theta: Points, mass: LogP) -> Curvature:
        k = len(theta)
        owner = jnp.repeat(jnp.arange(k), m)
        found = pair_hessian(given, jnp.tile(image, k), owner, mass.ravel(), no_prior, theta, spread)
        return jnp.where(jnp.isfinite(found), found, 0.0)  # a difference may reach to where nothing is possible

    return Marginal(log_p, score, curvature, m, 2, max(1, TILE // m))


def _of_images(problem: Problem, quadrature_order: int) -> Marginal:
    """By linearised images."""
    m = len(problem.observations)
    pose, pose_weights = problem.pose_quadrature(quadrature_order)
    q = len(pose_weights)

    def images(theta: Points) -> Float[Array, "kq p"]:
        return render_all(problem, theta, pose, q)

    def of_images(x: Float[Array, "kq p"]) -> LogP:
        precision = datum(0.5 / problem.noise_std**2, x.dtype)
        logits = -precision * squared_residuals(x, problem.observations)
        return jax.nn.logsumexp(logits.reshape(-1, q, m), axis=1, b=pose_weights[:, None])

    def near(center: Points) -> Callable[[Points], LogP]:
        clean, push = jax.linearize(images, center)
        return lambda theta: of_images(clean + push(theta - center))

    def score(theta: Points) -> tuple[LogP, Score]:
        rows, push = jax.linearize(near(theta), theta)
        return rows, jnp.stack([push(axis) for axis in _axes(theta)], axis=-1)

    def curvature(theta: Points, mass: LogP) -> Curvature:
        log_p = near(theta)
        slope = jax.grad(lambda theta: (mass * log_p(theta)).sum())
        return jnp.stack([jax.jvp(slope, (theta,), (axis,))[1] for axis in _axes(theta)], axis=-1)

    return Marginal(lambda theta: of_images(images(theta)), score, curvature, q, 1, max(1, TILE // (m * q)))


def _axes(theta: Points) -> list[Points]:
    """One of length 1 in each coordinate."""
    return [jnp.zeros_like(theta).at[:, j].set(1.0) for j in range(theta.shape[1])]


def to_the_power(of: Marginal, power: Scalar) -> Marginal:
    """Of noise that is wider: power * log p."""

    def score(theta: Points) -> tuple[LogP, Score]:
        rows, slopes = of.score(theta)
        return power * rows, power * slopes

    return of._replace(
        log_p=lambda theta: power * of.log_p(theta),
        score=score,
        curvature=lambda theta, mass: power * of.curvature(theta, mass),
    )


def log_p(of: Marginal, theta: Points) -> LogP:
    """The same for any number of structures."""
    return by_blocks(of.log_p, of.block, theta)


def mixed(rows: LogP, weights: Weights) -> Float[Array, " m"]:
    """log f(y_i) = log sum_k w_k p(y_i | theta_k), from log p."""
    return jax.nn.logsumexp(rows, axis=0, b=weights[:, None])


def negative_log_likelihood(of: Marginal, law: WeightedPoints) -> Scalar:
    """-(1/M) sum_i log sum_k w_k p(y_i | theta_k)."""
    return -mixed(log_p(of, jnp.asarray(law.theta)), jnp.asarray(law.weights)).mean()


def variation(of: Marginal, theta: Points, weights: Weights) -> Variation:
    """All that a step of second order needs."""
    rows, score = by_blocks(of.score, of.block, theta)
    log_f = mixed(rows, weights)
    # at most that of a structure which alone explains an observation: without weight it is not in f, and has no bound
    share = jnp.exp(jnp.minimum(rows - log_f, -jnp.log(LEAST_WEIGHT)))
    return Variation(share, score, by_blocks(partial(_second, of), of.block, theta, share, score), log_f)


def ratio_curvature(of: Marginal, log_f: Float[Array, " m"], theta: Points) -> tuple[Points, Curvature]:
    """The slope of D(theta) = mean_i p(y_i | theta) / f(y_i) at each theta, and its second derivative."""
    rows, score = of.score(theta)
    share = jnp.exp(rows - log_f)
    return (share[..., None] * score).mean(1), _second(of, theta, share, score)


def _second(of: Marginal, theta: Points, share: LogP, score: Score) -> Curvature:
    """The second derivative of D: mean_i share_i (score_i score_i^T + that of log p_i)."""
    mass = share / share.shape[1]
    return of.curvature(theta, mass) + jnp.einsum("km,kmi,kmj->kij", mass, score, score, precision="highest")
