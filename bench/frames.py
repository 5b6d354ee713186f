"""What a record keeps for a movie: a few points of an estimate, the same ones at a few evaluations."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cryosip.methods.method import WeightedPoints

FRAMES, POINTS = 12, 300  # at most


class Frame(NamedTuple):
    """Some points of an estimate of `n` points after `step` steps."""

    step: int
    n: int
    theta: np.ndarray


def frame(step: int, estimate: WeightedPoints) -> Frame:
    """At most POINTS points, evenly among the rows of the estimate."""
    n = len(estimate.theta)
    return Frame(step, n, np.asarray(estimate.theta, np.float32)[_even(n, POINTS)])


def film(frames: Sequence[Frame]) -> dict[str, np.ndarray]:
    """At most FRAMES frames, evenly among all, one below the other in `frames`, and their steps in `frame_steps`.

    Nothing where there are not two, or the number of points changed: rows then are not the same points.
    """
    if len(frames) < 2 or len({each.n for each in frames}) > 1:
        return {}
    kept = [frames[at] for at in _even(len(frames), FRAMES)]
    return {
        "frames": np.concatenate([each.theta for each in kept]),
        "frame_steps": np.array([[each.step] for each in kept]),
    }


def _even(n: int, most: int) -> np.ndarray:
    """The first and the last of n places, and evenly some between them."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)
