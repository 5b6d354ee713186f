"""Where the true volumes lie: in few of many dimensions, in which distances to them are told exactly."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

LEADING_SHARE, MOST_LEADING = 0.999, 20  # of the truth's variance, and of its principal components
Coefficients = Float[Array | np.ndarray, "n v"]


class Frame(NamedTuple):
    """Draws of the truth in their leading principal components.

    Their mean, orthonormal rows, the coordinates of the draws in these, and their root mean square distance from the
    mean.
    """

    mean: Float[np.ndarray, " v"]
    components: Float[np.ndarray, "q v"]
    points: Float[np.ndarray, "n q"]
    spread: float


def frame(truth: Coefficients, share: float = LEADING_SHARE, most: int = MOST_LEADING) -> Frame:
    """The fewest leading components with a share of the variance of draws of the truth: 0.999, at most 20."""
    truth = np.asarray(truth, float)
    mean = truth.mean(0)
    away = truth - mean
    # the products of the draws are fewer than those of the coefficients
    products = away @ away.T
    leading = [max(0, len(truth) - most), len(truth) - 1]
    squares, vectors = (found[..., ::-1] for found in scipy.linalg.eigh(products, subset_by_index=leading))
    total = products.trace()
    held = np.cumsum(np.maximum(squares, 0.0)) / max(total, np.finfo(float).tiny)
    q = min(int(np.searchsorted(held, share)) + 1, len(squares))
    components = np.linalg.qr(away.T @ vectors[:, :q])[0].T
    return Frame(mean, components, away @ components.T, float(np.sqrt(total / len(truth))))


def embedded(within: Frame, volumes: Coefficients) -> Float[Array, "n e"]:
    """Volumes in q + 1 dimensions: their coordinates in the components, and how far they are from their span.

    As the truth lies in the span, |c - t|^2 = |U (c - t)|^2 + |c_outside|^2: distances to it are as in all v.
    """
    c = jnp.asarray(volumes)
    away, components = c - jnp.asarray(within.mean, c.dtype), jnp.asarray(within.components, c.dtype)
    inside = jnp.matmul(away, components.T, precision="highest")
    rest = away - jnp.matmul(inside, components, precision="highest")
    return jnp.concatenate([inside, jnp.sqrt((rest**2).sum(1, keepdims=True))], axis=1)
