"""Synthetic runs of the comparison, for these tests only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BUDGETS = {"seconds": [2.0, 8.0], "forward_evaluations": [100.0]}
FLOOR = 0.076  # the median that the records of the tests have for W2


def write_runs(
    write: Callable[..., Path], method: str, curves: list[list[float]], own: dict[str, list[float]] = BUDGETS,
    status: tuple[str, ...] = ("ok",) * 20, setup: float = 0.0, options: Any = None, **changes: Any,
) -> None:  # fmt: skip
    """The runs of a method: W2 over its floor after 1, 2, 4 and 8 seconds, 40 calls each, by replicate."""
    for replicate, ratios in enumerate(curves):
        path = write(
            study="otd-vs-dto", method=method, setting="for all", replicate=replicate, status=status[replicate],
            discrepancy="energy" if method == "flow" else None, options=options or {}, setup_seconds=setup,
            program_memory_mb=3.0, oracle_metrics={"w1": 0.01, "w2": 0.02}, curve=_curve(ratios), **changes,
        )  # fmt: skip
        budgets = str(own).replace("'", '"')
        path.write_text(path.read_text().replace('"stop_below": null', f'"stop_below": null, "budgets": {budgets}'))


def _curve(ratios: list[float]) -> dict[str, list[float]]:
    seconds = [1.0, 2.0, 4.0, 8.0][: len(ratios)]
    values = [FLOOR * ratio for ratio in ratios]
    return {"step": list(range(1, len(ratios) + 1)), "seconds": seconds,
            "forward_evaluations": [40 * s for s in seconds],
            "w2": values, "w1": values, "energy_distance_squared": values}  # fmt: skip


def scattered(ratios: list[float], spread: float = 0.02, n: int = 5) -> list[list[float]]:
    """Replicates of a curve; methods do not share their scatter."""
    rng = np.random.default_rng(round(1e3 * sum(ratios)))
    return [[r * (1 + spread * rng.normal()) for r in ratios] for _ in range(n)]
