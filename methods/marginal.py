"""The likelihood of every observation at any structure, noise and poses integrated out, and its derivatives."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cryosip.methods.data import datum
from cryosip.methods.likelihood import TILE, by_blocks, render_all, squared_residuals
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Points, Problem, Weights, in_span

LEAST = -1e30  # in the place of log 0, which has no derivative

Scalar = Float[Array, ""]
LogP = Float[Array, "k m"]


class Marginal(NamedTuple):
    """log p(y_i | theta_k) up to a constant of i, pose and noise integrated out.

    `log_p` takes theta (k, d) to (k, m). `near(theta)` is the same close to theta, with derivatives of second order: as
    if images were linear there, as Gauss and Newton do, where it is made of images. `renders` is how many images it
    makes for each structure; `block` are the structures that it is to be given at a time.
    """

    log_p: Callable[[Points], LogP]
    near: Callable[[Points], Callable[[Points], LogP]]
    renders: int
    block: int


class Variation(NamedTuple):
    """What moves a distribution up its likelihood, at each of its points.

    `share` (k, m) is p(y_i | theta_k) / f(y_i), `score` (k, m, d) the slope of log p(y_i | theta_k), `curvature`
    (k, d, d) the second derivative of D(theta) = mean_i p(y_i | theta) / f(y_i) at theta_k, and `log_f` (m,) that of
    f = sum_k w_k p(. | theta_k).
    """

    share: LogP
    score: Float[Array, "k m d"]
    curvature: Float[Array, "k d d"]
    log_f: Float[Array, " m"]


def marginal(problem: Problem, quadrature_order: int = 1) -> Marginal:
    """p(y_i | theta): that of the problem where it offers one, else the inner integral of (3.5) over the pose
    quadrature, in the span where there is one."""
    m = len(problem.observations)
    given = problem.log_likelihood
    if given is not None:

        def offered(theta: Points) -> LogP:
            k = len(theta)
            pairs = given(jnp.repeat(theta, m, axis=0), jnp.tile(jnp.arange(m), k)).reshape(k, m)
            return jnp.where(pairs > LEAST, pairs, LEAST)

        return Marginal(offered, lambda _theta: offered, m, max(1, TILE // m))
    problem = in_span(problem)
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

    return Marginal(lambda theta: of_images(images(theta)), near, q, max(1, TILE // (m * q)))


def to_the_power(of: Marginal, power: Scalar) -> Marginal:
    """Of noise that is wider: power * log p."""

    def near(center: Points) -> Callable[[Points], LogP]:
        log_p = of.near(center)
        return lambda theta: power * log_p(theta)

    return of._replace(log_p=lambda theta: power * of.log_p(theta), near=near)


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
    """All that a step of second order needs; `log_p` is computed twice, and differentiated."""
    d = theta.shape[1]
    axes = [jnp.zeros_like(theta[:1]).at[:, j].set(1.0) for j in range(d)]

    def first(theta: Points) -> tuple[LogP, Float[Array, "k m d"]]:
        rows, push = jax.linearize(of.near(theta), theta)
        return rows, jnp.stack([push(jnp.broadcast_to(axis, theta.shape)) for axis in axes], axis=-1)

    rows, score = by_blocks(first, of.block, theta)
    log_f = mixed(rows, weights)

    def second(theta: Points) -> Float[Array, "k d d"]:
        return ratio_curvature(of, log_f, theta)[1]

    return Variation(jnp.exp(rows - log_f), score, by_blocks(second, of.block, theta), log_f)


def ratio_curvature(of: Marginal, log_f: Float[Array, " m"], theta: Points) -> tuple[Points, Float[Array, "k d d"]]:
    """The slope of D(theta) = mean_i p(y_i | theta) / f(y_i) at each theta, and its second derivative."""
    near = of.near(theta)
    slope = jax.grad(lambda t: jnp.exp(near(t) - log_f).mean(1).sum())
    axes = [jnp.zeros_like(theta).at[:, j].set(1.0) for j in range(theta.shape[1])]
    at = [jax.jvp(slope, (theta,), (axis,)) for axis in axes]
    return at[0][0], jnp.stack([curvature for _, curvature in at], axis=-1)
