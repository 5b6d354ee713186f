"""The comparisons of `cryosip speed --baselines`: energy and KL on the line, energy of images, flows, the renderer."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from cryosip.bench.check import formulas
from cryosip.bench.speed import third_party
from cryosip.bench.speed.baselines import (
    Comparison,
    Exact,
    Implementation,
    Unavailable,
    deviation,
    fastest,
    from_jax,
    looped,
)
from cryosip.bench.speed.image_cases import IMAGES, energy_images, renderer
from cryosip.bench.speed.third_party import Prepare, PrepareKde, Sample
from cryosip.bench.speed.volume_cases import slices
from cryosip.datasets.nanocluster import nanocluster
from cryosip.datasets.oned import oned
from cryosip.methods import pairwise
from cryosip.methods.flow import flow_target, particle_flow
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES

Make = Callable[[], Implementation]

LINE = 10_000  # points of either sample
SLICES = 10_000
TILES = [2**e for e in range(18, 23)]
ALL_PAIRS = "all pairs, best tile (ours, naive)"
GRADIENTS = {"energy": formulas.energy_gradient, "kl": formulas.kl_gradient}


def line_samples(n: int) -> tuple[Sample, Sample]:
    """Particles and observations that overlap as in the middle of a flow."""
    rng = np.random.default_rng(0)
    y, observed = rng.normal(0, 1.8, (n, 1)), rng.choice([-2.0, 2.0], (n, 1)) + rng.normal(0, 1.5, (n, 1))
    return y.astype(np.float32), observed.astype(np.float32)


def line_gradient(name: str, algorithm: str, n: int, calls: int) -> Implementation:
    """The gradient of one of our discrepancies on the line.

    Parameters
    ----------
    name
        Of the discrepancy in the registry, "energy" or "kl".
    algorithm
        One of its algorithms.
    n
        Points of either sample.
    calls
        Evaluations in a compiled loop.

    Returns
    -------
    The implementation, compiled.
    """
    y, observed = line_samples(n)
    target = DISCREPANCIES[name](algorithm=algorithm).bind(jnp.asarray(observed), 0.0)
    return looped(target.gradient, lambda: GRADIENTS[name](y, observed), jnp.asarray(y), calls)


def _best_tile(gradient: Callable[[int], Callable[[Any], Any]], exact: Exact, y: Sample) -> Implementation:
    """A gradient by sums over all pairs, of so many pairs at a time as is fastest."""
    return fastest({f"tiles of {tile}": looped(gradient(tile), exact, jnp.asarray(y), 1) for tile in TILES})


def _at_bandwidth(baselines: Mapping[str, PrepareKde], std: float) -> dict[str, Prepare]:
    def prepared(prepare: PrepareKde, y: Sample, observed: Sample) -> Callable[[], Any]:
        return prepare(y, observed, std)

    return {name: partial(prepared, prepare) for name, prepare in baselines.items()}


def _value_only(*names: str) -> dict[str, Make]:
    def refuse() -> Implementation:
        raise Unavailable("gives the value only, compared below")

    return dict.fromkeys(names, refuse)


def energy_line(n: int = LINE) -> Comparison:
    """The gradient of the energy distance on the line."""
    y, observed = line_samples(n)
    exact = cache(lambda: formulas.energy_gradient(y, observed))

    def all_pairs(tile: int) -> Callable[[Any], Any]:
        return DISCREPANCIES["energy"]("pairwise", tile=tile).bind(jnp.asarray(observed), 0.0).gradient

    others = third_party.implementations(third_party.LINE, exact, y, observed)
    wanted = {("sorted", ALL_PAIRS): 80.0, ("binned", ALL_PAIRS): 400.0} | {("sorted", name): 100.0 for name in others}
    return Comparison(
        "energy-line",
        f"Gradient of the energy distance on the line, N = M = {n}",
        {name: partial(line_gradient, "energy", name, n, 200) for name in ("sorted", "binned")},
        {
            ALL_PAIRS: lambda: _best_tile(all_pairs, exact, y),
            **others,
            **_value_only("scipy.stats.energy_distance"),
        },
        wanted,
    )


def kl_line(n: int = LINE) -> Comparison:
    """The gradient of KL between density estimates on the line."""
    y, observed = line_samples(n)
    std, exact = formulas.silverman(observed), cache(lambda: formulas.kl_gradient(y, observed))

    def all_pairs(tile: int) -> Callable[[Any], Any]:
        return lambda y: pairwise.kde_score(y, y, std, tile) - pairwise.kde_score(y, jnp.asarray(observed), std, tile)

    return Comparison(
        "kl-line",
        f"Gradient of KL on the line, N = M = {n}",
        {"binned": partial(line_gradient, "kl", "binned", n, 200)},
        {
            ALL_PAIRS: lambda: _best_tile(all_pairs, exact, y),
            **third_party.implementations(_at_bandwidth(third_party.KDE, std), exact, y, observed),
            **_value_only(*third_party.KDE_VALUES),
        },
        {("binned", ALL_PAIRS): 1_000.0},
    )


def energy_value_line(n: int = LINE) -> Comparison:
    """The value of the energy distance on the line, where other libraries give only the value."""
    return _value_line("energy", "the energy distance", third_party.VALUES, n)


def kl_value_line(n: int = LINE) -> Comparison:
    """The value of KL on the line, where other libraries give only the value."""
    return _value_line("kl", "KL", _at_bandwidth(third_party.KDE_VALUES, formulas.silverman(line_samples(n)[1])), n)


def _value_line(name: str, called: str, baselines: Mapping[str, Prepare], n: int) -> Comparison:
    y, observed = line_samples(n)
    exact = cache(lambda: np.asarray(formulas.FORMULAS[name](observed, 0.0).value(y)))
    target = DISCREPANCIES[name]().bind(jnp.asarray(observed), 0.0)
    return Comparison(
        f"{name}-value-line",
        f"Value of {called} on the line, N = M = {n}",
        {"ours": lambda: from_jax(target.value, exact, jnp.asarray(y))},
        third_party.implementations(baselines, exact, y, observed),
        {("ours", name): 1.0 for name in baselines},
    )


def steps(
    problem: Problem, name: str, sampling: str, n: int, calls: int, exact: Callable[[Sample], np.ndarray]
) -> Implementation:
    """Steps of a flow from its initial distribution; the error is that of the gradient at its first images.

    Parameters
    ----------
    problem
        What the flow is run on.
    name
        Of the discrepancy in the registry.
    sampling
        How the flow samples noise, such as "method-1" or "closed-form".
    n
        Number of particles.
    calls
        Steps in a compiled loop.
    exact
        The gradient by its formula at given images.

    Returns
    -------
    The implementation, whose seconds are those of a step.
    """
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
    return Implementation(
        lambda: jax.block_until_ready(program(state)),
        lambda: deviation(jax.jit(target.gradient)(y), exact(np.asarray(y))),
        calls,
    )


def steps_line(n: int = LINE) -> Comparison:
    """A step of the KL flow against one of the energy flow."""
    problem = oned(n_observations=n).problem
    observed = np.asarray(problem.observations)

    def flow(name: str) -> Implementation:
        return steps(problem, name, "method-1", n, 200, lambda y: GRADIENTS[name](y, observed))

    return Comparison(
        "steps-line",
        f"A whole step of a flow on the line, N = M = {n}",
        {"KL flow": partial(flow, "kl")},
        {"energy flow": partial(flow, "energy")},
        {("KL flow", "energy flow"): 1 / 1.5},
    )


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
        return formulas.noisy_energy_gradient(y, coordinates, outside, problem.noise_std, dims)

    def in_span(sampling: str) -> Implementation:
        return steps(problem, "energy", sampling, n, 100, partial(exact, sampling))

    def on_pixels() -> Implementation:
        pixels = problem._replace(span=None)
        return steps(pixels, "energy", "method-1", n, 1, lambda y: formulas.energy_gradient(y, observed))

    gram = "Gram products of all pixels (ours, without the span)"
    return Comparison(
        "steps-nanocluster",
        f"A whole step of the energy flow on the nanocluster, N = M = {n}, {observed.shape[1]} pixels",
        {"noise kept": partial(in_span, "method-1"), "noise integrated out": partial(in_span, "closed-form")},
        {gram: on_pixels},
        {("noise kept", gram): 100.0, ("noise integrated out", gram): 1_000.0},
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
    "slices-64": partial(slices, 64, SLICES),
    "backprojection-64": partial(slices, 64, SLICES, transposed=True),
}
