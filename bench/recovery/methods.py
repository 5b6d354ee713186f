"""The methods of the suite on the particles of a stack: their problems, their options, and their estimates."""

import time
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Int

from cryosip.bench.build import build_method
from cryosip.bench.recovery.tables import Table
from cryosip.bench.runner import run
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Problem, no_pose, one_node, part
from cryosip.methods.tabulated import interpolated
from cryosip.records.schema import Options

FEW = 4_000  # images, drawn at random, for methods whose cost or memory grows with their square or their pixels


class Choice(NamedTuple):
    """Options of a method and its number of steps; whether it takes each image's likelihood, and few images alone."""

    options: Options
    steps: int
    by_likelihood: bool = True
    few: bool = False


FLOW: Options = {
    "discrepancy": {"name": "energy"},
    "n_particles": 500,
    "optimizer": {"name": "rms-sgd", "learning_rate": 0.2, "cosine_steps": 200},
}
MIXTURE: Options = {"n_components": [1, 2, 4, 8, 16], "estimate_weights": True}
WEIGHTED: Options = {"discrepancy": {"name": "data-kl"}, "n_particles": 32, "stop": "held-out"}
CHOICES: dict[str, Choice] = {
    "posterior-npmle": Choice({"n_support": 200}, 242, few=True),  # the search, 12 refinements, 30 steps of EM
    "mixture": Choice(MIXTURE, 5 * 30 + 60),
    "reweighting": Choice({"n_support": 841, "stop_on_held_out": True}, 200),
    "weighted-flow": Choice(WEIGHTED, 40),
    "flow": Choice(FLOW | {"stop": "held-out"}, 200, by_likelihood=False, few=True),
}


class Outcome(NamedTuple):
    """An estimate, None where the method failed with `message`, and what it took."""

    estimate: WeightedPoints | None
    message: str
    seconds: float


def by_likelihood(imaging_problem: Problem, table: Table) -> Problem:
    """The problem of all images in which each is represented by its likelihood, as splines: no image is in memory.

    `imaging_problem` is that of any of the images: box, prior and initial distribution are its own.
    """
    splines = jnp.asarray(table.coefficients)
    return Problem(
        name=imaging_problem.name,
        observations=splines,
        noise_std=1.0,
        # the likelihood is given, and nothing is rendered
        render=lambda theta, _pose: jnp.zeros((len(theta), splines.shape[1]), splines.dtype),
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=imaging_problem.sample_init,
        log_prior=imaging_problem.log_prior,
        theta_box=imaging_problem.theta_box,
        log_likelihood=interpolated(table.grid, splines),
    )


def recovered(problem: Problem, name: str, choice: Choice, rows: Int[np.ndarray, " n"], seed: int) -> Outcome:
    """The estimate of a method from some of the observations; what it raises is its message."""
    begun = time.perf_counter()
    try:
        method = build_method(part(problem, jnp.asarray(rows)), name, choice.options)
        *_, last = run(jr.key(seed), method, choice.steps, choice.steps)
        if not last.finite:
            return Outcome(None, f"it diverged before step {last.step}", time.perf_counter() - begun)
        theta, weights = (np.asarray(a, np.float64) for a in last.estimate)
    except Exception as error:  # of a method that users bring, too: the page says so, and the others go on
        return Outcome(None, f"{type(error).__name__}: {error}", time.perf_counter() - begun)
    return Outcome(WeightedPoints(theta, weights / weights.sum()), "", time.perf_counter() - begun)
