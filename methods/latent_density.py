"""The density of latent coordinates on a grid: a penalised deconvolution, its penalty at the knee of the L-curve."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.methods.latents import Latents, Likelihoods, posteriors
from cryosip.methods.problem import Weights

MOST_DIMENSIONS = 2  # in three, few images share a cell
NODES = {1: 64, 2: 32}  # of the grid along each axis
FLAT = 1e-3  # the precision of the prior of leading coordinates, in units of that of the model
LEFT_OUT = 0.1  # of the images, the least certain
SPAN = 0.01, 0.99  # quantiles of coordinates, one bandwidth beyond which the grid ends
PENALTIES = np.logspace(1, -9, 11)  # of squared differences between neighbouring nodes
N_ITERATIONS, STIFFNESS = 200, 1e-3  # of ADMM: the sum is within 1 % of the least where penalties are 1e-5 or more


class Blurred(NamedTuple):
    """Nodes of a grid, the density g of images' estimates there, and the kernel K with g = K f up to noise.

    After the leading coordinates nodes have, in the others, the mean of the images near them.
    """

    nodes: Float[Array, "n q"]
    g: Float[Array, " n"]
    kernel: Float[Array, "n n"]


def density(told: Likelihoods, covariance: Float[Array, "q q"]) -> tuple[Latents, Weights]:
    """Nodes z (n, q) of a grid in the leading coordinates, one or two, and their weights [gilles2025].

    An image alone tells its leading coordinates as N(z_i, S_i), the others having their Gaussian prior. f >= 0
    minimises |K f - g|^2 + alpha |grad f|^2 with g = (1/m) sum_i N(z_i, H), H by Silverman's rule, of which K f =
    (1/m) sum_i N(0, S_i + H) * f is the expectation; alpha is that of 11 at the knee of log |K f - g|^2 over log 1 /
    alpha. The least certain tenth of the images is left out.
    """
    q = len(covariance)
    d = min(q, MOST_DIMENSIONS)
    leading = jnp.arange(q) < d
    precision = jnp.linalg.inv(covariance) * jnp.where(leading[:, None] | leading, FLAT, 1.0)
    found = posteriors(told, precision)
    blurred = observed(found.mean, found.covariance[:, :d, :d])
    fitted, misfits = jax.lax.map(lambda alpha: fit(blurred, d, alpha), jnp.asarray(PENALTIES, found.mean.dtype))
    f = fitted[knee(misfits)]
    return blurred.nodes, f / f.sum()


def observed(z: Latents, errors: Float[Array, "m d d"]) -> Blurred:
    """g and K of the more certain images, as masses of a cell."""
    d, n = errors.shape[1], NODES[errors.shape[1]]
    first = z[:, :d]
    size = jnp.trace(errors / first.var(0), axis1=1, axis2=2)
    share = (size <= jnp.quantile(size, 1 - LEFT_OUT)).astype(z.dtype)
    away = first - share @ first / share.sum()
    spread = jnp.matmul(away.T * share, away, precision="highest") / share.sum()
    bandwidth = spread * (share.sum() * (d + 2) / 4) ** (-2 / (d + 4))
    low, high = jnp.quantile(first, jnp.asarray(SPAN, z.dtype), axis=0)
    margin = jnp.sqrt(jnp.diag(bandwidth))
    low, steps = low - margin, (high - low + 2 * margin) / (n - 1)
    places = on_grid(np.arange(n), d)
    nodes, apart = low + places * steps, on_grid(np.arange(1 - n, n), d) * steps
    share *= steps.prod() / share.sum()

    def near(one: tuple[Array, ...]) -> tuple[Float[Array, " n"], Float[Array, "n k"]]:
        weight, z_i = one
        height = weight * jax.scipy.stats.multivariate_normal.pdf(nodes, z_i[:d], bandwidth)
        return height, height[:, None] * z_i[d:]

    def blur(one: tuple[Array, ...]) -> Float[Array, " p"]:
        weight, error = one
        return weight * jax.scipy.stats.multivariate_normal.pdf(apart, jnp.zeros(d, z.dtype), error + bandwidth)

    g, others = total(near, (share, z))
    kernel = total(blur, (share, errors)).reshape((2 * n - 1,) * d)
    kernel = kernel[tuple(np.moveaxis(places[:, None] - places + n - 1, -1, 0))]
    others /= jnp.maximum(g, jnp.finfo(g.dtype).tiny)[:, None]
    return Blurred(jnp.concatenate([nodes, others], axis=1), g, kernel)


def on_grid(along: Int[np.ndarray, " n"], d: int) -> Int[np.ndarray, "p d"]:
    """The nodes of a grid, the last axis the fastest."""
    return np.stack(np.meshgrid(*[along] * d, indexing="ij"), axis=-1).reshape(-1, d)


def total(of_one: Callable[[Any], Any], images: Any) -> Any:
    """Sums over images, of which one is held at a time."""
    shapes = jax.eval_shape(of_one, jax.tree.map(lambda a: a[0], images))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(lambda sums, one: (jax.tree.map(jnp.add, sums, of_one(one)), None), zero, images)[0]


def fit(blurred: Blurred, d: int, penalty: Float[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """The f >= 0 that minimises |K f - g|^2 + penalty |D f|^2, D the differences of neighbours, and |K f - g|^2.

    By the alternating direction method of multipliers, over-relaxed [boyd2011].
    """
    kernel, n = blurred.kernel, NODES[d]
    differences, eye = np.diff(np.eye(n), axis=0), np.eye(n)
    gram = differences.T @ differences
    rough = gram if d == 1 else np.kron(gram, eye) + np.kron(eye, gram)
    whole = jnp.matmul(kernel.T, kernel, precision="highest") + penalty * rough + STIFFNESS * jnp.eye(len(kernel))
    inverse, right = jnp.linalg.inv(whole), jnp.matmul(kernel.T, blurred.g, precision="highest")

    def iterate(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        f, dual = carry
        free = jnp.matmul(inverse, right + STIFFNESS * (f - dual), precision="highest")
        relaxed = 1.6 * free - 0.6 * f
        f = jnp.maximum(relaxed + dual, 0.0)
        return f, dual + relaxed - f

    zero = jnp.zeros_like(right)
    f, _ = jax.lax.fori_loop(0, N_ITERATIONS, iterate, (zero, zero))
    return f, ((jnp.matmul(kernel, f, precision="highest") - blurred.g) ** 2).sum()


def knee(misfits: Float[Array, " a"]) -> Int[Array, ""]:
    """Where log misfit, over the logarithm of evenly spaced penalties, is furthest below the line between its
    ends [satopaa2011]."""
    height = jnp.log(misfits)
    share = (height - height[-1]) / (height[0] - height[-1])
    return jnp.argmax(1 - jnp.linspace(0, 1, len(misfits)) - share)
