"""The energy distance to observations on disk: an unbiased estimate from rows that are drawn anew in each step."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.methods import images, pairwise
from cryosip.methods.discrepancy import Scalar, Target
from cryosip.methods.problem import Coordinates, Images, PRNGKey, Span
from cryosip.methods.stored import Data, Stored, seen_as

ROWS = 2**10  # that are drawn in a step
PARTS = 8  # of these rows, whose scatter tells the standard error
SAMPLE = 2**11  # rows whose mean distance stands for that of all
FIRST_KEY = 0  # of the rows of a target that nobody has redrawn


def batched(
    observations: Stored, noise_std: float, integrate: bool, tile: int | None, span: Span | None = None
) -> Target:
    """Half the squared energy distance, where E|y - y*| is the mean over ROWS observations, drawn with replacement.

    dD/drho_y is linear in the distribution of the observations, so value and gradient are unbiased. `gradient_error` is
    the largest standard error of a component of the gradient, and no bound as others state it. What depends on the
    observations alone, E|y* - y*'| / 2, comes from a sample: it is the same in each step, and has no gradient.

    Parameters
    ----------
    observations
        Of images (m, p) on disk.
    noise_std, integrate
        The std of the noise, and whether all of it is integrated out, or only what is outside of the span.
    tile
        As in `energy`.
    span
        Where simulated images are given by their coordinates; None, the default, for images of p pixels.

    Raises ValueError for noise of one dimension, where the kernel is not known well enough.
    """
    data: Data = observations if span is None else seen_as(partial(_extended, span), observations)
    p = observations.shape[1]
    noise_dims = p if integrate else p - (p if span is None else data.shape[1] - 1)
    if noise_dims == 1:
        raise ValueError("noise of one dimension is to be integrated out of observations on disk; wanted an array")
    sample = np.sort(np.random.default_rng(FIRST_KEY).permutation(len(observations))[:SAMPLE])
    distances = images.shortfalls(_observed(observations, data, sample, noise_std, noise_dims, tile, span))
    distances = distances._replace(algorithm=f"{ROWS} observations a step (unbiased), {distances.algorithm}")

    def drawn(key: PRNGKey) -> Target:
        rows = data[jr.randint(key, (ROWS,), 0, len(observations))]

        def error(y: Images) -> Scalar:
            cloud = pairwise.around_mean(rows)
            at = jnp.pad(y, ((0, 0), (0, rows.shape[1] - y.shape[1]))) - cloud.mean
            parts = cloud.points.reshape(PARTS, -1, rows.shape[1])
            slopes = jax.lax.map(lambda part: pairwise.mean_slope(distances.other, at, part, tile), parts)
            return slopes.std(0, ddof=1).max() / np.sqrt(PARTS)

        target = images.to_cloud(distances, pairwise.around_mean(rows), tile)
        return target._replace(gradient_error=error, redrawn=drawn)

    return drawn(jr.key(FIRST_KEY))


def _extended(span: Span, y: Images) -> Coordinates:
    """Coordinates, and one more number that is what else an image holds."""
    inside = span.project(y)
    outside = jnp.maximum((y**2).sum(1) - (inside**2).sum(1), 0.0)
    return jnp.concatenate([inside, jnp.sqrt(outside)[:, None]], axis=1)


def _observed(
    observations: Stored, data: Data, sample: np.ndarray, noise_std: float, noise_dims: int, tile: int | None,
    span: Span | None,
) -> images.Observed:  # fmt: skip
    """The sample as the energy distance needs it; `within` is unbiased for the mean over all pairs of observations."""
    some, seen = np.asarray(observations[sample]), np.asarray(data[sample])
    n, m = len(sample), len(observations)
    within = images.mean_distance(some, some, tile) * (n / (n - 1) * (m - 1) / m if n > 1 else 0.0)
    outside = np.zeros(n) if span is None else seen[:, -1].astype(np.float64) ** 2
    return images.Observed(seen if span is None else seen[:, :-1], outside, within, noise_std, noise_dims)
