"""Settings of the study fredholm: four of each method, of which the likelihood of held-out observations chose one."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr

from cryosip.bench.build import build_method
from cryosip.bench.runner import run
from cryosip.bench.studies import fredholm_published as published
from cryosip.datasets.registry import DATASETS
from cryosip.methods.likelihood import e_step
from cryosip.methods.problem import Problem, halves
from cryosip.records.schema import Options

DIMENSIONS = (1, 2, 3, 4)


class Setting(NamedTuple):
    """Options of a method and how many steps it takes."""

    steps: int
    options: Options


def _flow(discrepancy: str, rate: float, steps: int, **options: Any) -> Setting:
    adam = {"name": "adam", "learning_rate": rate}
    return Setting(steps, {"discrepancy": {"name": discrepancy}, "optimizer": adam} | options)


# Four settings of each method, the same in all dimensions, and which of them had the highest `held_out_likelihood` in
# d = 1, 2, 3, 4, by its mean over REPLICATES, which no study reports: what any user can compute, without the truth.
# `choose()` chooses again.
REPLICATES, OBSERVATIONS = (100, 101), 1_000
TRIED: dict[str, tuple[str, list[Setting]]] = {
    "energy flow": ("flow", [_flow("energy", rate, steps) for rate in (3e-3, 1e-2) for steps in (100, 400)]),
    "KL flow": ("flow", [_flow("kl", rate, steps) for rate in (3e-3, 1e-2) for steps in (100, 400)]),
    "data-KL flow": (
        "flow",
        [
            _flow("data-kl", rate, steps, sampling="closed-form")
            for rate, steps in ((3e-3, 50), (3e-3, 200), (1e-2, 30), (1e-2, 100))
        ],
    ),
    "mixture": ("mixture", [Setting(steps, {"n_components": k}) for k in (10, 50) for steps in (10, 50)]),
    "reweighting": (
        "reweighting",
        [Setting(steps, {"n_support": k}) for k in (400, 1_600) for steps in (30, 300)],
    ),
    "maximum-likelihood": ("maximum-likelihood", [Setting(5, {"n_support": k}) for k in (50, 100, 400, 1_000)]),
    "posterior-npmle": (
        "posterior-npmle",
        [
            Setting(k + 3 + steps, {"n_support": k, "n_candidates": 1, "n_refinements": 2})
            for k in (10, 50)
            for steps in (10, 100)
        ],
    ),
}
CHOSEN: dict[str, tuple[int, int, int, int]] = {
    "energy flow": (3, 1, 1, 1),
    "KL flow": (0, 2, 2, 2),
    "data-KL flow": (3, 2, 2, 1),
    "mixture": (2, 0, 2, 2),
    "reweighting": (2, 0, 2, 2),
    "maximum-likelihood": (0, 0, 0, 0),
    "posterior-npmle": (1, 0, 0, 0),
}


def sized(setting: Setting, method: str, n: int) -> Options:
    """The options of a setting where there are n observations: a flow has as many particles, up to the published."""
    return setting.options | ({"n_particles": min(n, published.PARTICLES)} if method == "flow" else {})


def held_out_likelihood(problem: Problem, method: str, setting: Setting) -> float:
    """mean_i log sum_k w_k p(y_i | theta_k) over every other observation, (theta, w) fitted to the rest."""
    fit, held_out = halves(problem)
    fitted = build_method(fit, method, sized(setting, method, len(fit.observations)))
    *_, last = run(jr.key(0), fitted, setting.steps, setting.steps)
    theta, weights = map(jnp.asarray, last.estimate)
    images = problem.render(theta, problem.sample_pose(jr.key(0), len(theta)))
    log_weights = jnp.log(jnp.maximum(weights, 1e-30))[:, None]
    return float(e_step(held_out.observations, images, log_weights, problem.noise_std).log_likelihood)


def choose(replicates: tuple[int, ...] = REPLICATES, n: int = OBSERVATIONS) -> dict[str, list[int]]:
    """For each method, the setting of the highest mean held-out likelihood in each dimension."""
    chosen: dict[str, list[int]] = {row: [] for row in TRIED}
    for d in DIMENSIONS:
        problems = [DATASETS["fredholm"](n_observations=n, dimension=d, seed=seed).problem for seed in replicates]
        for row, (method, settings) in TRIED.items():
            means = [sum(held_out_likelihood(p, method, setting) for p in problems) for setting in settings]
            chosen[row].append(max(range(len(means)), key=means.__getitem__))
    return chosen
