"""The study of scaling: errors, time and memory along one axis at a time, all else fixed."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cryosip.bench.studies.ensemble import ENSEMBLE_IMAGES
from cryosip.bench.studies.nanocluster import MAXIMUM_LIKELIHOOD_STEPS
from cryosip.bench.studies.oned import MIXTURE_STEPS, TUNED_FLOWS
from cryosip.bench.studies.protein import PROTEIN_IMAGES
from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.methods.registry import on_any_problem
from cryosip.records.schema import Labels, RunConfig

Value = int | float

# The last value of each axis is for the largest profile alone. A setting is the axis and its value, such as "N=1000".
# Few values, since each run is compiled anew and that takes most of the time.
PARTICLES = (100, 500, 2_000, 10_000, 30_000)
COMPONENTS = (2, 5, 20, 100, 1_000, 3_000)
SUPPORTS = (10, 30, 100, 1_000, 3_000)
DRAWS = (1, 2, 4, 8, 16)
OBSERVATIONS = (100, 1_000, 10_000, 30_000, 100_000)
NOISE_STDS = (0.5, 1.5, 4.0, 8.0)
IMAGES = (100, 1_000, 3_000)
ORDERS = (1, 2)

DEFAULT_STEPS = 100
TUNED_RATE, TUNED_STEPS = TUNED_FLOWS["energy"]

# images that are cheap: transport plans in the plane, not rendering, should take the time
NANOCLUSTER: Options = {"image_size": 32, "tau": 0.5}
IMAGES_OF_PROTEIN, STEPS_ON_PROTEIN = 100, 3
# problems on which observations alone vary
FURTHER: dict[str, Options] = {
    "fredholm": {"dimension": 2},
    "two-moons": {},
    "inverse-kinematics": {},
    "slcp": {},
    "ensemble": ENSEMBLE_IMAGES["small"] | {"poses": "known"},
}


class Base(NamedTuple):
    """Where a method stands on a problem while something else varies."""

    steps: int
    options: Options
    most: float = math.inf  # observations that it is run on


def _flow(n_particles: int) -> Options:
    adam = {"name": "adam", "learning_rate": TUNED_RATE}
    return {"discrepancy": {"name": "energy"}, "optimizer": adam, "n_particles": n_particles}


def _posterior(n_support: int, n_candidates: int) -> Base:
    """All of the bank, ten refinements, three EM steps on the weights, the work of which grows as M^2."""
    options = {"n_support": n_support, "n_candidates": n_candidates, "n_refinements": 10}
    return Base(n_support + 10 + 1 + 3, options, most=10_000)


# of a method without an entry, which is built with no options
PLAIN = Base(DEFAULT_STEPS, {})


def _weighted(n_particles: int, steps: int, **options: Any) -> Base:
    return Base(steps, {"discrepancy": {"name": "data-kl"}, "n_particles": n_particles} | options)


def _pushforward(steps: int) -> Base:
    adam = {"name": "adam", "learning_rate": 3e-3}
    return Base(steps, {"discrepancy": {"name": "energy"}, "optimizer": adam, "n_particles": 1_000})


_LOW_DIMENSIONAL: dict[str, Base] = {
    "flow": Base(500, _flow(1_000)),
    "maximum-likelihood": Base(MAXIMUM_LIKELIHOOD_STEPS, {"n_support": 1_000}),
    "mixture": Base(50, {"n_components": 20, "estimate_weights": True}),
    "posterior-npmle": _posterior(64, 1),
    "pushforward": _pushforward(300),
    "reweighting": Base(100, {"n_support": 1_000, "stop_on_held_out": True, "n_refinements": 3, "refine_every": 5}),
    "weighted-flow": _weighted(100, 20),
}
BASES: dict[str, dict[str, Base]] = {
    "fredholm": _LOW_DIMENSIONAL,
    "inverse-kinematics": _LOW_DIMENSIONAL,
    "slcp": _LOW_DIMENSIONAL,
    "two-moons": _LOW_DIMENSIONAL,
    "ensemble": {
        "flow": Base(200, _flow(300)),
        "maximum-likelihood": Base(5, {"n_support": 20}),
        "mixture": Base(10, {"n_components": 5, "estimate_weights": True}),
        "posterior-npmle": _posterior(8, 1),
        "pushforward": _pushforward(200),
        "reweighting": Base(100, {}),
        "weighted-flow": _weighted(5, 20),
    },
    "oned": {
        "flow": Base(TUNED_STEPS, _flow(1_000)),
        "maximum-likelihood": Base(MAXIMUM_LIKELIHOOD_STEPS, {"n_support": 200}),
        "mixture": Base(MIXTURE_STEPS, {"n_components": 50}),
        "posterior-npmle": _posterior(32, 1),
        "pushforward": _pushforward(500),
        "reweighting": Base(300, {"n_support": 200}),
        "weighted-flow": _weighted(50, 30),
    },
    "nanocluster": {
        "flow": Base(500, _flow(300)),
        "maximum-likelihood": Base(MAXIMUM_LIKELIHOOD_STEPS, {"n_support": 400}),
        "mixture": Base(250, {"n_components": 100, "anneal": [10.0, 200]}),
        "posterior-npmle": _posterior(100, 4),
        "pushforward": _pushforward(300),
        "reweighting": Base(3, {"n_support": 400}),
        "weighted-flow": _weighted(100, 80, anneal=[10.0, 40]),
    },
}


def scaling(size: Size) -> list[RunConfig]:
    """W2, seconds and memory against N, K, draws for each particle, M and sigma; in the last two for every method.

    The order of a quadrature over poses, which takes long to compile, and M on further problems are for the largest
    profile alone.
    """
    whole = size.share_of_steps == 1
    return [
        *(_along("N", n, size, "oned", "flow", n_particles=n) for n in _some(PARTICLES, size)),
        *(_along("K", k, size, "oned", "mixture", n_components=k) for k in _some(COMPONENTS, size)),
        *(_along("K", k, size, "oned", "reweighting", n_support=k) for k in _some(SUPPORTS, size)),
        *(_along("draws", k, size, "oned", "flow", sampling="method-3", n_draws=k) for k in _some(DRAWS, size)),
        *_every_method("M", "n_observations", OBSERVATIONS, size, "oned", {}),
        *_every_method("sigma", "noise_std", NOISE_STDS, size, "oned", {}),
        *(_every_method("M", "n_observations", IMAGES, size, "nanocluster", NANOCLUSTER) if whole else ()),
        *(_on_protein(order, size) for order in (ORDERS if size.all_settings else ())),
        *(
            run
            for problem, shown in (FURTHER if size.all_settings else {}).items()
            for run in _every_method("M", "n_observations", IMAGES, size, problem, shown)
        ),
    ]


def _some(values: Sequence[Value], size: Size) -> Sequence[Any]:
    """All, all but the last, or the first two."""
    return values if size.all_settings else values[:-1] if size.share_of_steps == 1 else values[:2]


def _along(
    axis: str, value: Value, size: Size, problem: str, method: str, shown: Options | None = None, **options: Any
) -> RunConfig:
    """A run at one value of an axis; evaluated at the start and at the end alone."""
    base = BASES[problem].get(method, PLAIN)
    return run_on(
        problem,
        shown or {},
        1,
        "scaling",
        Labels(axis=axis, value=value),
        size,
        method,
        base.steps,
        **base.options | options,
    )


def _every_method(
    axis: str, option: str, values: Sequence[Value], size: Size, problem: str, shown: Options
) -> Iterator[RunConfig]:
    for value in _some(values, size):
        for method in on_any_problem():
            run = _along(axis, value, size, problem, method, shown | {option: value})
            if run.problem_options["n_observations"] <= BASES[problem].get(method, PLAIN).most:
                yield run


def _on_protein(order: int, size: Size) -> RunConfig:
    """EM over poses on images so small that the quadrature is what costs."""
    images = PROTEIN_IMAGES["smoke"] | {"n_observations": IMAGES_OF_PROTEIN}
    options = {"n_components": 2, "quadrature_order": order, "estimate_noise": True}
    return run_on(
        "adk", images, 1, "scaling", Labels(axis="order", value=order), size, "mixture", STEPS_ON_PROTEIN, **options
    )
