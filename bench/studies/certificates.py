"""How far estimates are from the largest likelihood of all distributions, certified on the way."""

import jax.numpy as jnp

from cryosip.bench import programs
from cryosip.bench.build import build_instance
from cryosip.bench.execute import Session, run_instance
from cryosip.bench.measure import Arrays
from cryosip.bench.studies.study import Options, Size
from cryosip.methods.certificate import largest_ratio
from cryosip.methods.method import WeightedPoints
from cryosip.records.schema import Labels, Result, RunConfig

GAP = "likelihood_gap"
BEYOND = 1e38  # single precision holds no ratio of likelihoods that is larger
GROWTH = 1.5  # of the steps between evaluations
LIKELIHOOD: Options = {"discrepancy": {"name": "data-kl"}}

# one and two dimensions, in which a grid of the box proves that nothing is likelier by more than the gap
PROBLEMS: list[tuple[str, str, Options]] = [
    ("line", "oned", {"n_observations": 1_000}),
    ("line", "oned", {"n_observations": 10_000}),
    ("plane", "fredholm", {"n_observations": 1_000, "dimension": 2}),
    ("nanocluster", "nanocluster", {"n_observations": 300}),
]
METHODS: dict[str, tuple[int, Options]] = {
    "weighted-flow": (300, LIKELIHOOD | {"n_particles": 50}),
    "reweighting": (1_000, {"n_support": 400}),
    "mixture": (200, {"n_components": 50, "estimate_weights": True}),
}
# of images: an estimate of them needs a point for almost each of them
OF_IMAGES: dict[str, Options] = {
    "weighted-flow": {"anneal": [10.0, 40], "n_particles": 300},
    "mixture": {"anneal": [10.0, 50]},
}


def certificates(size: Size) -> list[RunConfig]:
    """Each method on each problem, evaluated evenly in log(step); problems that are cut to the same size are one."""
    cut = [(place, problem, options | {"n_observations": min(size.n, options["n_observations"])})
           for place, problem, options in PROBLEMS]  # fmt: skip
    return [
        RunConfig(
            study="certificates",
            labels=Labels(f"{place}, {_digits(options['n_observations'])}"),
            problem=problem,
            problem_options=options,
            method=method,
            method_options=own | (OF_IMAGES.get(method, {}) if problem == "nanocluster" else {}),
            steps=max(2, round(steps * size.share_of_steps)),
            every=1,
            growth=GROWTH,
            replicate=0,
        )
        for i, (place, problem, options) in enumerate(cut)
        if (place, problem, options) not in cut[:i]
        for method, (steps, own) in METHODS.items()
    ]


def _digits(n: int) -> str:
    """In groups of three from five digits on."""
    return f"{n:,}".replace(",", " ") if n >= 10_000 else str(n)


def run_certified(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """Runs a method; each estimate has its duality gap beside W2."""
    instance = build_instance(config)

    def gap(estimate: WeightedPoints) -> float:
        highest, _place = programs.call(largest_ratio(instance.problem), *map(jnp.asarray, estimate))
        return max(0.0, min(float(highest) - 1, BEYOND))

    return run_instance(instance, config, session, ("w2",), {GAP: gap})
