"""How well an estimate explains images that its method has not seen: what any user could compute, truth or not."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr

from cryosip.bench import programs
from cryosip.bench.build import build_instance
from cryosip.bench.execute import Session, run_instance
from cryosip.bench.image_distances import simulated_images
from cryosip.bench.measure import Arrays
from cryosip.datasets.instance import Instance
from cryosip.methods.invariant import invariant_energy
from cryosip.methods.likelihood import log_likelihoods
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Points, Problem, Weights, in_span, part
from cryosip.records.schema import Result, RunConfig

EVERY = 4  # of the observations one is held out
SCORE = "held_out"
ORDER = 1  # of the pose quadrature, which is exact where poses are few
SIMULATED = 1_000  # images of an estimate that stand for its distribution
SIMULATED_KEY = 1006  # fold_in number of a replicate's key

Score = Callable[[WeightedPoints], float]


def run_held_out(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """Runs a method on three of four observations; each estimate is scored on the rest, lower is better."""
    fit, held_out = split(build_instance(config))
    key = jr.fold_in(jr.key(config.replicate), SIMULATED_KEY)
    return run_instance(fit, config, session, ("w2",), {SCORE: score(held_out, key)})


def split(instance: Instance) -> tuple[Instance, Problem]:
    """The instance without every fourth observation, and the problem of these. ValueError where there are too few."""
    problem, truth = instance.problem, instance.truth
    m = len(problem.observations)
    if m < EVERY:
        raise ValueError(f"{problem.name} has {m} observations; wanted at least {EVERY}, to hold one of {EVERY} out")
    rows = jnp.arange(m)
    kept, left_out = rows[rows % EVERY != EVERY - 1], rows[EVERY - 1 :: EVERY]
    behind = truth._replace(theta=truth.theta[kept], pose=jax.tree.map(lambda a: a[kept], truth.pose))
    return instance._replace(problem=part(problem, kept), truth=behind), part(problem, left_out)


def score(held_out: Problem, key: jax.Array) -> Score:
    """The negative mean log-likelihood of the held-out images, where it can be computed; else a distance of images.

    Where poses are continuous and unknown, no quadrature that a user can afford gives the likelihood: the score is then
    half the squared energy distance of in-plane invariants between simulated and held-out images, with the same random
    numbers for all estimates.
    """
    if held_out.log_likelihood is None and held_out.pose_motion is not None:
        target = invariant_energy().bind(held_out.observations, 0.0)

        def distance(estimate: WeightedPoints) -> float:
            return float(programs.call(target.value, simulated_images(held_out, estimate, SIMULATED, key)[1]))

        return distance
    problem = in_span(held_out)

    def negative(theta: Points, weights: Weights) -> jax.Array:
        logits = log_likelihoods(problem, theta, ORDER).values + jnp.log(weights)
        return -jax.nn.logsumexp(logits, axis=1).mean()

    return lambda estimate: float(programs.call(negative, *map(jnp.asarray, estimate)))
