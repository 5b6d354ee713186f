"""The table of [crucinio2022]: the mean integrated squared error of the first marginal in one to four dimensions."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

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
from cryosip.bench.studies.fredholm_settings import CHOSEN, DIMENSIONS, PARTICLES, TRIED, sized
from cryosip.bench.studies.study import Size, run_on
from cryosip.datasets.gaussian_mixture import GaussianMixture, gaussian_mixture
from cryosip.records.schema import Floor, Labels, Result, RunConfig

ERROR = "integrated_squared_error"
NODES = np.linspace(0, 1, 100)  # of the integral, as in the code of [crucinio2022]
FLOOR_DRAWS = 20
FREDHOLM_KEY = 1005  # fold_in number of a replicate's key


# of the published table, with the sizes at which it was made
PUBLISHED_OBSERVATIONS = 1_000_000  # and as many bins as PARTICLES
# where the first marginal of one-step-late EM is from
EM_VARIANTS = ("published", "all coordinates", "observations")
ATTRACTIONS = {"published": -1.0, "as in the paper": 1.0}


def fredholm(size: Size) -> list[RunConfig]:
    """Our methods and the two of the published table, in one to four dimensions.

    The published ones have their own sizes, but in a profile of fewer steps.
    """
    runs = []
    whole = size.share_of_steps == 1
    for at, d in enumerate(DIMENSIONS):
        labels = partial(Labels, axis="d", value=d)
        for row, (method, settings) in TRIED.items():
            setting = settings[CHOSEN[row][at]]
            # before all steps of its search it has no estimate to speak of
            own = size._replace(share_of_steps=1.0) if method == "posterior-npmle" else size
            runs.append(on_fredholm(d, labels(), own, method, setting.steps, **sized(setting, method, size.n)))
        theirs = size._replace(n=PUBLISHED_OBSERVATIONS if whole else size.n, share_of_steps=1.0)
        n = PARTICLES if whole else size.n
        for variant in EM_VARIANTS:
            runs.append(on_fredholm(d, labels(variant), theirs, "one-step-late-em", published.STEPS, n_bins=n,
                                    marginal=variant))  # fmt: skip
        for variant, attraction in ATTRACTIONS.items():
            runs.append(on_fredholm(d, labels(variant), theirs, "noisy-flow", published.STEPS, n_particles=n,
                                    attraction=attraction))  # fmt: skip
    return runs


def on_fredholm(d: int, labels: Labels, size: Size, method: str, steps: int, **options: Any) -> RunConfig:
    """A run in d dimensions, evaluated once."""
    return run_on("fredholm", {"dimension": d}, 1, "fredholm", labels, size, method, steps, **options)


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
    floors = {ERROR: floor(law, min(config.problem_options["n_observations"], PARTICLES))}
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
