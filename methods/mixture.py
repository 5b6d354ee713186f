"""The discretized mixture, discretize-then-optimize: Eq. (3.5) by EM or by gradient descent."""

from collections.abc import Callable, Sequence
from functools import partial
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
from cryosip.methods.problem import Points, Pose, PRNGKey, Problem, Weights, checked, in_span
from cryosip.methods.starts import best_of

SOLVERS = ("em", "gradient")
SURVIVORS = 8  # nodes for each image that the second pass of refine_poses refines
BLOCK = 2**25  # pixels that its images may hold at a time
JITTER = 0.1  # of the spread of the initial distribution, while annealing

Scalar = Float[Array, ""]
Images = Float[Array, "e p"]


class MixtureState(NamedTuple):
    theta: Points
    weights: Weights
    variance: Scalar  # of the noise, as far as the fit knows
    n_steps: Int[Array, ""]
    optimizer: optax.OptState


class Model(NamedTuple):
    """The options of `mixture`, checked, and what no step changes.

    `prior_weight` is that of one component; `optimizer` is there for "em" too. `finer_pose` are the nodes of the next
    order where poses are refined. `push_std` (d,) is that of the pushes while annealing, `mean_square` the mean of
    |y_i|^2.
    """

    problem: Problem
    n_components: int
    solver: str
    optimizer: optax.GradientTransformation
    prior_weight: float
    estimate_weights: bool
    anneal_factor: float
    anneal_steps: int
    order: int
    pose: Pose
    pose_weights: Weights
    finer_pose: Pose
    refine_poses: bool
    estimate_noise: bool
    push_std: Float[Array, " d"]
    mean_square: Scalar


class Expected(NamedTuple):
    """What the M-step needs: images as functions of all theta, whose each is, and what the observations are seen as.

    `sigma` is the std of the noise at which the expectation was taken, annealed or not.
    """

    images: Callable[[Points], Images]
    owner: Int[Array, " e"]
    mass: Float[Array, " e"]
    total: Images
    log_likelihood: Scalar
    sigma: Scalar
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

    Of RELION's Class3D this is: EM over (class, pose) for (3.5), uniform HEALPix grids of directions and in-plane
    rotations, the adaptive second pass, weights and noise that are updated. It is not: (3.5) has no CTF in its model (a
    problem may put one into `render`), one sigma for all frequencies, no prior tau^2 from the spectrum of the last map,
    no local searches, and a class is a point theta_k of the family of structures, not a free density on a grid.

    Parameters
    ----------
    problem
        The problem, of which the mixture works in the span where there is one.
    n_components
        K.
    solver
        "em", the default, takes the expectation over (k, pose), then one Gauss-Newton step on each theta_k. The step is
        halved until the expected log-posterior gains in proportion: the objective never rises while sigma stays.
        "gradient" follows `optimizer` on the same objective.
    optimizer
        An optax transformation for "gradient"; by default Adam at 1e-2, which suits theta of order one.
    prior_weight
        Weight of the prior rho_p in (3.5); 0 by default, maximum likelihood.
    estimate_weights
        Whether the w_k are those of EM, with either solver; by default they stay 1/K, as (3.5) is printed.
    anneal
        (factor, steps): sigma starts at sigma * factor and falls geometrically to sigma within those steps. Each
        component is pushed at random by a tenth of the initial distribution's spread, so that those that meet can part.
        Components that start far from their share of the data need it: (10, 200) serves the nanocluster. None by
        default, as (3.5) is printed.
    quadrature_order
        Of the pose quadrature that stands for the integral; 1 by default, the coarsest that methods use.
    refine_poses
        Whether the E-step is in two passes: nodes of `quadrature_order` first; then, for each image, the nodes of the
        next order within the few that hold 0.999 of its mass. False by default: all nodes for all images.
    estimate_noise
        Whether EM updates sigma^2, as in RELION, so that it also covers what the nodes miss; False by default.
    n_starts
        So many mixtures are fitted, and the one with the lowest objective is taken; 1 by default.

    Returns
    -------
    Method
        Its estimate is theta (K, d) with the weights (K,).

    Raises
    ------
    ValueError
        A count is below 1, the solver is unknown, the prior weight is negative, the annealing factor is below 1, EM is
        given an optimizer, or noise is both annealed and estimated.
    """
    problem = in_span(checked(problem))
    for name, flag in (
        ("estimate_weights", estimate_weights),
        ("refine_poses", refine_poses),
        ("estimate_noise", estimate_noise),
    ):
        checks.boolean(name, flag)
    if estimate_noise and anneal is not None:
        raise ValueError(f"estimate_noise is given with anneal {anneal!r}; wanted one of them")
    k = checks.positive_int("n_components", n_components)
    order = checks.positive_int("quadrature_order", quadrature_order)
    factor, steps = _checked_annealing(anneal)
    checks.positive_int("n_starts", n_starts)
    pose, pose_weights = problem.pose_quadrature(order)
    model = Model(
        problem=problem,
        n_components=k,
        solver=checks.one_of("solver", solver, SOLVERS),
        optimizer=_checked_optimizer(solver, optimizer),
        prior_weight=checks.non_negative("prior_weight", prior_weight) / k,
        estimate_weights=estimate_weights,
        anneal_factor=factor,
        anneal_steps=steps,
        order=order,
        pose=pose,
        pose_weights=pose_weights,
        finer_pose=problem.pose_quadrature(order + 1)[0] if refine_poses else pose,
        refine_poses=refine_poses,
        estimate_noise=estimate_noise,
        push_std=JITTER * problem.sample_init(jr.key(0), 1_000).std(0),
        mean_square=(problem.observations**2).sum(1).mean(),
    )
    method = Method(partial(first_state, model), partial(step, model), estimate)
    return best_of(method, n_starts) if n_starts > 1 else method


def first_state(model: Model, key: PRNGKey) -> MixtureState:
    """Components drawn from the initial distribution, with equal weights."""
    k = model.n_components
    theta = model.problem.sample_init(key, k)
    variance = jnp.full((), model.problem.noise_std**2, theta.dtype)
    return MixtureState(theta, jnp.full(k, 1 / k), variance, jnp.zeros((), jnp.int32), model.optimizer.init(theta))


def step(model: Model, key: PRNGKey, state: MixtureState) -> tuple[MixtureState, Info]:
    """The expectation, then one step of the solver on theta, and the weights and the noise where they are estimated."""
    sigma = annealed_sigma(model, state)
    if model.anneal_factor > 1:
        state = state._replace(theta=pushed(model, key, state))
    expectation = expectation_in_two_passes if model.refine_poses else expectation_on_all_nodes
    expected = expectation(model, state, sigma)
    value = objective(model, expected, state.theta)
    theta, optimizer_state, renders = maximise(model, expected, state)
    weights, variance = state.weights, state.variance
    if model.estimate_weights:
        weights = jax.ops.segment_sum(expected.mass, expected.owner, model.n_components)
    if model.estimate_noise:
        clean = expected.images(theta)
        variance, renders = noise_variance(model, expected, clean), renders + len(clean)
    info = Info(value, expected.renders + renders)
    return MixtureState(theta, weights, variance, state.n_steps + 1, optimizer_state), info


def estimate(state: MixtureState) -> WeightedPoints:
    """The components as they are."""
    return WeightedPoints(state.theta, state.weights)


def annealed_sigma(model: Model, state: MixtureState) -> Scalar:
    """sigma * factor at first, sigma after `anneal_steps`, and equal ratios between."""
    progress = state.n_steps.astype(state.theta.dtype) / model.anneal_steps
    return jnp.sqrt(state.variance) * model.anneal_factor ** jnp.maximum(0.0, 1 - progress)


def pushed(model: Model, key: PRNGKey, state: MixtureState) -> Points:
    """Components after a random push, as long as sigma is annealed.

    Those that a large sigma has drawn together to the last bit could never part again.
    """
    push = model.push_std * jr.normal(key, state.theta.shape, state.theta.dtype)
    return jnp.where(state.n_steps < model.anneal_steps, state.theta + push, state.theta)


def expectation_on_all_nodes(model: Model, state: MixtureState, sigma: Scalar) -> Expected:
    """The E-step over all components and nodes for all images; row k * n_poses + q is component k at node q."""
    k, n_poses = model.n_components, len(model.pose_weights)

    def images(theta: Points) -> Images:
        return render_all(model.problem, theta, model.pose, n_poses)

    log_weights = jnp.log(state.weights)[:, None] + jnp.log(model.pose_weights)
    moments = e_step(model.problem.observations, images(state.theta), log_weights, sigma)
    mass, total = moments.mass.ravel(), moments.total.reshape(k * n_poses, -1)
    owner = jnp.repeat(jnp.arange(k), n_poses)
    return Expected(images, owner, mass, total, moments.log_likelihood, sigma, jnp.asarray(k * n_poses))


def expectation_in_two_passes(model: Model, state: MixtureState, sigma: Scalar) -> Expected:
    """The E-step over the nodes first, then over finer ones where an image has its mass; a row for each of these."""
    problem = model.problem
    m, p = problem.observations.shape
    block = max(1, BLOCK // p)
    explained = two_pass(problem, model.order, state.theta, state.weights, sigma, SURVIVORS, block)

    def images(theta: Points) -> Images:
        return problem.render(theta[explained.owner], jax.tree.map(lambda a: a[explained.node], model.finer_pose))

    mass = explained.share / m
    total = mass[:, None] * problem.observations[explained.image]
    renders = jnp.asarray(model.n_components * len(model.pose_weights) + explained.n_fine)
    return Expected(images, explained.owner, mass, total, explained.log_likelihood, sigma, renders)


def log_prior(model: Model, theta: Points) -> Weights:
    """(prior_weight / K) log rho_p of each component."""
    return model.prior_weight * model.problem.log_prior(theta)


def objective(model: Model, expected: Expected, theta: Points) -> Scalar:
    """(3.5) at theta, and where the noise is estimated also log sigma^p, which is constant otherwise."""
    value = -expected.log_likelihood - log_prior(model, theta).sum()
    if model.estimate_noise:
        value += model.problem.observations.shape[1] * jnp.log(expected.sigma / model.problem.noise_std)
    return value


def maximise(model: Model, expected: Expected, state: MixtureState) -> tuple[Points, optax.OptState, Int[Array, ""]]:
    """One step of the solver up the expected log-posterior: theta, the optimizer's state, how many images it took."""
    parts = (partial(log_prior, model), state.theta, expected.mass, expected.total, expected.sigma)
    if model.solver == "em":
        theta, renders = gauss_newton(expected.images, expected.owner, *parts)
        return theta, state.optimizer, renders
    slope = ascent(expected.images, *parts)[1]
    update, optimizer_state = model.optimizer.update(-slope, state.optimizer, state.theta)
    return state.theta + update, optimizer_state, jnp.asarray(0)


def noise_variance(model: Model, expected: Expected, clean: Images) -> Scalar:
    """sigma^2 of EM: the expected squared residual of a pixel, given the images `clean` of the components."""
    fit = (expected.mass * (clean**2).sum(1)).sum() - 2 * (expected.total * clean).sum()
    return (model.mean_square + fit) / clean.shape[1]


def _checked_optimizer(solver: str, optimizer: optax.GradientTransformation | None) -> optax.GradientTransformation:
    if optimizer is None:
        return optax.adam(1e-2)
    if solver == "em":
        raise ValueError("optimizer is given with solver 'em'; wanted none, or solver 'gradient'")
    return checks.instance_of("optimizer", optimizer, optax.GradientTransformation)


def _checked_annealing(anneal: Sequence[float | int] | None) -> tuple[float, int]:
    if anneal is None:
        return 1.0, 1
    if not isinstance(anneal, tuple | list) or len(anneal) != 2:
        raise ValueError(f"anneal is {anneal!r}; wanted (factor, steps)")
    factor, steps = anneal
    if checks.positive("anneal factor", factor) < 1:
        raise ValueError(f"anneal factor is {factor!r}; wanted a number >= 1")
    return float(factor), checks.positive_int("anneal steps", steps)
