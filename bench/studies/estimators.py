"""Variances of the three estimators of section 2.5.3, measured and by their formulas."""

from collections.abc import Callable
from typing import NamedTuple

import jax.random as jr
import numpy as np

from cryosip.bench.build import build_instance
from cryosip.bench.execute import Session, run_method
from cryosip.bench.limits import ending_after
from cryosip.bench.measure import Arrays
from cryosip.bench.metrics import summary
from cryosip.methods.problem import Problem
from cryosip.records.schema import Result, RunConfig

VARIANCE_KEY = 1003  # fold_in number of a replicate's key
SUPPORT = 400  # points of the two laws, theta and omega, that the estimators draw from
REPEATS = 4_000
RESAMPLES = 400

Table = np.ndarray  # phi(theta_a, omega_b)


def estimate_1(rng: np.random.Generator, phi: Table, n: int, _k: int) -> float:
    """(2.13): n pairs."""
    return phi[rng.integers(len(phi), size=n), rng.integers(phi.shape[1], size=n)].mean()


def estimate_2(rng: np.random.Generator, phi: Table, n: int, k: int) -> float:
    """(2.14): n thetas, which share k omegas."""
    return phi[np.ix_(rng.integers(len(phi), size=n), rng.integers(phi.shape[1], size=k))].mean()


def estimate_3(rng: np.random.Generator, phi: Table, n: int, k: int) -> float:
    """(2.15): n thetas with k omegas each."""
    return phi[rng.integers(len(phi), size=(n, 1)), rng.integers(phi.shape[1], size=(n, k))].mean()


class Moments(NamedTuple):
    """Var phi, Var_theta E_omega phi, Var_omega E_theta phi and E_theta Var_omega phi."""

    total: float
    between_theta: float
    between_omega: float
    within_theta: float


def moments(phi: Table) -> Moments:
    """Exact for the two discrete laws that the rows and the columns of the table stand for."""
    return Moments(phi.var(), phi.mean(1).var(), phi.mean(0).var(), phi.var(1).mean())


ESTIMATORS: dict[str, Callable[[np.random.Generator, Table, int, int], float]] = {
    "method-1": estimate_1,
    "method-2": estimate_2,
    "method-3": estimate_3,
}

# the three formulas that close section 2.5.3
FORMULAS: dict[str, Callable[[Moments, int, int], float]] = {
    "method-1": lambda v, n, k: v.total / n,
    "method-2": lambda v, n, k: (
        v.total / (n * k) + (1 / n - 1 / (n * k)) * v.between_theta + (1 / k - 1 / (n * k)) * v.between_omega
    ),
    "method-3": lambda v, n, k: v.within_theta / (n * k) + v.between_theta / n,
}


def drift_table(problem: Problem, seed: int) -> Table:
    """phi = R(theta, omega) of (2.12) for the energy distance at the initial law, theta and omega on discrete laws.

    For a problem on the line without poses: R = 2 (F_observed - F_simulated)(y) where the image moves with theta.
    """
    if problem.observations.shape[1] != 1:
        raise ValueError(f"problem {problem.name!r} has images of {problem.observations.shape[1]} pixels; wanted 1")
    key_theta, key_omega = jr.split(jr.fold_in(jr.key(seed), VARIANCE_KEY))
    clean = np.asarray(problem.render(problem.sample_init(key_theta, SUPPORT), problem.sample_pose(key_theta, SUPPORT)))
    omega = problem.noise_std * np.asarray(jr.normal(key_omega, (SUPPORT,)))
    y = clean + omega
    observed, simulated = np.sort(np.asarray(problem.observations)[:, 0]), np.sort(y, axis=None)
    rank = np.searchsorted(observed, y) / observed.size - np.searchsorted(simulated, y) / simulated.size
    return 2 * rank


def measure_variance(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """The variance of one estimator over many repeats, with a bootstrap interval, beside its formula."""
    problem = build_instance(config).problem
    phi = drift_table(problem, config.replicate)
    n, k = config.method_options["n"], config.method_options["k"]
    rng = np.random.default_rng([config.replicate, n, k])
    with ending_after(session.limits.seconds):
        values = np.array([ESTIMATORS[config.method](rng, phi, n, k) for _ in range(REPEATS)])
    resampled = [rng.choice(values, REPEATS).var(ddof=1) for _ in range(RESAMPLES)]
    interval = summary(resampled)
    formula = FORMULAS[config.method](moments(phi), n, k)
    found = {
        "variance": float(values.var(ddof=1)),
        "variance_q05": interval["q05"],
        "variance_q95": interval["q95"],
        "variance_formula": float(formula),
    }
    return Result(steps=REPEATS, metrics=found), {}


def measure(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """The variance of an estimator, or the run of a flow that draws so."""
    return (measure_variance if config.method in ESTIMATORS else run_method)(config, session)
