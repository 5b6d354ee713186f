"""Contamination: a share of the observations is replaced by what the model of the problem does not explain."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int

from cryosip.methods import checks
from cryosip.methods.problem import Images, Observations, PRNGKey

KINDS = ("wide", "noise", "neighbour")
WIDENING = 10.0  # of the noise of a wide outlier
OUTLIER_KEY = 1005  # fold_in number of a problem's seed


def contaminated(
    observations: Observations,
    outliers: float,
    outlier_kind: str,
    seed: int,
    clean: Callable[[Int[Array, " k"]], Images],
    particles: Callable[[PRNGKey, int], Images] | None = None,
) -> Observations:
    """The observations with round(outliers * m) of them replaced, the gross-error model of [huber1964].

    A row y = x + omega becomes x + 10 omega ("wide"), omega ("noise") or y + x' ("neighbour"), x' the image of another
    particle beside the first. Which rows, and the neighbours, are drawn from the seed, by a key that nothing else has.

    Parameters
    ----------
    observations
        y (m, p).
    outliers
        The share that is replaced, 0 <= outliers < 1; with 0 nothing is drawn and the observations are returned.
    outlier_kind
        One of "wide", "noise" and "neighbour"; the last two where there are `particles`.
    seed
        That of the problem.
    clean
        x (k, p) of k rows by their indices. Where all noise is in the pose, images of the same theta in poses drawn
        anew: y - x is then the difference of two draws, ten times as large.
    particles
        Clean square images (k, p) of k fresh draws, for data that are images; None, the default, for vectors.

    Returns
    -------
    Observations
        (m, p).

    Raises
    ------
    ValueError
        The share is outside [0, 1), or the kind is none that the data have.
    """
    if not 0 <= checks.finite("outliers", outliers) < 1:
        raise ValueError(f"outliers is {outliers!r}; wanted a share, 0 <= outliers < 1")
    checks.one_of("outlier_kind", outlier_kind, KINDS if particles is not None else KINDS[:1])
    count = round(outliers * len(observations))
    if count == 0:
        return observations
    key_rows, key_particles, key_direction = jr.split(jr.fold_in(jr.key(seed), OUTLIER_KEY), 3)
    rows = jr.choice(key_rows, len(observations), (count,), replace=False)
    y = observations[rows]
    if outlier_kind == "neighbour":
        assert particles is not None  # else the kind was refused
        replaced = y + beside(key_direction, particles(key_particles, count))
    else:
        x = clean(rows)
        replaced = y - x if outlier_kind == "noise" else x + WIDENING * (y - x)
    return observations.at[rows].set(replaced.astype(observations.dtype))


def beside(key: PRNGKey, images: Images) -> Images:
    """Square images, each moved by half of its side in a direction of its own; what leaves the frame is lost."""
    n, size = len(images), math.isqrt(images.shape[1])
    angle = jr.uniform(key, (n,), maxval=2 * jnp.pi)
    shift = jnp.round(size / 2 * jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=1)).astype(int)  # rows, columns
    margin = -(-size // 2)
    padded = jnp.pad(images.reshape(n, size, size), ((0, 0), (margin, margin), (margin, margin)))
    window = jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, (size, size)))
    return window(padded, margin - shift).reshape(n, -1)
