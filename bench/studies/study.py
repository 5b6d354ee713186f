"""What a study is: a list of runs for each profile, and how such a run is measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

from cryosip.bench.execute import Measure, run_method
from cryosip.records.schema import Labels, RunConfig

Options = dict[str, Any]


class Size(NamedTuple):
    """What a profile changes: replicates, observations (and particles), the length of every run, how many settings."""

    replicates: int
    n: int
    share_of_steps: float
    all_settings: bool = False
    images: str = ""  # which of PROTEIN_IMAGES


class Study(NamedTuple):
    """`sizes` has for each profile what `configs` takes, the number of replicates among it."""

    summary: str
    sizes: dict[str, Any]
    configs: Callable[[Any], list[RunConfig]]
    measure: Measure = run_method
    first_replicate: int = 0


def run_on(
    problem: str, problem_options: Options, n_evaluations: int, study: str, labels: Labels, size: Size, method: str,
    steps: int, **options: Any,
) -> RunConfig:  # fmt: skip
    """Replicate 0 of a run on a problem, evaluated so many times."""
    steps = max(1, round(steps * size.share_of_steps))
    return RunConfig(
        study=study,
        labels=labels,
        problem=problem,
        problem_options={"n_observations": size.n} | problem_options,
        method=method,
        method_options=options,
        steps=steps,
        every=max(1, steps // n_evaluations),
        replicate=0,
    )
