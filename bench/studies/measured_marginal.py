"""The integrated squared error of the first marginal that a run of the study fredholm finds."""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.random as jr
import msgspec
import numpy as np

from cryosip.bench import metrics
from cryosip.bench.build import build_instance, resolved
from cryosip.bench.execute import Session, run_method
from cryosip.bench.limits import ending_after
from cryosip.bench.measure import Arrays
from cryosip.bench.studies import fredholm_published as published
from cryosip.bench.studies.density import integrated_squared_error, kernel_density
from cryosip.datasets.gaussian_mixture import GaussianMixture, gaussian_mixture
from cryosip.records.schema import Floor, Result, RunConfig

ERROR = "integrated_squared_error"
NODES = np.linspace(0, 1, 100)  # of the integral, as in the code of [crucinio2022]
FLOOR_DRAWS = 20
FREDHOLM_KEY = 1005  # fold_in number of a replicate's key


def measure_marginal(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """A run with the error of its first marginal, beside that of samples of the truth as large as the data."""
    truth = first_marginal(config)
    arrays: Arrays
    if config.method in PUBLISHED:
        result, arrays = Result(steps=config.steps), {}
        with ending_after(session.limits.seconds):
            density = PUBLISHED[config.method](config, truth)
    else:
        result, arrays = run_method(config, session)
        if "theta" not in arrays:
            return result, arrays
        density = kernel_density(np.asarray(arrays["theta"][:, 0], float), np.asarray(arrays["weights"], float), NODES)
    error = integrated_squared_error(density, truth.pdf, NODES)
    law = tuple(tuple(column.tolist()) for column in truth)
    floors = {ERROR: floor(law, min(config.problem_options["n_observations"], published.PARTICLES))}
    result = msgspec.structs.replace(
        result, metrics=result.metrics | {ERROR: error}, data_floors=result.data_floors | floors
    )
    marginal = np.stack([NODES, truth.pdf(NODES), density], axis=1)
    return result, arrays | {"marginal": marginal.astype(np.float32)}


def first_marginal(config: RunConfig) -> GaussianMixture:
    """Of the truth, that of every coordinate."""
    options = resolved(config).problem.resolved
    return gaussian_mixture(options["means"], options["stds"], options["weights"])


@lru_cache
def floor(law: tuple[tuple[float, ...], ...], n: int) -> Floor:
    """Of samples of the truth."""
    truth = GaussianMixture(*map(np.array, law))
    draw = jax.jit(truth.sample, static_argnums=1)
    keys = jr.split(jr.key(FREDHOLM_KEY), FLOOR_DRAWS)
    samples = (np.asarray(draw(key, n), float) for key in keys)
    errors = [integrated_squared_error(kernel_density(x, np.full(n, 1 / n), NODES), truth.pdf, NODES) for x in samples]
    found = metrics.summary(errors)
    return Floor(found["median"], found["q05"], found["q95"], n)


def em_marginal(config: RunConfig, truth: GaussianMixture) -> np.ndarray:
    """The first marginal of one-step-late EM at NODES.

    As published, EM has the exact density of the observations, the marginal is that of `slice_sums`, and each of NODES
    takes the value at the node below. In "all coordinates" the marginal is one in any dimension, and linear between
    nodes; "observations" has so many of them instead of their density, too.
    """
    problem, options = build_instance(config).problem, config.method_options
    d = config.problem_options["dimension"]
    axis = published.nodes(options["n_bins"], d)
    if options["marginal"] == "observations":
        seen = published.counted_density(np.asarray(problem.observations, float), axis)
    else:
        seen = published.exact_density(truth, problem.noise_std, axis, d)
    pi = published.one_step_late_em(seen, axis, problem.noise_std)
    if options["marginal"] == "published":
        below = np.maximum(np.searchsorted(axis, NODES, side="right") - 1, 0)
        density = published.slice_sums(pi)[below]
    else:
        density = np.interp(NODES, axis, pi.reshape(len(axis), -1).sum(1))
        return density / density.sum() / (NODES[1] - NODES[0])
    # where d = 1 the code scales nothing
    return density if d == 1 else density / density.sum() * truth.pdf(NODES).sum()


def flow_marginal(config: RunConfig, _truth: GaussianMixture) -> np.ndarray:
    """The first marginal of the published flow."""
    problem, options = build_instance(config).problem, config.method_options
    key = jr.fold_in(jr.key(config.replicate), FREDHOLM_KEY)
    sizes = options["n_particles"], options["attraction"]
    theta = published.noisy_flow(key, problem.observations, problem.noise_std, *sizes)
    n = len(theta)
    return kernel_density(np.asarray(theta[:, 0], float), np.full(n, 1 / n), NODES)


PUBLISHED: dict[str, Callable[[RunConfig, GaussianMixture], np.ndarray]] = {
    "one-step-late-em": em_marginal,
    "noisy-flow": flow_marginal,
}
