"""A problem together with the truth behind it. The truth never reaches a method."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cryosip.methods.problem import Points, Pose, PRNGKey, Problem


class Truth(NamedTuple):
    """The law that was to be found.

    `sample(key, n)` draws (n, d) in the coordinates that methods move, `theta` and `pose` hold the theta* and omega_r
    behind the observations, and `quantile(u)` is the exact quantile function where d = 1 and it is known, else None.
    """

    sample: Callable[[PRNGKey, int], Points]
    theta: Points
    quantile: Callable[[np.ndarray], np.ndarray] | None = None
    pose: Pose = ()


class Instance(NamedTuple):
    problem: Problem
    truth: Truth
