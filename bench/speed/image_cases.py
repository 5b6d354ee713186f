"""Comparisons on images: the gradient of the energy distance, and the renderer of proteins against cryoJAX."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from cryosip.bench.check import formulas
from cryosip.bench.check.images import gaussians, pulled_back
from cryosip.bench.speed import third_party
from cryosip.bench.speed.baselines import Comparison, Implementation, deviation, fastest, from_jax
from cryosip.datasets import cryojax_images
from cryosip.datasets.projection import project
from cryosip.methods.registry import DISCREPANCIES

IMAGES = 1_000
SGEMM = "four matrix products alone: 8 N M p flops"
N_SPREADS = (7, 11, 15, 19, 23)  # pixels of an atom
EQUAL = 1e-4  # of the brightest pixel: what counts as equal accuracy of a renderer


def energy_images(p: int, n: int = IMAGES) -> Comparison:
    """The gradient of the energy distance of images of p pixels."""
    rng = np.random.default_rng(0)
    y, observed = (rng.normal(size=(n, p)).astype(np.float32) for _ in range(2))
    exact = cache(lambda: formulas.energy_gradient(y, observed))
    weights = rng.normal(size=(n, n)).astype(np.float32)

    def products() -> Implementation:
        return fastest(
            {
                "y x^T": _four_products(y, observed, transposed=True),
                "w x": _four_products(weights, observed),
                "y x^T, x^T ready": _four_products(y, np.ascontiguousarray(observed.T)),
            }
        )

    def ours() -> Implementation:
        target = DISCREPANCIES["energy"]("pairwise").bind(jnp.asarray(observed), 0.0)
        return from_jax(target.gradient, exact, jnp.asarray(y))

    others = third_party.implementations(third_party.IMAGES, exact, y, observed)
    return Comparison(
        f"energy-{p}",
        f"Gradient of the energy distance of {n} and {n} images of {p} pixels",
        {"ours": ours},
        {SGEMM: products, **others},
        {("ours", SGEMM): 0.75} | {("ours", name): 1.0 for name in others},
    )


def _four_products(a: np.ndarray, b: np.ndarray, transposed: bool = False) -> Implementation:
    """A matrix product of 2 N M p flops (a b, or a b^T) four times, as many flops as the gradient needs."""

    def product(a: Any, b: Any) -> Any:
        return jnp.matmul(a, b.T if transposed else b, precision="highest")

    exact = cache(lambda: a.astype(np.float64) @ (b.T if transposed else b))
    once = from_jax(product, exact, jnp.asarray(a), jnp.asarray(b))
    return once._replace(call=lambda: [once.call() for _ in range(4)])


def renderer(radius: float, n: int = 64, atoms: int = 599) -> Comparison:
    """Images of a ball of atoms and their vjp, against cryoJAX: its default, and its options of equal accuracy."""
    size, pixel, std = 128, 1.5, 2.5
    rng = np.random.default_rng(1)
    ball = rng.normal(size=(n, atoms, 3))
    ball *= radius * rng.uniform(size=(n, atoms, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=2, keepdims=True)
    rotation = scipy.stats.special_ortho_group.rvs(3, size=n, random_state=rng).astype(np.float32)
    cotangent = rng.normal(size=(n, size, size)).astype(np.float32)
    positions, views, weights = jnp.asarray(ball, "f4"), jnp.asarray(rotation), np.ones(atoms)

    @cache
    def exact(average: bool) -> tuple[np.ndarray, np.ndarray]:
        onto_plane, grid = rotation[:, :2].astype(np.float64), pixel * (np.arange(size) - size // 2)
        centers = np.einsum("nij,naj->nai", onto_plane, np.asarray(positions, np.float64))
        images = gaussians(grid, std, centers, average=average)
        return images, pulled_back(grid, std, centers, cotangent, average) @ onto_plane

    def with_vjp(images: Callable[[Any], Any], average: bool = False, note: str = "") -> Implementation:
        def both(positions: Any) -> Any:
            images_, pull = jax.vjp(images, positions)
            return images_, pull(jnp.asarray(cotangent))[0]

        program = jax.jit(both).lower(positions).compile()
        return Implementation(
            lambda: jax.block_until_ready(program(positions)),
            lambda: max(map(deviation, program(positions), exact(average))),
            note=note,
        )

    def ours(positions: Any) -> Any:
        centers = jnp.einsum("nij,naj->nai", views[:, :2], positions, precision="highest")
        return project(size, pixel, std, weights, centers)

    def image_model(positions: Any) -> Any:
        return cryojax_images.images(size, pixel, std, weights, positions, views, jnp.zeros((n, 2)))

    def integrator(options: dict[str, Any], positions: Any) -> Any:
        rotated = jnp.einsum("nij,naj->nai", views, positions, precision="highest")
        return cryojax_images.projections(size, pixel, std, weights, rotated, **options)

    def best_integrator() -> Implementation:
        variants: dict[str, dict[str, Any]] = {"dense": {}} | {f"n_spread {k}": {"n_spread": k} for k in N_SPREADS}
        timed = {name: with_vjp(partial(integrator, {"sampling": "point"} | o)) for name, o in variants.items()}
        return fastest({name: candidate for name, candidate in timed.items() if candidate.error() <= EQUAL})

    note = "means over pixels, which ours are not"
    equal = f"cryoJAX integrator alone, fastest with an error below {EQUAL:g}"
    return Comparison(
        f"renderer-{radius:g}",
        f"{n} images of {atoms} atoms in a ball of {radius:g} angstroms, {size} x {size} pixels, and their vjp",
        {"ours": lambda: with_vjp(ours)},
        {
            "cryoJAX image model, default": lambda: with_vjp(image_model, True, note),
            "cryoJAX integrator alone, default": lambda: with_vjp(partial(integrator, {}), True, note),
            equal: best_integrator,
        },
        {("ours", "cryoJAX image model, default"): 8.0, ("ours", equal): 2.0},
    )
