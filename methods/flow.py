"""The Wasserstein particle flow, optimize-then-discretize: Algorithm 4.1."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float

from cryosip.methods import checks, devices
from cryosip.methods.discrepancy import Discrepancy, Scalar, Target
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, Pose, PRNGKey, Problem, checked, halves, in_span
from cryosip.methods.stopping import EVERY, STOPS, best_on_held_out

SAMPLINGS = ("method-1", "method-2", "method-3", "closed-form")
TARGET_KEY = 1  # fold_in number of a step's key, for discrepancies that draw


class FlowState(NamedTuple):
    theta: Points
    optimizer: optax.OptState


def particle_flow(
    problem: Problem,
    discrepancy: Discrepancy,
    optimizer: optax.GradientTransformation,
    n_particles: int,
    sampling: str = "method-1",
    n_draws: int = 1,
    stop: str | None = None,
) -> Method:
    """The Wasserstein particle flow of Algorithm 4.1: particles follow the gradient of the discrepancy.

    d theta_i / dt = -integral (grad T_omega)^T grad_y dD/drho_y (T_omega(theta_i)) dmu_omega, (2.11) [sanchez2025]. The
    integral and rho_y are sampled anew each step. Where the problem offers the span of its images and the discrepancy
    can work there, omega is drawn in the span, and the noise outside, which no parameter can follow, is integrated out;
    problem._replace(span=None) draws every pixel. Several devices share the particles.

    Parameters
    ----------
    problem
        The problem.
    discrepancy
        D, between simulated and observed images.
    optimizer
        Any optax transformation; optax.sgd(dt) is the forward Euler scheme of (2.17).
    n_particles
        Particles; the estimate weighs them equally.
    sampling
        The scheme of section 2.5.3: "method-1", the default, (2.13), one omega a particle; "method-2", (2.14),
        `n_draws` omegas shared by all particles; "method-3", (2.15), `n_draws` omegas for each particle; or
        "closed-form", where the discrepancy integrates the noise out and only poses are drawn.
    n_draws
        Of omega in a step; 1 by default, as "method-1" and "closed-form" take.
    stop
        "held-out" fits every other observation alone, and takes of all estimates that with the lowest D to the others;
        None, the default, takes the last.

    Returns
    -------
    Method
        Its estimate is theta (n_particles, d) with equal weights.

    Raises
    ------
    ValueError
        A count is below 1, the scheme is unknown, `n_draws` is above 1 with a scheme that takes one draw, or the
        discrepancy cannot integrate the noise out.
    """
    problem = checked(problem)
    checks.instance_of("discrepancy", discrepancy, Discrepancy)
    checks.instance_of("optimizer", optimizer, optax.GradientTransformation)
    n = checks.positive_int("n_particles", n_particles)
    checks.one_of("sampling", sampling, SAMPLINGS)
    k = checks.positive_int("n_draws", n_draws)
    if k > 1 and sampling in ("method-1", "closed-form"):
        raise ValueError(f"n_draws is {k} with sampling {sampling!r}; wanted 1, or sampling 'method-2' or 'method-3'")
    fit, held_out = (problem, problem) if stop is None else halves(problem)
    stop = stop if stop is None else checks.one_of("stop", stop, STOPS)
    problem, target = flow_target(fit, discrepancy, sampling)

    def draw(key: PRNGKey) -> tuple[Pose, Float[Array, "nk r"] | float]:
        """omega of each of the n * k images; image (i, k) is row i * k."""
        key_pose, key_noise = jr.split(key)
        rows = k if sampling == "method-2" else n * k
        pose = problem.sample_pose(key_pose, rows)
        if sampling == "closed-form":
            return pose, 0.0
        noise = problem.noise_std * jr.normal(key_noise, (rows, problem.observations.shape[1]))
        if sampling == "method-2":
            return jax.tree.map(lambda a: jnp.tile(a, (n,) + (1,) * (a.ndim - 1)), (pose, noise))
        return pose, noise

    def init(key: PRNGKey) -> FlowState:
        theta = problem.sample_init(key, n)
        return devices.spread(FlowState(theta, optimizer.init(theta)), n)

    def step(key: PRNGKey, state: FlowState) -> tuple[FlowState, Info]:
        pose, noise = devices.spread(draw(key), n * k)

        def images(theta: Points) -> Float[Array, "nk r"]:
            return problem.render(jnp.repeat(theta, k, axis=0), pose)

        clean, pull_back = jax.vjp(images, state.theta)
        y = clean + noise
        drawn = target if target.redrawn is None else target.redrawn(jr.fold_in(key, TARGET_KEY))
        # repeat() makes the pull-back sum over the k draws; (2.14) and (2.15) take their mean
        (drift,) = pull_back(drawn.gradient(y) / k)
        update, optimizer_state = optimizer.update(drift, state.optimizer, state.theta)
        info = Info(drawn.value(y), jnp.asarray(n * k))
        return devices.spread(FlowState(state.theta + update, optimizer_state), n), info

    def estimate(state: FlowState) -> WeightedPoints:
        return WeightedPoints(state.theta, jnp.full(n, 1 / n))

    method = Method(init, step, estimate)
    if stop is None:
        return method
    judge = flow_target(held_out, discrepancy, sampling)[1]
    return best_on_held_out(method, partial(_score, problem, judge, draw, k), EVERY, n * k)


def _score(
    problem: Problem, judge: Target, draw: Callable[[PRNGKey], Any], k: int, key: PRNGKey, law: WeightedPoints
) -> Scalar:
    """D of k images of each particle to the observations that were held out."""
    pose, noise = draw(key)
    return judge.value(problem.render(jnp.repeat(jnp.asarray(law.theta), k, axis=0), pose) + noise)


def flow_target(problem: Problem, discrepancy: Discrepancy, sampling: str) -> tuple[Problem, Target]:
    """What a flow minimises, and the problem whose images it is a function of: in the span where both offer it."""
    closed_form = sampling == "closed-form"
    if problem.span is not None and discrepancy.bind_span is not None:
        bound = discrepancy.bind_span(problem.observations, problem.noise_std, problem.span, closed_form)
        return in_span(problem), bound
    return problem, discrepancy.bind(problem.observations, problem.noise_std if closed_form else 0.0)
