"""What the arrays of a record must look like for figures to be drawn of them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ALIKE = (("theta", "theta_init", "theta_true"), ("beta_true", "beta_init", "beta_estimated"),
         ("image_clean", "image_noisy"))  # have as many columns  # fmt: skip


def misshapen(arrays: Mapping[str, NDArray[np.float64]]) -> str:
    """What is wrong with the shapes or values of the arrays of a record, "" where nothing is."""
    for name, array in arrays.items():
        if name != "weights" and (array.ndim != 2 or 0 in array.shape):
            return f"{name} has shape {array.shape}: wanted a table that is not empty"
        if not np.isfinite(array).all():
            return f"{name} holds what is no finite number"
    for group in ALIKE:
        if len({arrays[name].shape[1] for name in group if name in arrays}) > 1:
            return f"{', '.join(group)} differ in their numbers of columns"
    return _weights(arrays) or _beads(arrays)


def _weights(arrays: Mapping[str, NDArray[np.float64]]) -> str:
    if "weights" not in arrays:
        return ""
    weights, points = arrays["weights"], len(arrays.get("theta", ()))
    if weights.shape != (points,) or (weights < 0).any() or weights.sum() <= 0:
        return "wanted points (k, d) and weights (k,), none below zero and not all zero"
    return ""


def _beads(arrays: Mapping[str, NDArray[np.float64]]) -> str:
    beads, motions = arrays.get("beads"), arrays.get("motions")
    if beads is not None and beads.shape[1] != 3:
        return f"beads has shape {beads.shape}: wanted (n, 3)"
    if beads is not None and motions is not None and motions.shape[1] != beads.size:
        return f"motions has shape {motions.shape}: wanted {beads.size} columns"
    return ""
