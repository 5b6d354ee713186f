"""The energy distance of features that do not change when an image rotates in its plane."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.methods import checks
from cryosip.methods.data import known
from cryosip.methods.discrepancy import Discrepancy, Target, WeightedTarget
from cryosip.methods.energy import energy
from cryosip.methods.problem import Images, Weights
from cryosip.methods.stored import Data, Stored, in_memory, seen_as

Features = Float[Array, "n f"]
FINEST = 0.5  # pixels: narrower rings miss the pixels, and what is orthonormal among them is no longer steerable


def invariant_energy(ring_width: float = 1.6, tile: int | None = None) -> Discrepancy:
    """Half the squared energy distance of the distributions of |<e^{i m phi} g_k(r), y>|, features of square images.

    D = D_E^2(f_# rho_y, f_# rho_y^delta) / 2, (2.9) between the distributions that the features f push forward, hence
    zero where the distributions of images agree, and non-negative. A rotation of the image by alpha multiplies <e^{i m
    phi} g_k, y> by e^{i m alpha}, so f is the same for all in-plane rotations (to the error of the pixels), and the
    flow needs not find them. The g_k are rings `ring_width` pixels apart in the largest circle in the image, 0 <= m <=
    the number of such widths in half a ring's circumference; for each m they are made orthonormal on the pixels, so
    that white noise gives each feature the same variance. `tile` is that of `energy`.

    Images (n, p) are squares of p = S^2 pixels, S >= 4. Raises ValueError for images that are no squares, a width
    below 0.5 or above S / 4, and noise that is to be integrated out: f is not linear.
    """
    ring_width = checks.positive("ring_width", ring_width)
    distance = energy(tile=tile)

    @known
    def bind(observations: Data, noise_std: float = 0.0) -> Target:
        images: Any = observations
        if not isinstance(images, Stored):
            images = jnp.asarray(checks.finite_matrix("observations", images))
        if checks.non_negative("noise_std", noise_std) > 0:
            raise ValueError("invariant-energy cannot integrate out noise; wanted sampled noise, such as 'method-1'")
        basis = steerable_basis(_side(images.shape[1]), ring_width)

        @partial(jax.jit, inline=True)
        def features(y: Images) -> Features:
            return moduli(basis, y)

        observed = in_memory(seen_as(features, images), "discrepancy 'invariant-energy'")
        target = distance.bind(observed, 0.0)

        def gradient(y: Images) -> Images:
            seen, pull_back = jax.vjp(features, y)
            return pull_back(target.gradient(seen))[0]

        of_features = target.weighted
        assert of_features is not None  # as the energy distance has it

        def variation(y: Images, w: Weights) -> tuple[Weights, Images]:
            seen, pull_back = jax.vjp(features, y)
            potential, slope = of_features.variation(seen, w)
            return potential, pull_back(slope)[0]

        weighted = WeightedTarget(lambda y, w: of_features.value(features(y), w), variation)
        algorithm = f"{observed.shape[1]} in-plane invariants, {target.algorithm}"
        return Target(
            lambda y: target.value(features(y)),
            gradient,
            algorithm,
            lambda y: target.gradient_error(features(y)),
            weighted,
        )

    return Discrepancy(bind)


def moduli(basis: tuple[np.ndarray, np.ndarray], y: Images) -> Features:
    """sqrt(|<a, y>|^2 + |<b, y>|^2) for the real and imaginary parts a, b of each basis function."""
    real, imaginary = (jnp.matmul(y, jnp.asarray(part, y.dtype), precision="highest") for part in basis)
    square = real**2 + imaginary**2
    # the modulus has no derivative at 0; the smallest normal number keeps it finite there
    return jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny))


def steerable_basis(size: int, ring_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary parts (p, f) of e^{i m phi} g_k(r), orthonormal among the g_k of each m."""
    if not FINEST <= ring_width <= size / 4:
        raise ValueError(f"ring_width is {ring_width:g} pixels for images of {size}; wanted {FINEST:g} to {size / 4:g}")
    x = np.arange(size) - size // 2
    radius, phi = np.hypot(*np.meshgrid(x, x)), np.arctan2(*np.meshgrid(x, x)[::-1])
    rings = (np.arange(max(1, int((size // 2 - 1) / ring_width))) + 0.5) * ring_width
    inside = radius <= size // 2 - 1
    parts = []
    for m in range(int(np.pi * rings[-1] / ring_width) + 1):
        chosen = rings[np.pi * rings / ring_width >= m]
        # the centre pixel has no angle: it stays as it is when the image rotates
        seen = inside & (radius > 0) if m else inside
        bumps = np.exp(-0.5 * ((radius[..., None] - chosen) / (ring_width / 2)) ** 2) * seen[..., None]
        waves = (bumps * np.exp(1j * m * phi)[..., None]).reshape(size**2, -1)
        parts.append(np.linalg.qr(waves)[0])
    basis = np.concatenate(parts, axis=1)
    return basis.real, basis.imag


def _side(p: int) -> int:
    side = round(np.sqrt(p))
    if side**2 != p or side < 4:
        raise ValueError(f"observations have {p} pixels; wanted those of a square image of 4 x 4 or more")
    return side
