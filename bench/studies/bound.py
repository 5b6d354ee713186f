"""What is run to measure how near to the truth the data let anyone come."""

from typing import NamedTuple

from cryosip.bench.studies.measured_bound import STEPS
from cryosip.bench.studies.otd_dto import BudgetedProblems
from cryosip.bench.studies.protein import PROTEIN_IMAGES
from cryosip.bench.studies.study import Options
from cryosip.records.schema import Labels, RunConfig

METHOD = "bound"  # what a record of this study names as its method
ONED_NOISE, NANOCLUSTER_NOISE, SNRS = (0.75, 1.5, 3.0), (0.75, 1.5, 3.0), (0.1, 1.0)
SAME_AS = "otd-vs-dto"  # the label of runs on the very problems of that study


# a problem, its options, the option that is its noise, and the noises and numbers of observations that are run
Axis = tuple[str, Options, str, tuple[float, ...], tuple[int, ...]]


class Sizes(NamedTuple):
    """The problems of otd-vs-dto, and those on which observations and noise vary."""

    replicates: int
    budgeted: BudgetedProblems
    axes: tuple[Axis, ...] = ()


def bound(size: Sizes) -> list[RunConfig]:
    """The problems of otd-vs-dto, then each number of observations at each noise."""
    runs = [_run(b.problem, {**b.options, **b.variant}, Labels(SAME_AS)) for b in size.budgeted.all_problems]
    for problem, options, noise, values, counts in size.axes:
        runs += [
            _run(
                problem, {"n_observations": n, noise: value} | options, Labels(f"{noise} {value:g}", "observations", n)
            )
            for value in values
            for n in counts
        ]
    return runs


def _run(problem: str, options: Options, labels: Labels) -> RunConfig:
    return RunConfig("bound", labels, problem, options, METHOD, {"steps": list(STEPS)}, STEPS[-1], STEPS[-1], 0)


def axes(
    counts: tuple[int, ...], protein_counts: tuple[int, ...], proteins: tuple[str, ...], images: str
) -> tuple[Axis, ...]:
    """Observations and noise: those of the line and of the nanocluster by their std, those of proteins by the SNR."""
    return (
        ("oned", {}, "noise_std", ONED_NOISE, counts),
        ("nanocluster", {}, "noise_std", NANOCLUSTER_NOISE, tuple(n for n in counts if n <= 10_000)),
        *((protein, PROTEIN_IMAGES[images], "snr", SNRS, protein_counts) for protein in proteins),
    )
