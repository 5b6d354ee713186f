"""Ensemble reweighting, discretize-then-optimize on a fixed support: EM on the weights."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Int

from cryosip.methods import checks, hosts
from cryosip.methods.adaptive_support import adaptive_support, tabled
from cryosip.methods.likelihood import candidates, log_likelihoods
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights, checked, in_span


class ReweightingState(NamedTuple):
    weights: Weights
    unreported_renders: Int[Array, ""]


def reweighting(
    problem: Problem,
    support: Points | None = None,
    n_support: int = 100,
    concentration: float = 1.0,
    quadrature_order: int = 1,
    stop_on_held_out: bool = False,
    n_refinements: int = 0,
    refine_every: int = 10,
) -> Method:
    """Weights on a fixed support by EM, the nonparametric maximum likelihood estimate there.

    Maximises sum_i log sum_k w_k p(y_i | theta_k) + (concentration - 1) sum_k log w_k over w [tang2023]. p(y | theta)
    is the inner integral of (3.5); the support theta_1 ... theta_K stays.

    Parameters
    ----------
    problem
        The problem.
    support
        Structures (K, d); by default the problem's `support`, else a uniform grid that fills its `theta_box`.
    n_support
        Points of that grid, about; 100 by default.
    concentration
        Of the Dirichlet prior on w; 1, the default, is no prior: the nonparametric maximum likelihood estimate on the
        support [kiefer1956].
    quadrature_order
        Of the pose quadrature; 1 by default, the coarsest that methods use.
    stop_on_held_out
        Whether the estimate is that of the step which cross-validation finds best: EM runs on either half of the
        observations, too, and the weights of one half are scored by the likelihood of the other. EM sharpens with every
        step, beyond what the data tell. False by default: the weights of the last step.
    n_refinements
        How often the support is drawn anew where the mass is, with as many points: a point that is drawn several times
        becomes points that are uniform in its cell [crucinio2023]. 0 by default: the support stays.
    refine_every
        EM steps before each refinement; 10 by default, few enough that no mass has been lost yet.

    Returns
    -------
    Method
        Its estimate is the support with the weights (K,).

    Raises
    ------
    ValueError
        The support is not (K, d) and finite, none is given and the problem has no `theta_box`, or the concentration is
        below 1. The support does not cover the data: an observation is so far from every image of the support that
        noise would put it there with probability below 1e-6 / m (judged in the problem's span where it has one, for
        there no noise of other pixels hides it); this is not judged where the support is refined, or where the problem
        gives the likelihood. Refinements of structures that are given, or one observation alone to hold out.
    """
    problem = in_span(checked(problem))
    theta = candidates(problem, support, n_support)
    if checks.positive("concentration", concentration) < 1:
        raise ValueError(f"concentration is {concentration!r}; wanted a number >= 1")
    extra = (concentration - 1) / len(problem.observations)
    order = checks.positive_int("quadrature_order", quadrature_order)
    checks.boolean("stop_on_held_out", stop_on_held_out)
    checks.positive_int("refine_every", refine_every)
    if checks.non_negative_int("n_refinements", n_refinements) and problem.support is not None:
        raise ValueError(f"n_refinements is {n_refinements} on a problem whose structures are given; wanted 0")
    known = log_likelihoods(problem, theta, order)
    if known.nearest is not None and not n_refinements:
        _check_covered(np.asarray(hosts.fetched(known.nearest)), problem.observations.shape[1])
    if stop_on_held_out or n_refinements:
        k, d = theta.shape
        table = tabled(theta, jnp.full(k, k ** (-1 / d), theta.dtype), known.values)
        options = stop_on_held_out, n_refinements, refine_every
        return adaptive_support(problem, order, table, known.evaluations, extra, *options)
    top = known.values.max(1)
    likelihood = jnp.exp(known.values - top[:, None])

    def init(_key: PRNGKey) -> ReweightingState:
        return ReweightingState(jnp.full(len(theta), 1 / len(theta)), jnp.asarray(known.evaluations))

    def step(_key: PRNGKey, state: ReweightingState) -> tuple[ReweightingState, Info]:
        evidence = likelihood @ state.weights
        objective = -jnp.mean(jnp.log(evidence) + top)
        if extra > 0:
            objective -= extra * jnp.log(state.weights).sum()
        weights = state.weights * ((1 / evidence) @ likelihood) / len(evidence) + extra
        state_after = ReweightingState(weights / weights.sum(), jnp.zeros_like(state.unreported_renders))
        return state_after, Info(objective, state.unreported_renders)

    def estimate(state: ReweightingState) -> WeightedPoints:
        return WeightedPoints(theta, state.weights)

    return Method(init, step, estimate)


def _check_covered(nearest: np.ndarray, p: int) -> None:
    """`nearest` is min_k |y_i - x_k|^2 / sigma^2: for a covered observation at most chi-squared with p degrees."""
    limit = scipy.stats.chi2.isf(1e-6 / len(nearest), p)
    if lost := int((nearest > limit).sum()):
        raise ValueError(
            f"the support does not cover the data: {lost} of {len(nearest)} observations lie further than "
            f"{np.sqrt(limit):.1f} noise_std from every image of the support (the furthest "
            f"{np.sqrt(nearest.max()):.1f}); wanted a support whose images come "
            f"that close to all of them, such as a grid of problem.theta_box"
        )
