"""A protein whose structures are whole volumes: theta is a density, of which nothing is known but its images."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.instance import Instance
from cryosip.datasets.volume_frame import embedded, frame
from cryosip.methods.problem import (
    Coefficients,
    Coordinates,
    Images,
    Points,
    Pose,
    PRNGKey,
    Problem,
    Span,
    Volumes,
    Weights,
)

PAIRS_AT_A_TIME = 64  # volumes whose transforms are held
FRAME_KEY, INIT_KEY = 1008, 1009  # fold_in numbers of the seed's key
FRAME_DRAWS, INIT_DRAWS = 1_500, 200
ALL_BUT, MOST_COMPONENTS = 1 - 1e-6, 100


def of_volumes(instance: Instance) -> Instance:
    """The same observations, with the coefficients of the density as theta, (2.1) with G the identity [sanchez2025].

    H^omega is then linear: a projection, up to the interpolation of its slices. The initial distribution is that of the
    densities of structures, and `log_prior` the Gaussian with its mean and, in each shell, its variance. Distributions
    are compared by the L2 distance of volumes: `identifiable` gives coordinates in the leading principal components of
    the truth, and the distance from their span. Distances from the truth are the same there.
    """
    problem, truth, volume = instance.problem, instance.truth, instance.volume
    offered, span = problem.volumes, problem.span
    if offered is None or span is None or volume is None:
        raise ValueError(f"problem {problem.name!r} offers no volumes; wanted a volume_size")
    coordinates = jax.jit(partial(of_pairs, offered), inline=True)
    blank = jnp.zeros((1, problem.observations.shape[1]), problem.observations.dtype)

    def sample_init(key: PRNGKey, n: int) -> Points:
        return volume(problem.sample_init(key, n))

    def sample(key: PRNGKey, n: int) -> Points:
        return volume(truth.sample(key, n))

    def render(theta: Points, pose: Pose) -> Images:
        return pixels(span, blank, coordinates(theta, pose))

    # so nearly all that what draws have outside changes no distance
    within = frame(np.asarray(sample(jr.key(FRAME_KEY), FRAME_DRAWS)), ALL_BUT, MOST_COMPONENTS)
    whole = Problem(
        name=f"{problem.name}-volumes",
        observations=problem.observations,
        noise_std=problem.noise_std,
        render=render,
        sample_pose=problem.sample_pose,
        pose_quadrature=problem.pose_quadrature,
        sample_init=sample_init,
        log_prior=log_gaussian(offered, sample_init(jr.key(INIT_KEY), INIT_DRAWS)),
        span=Span(span.project, coordinates, 0.0),
        pose_motion=problem.pose_motion,
        volumes=offered,
        poses=problem.poses,
    )
    drawn = truth._replace(sample=sample, theta=volume(truth.theta), identifiable=partial(embedded, within))
    if truth.states is not None:
        drawn = drawn._replace(states=volume(jnp.asarray(truth.states, drawn.theta.dtype)))
    return Instance(whole, drawn, volume=lambda theta: theta)


def of_pairs(offered: Volumes, theta: Points, pose: Pose) -> Coordinates:
    """Volume i in pose i."""

    def one(pair: tuple[Coefficients, Pose]) -> Float[Array, " r"]:
        return offered.project(pair[0], jax.tree.map(lambda a: a[None], pair[1]))[0]

    return jax.lax.map(one, (theta, pose), batch_size=PAIRS_AT_A_TIME)


def pixels(span: Span, blank: Float[Array, "1 p"], coordinates: Coordinates) -> Images:
    """The images in the span with these coordinates: B c, the transpose of B^T y."""

    def row(c: Float[Array, " r"]) -> Float[Array, " p"]:
        return jax.linear_transpose(span.project, blank.astype(c.dtype))(c[None])[0][0]

    return jax.vmap(row)(coordinates)


def log_gaussian(offered: Volumes, drawn: Points) -> Callable[[Points], Weights]:
    """log N(theta; mean, variance of the shell), up to a constant, of draws of the initial distribution."""
    mean, variance = drawn.mean(0), drawn.var(0)
    counts = jnp.bincount(offered.shells, length=offered.size)
    of_shell = jnp.bincount(offered.shells, variance, length=offered.size) / jnp.maximum(counts, 1)
    precision = 1 / jnp.maximum(of_shell, 1e-6 * of_shell.max())[offered.shells]
    return lambda theta: -0.5 * ((theta - mean) ** 2 * precision).sum(1)
