"""What `cryosip reproduce` runs: the comparison of all methods, then the paper's figures."""

from collections.abc import Callable, Iterable
from pathlib import Path

from cryosip.datasets.structures import load
from cryosip.records.schema import RunConfig

COMPARISON = "otd-vs-dto"
MAIN_FIGURES = ["paper-1d", "paper-nanocluster"]
QUICK = ("published", "as conjectured", "as printed")  # variants of the figures that the paper shows
FURTHER = ["noise", "sampling", "tau"]
OF_HSP90 = ["hsp90-readings", "hsp90-methods", "hsp90-open"]


def studies(protein: str, everything: bool) -> list[str]:
    """The comparison and the main figures of each problem; with `everything` all other studies of the paper too."""
    further = [*FURTHER, *(OF_HSP90 if protein == "hsp90" else [])]
    return [COMPARISON, *MAIN_FIGURES, f"paper-{protein}", *(further if everything else [])]


def available_protein(structure: Path | None, only: str | None, warn: Callable[[str], None]) -> str:
    """hsp90, or adk where that is asked for or the structure 2IOP cannot be had.

    Raises FileNotFoundError where a structure or hsp90 is asked for and cannot be had.
    """
    if only == "adk":
        return "adk"
    if only not in (None, "hsp90"):
        return "hsp90"  # no run needs it
    try:
        load("2iop", structure)
    except FileNotFoundError as error:
        if structure is not None or only == "hsp90":
            raise
        warn(f"Adenylate kinase stands in for HSP90: {error}")
        return "adk"
    return "hsp90"


def selected(runs: Iterable[RunConfig], protein: str, all_replicates: bool) -> list[RunConfig]:
    """Of the figures the paper's flows, once, unless all are wanted; nothing on HSP90 where adk stands in for it."""
    return [
        run
        for run in runs
        if (all_replicates or run.study == COMPARISON or (run.replicate == 0 and run.labels.variant in QUICK))
        and (run.problem != "hsp90" or protein == "hsp90")
    ]
