"""The discretized mixture, discretize-then-optimize: Eq. (3.5) by EM or by gradient descent."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Int

from cryosip.methods import checks
from cryosip.methods.annealing import checked_annealing
from cryosip.methods.expectation import (
    Expected,
    ExpectedPairs,
    Images,
    MixtureState,
    Model,
    Scalar,
    annealed_sigma,
    background_of,
    expectation,
)
from cryosip.methods.gauss_newton import ascent, gauss_newton, newton, pair_slopes
from cryosip.methods.likelihood import initial_spread
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights, checked, halves, in_span, of_few_dimensions
from cryosip.methods.selection import chosen_on_held_out
from cryosip.methods.starts import best_of
from cryosip.methods.stored import in_memory, mean_of

SOLVERS = ("em", "gradient")
FIRST_SHARE = 0.05  # of the observations, for the background to start with
JITTER = 0.1  # of the spread of the initial distribution, while annealing
Annealing = Sequence[float | int] | None
Choice = tuple[int, float, int]  # K, factor and steps


def mixture(
    problem: Problem,
    n_components: int | Sequence[int],
    solver: str = "em",
    optimizer: optax.GradientTransformation | None = None,
    prior_weight: float = 0.0,
    estimate_weights: bool = False,
    anneal: Annealing | Sequence[Annealing] = None,
    quadrature_order: int = 1,
    refine_poses: bool = False,
    estimate_noise: bool = False,
    n_starts: int = 1,
    background: bool = False,
    held_out_steps: int = 30,
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
        K; where a list is given, one of these, chosen on observations that are held out.
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
        default, as (3.5) is printed. Of a list of such pairs and None, one is chosen on observations that are held out.
    quadrature_order
        Of the pose quadrature that stands for the integral; 1 by default, the coarsest that methods use.
    refine_poses
        Whether the E-step is in two passes: nodes of `quadrature_order` first; then, for each image, the nodes of the
        next order within the few that hold 0.999 of its mass. False by default: all nodes for all images.
    estimate_noise
        Whether EM updates sigma^2, as in RELION, so that it also covers what the nodes miss; False by default.
    n_starts
        So many mixtures are fitted, and the one with the lowest objective is taken; 1 by default.
    background
        Whether one more component is there for what no structure has made: a Gaussian with the mean of the
        observations and 1 + 2 / sqrt(p) times their std, in each of p coordinates. Its weight is estimated, and the
        estimate leaves it out [banfield1993]. False by default, as (3.5) is printed.
    held_out_steps
        Where there is a choice, each combination is fitted in turn to every other observation, with so many steps after
        its annealing; 30 by default. The one under which the rest are most likely is then fitted on to all.

    Returns
    -------
    Method
        Its estimate is theta (K, d) with the weights (K,).

    Raises
    ------
    ValueError
        A count is below 1, the solver is unknown, the prior weight is negative, the annealing factor is below 1, EM is
        given an optimizer, noise is both annealed and estimated, there is a choice together with a prior or several
        starts, an option needs images where the problem gives the likelihood, or poses are refined for observations
        that are on disk.
    """
    problem = in_span(checked(problem))
    for name, flag in (
        ("estimate_weights", estimate_weights),
        ("refine_poses", refine_poses),
        ("estimate_noise", estimate_noise),
        ("background", background),
    ):
        checks.boolean(name, flag)
    sizes = [checks.positive_int("n_components", k) for k in _sizes(n_components)]
    schedules = [checked_annealing(one) for one in _schedules(anneal)]
    if estimate_noise and any(steps for _, steps in schedules):
        raise ValueError(f"estimate_noise is given with anneal {anneal!r}; wanted one of them")
    choices = [(k, *schedule) for k in sizes for schedule in schedules]
    _check_combinations(problem, len(choices), prior_weight, n_starts, refine_poses, estimate_noise, background)
    if solver == "em":
        of_few_dimensions(problem, "mixture by EM")
    order = checks.positive_int("quadrature_order", quadrature_order)
    checks.positive_int("held_out_steps", held_out_steps)
    checks.positive_int("n_starts", n_starts)
    pose, pose_weights = problem.pose_quadrature(order)
    model = Model(
        problem=problem,
        n_components=max(sizes),
        solver=checks.one_of("solver", solver, SOLVERS),
        optimizer=_checked_optimizer(solver, optimizer),
        prior_weight=checks.non_negative("prior_weight", prior_weight) / max(sizes),
        estimate_weights=estimate_weights,
        annealed=any(factor > 1 for _, factor, _ in choices),
        anneal_factor=choices[0][1],
        anneal_steps=choices[0][2],
        order=order,
        pose=pose,
        pose_weights=pose_weights,
        finer_pose=problem.pose_quadrature(order + 1)[0] if refine_poses else pose,
        refine_poses=refine_poses,
        estimate_noise=estimate_noise,
        push_std=JITTER * initial_spread(problem),
        mean_square=mean_of(lambda y: (y**2).sum(1), problem.observations) if estimate_noise else jnp.zeros(()),
        background=background_of(problem.observations) if background else None,
    )
    if len(choices) > 1:
        return best_choice(model, choices, held_out_steps)
    method = Method(partial(first_state, model), partial(step, model), estimate)
    return best_of(method, n_starts) if n_starts > 1 else method


def best_choice(model: Model, choices: list[Choice], steps: int) -> Method:
    """The number of components and the annealing under which observations that were held out are most likely.

    Components beyond the number have the weight 0, so that all choices have one shape.
    """
    sizes, factors, lengths = map(jnp.asarray, zip(*choices, strict=True))
    fit, held_out = (model._replace(problem=problem) for problem in halves(model.problem))

    def chosen(model: Model, choice: Int[Array, ""]) -> Model:
        return model._replace(anneal_factor=factors[choice], anneal_steps=lengths[choice])

    def first(key: PRNGKey, choice: Int[Array, ""] | int) -> MixtureState:
        k = sizes[choice]
        return first_state(model, key)._replace(weights=jnp.where(jnp.arange(model.n_components) < k, 1 / k, 0.0))

    def score(state: MixtureState) -> tuple[Scalar, Int[Array, ""]]:
        expected = expectation(held_out._replace(anneal_factor=1.0), state, jnp.sqrt(state.variance))
        return -expected.log_likelihood, expected.renders

    def on(model: Model) -> Callable[..., tuple[MixtureState, Info]]:
        return lambda key, state, choice: step(chosen(model, choice), key, state)

    return chosen_on_held_out(first, on(fit), on(model), score, estimate, lengths + steps)


def first_state(model: Model, key: PRNGKey) -> MixtureState:
    """Components drawn from the initial distribution, with equal weights."""
    k = model.n_components
    theta = model.problem.sample_init(key, k)
    variance = jnp.full((), model.problem.noise_std**2, theta.dtype)
    share = jnp.full((), 0.0 if model.background is None else FIRST_SHARE, theta.dtype)
    n_steps = jnp.zeros((), jnp.int32)
    return MixtureState(theta, jnp.full(k, 1 / k), variance, share, n_steps, model.optimizer.init(theta))


def step(model: Model, key: PRNGKey, state: MixtureState) -> tuple[MixtureState, Info]:
    """The expectation, then one step of the solver on theta, and the weights and the noise where they are estimated."""
    sigma = annealed_sigma(model, state)
    if model.annealed:
        state = state._replace(theta=pushed(model, key, state))
    expected = expectation(model, state, sigma)
    value = objective(model, expected, state.theta)
    theta, optimizer_state, renders = maximise(model, expected, state)
    weights, variance, background = state.weights, state.variance, state.background
    shares = explained_shares(model, expected)
    if model.background is not None:
        background = jnp.clip(1 - shares.sum(), 0.0, 1 - FIRST_SHARE)
        shares = shares / jnp.maximum(shares.sum(), jnp.finfo(shares.dtype).tiny)
    if model.estimate_weights:
        weights = shares
    if isinstance(expected, Expected) and model.estimate_noise:
        clean = expected.images(theta)
        variance, renders = noise_variance(model, expected, clean), renders + len(clean)
    info = Info(value, expected.renders + renders)
    return MixtureState(theta, weights, variance, background, state.n_steps + 1, optimizer_state), info


def estimate(state: MixtureState) -> WeightedPoints:
    """The components as they are."""
    return WeightedPoints(state.theta, state.weights)


def explained_shares(model: Model, expected: Expected | ExpectedPairs) -> Weights:
    """The share of the observations that each component explains."""
    if isinstance(expected, ExpectedPairs):
        return expected.share
    return jax.ops.segment_sum(expected.mass, expected.owner, model.n_components)


def pushed(model: Model, key: PRNGKey, state: MixtureState) -> Points:
    """Components after a random push, as long as sigma is annealed.

    Those that a large sigma has drawn together to the last bit could never part again.
    """
    push = model.push_std * jr.normal(key, state.theta.shape, state.theta.dtype)
    return jnp.where(state.n_steps < model.anneal_steps, state.theta + push, state.theta)


def log_prior(model: Model, theta: Points) -> Weights:
    """(prior_weight / K) log rho_p of each component."""
    return model.prior_weight * model.problem.log_prior(theta)


def objective(model: Model, expected: Expected | ExpectedPairs, theta: Points) -> Scalar:
    """(3.5) at theta, and where the noise is estimated also log sigma^p, which is constant otherwise."""
    value = -expected.log_likelihood - log_prior(model, theta).sum()
    if isinstance(expected, Expected) and model.estimate_noise:
        value += model.problem.observations.shape[1] * jnp.log(expected.sigma / model.problem.noise_std)
    return value


def maximise(
    model: Model, expected: Expected | ExpectedPairs, state: MixtureState
) -> tuple[Points, optax.OptState, Int[Array, ""]]:
    """One step of the solver up the expected log-posterior: theta, the optimizer's state, how many images it took."""
    prior = partial(log_prior, model)
    log_likelihood = model.problem.log_likelihood
    if isinstance(expected, ExpectedPairs):
        assert log_likelihood is not None
        given = log_likelihood, expected.image, expected.owner, expected.mass, prior, state.theta
        if model.solver == "em":
            theta, renders = newton(*given, model.push_std / JITTER)
            return theta, state.optimizer, renders
        slope, renders = pair_slopes(*given), jnp.asarray(len(expected.image))
    else:
        parts = (prior, state.theta, expected.mass, expected.total, expected.sigma)
        if model.solver == "em":
            theta, renders = gauss_newton(expected.images, expected.owner, *parts)
            return theta, state.optimizer, renders
        slope, renders = ascent(expected.images, *parts)[1], jnp.asarray(0)
    update, optimizer_state = model.optimizer.update(-slope, state.optimizer, state.theta)
    return state.theta + update, optimizer_state, renders


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


def _sizes(n_components: Any) -> list[Any]:
    if not isinstance(n_components, list | tuple):
        return [n_components]
    if not n_components:
        raise ValueError(f"n_components is {n_components!r}; wanted a whole number, or a list of one or more")
    return list(n_components)


def _schedules(anneal: Any) -> list[Any]:
    """A pair of numbers is one schedule, and a list of such pairs and None is several."""
    is_list = isinstance(anneal, list | tuple) and any(one is None or isinstance(one, list | tuple) for one in anneal)
    return list(anneal) if is_list else [anneal]


def _check_combinations(
    problem: Problem, n_choices: int, prior_weight: float, n_starts: int,
    refine_poses: bool, estimate_noise: bool, background: bool,
) -> None:  # fmt: skip
    """Refuses options that do not go together."""
    if refine_poses:
        in_memory(problem.observations, "mixture with refine_poses")
    for name, given, wanted in (("prior_weight", prior_weight, 0), ("n_starts", n_starts, 1)):
        if n_choices > 1 and given != wanted:
            raise ValueError(f"{name} is {given!r} with {n_choices} choices of K and anneal; wanted {wanted}")
    for name, given in (("refine_poses", refine_poses), ("estimate_noise", estimate_noise)):
        if given and background:
            raise ValueError(f"{name} is given with background; wanted one of them")
    for name, given in (("refine_poses", refine_poses), ("estimate_noise", estimate_noise), ("background", background)):
        if given and problem.log_likelihood is not None:
            raise ValueError(f"{name} is given, and problem {problem.name!r} has a likelihood of its own; wanted False")
