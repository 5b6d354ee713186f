"""The discretized mixture, discretize-then-optimize: Eq. (3.5) by EM or by gradient descent."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.gauss_newton import ascent, gauss_newton
from cryosip.methods.likelihood import e_step, render_all
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.pose_search import two_pass
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights, checked, in_span
from cryosip.methods.starts import best_of

SOLVERS = ("em", "gradient")
SURVIVORS = 8  # nodes for each image that the second pass of refine_poses refines
BLOCK = 2**25  # pixels that its images may hold at a time
JITTER = 0.1  # of the spread of the initial law, while annealing

Scalar = Float[Array, ""]


class MixtureState(NamedTuple):
    theta: Points
    weights: Weights
    variance: Scalar  # of the noise, as far as the fit knows
    n_steps: Int[Array, ""]
    optimizer: optax.OptState


class Expected(NamedTuple):
    """What the M-step needs: images as functions of all theta, whose each is, and what the observations are seen as."""

    images: Callable[[Points], Float[Array, "e p"]]
    owner: Int[Array, " e"]
    mass: Float[Array, " e"]
    total: Float[Array, "e p"]
    log_likelihood: Scalar
    renders: Int[Array, ""]


def mixture(
    problem: Problem,
    n_components: int,
    solver: str = "em",
    optimizer: optax.GradientTransformation | None = None,
    prior_weight: float = 0.0,
    estimate_weights: bool = False,
    anneal: Sequence[float | int] | None = None,
    quadrature_order: int = 1,
    refine_poses: bool = False,
    estimate_noise: bool = False,
    n_starts: int = 1,
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
    printed.

    The integral over poses is a sum over the nodes of the problem's pose quadrature of `quadrature_order`. With
    `refine_poses` the E-step is in two passes: nodes of that order first; then, for each image, the nodes of the next
    order within the few that hold 0.999 of its mass. `estimate_noise` updates sigma^2 by EM, as RELION does, so that it
    also covers what the nodes miss; `n_starts` fits that many mixtures and takes the one with the lowest objective.

    Of RELION's Class3D this is: EM over (class, pose) for (3.5), uniform HEALPix grids of directions and turns, the
    adaptive second pass, weights and noise that are updated. It is not: (3.5) has no CTF in its model (a problem may
    put one into `render`), one sigma for all frequencies, no prior tau^2 from the spectrum of the last map, no local
    searches, and a class is a point theta_k of the family of structures, not a free density on a grid.

    Raises ValueError for counts below 1, unknown solvers, a negative prior weight, an annealing factor below 1, an
    optimizer given to EM, and noise that is both annealed and estimated.
    """
    problem = in_span(checked(problem))
    k = checks.positive_int("n_components", n_components)
    checks.one_of("solver", solver, SOLVERS)
    prior_weight = checks.non_negative("prior_weight", prior_weight)
    for name, flag in (
        ("estimate_weights", estimate_weights),
        ("refine_poses", refine_poses),
        ("estimate_noise", estimate_noise),
    ):
        checks.boolean(name, flag)
    if solver == "em" and optimizer is not None:
        raise ValueError("optimizer is given with solver 'em'; wanted none, or solver 'gradient'")
    factor, anneal_steps = _annealing(anneal)
    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    checks.instance_of("optimizer", optimizer, optax.GradientTransformation)
    order = checks.positive_int("quadrature_order", quadrature_order)
    checks.positive_int("n_starts", n_starts)
    if estimate_noise and anneal is not None:
        raise ValueError(f"estimate_noise is given with anneal {anneal!r}; wanted one of them")
    pose, pose_weights = problem.pose_quadrature(order)
    finer_pose = problem.pose_quadrature(order + 1)[0] if refine_poses else pose
    n_poses = len(pose_weights)
    m, p = problem.observations.shape
    prior = prior_weight / k
    jitter = JITTER * problem.sample_init(jr.key(0), 1_000).std(0)

    def log_prior(theta: Points) -> Weights:
        return prior * problem.log_prior(theta)

    def init(key: PRNGKey) -> MixtureState:
        theta = problem.sample_init(key, k)
        variance = jnp.full((), problem.noise_std**2, theta.dtype)
        return MixtureState(theta, jnp.full(k, 1 / k), variance, jnp.zeros((), jnp.int32), optimizer.init(theta))

    def shaken(key: PRNGKey, state: MixtureState) -> Points:
        """Components that a large sigma has drawn together to the last bit could never part again."""
        push = jitter * jr.normal(key, state.theta.shape, state.theta.dtype)
        return jnp.where(state.n_steps < anneal_steps, state.theta + push, state.theta)

    def everywhere(state: MixtureState, sigma: Scalar) -> Expected:
        """All nodes for all images."""

        def images(theta: Points) -> Float[Array, "e p"]:
            return render_all(problem, theta, pose, n_poses)

        log_weights = jnp.log(state.weights)[:, None] + jnp.log(pose_weights)
        moments = e_step(problem.observations, images(state.theta), log_weights, sigma)
        mass, total = moments.mass.ravel(), moments.total.reshape(k * n_poses, p)
        owner = jnp.repeat(jnp.arange(k), n_poses)
        return Expected(images, owner, mass, total, moments.log_likelihood, jnp.asarray(k * n_poses))

    def where_it_matters(state: MixtureState, sigma: Scalar) -> Expected:
        """Two passes."""
        explained = two_pass(problem, order, state.theta, state.weights, sigma, SURVIVORS, max(1, BLOCK // p))

        def images(theta: Points) -> Float[Array, "e p"]:
            return problem.render(theta[explained.owner], jax.tree.map(lambda a: a[explained.node], finer_pose))

        mass = explained.share / m
        total = mass[:, None] * problem.observations[explained.image]
        renders = k * n_poses + explained.n_fine
        return Expected(images, explained.owner, mass, total, explained.log_likelihood, jnp.asarray(renders))

    e_pass = where_it_matters if refine_poses else everywhere
    mean_square = (problem.observations**2).sum(1).mean()

    def step(key: PRNGKey, state: MixtureState) -> tuple[MixtureState, Info]:
        progress = state.n_steps.astype(state.theta.dtype) / anneal_steps
        sigma = jnp.sqrt(state.variance) * factor ** jnp.maximum(0.0, 1 - progress)
        if factor > 1:
            state = state._replace(theta=shaken(key, state))
        expected = e_pass(state, sigma)
        objective = -expected.log_likelihood - log_prior(state.theta).sum()
        if estimate_noise:  # what is constant as long as sigma is
            objective += p * jnp.log(sigma / problem.noise_std)
        parts = (log_prior, state.theta, expected.mass, expected.total, sigma)
        if solver == "em":
            theta, renders = gauss_newton(expected.images, expected.owner, *parts)
            optimizer_state = state.optimizer
        else:
            update, optimizer_state = optimizer.update(
                -ascent(expected.images, *parts)[1], state.optimizer, state.theta
            )
            theta, renders = state.theta + update, jnp.asarray(0)
        weights = jax.ops.segment_sum(expected.mass, expected.owner, k) if estimate_weights else state.weights
        variance = state.variance
        if estimate_noise:
            clean = expected.images(theta)
            fit = (expected.mass * (clean**2).sum(1)).sum() - 2 * (expected.total * clean).sum()
            variance, renders = (mean_square + fit) / p, renders + len(clean)
        info = Info(objective, expected.renders + renders)
        return MixtureState(theta, weights, variance, state.n_steps + 1, optimizer_state), info

    def estimate(state: MixtureState) -> WeightedPoints:
        return WeightedPoints(state.theta, state.weights)

    method = Method(init, step, estimate)
    return best_of(method, n_starts) if n_starts > 1 else method


def _annealing(anneal: Sequence[float | int] | None) -> tuple[float, int]:
    if anneal is None:
        return 1.0, 1
    if not isinstance(anneal, tuple | list) or len(anneal) != 2:
        raise ValueError(f"anneal is {anneal!r}; wanted (factor, steps)")
    factor, steps = anneal
    if checks.positive("anneal factor", factor) < 1:
        raise ValueError(f"anneal factor is {factor!r}; wanted a number >= 1")
    return float(factor), checks.positive_int("anneal steps", steps)
