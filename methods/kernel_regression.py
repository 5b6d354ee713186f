"""Volumes at points among latent coordinates: least squares over the images near each."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cryosip.methods.latents import Latents, Posteriors
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Coefficients
from cryosip.methods.volumes import Views, by_shell, consensus, in_halves, shrunk

N_POINTS = 20
LEAST_IMAGES = 25  # within the narrowest kernel, in each half
LLOYD_STEPS = 20


def at_representatives(seen: Views, found: Posteriors, z: Latents, weights: Float[Array, " m"]) -> WeightedPoints:
    """The volumes at as many as 20 points that stand for weighted z, and their weights."""
    centers, shares = representatives(z, weights, min(N_POINTS, len(z)))
    precision = jnp.linalg.inv(found.covariance)

    def at_point(center: Float[Array, " q"]) -> Coefficients:
        away = found.mean - center
        return regressed(seen, jnp.einsum("mq,mqp,mp->m", away, precision, away, precision="highest"))

    return WeightedPoints(jax.lax.map(at_point, centers), shares)


def regressed(seen: Views, squares: Float[Array, " m"]) -> Coefficients:
    """The volume at a point from which images have these squared distances d_i^2, by kernel regression [gilles2025].

    V minimises sum_i K(d_i / h) |y_i - P_i V|^2, K(u) = max(0, 1 - u^2) of Epanechnikov. Of half a of the images V_a(h)
    is found for widths h that take in all of them, half of them, and so on. In each shell h is where
    |V_1(h) - V_2(l)|^2 + |V_2(h) - V_1(l)|^2 is least, l the narrowest: its bias is small, and its noise is of other
    images. What comes of both halves is `shrunk`.
    """
    m, n_shells, shells = len(seen.y), seen.n_shells, seen.volumes.shells
    shares = kernels(squares, counts(m // 2))
    both = jnp.einsum("mh,mhw->mhw", in_halves(seen), shares).reshape(m, -1)
    found = consensus(seen, both).reshape(2, -1, len(shells))
    errors = by_shell(shells, n_shells, (found - found[::-1, -1:]) ** 2).sum(0)
    best = jnp.argmin(errors, axis=0)[shells]
    one, other = jnp.take_along_axis(found, best[None, None], axis=1)
    return shrunk(seen, one, other)[0]


def counts(most: int) -> list[int]:
    """Of images within each kernel, the widest first."""
    return [most >> j for j in range(most.bit_length()) if j == 0 or most >> j >= LEAST_IMAGES]


def kernels(squares: Float[Array, " m"], n_within: list[int]) -> Float[Array, "m 2 w"]:
    """K(d_i / h) with so many images of each half within h; the last of them has the weight 0."""
    reach = jnp.stack([jnp.sort(squares[h::2])[jnp.asarray(n_within) - 1] for h in (0, 1)])
    return jnp.maximum(1 - squares[:, None, None] / jnp.maximum(reach, jnp.finfo(squares.dtype).tiny), 0.0)


def representatives(z: Latents, weights: Float[Array, " m"], k: int) -> tuple[Float[Array, "k q"], Float[Array, " k"]]:
    """Means of k clusters of weighted points, and the weight of each, by Lloyd's steps [lloyd1982].

    They begin from points at even shares of the weight along the first coordinate.
    """
    order = jnp.argsort(z[:, 0])
    places = jnp.searchsorted(jnp.cumsum(weights[order]), weights.sum() * (jnp.arange(k) + 0.5) / k)
    start = z[order[jnp.minimum(places, len(z) - 1)]]

    def members(centers: Float[Array, "k q"]) -> Float[Array, "m k"]:
        squares = ((z[:, None] - centers) ** 2).sum(2)
        return weights[:, None] * jax.nn.one_hot(jnp.argmin(squares, axis=1), k, dtype=z.dtype)

    def step(_: Array, centers: Float[Array, "k q"]) -> Float[Array, "k q"]:
        member = members(centers)
        total = member.sum(0)[:, None]
        means = jnp.matmul(member.T, z, precision="highest") / jnp.maximum(total, jnp.finfo(z.dtype).tiny)
        return jnp.where(total > 0, means, centers)

    centers = jax.lax.fori_loop(0, LLOYD_STEPS, step, start)
    return centers, members(centers).sum(0) / weights.sum()
