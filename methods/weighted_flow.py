"""The Wasserstein-Fisher-Rao flow: particles that move and whose weights grow and shrink."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cryosip.methods import checks
from cryosip.methods.annealing import checked_annealing
from cryosip.methods.discrepancy import Discrepancy
from cryosip.methods.first_variation import SAMPLINGS, Simulated, at_points, count, simulated, weighted_form
from cryosip.methods.implicit_flow import implicit_flow
from cryosip.methods.marginal import marginal, negative_log_likelihood
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights, checked, halves, of_few_dimensions
from cryosip.methods.stopping import EVERY, STOPS, best_on_held_out


class WeightedFlowState(NamedTuple):
    theta: Points
    log_weights: Weights
    optimizer: optax.OptState


def weighted_flow(
    problem: Problem,
    discrepancy: Discrepancy,
    optimizer: optax.GradientTransformation | None = None,
    n_particles: int = 100,
    sampling: str = "closed-form",
    weight_rate: float = 1.0,
    anneal: Sequence[float | int] | None = None,
    quadrature_order: int = 1,
    stop: str | None = None,
) -> Method:
    """The Wasserstein-Fisher-Rao flow of a discrepancy: positions by transport, weights by multiplication.

    d theta_k / dt = -grad V(theta_k), d w_k / dt = -w_k (V(theta_k) - sum_l w_l V(theta_l)), V the first variation of D
    [yan2024]. With an optimizer the steps are explicit: the optimizer's on positions, w_k exp(-weight_rate (V_k -
    mean)) on the weights, with one omega for each particle, drawn anew in each step.

    Without one, for a discrepancy that is a likelihood ("data-kl"), they are linearly implicit (see `implicit_flow`),
    with poses and noise integrated out: for small steps the flow, whose weights then follow EM, for large ones Newton's
    method for the nonparametric maximum likelihood estimate with moving support. `duality_gap` certifies the estimate.

    Parameters
    ----------
    problem
        The problem; its `log_likelihood` is taken where it offers one and steps are implicit.
    discrepancy
        D, one with a form for weighted images.
    optimizer
        An optax transformation for explicit steps; None, the default, for implicit ones.
    n_particles
        100 by default: implicit steps cost its square, and the estimate needs few.
    sampling
        "closed-form", the default, integrates the noise out; "method-1", for explicit steps, draws it, as `flow` does.
    weight_rate
        Of explicit steps, in units of 1 / D; 1 by default, which for a likelihood is EM to first order.
    anneal
        (factor, steps) of implicit steps: the likelihood begins as if the noise were `factor` times as wide, and gets
        itself within so many steps. Particles whose images are far from all observations need it. None by default.
    quadrature_order
        Of the pose quadrature of implicit steps; 1 by default, the coarsest that methods use.
    stop
        "held-out" fits every other observation alone, and takes of all estimates that with the lowest D to the others;
        None, the default, takes the last.

    Returns
    -------
    Method
        Its estimate is theta (n_particles, d) with the weights.

    Raises
    ------
    ValueError
        A count is below 1, a name is unknown, the discrepancy has no form for weighted images, or is no likelihood
        where the steps are implicit; an option of explicit steps is given for implicit ones, or the other way round.
    """
    problem = checked(problem)
    checks.instance_of("discrepancy", discrepancy, Discrepancy)
    n = checks.positive_int("n_particles", n_particles)
    rate = checks.positive("weight_rate", weight_rate)
    order = checks.positive_int("quadrature_order", quadrature_order)
    fit, held_out = (problem, problem) if stop is None else halves(problem)
    if stop is not None:
        checks.one_of("stop", stop, STOPS)
    if optimizer is None:
        if not discrepancy.likelihood or sampling != "closed-form":
            raise ValueError(
                "optimizer is None with a discrepancy that is no likelihood, or sampled noise; wanted an optimizer for "
                "explicit steps, or discrepancy 'data-kl' with sampling 'closed-form' for implicit ones"
            )
        of_few_dimensions(problem, "weighted-flow without an optimizer")
        method = implicit_flow(fit, marginal(fit, order), n, checked_annealing(anneal))
        if stop is None:
            return method
        judge = marginal(held_out, order)
        renders = n * judge.renders
        return best_on_held_out(method, lambda _key, law: negative_log_likelihood(judge, law), 1, renders)
    checks.instance_of("optimizer", optimizer, optax.GradientTransformation)
    if anneal is not None:
        raise ValueError(f"anneal is {anneal!r} with an optimizer; wanted none, for it is of implicit steps")
    sampling = checks.one_of("sampling", sampling, SAMPLINGS)
    of = simulated(fit, discrepancy, sampling)
    weighted_form(of.target)
    method = _explicit(of, optimizer, n, rate)
    if stop is None:
        return method
    return best_on_held_out(method, simulated(held_out, discrepancy, sampling).value, EVERY, n)


def _explicit(of: Simulated, optimizer: optax.GradientTransformation, n: int, rate: float) -> Method:
    def init(key: PRNGKey) -> WeightedFlowState:
        theta = of.problem.sample_init(key, n)
        return WeightedFlowState(theta, jnp.full(n, -jnp.log(n), theta.dtype), optimizer.init(theta))

    def step(key: PRNGKey, state: WeightedFlowState) -> tuple[WeightedFlowState, Info]:
        theta, weights = state.theta, jnp.exp(state.log_weights)
        value, potential, drift = at_points(of, key, theta, weights)
        update, optimizer_state = optimizer.update(drift, state.optimizer, theta)
        log_weights = normalised(state.log_weights - rate * (potential - weights @ potential))
        return WeightedFlowState(theta + update, log_weights, optimizer_state), Info(value, count(theta))

    def estimate(state: WeightedFlowState) -> WeightedPoints:
        return WeightedPoints(state.theta, jnp.exp(state.log_weights))

    return Method(init, step, estimate)


def normalised(log_weights: Weights) -> Weights:
    """Of weights that sum to 1, none so small that its square would be none."""
    least = 0.5 * jnp.log(jnp.finfo(log_weights.dtype).tiny)
    kept = jnp.maximum(log_weights - jax.nn.logsumexp(log_weights), least)
    return kept - jax.nn.logsumexp(kept)
