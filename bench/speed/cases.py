"""What is compared with what: energy and KL on the line, the energy distance of images, flows, the renderer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import scipy.stats

from cryosip.bench.speed import references, third_party
from cryosip.bench.speed.baselines import (
    Comparison,
    Form,
    Unavailable,
    deviation,
    fastest,
    jax_form,
    looped,
    numpy_form,
)
from cryosip.bench.speed.third_party import Prepare, PrepareKde, Sample
from cryosip.datasets import cryojax_images
from cryosip.datasets.nanocluster import nanocluster
from cryosip.datasets.oned import oned
from cryosip.datasets.projection import project
from cryosip.methods import pairwise
from cryosip.methods.flow import flow_target, particle_flow
from cryosip.methods.kl import silverman
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES

Make = Callable[[], Form]

LINE = 10_000  # points of either sample
IMAGES = 1_000
TILES = [2**e for e in range(18, 23)]
ALL_PAIRS = "all pairs, best tile (ours, naive)"
SGEMM = "four matrix products alone: 8 N M p flops"
N_SPREADS = (7, 11, 15, 19, 23)  # pixels of an atom
EQUAL = 1e-4  # of the brightest pixel: what counts as equal accuracy of a renderer


def line_samples(n: int) -> tuple[Sample, Sample]:
    """Particles and observations that overlap as in the middle of a flow."""
    rng = np.random.default_rng(0)
    y, observed = rng.normal(0, 1.8, (n, 1)), rng.choice([-2.0, 2.0], (n, 1)) + rng.normal(0, 1.5, (n, 1))
    return y.astype(np.float32), observed.astype(np.float32)


def line_form(name: str, algorithm: str, n: int, calls: int) -> Form:
    """The gradient of one of our discrepancies on the line."""
    y, observed = line_samples(n)
    target = DISCREPANCIES[name](algorithm=algorithm).bind(jnp.asarray(observed), 0.0)
    return looped(target.gradient, _exact_line(name, y, observed), jnp.asarray(y), calls)


def _exact_line(name: str, y: Sample, observed: Sample) -> np.ndarray:
    if name == "energy":
        return references.line_gradient(y, observed)
    return references.kde_score_gap(y, observed, silverman(observed))


def _prepared(forms: Mapping[str, Prepare], exact: np.ndarray, y: Sample, observed: Sample) -> dict[str, Make]:
    def made(prepare: Prepare) -> Form:
        return numpy_form(prepare(y, observed), exact)

    return {name: partial(made, prepare) for name, prepare in forms.items()}


def _value_only(*names: str) -> dict[str, Make]:
    def refuse() -> Form:
        raise Unavailable("gives the value only, compared below")

    return dict.fromkeys(names, refuse)


def energy_line(n: int = LINE) -> Comparison:
    """The gradient of the energy distance on the line."""
    y, observed = line_samples(n)
    exact = references.line_gradient(y, observed)

    def all_pairs() -> Form:
        targets = {f"tiles of {tile}": DISCREPANCIES["energy"]("pairwise", tile=tile) for tile in TILES}
        own = jnp.asarray(y)
        return fastest(
            {tile: looped(d.bind(jnp.asarray(observed), 0.0).gradient, exact, own, 1) for tile, d in targets.items()}
        )

    ours = {name: partial(line_form, "energy", name, n, 200) for name in ("sorted", "binned")}
    others = _prepared(third_party.LINE, exact, y, observed)
    wanted = {("sorted", ALL_PAIRS): 80.0, ("binned", ALL_PAIRS): 400.0} | {("sorted", name): 100.0 for name in others}
    return Comparison(
        "energy-line",
        f"Gradient of the energy distance on the line, N = M = {n}",
        ours,
        {ALL_PAIRS: all_pairs, **others, **_value_only("scipy.stats.energy_distance")},
        wanted,
    )


def energy_value_line(n: int = LINE) -> Comparison:
    """Its value, where other libraries give that alone."""
    y, observed = line_samples(n)
    exact = references.line_value(y, observed)
    target = DISCREPANCIES["energy"]().bind(jnp.asarray(observed), 0.0)
    return Comparison(
        "energy-value-line",
        f"Value of the energy distance on the line, N = M = {n}",
        {"ours": lambda: jax_form(target.value, exact, jnp.asarray(y))},
        _prepared(third_party.VALUES, exact, y, observed),
        {("ours", name): 1.0 for name in third_party.VALUES},
    )


def kl_line(n: int = LINE) -> Comparison:
    """The gradient of KL between density estimates on the line."""
    y, observed = line_samples(n)
    std = silverman(observed)
    exact = references.kde_score_gap(y, observed, std)

    def all_pairs() -> Form:
        def gradient(tile: int, y: Any) -> Any:
            return pairwise.kde_score(y, y, std, tile) - pairwise.kde_score(y, jnp.asarray(observed), std, tile)

        own = jnp.asarray(y)
        return fastest({f"tiles of {tile}": looped(partial(gradient, tile), exact, own, 1) for tile in TILES})

    others = _prepared_kde(third_party.KDE, exact, y, observed, std)
    return Comparison(
        "kl-line",
        f"Gradient of KL on the line, N = M = {n}",
        {"binned": partial(line_form, "kl", "binned", n, 200)},
        {ALL_PAIRS: all_pairs, **others, **_value_only(*third_party.KDE_VALUES)},
        {("binned", ALL_PAIRS): 1_000.0},
    )


def kl_value_line(n: int = LINE) -> Comparison:
    """Its value, where other libraries give that alone."""
    y, observed = line_samples(n)
    std = silverman(observed)
    exact = references.kde_log_ratio(y, observed, std)
    target = DISCREPANCIES["kl"]().bind(jnp.asarray(observed), 0.0)
    return Comparison(
        "kl-value-line",
        f"Value of KL on the line, N = M = {n}",
        {"ours": lambda: jax_form(target.value, exact, jnp.asarray(y))},
        _prepared_kde(third_party.KDE_VALUES, exact, y, observed, std),
        {("ours", name): 1.0 for name in third_party.KDE_VALUES},
    )


def _prepared_kde(
    forms: Mapping[str, PrepareKde], exact: np.ndarray, y: Sample, observed: Sample, std: float
) -> dict[str, Make]:
    return _prepared({name: partial(_at_bandwidth, f, std) for name, f in forms.items()}, exact, y, observed)


def _at_bandwidth(prepare: PrepareKde, std: float, y: Sample, observed: Sample) -> Callable[[], Any]:
    return prepare(y, observed, std)


def steps(
    problem: Problem, name: str, sampling: str, n: int, calls: int, exact: Callable[[Sample], np.ndarray]
) -> Form:
    """Steps of a flow from its initial law; the error is that of the gradient at its first images."""
    discrepancy = DISCREPANCIES[name]()
    method = particle_flow(problem, discrepancy, optax.adam(1e-3), n, sampling=sampling)
    state = jax.jit(method.init)(jr.key(0))

    def many(state: Any) -> Any:
        return jax.lax.fori_loop(0, calls, lambda t, s: method.step(jr.fold_in(jr.key(1), t), s)[0], state)

    program = jax.jit(many).lower(state).compile()
    reduced, target = flow_target(problem, discrepancy, sampling)
    clean = reduced.render(state.theta, reduced.sample_pose(jr.key(2), n))
    noise = 0.0 if sampling == "closed-form" else problem.noise_std * jr.normal(jr.key(3), clean.shape)
    y = clean + noise
    return Form(
        lambda: jax.block_until_ready(program(state)),
        lambda: deviation(jax.jit(target.gradient)(y), exact(np.asarray(y))),
        calls,
    )


def steps_line(n: int = LINE) -> Comparison:
    """A step of the KL flow against one of the energy flow."""
    problem = oned(n_observations=n).problem
    observed = np.asarray(problem.observations)

    def form(name: str) -> Form:
        return steps(problem, name, "method-1", n, 200, lambda y: _exact_line(name, y, observed))

    return Comparison(
        "steps-line",
        f"A whole step of a flow on the line, N = M = {n}",
        {"KL flow": partial(form, "kl")},
        {"energy flow": partial(form, "energy")},
        {("KL flow", "energy flow"): 1 / 1.5},
    )


def energy_images(p: int, n: int = IMAGES) -> Comparison:
    """The gradient of the energy distance of images of p pixels."""
    rng = np.random.default_rng(0)
    y, observed = (rng.normal(size=(n, p)).astype(np.float32) for _ in range(2))
    exact = references.energy_gradient(y, observed)
    weights = rng.normal(size=(n, n)).astype(np.float32)

    def products() -> Form:
        return fastest(
            {
                "y x^T": _four_products(y, observed, turned=True),
                "w x": _four_products(weights, observed),
                "y x^T, x^T ready": _four_products(y, np.ascontiguousarray(observed.T)),
            }
        )

    def ours() -> Form:
        target = DISCREPANCIES["energy"]("pairwise").bind(jnp.asarray(observed), 0.0)
        return jax_form(target.gradient, exact, jnp.asarray(y))

    others = _prepared(third_party.IMAGES, exact, y, observed)
    return Comparison(
        f"energy-{p}",
        f"Gradient of the energy distance of {n} and {n} images of {p} pixels",
        {"ours": ours},
        {SGEMM: products, **others},
        {("ours", SGEMM): 0.75} | {("ours", name): 1.0 for name in others},
    )


def _four_products(a: np.ndarray, b: np.ndarray, turned: bool = False) -> Form:
    """A matrix product of 2 N M p flops (a b, or a b^T), so often one after the other as the gradient counts."""

    def product(a: Any, b: Any) -> Any:
        return jnp.matmul(a, b.T if turned else b, precision="highest")

    exact = a.astype(np.float64) @ (b.T if turned else b)
    once = jax_form(product, exact, jnp.asarray(a), jnp.asarray(b))
    return once._replace(call=lambda: [once.call() for _ in range(4)])


def steps_nanocluster(n: int = IMAGES) -> Comparison:
    """A step of the energy flow on the nanocluster, in its span and on all pixels."""
    problem = nanocluster(n).problem
    observed = np.asarray(problem.observations)

    def exact(sampling: str, y: Sample) -> np.ndarray:
        assert problem.span is not None
        coordinates = np.asarray(problem.span.project(problem.observations))
        squares = [(a.astype(np.float64) ** 2).sum(1) for a in (observed, coordinates)]
        dims = observed.shape[1] if sampling == "closed-form" else observed.shape[1] - coordinates.shape[1]
        outside = np.maximum(squares[0] - squares[1], 0)
        return references.noisy_energy_gradient(y, coordinates, outside, problem.noise_std, dims)

    def in_span(sampling: str) -> Form:
        return steps(problem, "energy", sampling, n, 100, partial(exact, sampling))

    def on_pixels() -> Form:
        pixels = problem._replace(span=None)
        return steps(pixels, "energy", "method-1", n, 1, lambda y: references.energy_gradient(y, observed))

    gram = "Gram products of all pixels (ours, without the span)"
    return Comparison(
        "steps-nanocluster",
        f"A whole step of the energy flow on the nanocluster, N = M = {n}, {observed.shape[1]} pixels",
        {"noise kept": partial(in_span, "method-1"), "noise integrated out": partial(in_span, "closed-form")},
        {gram: on_pixels},
        {("noise kept", gram): 100.0, ("noise integrated out", gram): 1_000.0},
    )


def renderer(radius: float, n: int = 64, atoms: int = 599) -> Comparison:
    """Images of a ball of atoms and the vjp, against cryoJAX: its default, and what it can do as exactly as we do."""
    size, pixel, std = 128, 1.5, 2.5
    rng = np.random.default_rng(1)
    ball = rng.normal(size=(n, atoms, 3))
    ball *= radius * rng.uniform(size=(n, atoms, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=2, keepdims=True)
    rotation = scipy.stats.special_ortho_group.rvs(3, size=n, random_state=rng).astype(np.float32)
    cotangent = rng.normal(size=(n, size, size)).astype(np.float32)
    positions, views, weights = jnp.asarray(ball, "f4"), jnp.asarray(rotation), np.ones(atoms)

    def exact(average: bool) -> tuple[np.ndarray, np.ndarray]:
        onto_plane = rotation[:, :2].astype(np.float64)
        centers = np.einsum("nij,naj->nai", onto_plane, np.asarray(positions, np.float64))
        images, pulled = references.gaussian_images(size, pixel, std, centers, cotangent, average)
        return images, np.einsum("nij,nai->naj", onto_plane, pulled)

    heights, means = exact(average=False), exact(average=True)

    def form(images: Callable[[Any], Any], exact: tuple[np.ndarray, np.ndarray] = heights, note: str = "") -> Form:
        def both(positions: Any) -> Any:
            images_, pull = jax.vjp(images, positions)
            return images_, pull(jnp.asarray(cotangent))[0]

        program = jax.jit(both).lower(positions).compile()
        return Form(
            lambda: jax.block_until_ready(program(positions)),
            lambda: max(map(deviation, program(positions), exact)),
            note=note,
        )

    def ours(positions: Any) -> Any:
        centers = jnp.einsum("nij,naj->nai", views[:, :2], positions, precision="highest")
        return project(size, pixel, std, weights, centers)

    def default(positions: Any) -> Any:
        return cryojax_images.images(size, pixel, std, weights, positions, views, jnp.zeros((n, 2)))

    def bare(options: dict[str, Any], positions: Any) -> Any:
        turned = jnp.einsum("nij,naj->nai", views, positions, precision="highest")
        return cryojax_images.projections(size, pixel, std, weights, turned, **options)

    def best() -> Form:
        settings: dict[str, dict[str, Any]] = {"dense": {}} | {f"n_spread {k}": {"n_spread": k} for k in N_SPREADS}
        forms = {name: form(partial(bare, {"sampling": "point", **options})) for name, options in settings.items()}
        return fastest({name: f for name, f in forms.items() if f.error() <= EQUAL})

    note = "means over pixels, which ours are not"
    equal = f"cryoJAX integrator alone, fastest with an error below {EQUAL:g}"
    return Comparison(
        f"renderer-{radius:g}",
        f"{n} images of {atoms} atoms in a ball of {radius:g} angstroms, {size} x {size} pixels, and their vjp",
        {"ours": lambda: form(ours)},
        {
            "cryoJAX image model, default": lambda: form(default, means, note),
            "cryoJAX integrator alone, default": lambda: form(partial(bare, {}), means, note),
            equal: best,
        },
        {("ours", "cryoJAX image model, default"): 8.0, ("ours", equal): 2.0},
    )


COMPARISONS: dict[str, Callable[[], Comparison]] = {
    "energy-line": energy_line,
    "energy-value-line": energy_value_line,
    "kl-line": kl_line,
    "kl-value-line": kl_value_line,
    "steps-line": steps_line,
    "energy-1024": partial(energy_images, 1_024),
    "energy-16384": partial(energy_images, 16_384),
    "steps-nanocluster": steps_nanocluster,
    "renderer-50": partial(renderer, 50.0),
    "renderer-90": partial(renderer, 90.0),
}
