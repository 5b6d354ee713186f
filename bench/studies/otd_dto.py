"""OTD against DTO: every method on every problem within the same budgets, each with settings from an equal sweep."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from cryosip.bench.studies.ensemble import ENSEMBLE_IMAGES
from cryosip.bench.studies.protein import CONJECTURED_IMAGES, PROTEIN_IMAGES
from cryosip.bench.studies.study import Options
from cryosip.bench.studies.sweeps import sweep
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import on_any_problem
from cryosip.records.schema import UNTUNED, Labels, RunConfig, merged

GROWTH = 1.5  # of the steps between evaluations
DEFAULTS: Options = {"options": {}, "steps": 100}  # of a method that no sweep knows


class BudgetedProblem(NamedTuple):
    """A problem, and the budgets of each unit at which methods are compared on it; the last ends a run.

    `variant` are options that make another problem of the same name, where `options` are those of its size.
    """

    problem: str
    options: Options
    seconds: tuple[float, ...]
    forward_evaluations: tuple[float, ...]
    variant: Mapping[str, Any] = MappingProxyType({})

    @property
    def name(self) -> str:
        """Such as "fredholm dimension=2"."""
        return " ".join([self.problem, *(f"{key}={value}" for key, value in self.variant.items())])

    def is_of(self, run: RunConfig) -> bool:
        """Whether a run is on this problem, of whatever size."""
        return run.problem == self.problem and self.variant.items() <= run.problem_options.items()


class BudgetedProblems(NamedTuple):
    """The problems of a profile, how many replicates there are of each, and the budgets of any other problem.

    `tuned` is a file of `cryosip tune`, of which the settings come before those of the suite's own.
    """

    replicates: int
    problems: tuple[BudgetedProblem, ...]
    seconds: tuple[float, ...]
    forward_evaluations: tuple[float, ...]
    tuned: Path | None = None

    @property
    def all_problems(self) -> list[BudgetedProblem]:
        """Those of the profile, and all of the registry that no profile has."""
        others = [name for name in DATASETS if name not in KNOWN | OF_VOLUMES]
        return [*self.problems, *(self._other(name) for name in others)]

    def _other(self, name: str) -> BudgetedProblem:
        n = inspect.signature(DATASETS[name]).parameters["n_observations"].default
        return BudgetedProblem(name, {"n_observations": n}, self.seconds, self.forward_evaluations)


# two structures in unknown poses, and five along the path between them in known ones; the likelihood of poses that are
# near takes seconds for each score
_POPULATIONS: tuple[Options, ...] = (
    {"poses": "unknown"},
    {"poses": "known", "n_between": 3, "concentration": 1.0},
)


def _low_dimensional(n: int, seconds: tuple[float, ...], evaluations: tuple[float, ...]) -> list[BudgetedProblem]:
    """The problems whose observations are a few numbers."""
    size = {"n_observations": n}
    return [
        *(BudgetedProblem("fredholm", size, seconds, evaluations, {"dimension": d}) for d in (2, 4)),
        *(BudgetedProblem(name, size, seconds, evaluations) for name in ("two-moons", "inverse-kinematics", "slcp")),
    ]


def _ensembles(
    n: int, images: str, seconds: tuple[float, ...], evaluations: tuple[float, ...]
) -> list[BudgetedProblem]:
    return [
        BudgetedProblem("ensemble", {"n_observations": n} | ENSEMBLE_IMAGES[images], seconds, evaluations, variant)
        for variant in _POPULATIONS
    ]


SMOKE = BudgetedProblems(
    1,
    (
        BudgetedProblem("oned", {"n_observations": 60}, (0.01, 0.1), (1e3, 1e4)),
        BudgetedProblem("nanocluster", {"n_observations": 40, "image_size": 16, "tau": 0.5}, (0.01, 0.1), (1e3, 1e4)),
        BudgetedProblem("adk", {"n_observations": 12} | PROTEIN_IMAGES["smoke"], (0.1,), (1e4,)),
        *_low_dimensional(60, (0.1,), (1e4,)),
        *_ensembles(12, "smoke", (0.1,), (1e4,)),
    ),
    (0.1,),
    (1e4,),
)
SMALL = BudgetedProblems(
    5,
    (
        BudgetedProblem("oned", {"n_observations": 1_000}, (0.03, 0.3, 1.0), (1e4, 1e5, 1e6)),
        BudgetedProblem("nanocluster", {"n_observations": 300}, (0.3, 3.0), (1e4, 1e5, 1e6)),
        BudgetedProblem("adk", {"n_observations": 100} | PROTEIN_IMAGES["small"], (6.0,), (1e5, 1e6)),
        *_low_dimensional(500, (0.3, 2.0), (1e5, 1e6)),
        *_ensembles(200, "small", (1.0, 4.0), (1e4, 1e5)),
    ),
    (1.0, 6.0),
    (1e5, 1e6),
)
PAPER = BudgetedProblems(
    5,
    (
        BudgetedProblem("oned", {"n_observations": 10_000}, (0.1, 1.0, 10.0), (1e5, 1e6, 1e8)),
        BudgetedProblem("nanocluster", {"n_observations": 1_000}, (1.0, 30.0), (1e5, 1e6, 1e7)),
        BudgetedProblem("adk", {"n_observations": 500} | PROTEIN_IMAGES["small"], (60.0,), (1e6, 1e7)),
        BudgetedProblem("hsp90", {"n_observations": 500} | CONJECTURED_IMAGES["small"], (60.0,), (1e6, 1e7)),
        *_low_dimensional(10_000, (3.0, 30.0), (1e6, 1e7)),
        *_ensembles(1_000, "paper", (10.0, 60.0), (1e5, 1e6)),
    ),
    (10.0, 60.0),
    (1e6, 1e7),
)
KNOWN = {budgeted.problem for budgeted in PAPER.problems}
OF_VOLUMES = {"adk-volumes", "adk-states", "adk-entangled"}  # which the study volumes compares
SAME_SETTINGS = {"hsp90": "adk"}  # one protein is tuned, the other shows whether that carries over


def run_in(
    budgeted: BudgetedProblem, study: str, method: str, labels: Labels, tried: Options, budgets: Options
) -> RunConfig:
    """Replicate 0 of one setting, evaluated evenly in log(step) until its last budget of seconds is spent."""
    return RunConfig(
        study=study,
        labels=labels,
        problem=budgeted.problem,
        problem_options={**budgeted.options, **budgeted.variant},
        method=method,
        method_options=tried["options"],
        steps=tried["steps"],
        every=1,
        growth=GROWTH,
        replicate=0,
        stop_after_seconds=max(budgets["seconds"]),
        budgets=budgets,
    )


def otd_vs_dto(size: BudgetedProblems) -> list[RunConfig]:
    """Each method with the settings that the sweep found best, at which budgets each is to be compared."""
    known = tuned(size.tuned)
    return [
        run_in(budgeted, "otd-vs-dto", method, _labels(budgets, method in _swept(budgeted, known)), tried, budgets)
        for budgeted in size.all_problems
        for method in on_any_problem()
        for tried, budgets in chosen(budgeted, method, known)
    ]


def chosen(budgeted: BudgetedProblem, method: str, known: Options) -> list[tuple[Options, dict[str, list[float]]]]:
    """The settings of a method, each with the budgets of seconds for which it was best in the sweep.

    Forward evaluations are compared at the setting of the longest of them. A method without a sweep has one for all: on
    another problem the first that a sweep would try, else its defaults.
    """
    swept = _swept(budgeted, known).get(method)
    if swept is None:
        first = {} if budgeted.problem in KNOWN else sweep(budgeted.name, budgeted.options["n_observations"])
        budgets = {"seconds": list(budgeted.seconds), "forward_evaluations": list(budgeted.forward_evaluations)}
        return [(first.get(method, [DEFAULTS])[0], budgets)]
    best = [
        swept["best"][min(i, len(swept["best"]) - 1)] for i in range(len(budgeted.seconds))
    ]  # budgets by their rank
    return [
        (
            _sized(swept["settings"][index], budgeted),
            {
                "seconds": [b for b, pick in zip(budgeted.seconds, best, strict=True) if pick == index],
                "forward_evaluations": list(budgeted.forward_evaluations) if index == best[-1] else [],
            },
        )
        for index in dict.fromkeys(best)
    ]


def _swept(budgeted: BudgetedProblem, known: Options) -> Options:
    """What the sweep found on a problem, by method."""
    found: Options = known.get(SAME_SETTINGS.get(budgeted.name, budgeted.name), {}).get("methods", {})
    return found


def _sized(setting: Options, budgeted: BudgetedProblem) -> Options:
    """Flows that had as many particles as the sweep had observations have as many as there are now, and components are
    no more.
    """
    n, options = budgeted.options["n_observations"], dict(setting["options"])
    if options.get("n_particles") == _swept_observations(budgeted, n):
        options["n_particles"] = n
    if "n_components" in options:
        k = options["n_components"]
        options["n_components"] = [min(one, n) for one in k] if isinstance(k, list | tuple) else min(k, n)
    return {"options": options, "steps": setting["steps"]}


def _swept_observations(budgeted: BudgetedProblem, n: int) -> int:
    """Those of the sweep, whose profile is small; n where it does not have the problem."""
    name = SAME_SETTINGS.get(budgeted.name, budgeted.name)
    return next((one.options["n_observations"] for one in SMALL.problems if one.name == name), n)


def _labels(budgets: dict[str, list[float]], swept: bool) -> Labels:
    return Labels("for " + ", ".join(f"{b:g} s" for b in budgets["seconds"]) if swept else UNTUNED)


def tuned_file() -> Path:
    """By problem and method: the settings that the last sweep tried, their errors, and the best for each budget."""
    return Path(__file__).with_name("tuned.json")


def tuned(other: Path | None = None) -> Options:
    """The file; what another file of `cryosip tune` has comes before it. Raises ValueError where the other is none."""
    known: Options = json.loads(tuned_file().read_text())
    if other is None:
        return known
    try:
        own = json.loads(other.read_text(encoding="utf-8"))
        for method in (method for problem in own.values() for method in problem["methods"].values()):
            [method["settings"][index] for index in method["best"]]
        if not any(problem["methods"] for problem in own.values()):
            raise ValueError("it has no method")
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{other} is no file that `cryosip tune` wrote: {type(error).__name__}: {error}") from error
    return merged(known, own)
