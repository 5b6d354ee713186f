"""Volumes as smooth functions on a graph of images: Laplacian spectral volumes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.sparse.linalg import lobpcg_standard
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.latents import likelihoods, posteriors
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import PRNGKey, Problem
from cryosip.methods.variability import VariabilityState, variability
from cryosip.methods.volumes import Maps, least_squares, views, white

N_ITERATIONS = 5  # of conjugate gradients in each step
EIGEN_STEPS = 100
EIGEN_KEY = 0


class SpectralState(NamedTuple):
    """3D variability so far; eigenvectors on the graph, once it is there; a volume for each; and the steps taken."""

    variability: VariabilityState
    eigenvectors: Float[Array, "m r"]
    maps: Maps
    n_steps: Int[Array, ""]


def spectral_volumes(
    problem: Problem,
    n_components: int = 4,
    n_eigenvectors: int = 5,
    n_neighbours: int = 15,
    variability_steps: int = 20,
) -> Method:
    """V_i = sum_r phi_r(i) A_r, phi_r the smoothest functions on a graph of images, as Laplacian spectral volumes.

    The first steps are those of `variability`. Then images that are near in its coordinates z are joined, each to its
    nearest, with weights exp(-|z_i - z_j|^2 / h_i h_j), h the distance of the furthest that is joined; phi_r are the
    eigenvectors of the graph Laplacian I - D^-1 W with the lowest eigenvalues. The steps that follow solve for the A_r
    by least squares [moscovich2020].

    As in the original: the graph, the eigenvectors, one least-squares problem. Not: the graph is of coordinates of
    3D variability, where theirs was of low-resolution volumes; variances of A_r are held to that of the mean.

    Parameters
    ----------
    problem
        The problem; its theta are volumes, and it gives poses.
    n_components
        Of `variability`; 4 by default.
    n_eigenvectors
        r; 5 by default, the constant one and as many as there are components.
    n_neighbours
        15 by default, fewer than images.
    variability_steps
        20 by default.

    Returns
    -------
    Method
        Its estimate is theta (m, v), the volume of each image, with equal weights.

    Raises
    ------
    ValueError
        A count is below 1, there are as many neighbours or eigenvectors as images, or the problem has no volumes or no
        poses.
    """
    first = variability(problem, n_components)
    r = checks.positive_int("n_eigenvectors", n_eigenvectors)
    k = checks.positive_int("n_neighbours", n_neighbours)
    warm = checks.positive_int("variability_steps", variability_steps)
    seen = views(problem, "spectral-volumes")
    m, dtype = len(seen.y), seen.y.dtype
    if max(k, 5 * r) >= m:
        raise ValueError(
            f"n_neighbours is {k} and n_eigenvectors {r} with {m} images; wanted fewer than these, and a fifth of them"
        )
    noise, identity = white(seen), jnp.eye(n_components, dtype=dtype)

    def init(key: PRNGKey) -> SpectralState:
        state = first.init(key)
        return SpectralState(
            state, jnp.zeros((m, r), dtype), jnp.zeros((r, len(state.mean)), dtype), jnp.zeros((), int)
        )

    def vary(key: PRNGKey, state: SpectralState) -> tuple[SpectralState, Info]:
        found, info = first.step(key, state.variability)
        return state._replace(variability=found), info

    def join(_key: PRNGKey, state: SpectralState) -> tuple[SpectralState, Info]:
        now = state.variability
        told = likelihoods(seen, noise, now.mean, now.maps)
        phi = smoothest(posteriors(told, identity).mean, k, r)
        # the constant one comes first: its volume begins as the mean
        maps = state.maps.at[0].set(now.mean / phi[:, 0].mean())
        return fit(_key, state._replace(eigenvectors=phi, maps=maps))

    def fit(_key: PRNGKey, state: SpectralState) -> tuple[SpectralState, Info]:
        phi = state.eigenvectors
        prior = jnp.broadcast_to(state.variability.prior, (r, seen.n_shells))
        targets, products = phi.T[:, :, None] * seen.y, phi[:, :, None] * phi[:, None]
        found = least_squares(seen, targets, products, noise, prior, state.maps, N_ITERATIONS)
        return state._replace(maps=found.maps), Info(found.residual, jnp.asarray(m * r * (2 * N_ITERATIONS + 5)))

    def step(key: PRNGKey, state: SpectralState) -> tuple[SpectralState, Info]:
        phase = (state.n_steps >= warm).astype(int) + (state.n_steps > warm)
        state, info = jax.lax.switch(phase, [vary, join, fit], key, state)
        return state._replace(n_steps=state.n_steps + 1), info

    def per_image(state: SpectralState) -> Float[Array, "m v"]:
        begun = state.n_steps > warm
        spectral = jnp.matmul(state.eigenvectors, seen.volumes.in_ball(state.maps), precision="highest")
        assert first.per_image is not None
        return jnp.where(begun, spectral, first.per_image(state.variability))

    def estimate(state: SpectralState) -> WeightedPoints:
        return WeightedPoints(per_image(state), jnp.full(m, 1 / m, dtype))

    return Method(init, step, estimate, per_image)


def smoothest(z: Float[Array, "m q"], n_neighbours: int, n_eigenvectors: int) -> Float[Array, "m r"]:
    """Eigenvectors of D^-1 W with the largest eigenvalues, W of the nearest points, each of mean square 1."""
    m = len(z)
    scaled = z / jnp.maximum(z.std(0), jnp.finfo(z.dtype).tiny)
    norms = (scaled**2).sum(1)
    squares = jnp.maximum(norms[:, None] + norms - 2 * jnp.matmul(scaled, scaled.T, precision="highest"), 0.0)
    nearest, places = jax.lax.top_k(-squares, n_neighbours + 1)
    reach = jnp.sqrt(jnp.maximum(-nearest[:, -1], jnp.finfo(z.dtype).tiny))
    near = jnp.exp(nearest / (reach[:, None] * reach[places]))
    one_way = jnp.zeros((m, m), z.dtype).at[jnp.arange(m)[:, None], places].set(near)
    joined = jnp.maximum(one_way, one_way.T)
    root = jnp.sqrt(joined.sum(1))
    symmetric = joined / root[:, None] / root
    start = jax.random.normal(jax.random.key(EIGEN_KEY), (m, n_eigenvectors), z.dtype).at[:, 0].set(root)
    # the spectrum is in [-1, 1]
    shifted = symmetric + jnp.eye(m, dtype=z.dtype)
    _, vectors, _ = lobpcg_standard(shifted, start, EIGEN_STEPS)
    # of D^-1 W, whose first is constant
    functions = vectors / root[:, None]
    functions = functions.at[:, 0].multiply(jnp.sign(functions[:, 0].sum()))
    return functions / jnp.sqrt((functions**2).mean(0))
