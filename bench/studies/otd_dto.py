"""OTD against DTO: every method on every problem within the same budgets, each with settings from an equal sweep."""

import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

from cryosip.bench.studies.protein import PROTEIN_IMAGES, PROTEIN_RINGS
from cryosip.bench.studies.study import Options
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import METHODS
from cryosip.records.schema import UNTUNED, Labels, RunConfig, merged

GROWTH = 1.5  # of the steps between evaluations
DEFAULTS: Options = {"options": {}, "steps": 100}  # of a method that no sweep knows


class BudgetedProblem(NamedTuple):
    """A problem, and the budgets of each unit at which methods are compared on it; the last ends a run."""

    problem: str
    options: Options
    seconds: tuple[float, ...]
    forward_evaluations: tuple[float, ...]


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
        others = [name for name in DATASETS if name not in KNOWN]
        return [*self.problems, *(self._other(name) for name in others)]

    def _other(self, name: str) -> BudgetedProblem:
        n = inspect.signature(DATASETS[name]).parameters["n_observations"].default
        return BudgetedProblem(name, {"n_observations": n}, self.seconds, self.forward_evaluations)


SMOKE = BudgetedProblems(
    1,
    (
        BudgetedProblem("oned", {"n_observations": 60}, (0.01, 0.1), (1e3, 1e4)),
        BudgetedProblem("nanocluster", {"n_observations": 40, "image_size": 16, "tau": 0.5}, (0.01, 0.1), (1e3, 1e4)),
        BudgetedProblem("adk", {"n_observations": 12} | PROTEIN_IMAGES["smoke"], (0.1,), (1e4,)),
    ),
    (0.1,),
    (1e4,),
)
SMALL = BudgetedProblems(
    10,
    (
        BudgetedProblem("oned", {"n_observations": 1_000}, (0.03, 0.3, 1.0), (1e4, 1e5, 1e6)),
        BudgetedProblem("nanocluster", {"n_observations": 300}, (0.3, 3.0), (1e4, 1e5, 1e6)),
        BudgetedProblem("adk", {"n_observations": 100} | PROTEIN_IMAGES["small"], (6.0,), (1e5, 1e6)),
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
        BudgetedProblem("hsp90", {"n_observations": 500} | PROTEIN_IMAGES["small"], (60.0,), (1e6, 1e7)),
    ),
    (10.0, 60.0),
    (1e6, 1e7),
)
KNOWN = {budgeted.problem for budgeted in PAPER.problems}
SAME_SETTINGS = {"hsp90": "adk"}  # one protein is tuned, the other shows whether that carries over


def _flow(
    discrepancy: str, n: int, rate: float, optimizer: str = "adam", steps: int = 10**6, **options: Any
) -> Options:
    """A setting of the flow; Euler steps of a given length fall to zero within all steps."""
    rings = {"options": {"ring_width": PROTEIN_RINGS["small"]}} if discrepancy == "invariant-energy" else {}
    falling = {"cosine_steps": steps} if optimizer == "rms-sgd" else {}
    chosen = {"name": optimizer, "learning_rate": rate} | falling
    return {
        "options": {"discrepancy": {"name": discrepancy} | rings, "optimizer": chosen, "n_particles": n} | options,
        "steps": steps,
    }


def _setting(steps: int, **options: Any) -> Options:
    return {"options": options, "steps": steps}


def _posterior(n_support: int, n_candidates: int, n_refinements: int, steps: int, **options: Any) -> Options:
    """So many EM steps on the weights after all the rest."""
    known = {"n_support": n_support, "n_candidates": n_candidates, "n_refinements": n_refinements}
    return {"options": known | options, "steps": n_support + n_refinements + 1 + steps}


def sweep(budgeted: BudgetedProblem) -> dict[str, list[Options]]:
    """The settings of each method that are tried: as many for each, of what its users would try first.

    Where more EM steps only sharpen, as on the line and on grids, how soon to stop is among them.
    """
    n = budgeted.options["n_observations"]
    over_poses = {"quadrature_order": 2, "refine_poses": True, "estimate_noise": True, "estimate_weights": True}
    if budgeted.problem == "oned":
        return {
            "flow": [_flow(name, n, rate) for name in ("energy", "kl") for rate in (3e-2, 1e-1)],
            "mixture": [_setting(steps, n_components=min(k, n)) for k in (20, 50) for steps in (10, 30)],
            "reweighting": [_setting(steps, n_support=200) for steps in (100, 300, 1_000, 3_000)],
            "maximum-likelihood": [_setting(5, n_support=k) for k in (50, 100, 400, 1_000)],
            "posterior-npmle": [_posterior(k, 1, 2, steps) for k in (50, 200) for steps in (10, 100)],
        }
    if budgeted.problem == "nanocluster":
        return {
            "flow": [
                *(_flow("energy", n, rate) for rate in (3e-3, 1e-2, 3e-2)),
                _flow("energy", n, 1e-2, sampling="closed-form"),
            ],
            "mixture": [
                _setting(steps + 50, n_components=n, estimate_weights=weighted, anneal=(10.0, steps))
                for steps in (50, 200)
                for weighted in (False, True)
            ],
            "reweighting": [_setting(steps, n_support=k) for k in (900, 1_600) for steps in (3, 30)],
            "maximum-likelihood": [_setting(50, n_support=k) for k in (100, 400, 900, 1_600)],
            "posterior-npmle": [_posterior(k, 4, 5, steps) for k in (100, 400) for steps in (3, 30)],
        }
    if budgeted.problem not in KNOWN:
        return {
            "flow": [_flow("energy", n, rate) for rate in (1e-2, 3e-2, 1e-1, 3e-1)],
            "mixture": [_setting(steps, n_components=min(k, n)) for k in (10, 50) for steps in (10, 50)],
            "reweighting": [_setting(steps, n_support=k) for k in (100, 1_000) for steps in (30, 300)],
            "maximum-likelihood": [_setting(20, n_support=k) for k in (50, 100, 400, 1_000)],
            "posterior-npmle": [_posterior(k, 4, 5, steps) for k in (50, 200) for steps in (10, 100)],
        }
    in_200 = (0.1, "rms-sgd", 200)
    return {
        "flow": [
            *(_flow("invariant-energy", n, *euler) for euler in (in_200, (0.2, "rms-sgd", 200), (0.2, "rms-sgd", 80))),
            _flow("energy", n, *in_200),
        ],
        "mixture": [_setting(20, n_components=k, **over_poses) for k in (3, 5, 10)]
        + [_setting(20, n_components=10, quadrature_order=1, estimate_noise=True, estimate_weights=True)],
        "reweighting": [_setting(100, n_support=k, quadrature_order=order) for k in (16, 64) for order in (1, 2)],
        "maximum-likelihood": [_setting(20, n_support=k, quadrature_order=1) for k in (8, 16, 32, 64)],
        "posterior-npmle": [_posterior(k, c, 10, 10, quadrature_order=2) for k in (16, 32) for c in (2, 4)],
    }  # fmt: skip


def run_in(
    budgeted: BudgetedProblem, study: str, method: str, labels: Labels, tried: Options, budgets: Options
) -> RunConfig:
    """Replicate 0 of one setting, evaluated evenly in log(step) until its last budget of seconds is spent."""
    return RunConfig(
        study=study,
        labels=labels,
        problem=budgeted.problem,
        problem_options=budgeted.options,
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
        for method in METHODS
        for tried, budgets in chosen(budgeted, method, known)
    ]


def chosen(budgeted: BudgetedProblem, method: str, known: Options) -> list[tuple[Options, dict[str, list[float]]]]:
    """The settings of a method, each with the budgets of seconds for which it was best in the sweep.

    Forward evaluations are compared at the setting of the longest of them. A method without a sweep has one for all: on
    another problem the first that a sweep would try, else its defaults.
    """
    swept = _swept(budgeted, known).get(method)
    if swept is None:
        first = {} if budgeted.problem in KNOWN else sweep(budgeted)
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
    found: Options = known.get(SAME_SETTINGS.get(budgeted.problem, budgeted.problem), {}).get("methods", {})
    return found


def _sized(setting: Options, budgeted: BudgetedProblem) -> Options:
    """As many particles as observations, and components no more, whatever size the sweep had."""
    n, options = budgeted.options["n_observations"], dict(setting["options"])
    if "n_particles" in options:
        options["n_particles"] = n
    if "n_components" in options:
        options["n_components"] = min(options["n_components"], n)
    return {"options": options, "steps": setting["steps"]}


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
