"""The discretized mixture, discretize-then-optimize: Eq. (3.5) by EM or by gradient descent."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.gauss_newton import ascent, gauss_newton
from cryosip.methods.likelihood import render_all, squared_residuals
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Observations, Points, PRNGKey, Problem, Weights, checked, in_span

SOLVERS = ("em", "gradient")
TILE = 2**20  # observations times images at a time
JITTER = 0.1  # of the spread of the initial law, while annealing

Scalar = Float[Array, ""]


class MixtureState(NamedTuple):
    theta: Points
    weights: Weights
    n_steps: Int[Array, ""]
    optimizer: optax.OptState


class Moments(NamedTuple):
    """What the E-step keeps: mean log-likelihood, and for each image (k, q) its mass and its total of observations."""

    log_likelihood: Scalar
    mass: Float[Array, "k q"]
    total: Float[Array, "k q p"]


def mixture(
    problem: Problem,
    n_components: int,
    solver: str = "em",
    optimizer: optax.GradientTransformation | None = None,
    prior_weight: float = 0.0,
    estimate_weights: bool = False,
    anneal: tuple[float, int] | None = None,
    quadrature_order: int = 1,
) -> Method:
    """A mixture of K structures fitted by EM or gradient descent, the objective behind RELION's classes.

    Minimises (3.5) over theta_1 ... theta_K, up to the constant log K [sanchez2025], [kimanius2021]:
    -(1/M) sum_i log sum_k w_k integral exp(-|y_i - H^omega theta_k|^2 / (2 sigma^2)) drho_omega
    - (prior_weight / K) sum_k log rho_p(theta_k), with w_k = 1/K, or estimated.

    "em" takes the expectation over (k, pose), then one Gauss-Newton step on each theta_k, halved until the expected
    log-posterior gains in proportion, so that the objective never rises while sigma stays; "gradient" follows
    `optimizer` (optax; Adam at 1e-2 by default) on the same objective. Estimated weights are those of EM with either
    solver.
    `anneal` = (factor, steps) starts with sigma * factor and lowers it geometrically to sigma within those steps, each
    component pushed at random by a tenth of the initial law's spread so that those that meet can part. Components that
    start far from their share of the data need it: (10, 200) serves the nanocluster. Off by default, as (3.5) is
    printed. `quadrature_order` is handed to the problem's pose quadrature.

    Raises ValueError for counts below 1, unknown solvers, a negative prior weight, an annealing factor below 1, and an
    optimizer given to EM.
    """
    problem = in_span(checked(problem))
    k = checks.positive_int("n_components", n_components)
    checks.one_of("solver", solver, SOLVERS)
    checks.non_negative("prior_weight", prior_weight)
    if solver == "em" and optimizer is not None:
        raise ValueError("optimizer is given with solver 'em'; wanted none, or solver 'gradient'")
    factor, anneal_steps = _annealing(anneal)
    optimizer = optimizer or optax.adam(1e-2)
    pose, pose_weights = problem.pose_quadrature(checks.positive_int("quadrature_order", quadrature_order))
    n_poses = len(pose_weights)
    prior = prior_weight / k
    jitter = JITTER * problem.sample_init(jr.key(0), 1_000).std(0)

    def images(theta: Points) -> Float[Array, "kq p"]:
        return render_all(problem, theta, pose, n_poses)

    def log_prior(theta: Points) -> Weights:
        return prior * problem.log_prior(theta)

    def init(key: PRNGKey) -> MixtureState:
        theta = problem.sample_init(key, k)
        return MixtureState(theta, jnp.full(k, 1 / k), jnp.zeros((), jnp.int32), optimizer.init(theta))

    def shaken(key: PRNGKey, state: MixtureState) -> Points:
        """Components that a large sigma has drawn together to the last bit could never part again."""
        push = jitter * jr.normal(key, state.theta.shape, state.theta.dtype)
        return jnp.where(state.n_steps < anneal_steps, state.theta + push, state.theta)

    def step(key: PRNGKey, state: MixtureState) -> tuple[MixtureState, Info]:
        progress = state.n_steps.astype(state.theta.dtype) / anneal_steps
        sigma = problem.noise_std * factor ** jnp.maximum(0.0, 1 - progress)
        if factor > 1:
            state = state._replace(theta=shaken(key, state))
        clean = images(state.theta)
        log_weights = jnp.log(state.weights)[:, None] + jnp.log(pose_weights)
        moments = e_step(problem.observations, clean, log_weights, sigma)
        objective = -moments.log_likelihood - log_prior(state.theta).sum()
        expected = (images, log_prior, state.theta, moments.mass, moments.total, sigma)
        if solver == "em":
            theta, renders = gauss_newton(*expected)
            optimizer_state = state.optimizer
        else:
            update, optimizer_state = optimizer.update(-ascent(*expected)[1], state.optimizer, state.theta)
            theta, renders = state.theta + update, jnp.asarray(0)
        weights = moments.mass.sum(1) if estimate_weights else state.weights
        info = Info(objective, jnp.asarray(k * n_poses + renders))
        return MixtureState(theta, weights, state.n_steps + 1, optimizer_state), info

    def estimate(state: MixtureState) -> WeightedPoints:
        return WeightedPoints(state.theta, state.weights)

    return Method(init, step, estimate)


def e_step(
    y: Observations, images: Float[Array, "kq p"], log_weights: Float[Array, "k q"], sigma: Scalar | float
) -> Moments:
    """Responsibilities r_ikq of all images for all observations, summed over tiles of the observations.

    `mass` is mean_i r_ikq, `total` is mean_i r_ikq y_i, and the log-likelihood is mean_i log sum_kq exp(...).
    """
    m, n_images = len(y), len(images)
    tile = max(1, min(m, TILE // n_images))
    rows = jnp.arange(-(-m // tile) * tile).reshape(-1, tile)

    def add(sums: tuple[Scalar, Array, Array], row: Int[Array, " tile"]) -> tuple[tuple[Scalar, Array, Array], None]:
        some = y[jnp.minimum(row, m - 1)]
        logits = log_weights.reshape(-1) - 0.5 * squared_residuals(some, images) / sigma**2
        top = logits.max(1)
        unnormalised = jnp.exp(logits - top[:, None])
        scale = jnp.where(row < m, 1.0, 0.0) / unnormalised.sum(1)
        log_likelihood = jnp.where(row < m, top + jnp.log(unnormalised.sum(1)), 0.0).sum()
        total = jnp.matmul(unnormalised.T, some * scale[:, None], precision="highest")
        return (sums[0] + log_likelihood, sums[1] + scale @ unnormalised, sums[2] + total), None

    zeros = jnp.zeros((), y.dtype), jnp.zeros(n_images, y.dtype), jnp.zeros(images.shape, y.dtype)
    (log_likelihood, mass, total), _ = jax.lax.scan(add, zeros, rows)
    shape = log_weights.shape
    return Moments(log_likelihood / m, mass.reshape(shape) / m, total.reshape(*shape, -1) / m)


def _annealing(anneal: tuple[float, int] | None) -> tuple[float, int]:
    if anneal is None:
        return 1.0, 1
    if not isinstance(anneal, tuple | list) or len(anneal) != 2:
        raise ValueError(f"anneal is {anneal!r}; wanted (factor, steps)")
    factor, steps = anneal
    if checks.positive("anneal factor", factor) < 1:
        raise ValueError(f"anneal factor is {factor!r}; wanted a number >= 1")
    return float(factor), checks.positive_int("anneal steps", steps)
