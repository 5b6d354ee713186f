"""What methods that look for whole volumes share: projections in the given poses, and least squares over volumes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.methods.problem import (
    Coefficients,
    Coordinates,
    Points,
    Pose,
    Problem,
    Volumes,
    checked,
    dimensions,
    in_span,
)
from cryosip.methods.stored import in_memory

Maps = Float[Array, "q v"]
Shells = Float[Array, " s"]
SMALLEST_SHARE = 1e-6  # of the largest variance of a shell: no shell is held at 0


class Views(NamedTuple):
    """Images in given poses: y (m, r), their poses, and which shell each coefficient and each coordinate belongs to.

    `project_pairs` takes volume i in pose i. Coordinates whose shell is beyond the volumes' own are seen by none.
    """

    y: Coordinates
    pose: Pose
    volumes: Volumes
    project_pairs: Callable[[Points, Pose], Coordinates]
    noise_std: float
    n_shells: int

    @property
    def inside(self) -> Float[Array, " r"]:
        """1 where volumes have waves, else 0."""
        return (self.volumes.image_shells < self.n_shells).astype(self.y.dtype)


def views(problem: Problem, method: str) -> Views:
    """The images of a problem whose theta are volumes, in the poses that it gives.

    Raises ValueError for problems whose theta are none, and without poses.
    """
    problem = checked(problem)
    if problem.volumes is None or problem.span is None:
        raise ValueError(f"problem {problem.name!r} offers no volumes, for which {method} looks; wanted adk-volumes")
    d, v = dimensions(problem), len(problem.volumes.shells)
    if d != v:
        raise ValueError(
            f"problem {problem.name!r} has theta of {d} numbers, and volumes of {v} coefficients, for which {method} "
            "looks; wanted a problem whose theta are volumes, such as adk-volumes"
        )
    if problem.poses is None:
        raise ValueError(
            f"problem {problem.name!r} gives no poses, which {method} needs; wanted problem.pose_error_in_degrees"
        )
    return in_given_poses(problem)


def in_given_poses(problem: Problem) -> Views:
    """The images of a problem that offers volumes and poses, whatever its theta are.

    Raises ValueError where their coordinates do not fit into memory.
    """
    assert problem.volumes is not None
    inside = in_span(problem)
    in_memory(inside.observations, "a method for volumes")
    n_shells = (problem.volumes.size - 1) // 2 + 1
    return Views(inside.observations, problem.poses, problem.volumes, inside.render, float(problem.noise_std), n_shells)


def project_all(seen: Views, maps: Maps) -> Float[Array, "q m r"]:
    """Each volume, times the ball, in the poses of all images."""
    return jax.vmap(lambda c: seen.volumes.project(c, seen.pose))(seen.volumes.in_ball(maps))


def backproject_all(seen: Views, images: Float[Array, "q m r"]) -> Maps:
    """The transpose of `project_all` for each of q stacks: sum_i P_i^T x_i, times the ball."""
    v = len(seen.volumes.shells)
    blank = jnp.zeros(v, images.dtype)
    transposed = jax.linear_transpose(lambda c: seen.volumes.project(c, seen.pose), blank)
    return seen.volumes.in_ball(jax.vmap(lambda x: transposed(x)[0])(images))


def by_shell(shells: Int[Array, " v"], n_shells: int, values: Float[Array, "... v"]) -> Float[Array, "... s"]:
    """Sums over the members of each shell; those beyond the last are left out."""
    member = shells[:, None] == jnp.arange(n_shells)
    return jnp.matmul(values, member.astype(values.dtype), precision="highest")


def power(seen: Views, maps: Maps) -> Float[Array, "q s"]:
    """The mean square of the coefficients in each shell, none below a millionth of the largest."""
    shells = seen.volumes.shells
    mean = by_shell(shells, seen.n_shells, maps**2) / by_shell(shells, seen.n_shells, jnp.ones_like(maps[0]))
    return jnp.maximum(mean, SMALLEST_SHARE * mean.max(axis=1, keepdims=True) + jnp.finfo(maps.dtype).tiny)


class Fit(NamedTuple):
    """Volumes; the precision with which the data tell their coefficients, averaged over each shell; and the residual of
    the normal equations relative to their right-hand side.
    """

    maps: Maps
    precision: Float[Array, "q s"]
    residual: Float[Array, ""]


def least_squares(
    seen: Views,
    targets: Float[Array, "q m r"],
    products: Float[Array, "m q q"] | Float[Array, "m q"],
    noise: Shells,
    prior: Float[Array, "q s"],
    start: Maps,
    n_iterations: int,
) -> Fit:
    """argmin over V_1 ... V_q of sum_i E|y_i - P_i sum_k c_ik V_k|^2 / sigma_s^2 + sum_k |V_k|^2 / tau_ks^2.

    Class averages, principal volumes and kernel regressions all are this. Conjugate gradients, whose preconditioner is
    the diagonal of the normal equations, averaged over each shell; no iteration raises the sum.

    Parameters
    ----------
    seen
        Images and poses.
    targets
        E[c_ik] y_i.
    products
        E[c_i c_i^T] (m, q, q), or (m, q) where only its diagonal is not 0.
    noise
        sigma_s^2, the variance of the noise in each shell of images.
    prior
        tau_ks^2, the variance of the coefficients of volume k in each shell.
    start
        V_k to begin with.
    n_iterations
        Of conjugate gradients.
    """
    shells, q = seen.volumes.shells, len(start)
    weight = seen.inside / noise[jnp.minimum(seen.volumes.image_shells, seen.n_shells - 1)]
    precision = (1 / prior)[:, shells]
    right = backproject_all(seen, weight * targets)

    first, second = np.triu_indices(q)
    pairs, shares = np.arange(q), products
    if products.ndim == 3:
        pairs = np.zeros((q, q), int)
        pairs[first, second] = pairs[second, first] = np.arange(len(first))
        shares = products[:, first, second]
    whole = seen.volumes.normal(seen.pose, shares, 1 / noise)

    def normal(maps: Maps) -> Maps:
        return seen.volumes.in_ball(whole(pairs, seen.volumes.in_ball(maps))) + precision * maps

    signs = jnp.where(jax.random.bernoulli(jax.random.key(0), shape=start.shape), 1, -1).astype(start.dtype)
    members = by_shell(shells, seen.n_shells, jnp.ones_like(start[0]))
    # of the whole, each map's own block: products of other signs average to 0
    diagonal = by_shell(shells, seen.n_shells, signs * normal(signs)) / members
    scale = 1 / jnp.maximum(diagonal, 1 / prior)[:, shells]
    maps, residual = conjugate_gradients(normal, right, start, scale, n_iterations)
    left = jnp.linalg.norm(residual) / jnp.maximum(jnp.linalg.norm(right), jnp.finfo(right.dtype).tiny)
    return Fit(maps, jnp.maximum(diagonal - 1 / prior, 0.0), left)


def conjugate_gradients(
    apply: Callable[[Maps], Maps], right: Maps, start: Maps, scale: Maps, n_iterations: int
) -> tuple[Maps, Maps]:
    """x with A x = b, A symmetric and positive, and b - A x."""
    residual = right - apply(start)
    direction = scale * residual

    def iterate(_: Array, carry: tuple[Maps, Maps, Maps]) -> tuple[Maps, Maps, Maps]:
        x, r, p = carry
        q, before = apply(p), (r * scale * r).sum()
        bend = (p * q).sum()
        length = jnp.where(bend > 0, before / jnp.where(bend > 0, bend, 1), 0)
        x, r = x + length * p, r - length * q
        after = (r * scale * r).sum()
        return x, r, scale * r + jnp.where(before > 0, after / jnp.where(before > 0, before, 1), 0) * p

    x, residual, _ = jax.lax.fori_loop(0, n_iterations, iterate, (start, residual, direction))
    return x, residual


def white(seen: Views) -> Shells:
    """The variance of the problem's noise, in each shell."""
    return jnp.full(seen.n_shells, seen.noise_std**2, seen.y.dtype)


def flat_prior(seen: Views) -> Shells:
    """So wide that it holds nothing back but what no image sees: ten times the power of images in a coordinate."""
    return jnp.full(seen.n_shells, 10 * (seen.y**2).mean(), seen.y.dtype)


def consensus(seen: Views, shares: Float[Array, "m q"], n_iterations: int = 10) -> Maps:
    """For each of q columns the one volume that explains the images best, each image with its share."""
    targets, prior = shares.T[:, :, None] * seen.y, jnp.broadcast_to(flat_prior(seen), (shares.shape[1], seen.n_shells))
    start = jnp.zeros((shares.shape[1], len(seen.volumes.shells)), seen.y.dtype)
    return seen.volumes.in_ball(least_squares(seen, targets, shares, white(seen), prior, start, n_iterations).maps)


def correlation(seen: Views, one: Maps, other: Maps) -> Float[Array, "q s"]:
    """sum a b / sqrt(sum a^2 sum b^2) over each shell: the Fourier shell correlation of two volumes, from -1 to 1."""
    over = lambda values: by_shell(seen.volumes.shells, seen.n_shells, values)  # noqa: E731
    return over(one * other) / jnp.sqrt(jnp.maximum(over(one**2) * over(other**2), jnp.finfo(one.dtype).tiny))


def in_halves(seen: Views) -> Float[Array, "m 2"]:
    """Every other image, and the rest."""
    return jax.nn.one_hot(jnp.arange(len(seen.y)) % 2, 2, dtype=seen.y.dtype)


def shrunk(seen: Views, one: Maps, other: Maps) -> Maps:
    """The mean of two volumes of halves of the data, each shell times 2 F / (1 + F), F their correlation, none below 0:
    the share of the mean's power that is signal.
    """
    f = jnp.maximum(correlation(seen, one, other), 0.0)
    return 0.5 * (one + other) * (2 * f / (1 + f))[:, seen.volumes.shells]


def filtered_consensus(seen: Views) -> Coefficients:
    """The one volume behind all images, from two halves of them, `shrunk`."""
    one, other = consensus(seen, in_halves(seen))
    return shrunk(seen, one[None], other[None])[0]


def squared_residuals(seen: Views, images: Float[Array, "... m r"]) -> Float[Array, "... m s"]:
    """|y_i - x_i|^2 over each shell."""
    return by_shell(seen.volumes.image_shells, seen.n_shells, (seen.y - images) ** 2)


def image_counts(seen: Views) -> Shells:
    """Coordinates of an image in each shell."""
    return by_shell(seen.volumes.image_shells, seen.n_shells, jnp.ones_like(seen.y[0]))
