"""The energy distance by slices: an unbiased estimate from the projections on random directions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln

from cryosip.methods import checks
from cryosip.methods.data import datum, known
from cryosip.methods.discrepancy import Discrepancy, Target, WeightedTarget
from cryosip.methods.energy import LineVariation, line_variation
from cryosip.methods.pairwise import Point
from cryosip.methods.problem import Images, PRNGKey, Span, Weights
from cryosip.methods.stored import Data, Stored, mapped, mean_of, seen_as

FIRST_KEY = 0  # of the directions of a target that nobody has redrawn

Scalar = Float[Array, ""]
Directions = Float[Array, "s p"]


def sliced_energy(n_slices: int = 50) -> Discrepancy:
    """Half the squared energy distance, (2.9) squared and halved, estimated without bias from random slices.

    For u uniform on the sphere E|<u, x>| = c_p |x| with c_p = Gamma(p / 2) / (sqrt(pi) Gamma((p + 1) / 2)), so that D =
    E_u D_1(u) / c_p, D_1(u) the same distance of the projections <u, y> and <u, y*> on the line [bonneel2015]. There a
    sort gives it exactly, with its first variation: O((n + m) (p + log(n + m))) a slice in the place of O(n m p). Value
    and gradient are means over `n_slices` directions, 50 by default, which `redrawn` draws anew; `gradient_error` is
    the largest standard error of a component of the gradient over these slices, and no bound as others state it.

    In a span it is the distance between the distributions of the coordinates, which vanishes as that of the images
    does: what observations hold outside, no parameter changes, and in distances of images it would only hide how the
    coordinates differ. Of observations on disk each step projects all, batch by batch. Raises ValueError for a count
    below 2, and on binding for noise that is to be integrated out.
    """
    n_slices = checks.positive_int("n_slices", n_slices)
    if n_slices < 2:
        raise ValueError("n_slices is 1; wanted 2 or more, whose scatter tells the standard error")

    @known
    def bind(observations: Data, noise_std: float = 0.0) -> Target:
        observed: Any = observations
        if not isinstance(observed, Stored):
            observed = jnp.asarray(checks.finite_matrix("observations", observed))
        if checks.non_negative("noise_std", noise_std) > 0:
            raise ValueError("sliced-energy cannot integrate out noise; wanted sampled noise, such as 'method-1'")
        return _target(observed, mean_of(lambda y: y, observed), n_slices, jr.key(FIRST_KEY))

    @known
    def bind_span(observations: Data, _noise_std: float, span: Span, integrate: bool) -> Target:
        return bind(seen_as(span.project, observations), _noise_std if integrate else 0.0)

    return Discrepancy(bind, bind_span)


def mean_projection(p: int) -> float:
    """c_p = E|<u, x>| / |x| for u uniform on the sphere of p dimensions."""
    return float(np.exp(gammaln(p / 2) - gammaln((p + 1) / 2)) / np.sqrt(np.pi))


def directions(key: PRNGKey, n: int, p: int) -> Directions:
    """Uniform on the sphere."""
    u = jr.normal(key, (n, p))
    return u / jnp.linalg.norm(u, axis=1, keepdims=True)


def _target(observed: Data, centre: Point, n_slices: int, key: PRNGKey) -> Target:
    p = observed.shape[1]

    def slices(y: Images, w: Weights) -> tuple[Directions, LineVariation]:
        """D_1 / c_p and its first variation along each of the directions."""
        u = directions(key, n_slices, p).astype(y.dtype)
        simulated, seen = (mapped(partial(_along, u, centre), x).T for x in (y, observed))
        if isinstance(observed, Stored):  # so many that all slices at a time would fill the memory
            found = jax.lax.map(lambda one: line_variation(one[0], w, one[1]), (simulated, seen))
        else:
            found = jax.vmap(line_variation, in_axes=(0, None, 0))(simulated, w, seen)
        scale = datum(1 / mean_projection(p), y.dtype)
        return u, jax.tree.map(lambda a: scale * a, found)

    def value(y: Images, w: Weights) -> Scalar:
        return slices(y, w)[1].value.mean()

    def variation(y: Images, w: Weights) -> tuple[Weights, Images]:
        u, found = slices(y, w)
        # each potential is known up to a constant
        level = found.potential - (found.potential @ w)[:, None]
        return level.mean(0), jnp.matmul(found.slope.T, u, precision="highest") / n_slices

    def gradient_error(y: Images) -> Scalar:
        u, found = slices(y, _equal(y))
        mean = jnp.matmul(found.slope.T, u, precision="highest") / n_slices
        square = jnp.matmul(found.slope.T**2, u**2, precision="highest") / n_slices
        return jnp.sqrt(jnp.maximum(square - mean**2, 0.0).max() / (n_slices - 1))

    return Target(
        lambda y: value(y, _equal(y)),
        lambda y: variation(y, _equal(y))[1],
        f"{n_slices} random slices, each sorted (unbiased; the error is a standard error)",
        gradient_error,
        WeightedTarget(value, variation),
        partial(_target, observed, centre, n_slices),
    )


def _along(u: Directions, centre: Point, x: Images) -> Float[Array, "n s"]:
    """The projection of each row on each direction."""
    return jnp.matmul(u, (x - centre).T, precision="highest").T


def _equal(y: Images) -> Weights:
    return jnp.full(len(y), 1 / len(y), y.dtype)
