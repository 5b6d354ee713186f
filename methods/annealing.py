"""Schedules along which a likelihood is sharpened."""

from collections.abc import Sequence

from cryosip.methods import checks


def checked_annealing(anneal: Sequence[float | int] | None) -> tuple[float, int]:
    """(factor, steps), (1, 0) where there is none; ValueError for what is neither, and a factor below 1."""
    if anneal is None:
        return 1.0, 0
    if not isinstance(anneal, tuple | list) or len(anneal) != 2:
        raise ValueError(f"anneal is {anneal!r}; wanted (factor, steps)")
    factor, steps = anneal
    if checks.positive("anneal factor", factor) < 1:
        raise ValueError(f"anneal factor is {factor!r}; wanted a number >= 1")
    return float(factor), checks.positive_int("anneal steps", steps)
