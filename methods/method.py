"""The contract of a method, OTD or DTO alike: init, step and estimate."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.methods.problem import PRNGKey

CONTRACT = 1  # raised when a change of Problem, Method or Discrepancy asks the same of those who wrote their own

State = Any  # a pytree


class WeightedPoints(NamedTuple):
    """sum_k weights_k delta_{theta_k}: the only thing that metrics see of a method."""

    theta: Float[Array | np.ndarray, "k d"]
    weights: Float[Array | np.ndarray, " k"]


class Info(NamedTuple):
    """What one step reports: the objective before the update, and how many images it rendered."""

    objective: Float[Array, ""]
    forward_evaluations: Int[Array, ""]


class Method(NamedTuple):
    """Pure functions; one runner drives them all. `step` takes a key even where it draws nothing.

    `per_image`, where a method knows it, is the structure (m, d) that it gives to each observation.
    """

    init: Callable[[PRNGKey], State]
    step: Callable[[PRNGKey, State], tuple[State, Info]]
    estimate: Callable[[State], WeightedPoints]
    per_image: Callable[[State], Float[Array, "m d"]] | None = None
