"""What a record says of an estimate: its metrics beside those of the initial distribution and of the truth."""

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from cryosip.bench import metrics, programs, sharing
from cryosip.bench.build import resolved
from cryosip.bench.fixed_view import principal_components
from cryosip.bench.image_distances import observed_totals, readings, simulated_images
from cryosip.bench.sources import metric_code, problem_code
from cryosip.datasets.instance import Instance, Truth
from cryosip.datasets.instance import Molecule as Structure
from cryosip.methods.flow import flow_target
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES
from cryosip.records.schema import Algorithm, Floor, Floors, Molecule, Result, RunConfig

Values = dict[str, float]
Arrays = dict[str, np.ndarray]

ESTIMATE_KEY = 1002  # fold_in number of a replicate's key
EXAMPLES = 4  # images that a record shows


def describe(
    config: RunConfig,
    instance: Instance,
    points: WeightedPoints,
    estimate: WeightedPoints,
    known: Values,
    shared: sharing.Shared,
) -> tuple[Result, Arrays]:
    """Metrics of the estimate beside those of the initial distribution and of samples of the truth, and all points.

    `points` stand for the truth; `known` are metrics of the estimate that are computed already.
    """
    problem = instance.problem
    key_init, key_estimate = jr.split(jr.fold_in(jr.key(config.replicate), ESTIMATE_KEY))
    n = len(problem.observations)
    initial = WeightedPoints(problem.sample_init(key_init, n), np.full(n, 1 / n))
    seen, seen_initial = (metrics.identified(instance.truth, law) for law in (estimate, initial))
    data = data_hash(problem, instance.truth)
    initial_metrics = shared.numbers(
        ("initial", metric_code(), data), lambda: finite(_evaluate(instance, seen_initial, points))
    )
    if problem.observations.shape[1] == 1:
        distances, images = _on_the_line(problem, estimate, initial, key_estimate, key_init)
    else:
        distances, images = {}, _examples(instance) if config.replicate == 0 else {}
        if "discrepancy" in config.method_options:  # the distances of images are what it minimises
            totals = shared.once(("totals", data), lambda: observed_totals(instance))
            distances = readings(instance, totals, estimate, key_estimate)
            of_images = shared.numbers(
                ("initial images", data), lambda: finite(readings(instance, totals, initial, key_init))
            )
            initial_metrics = initial_metrics | of_images
    if instance.molecule is not None and config.replicate == 0:
        rest, motions = instance.molecule.rest, instance.molecule.motions
        images |= {"beads": rest, "motions": motions.reshape(len(motions), -1)}
        images |= principal_components(instance, initial, estimate, key_estimate)
    values = _evaluate(instance, seen, points, known) | metrics.to_data(seen, instance.truth) | distances
    floors, data_floors, samples = _samples(config.problem, instance, points, (len(seen.theta), n), shared)
    spread = np.asarray(seen_initial.theta).std(0)
    result = Result(
        algorithm=_algorithm(config, problem, estimate, key_estimate),
        metrics=finite(values),
        unsolved=[name for name, value in values.items() if isinstance(value, metrics.Unsolved)],
        initial_metrics=initial_metrics,
        oracle_metrics=metrics.best_weights(seen, points),
        floors=floors,
        data_floors=data_floors,
        sampled_metrics=_as_floors(metrics.against_samples(seen, samples)),
        initial_sampled_metrics=_as_floors(
            shared.numbers(("initial samples", data), lambda: metrics.against_samples(seen_initial, samples))
        ),
        dataset_hash=data,
        molecule=None if instance.molecule is None else molecule_of(instance.molecule),
        collapsed_components=metrics.collapsed(seen, spread) if config.method == "mixture" else math.nan,
    )
    arrays = seen._asdict() | {"theta_init": seen_initial.theta, "theta_true": points.theta} | images
    return result, {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _samples(
    problem: str, instance: Instance, points: WeightedPoints, sizes: tuple[int, int], shared: sharing.Shared
) -> tuple[Floors, Floors, list[WeightedPoints]]:
    """The floors of two sizes, those of an estimate and of the data, and samples as large as the data."""
    truth, support = instance.truth, _support(instance)
    made_by = problem_code(problem)  # the points are of all samples, and these are drawn anew
    distribution = made_by + _digest(points.theta) + ("" if support is None else _digest(support))

    def floors_of(k: int) -> Floors:
        made = partial(metrics.floors, truth, points, k, support=support)
        return _as_floors(shared.numbers(("floors", metric_code(), distribution, k), made))

    floors, data_floors = map(floors_of, sizes)
    samples = shared.array(("samples", distribution, sizes[1]), lambda: metrics.samples(truth, sizes[1]))
    return floors, data_floors, metrics.equally_weighted(samples)


def _as_floors(summaries: dict[str, dict[str, float]]) -> Floors:
    return {name: Floor(v["median"], v["q05"], v["q95"], int(v["n"])) for name, v in summaries.items()}


def _on_the_line(
    problem: Problem, estimate: WeightedPoints, initial: WeightedPoints, key_estimate: jax.Array, key_init: jax.Array
) -> tuple[Values, dict[str, Any]]:
    """Half the squared distance of simulated data from the observations, and the data themselves."""
    n = len(problem.observations)
    distance = DISCREPANCIES["energy"]().bind(problem.observations, 0.0).value
    y, y_init = (
        simulated_images(problem, points, n, key)[1] for points, key in ((estimate, key_estimate), (initial, key_init))
    )
    images = {"y_observed": problem.observations, "y_estimated": y, "y_init": y_init}
    return {"discrepancy": float(programs.call(distance, y))}, images


def _examples(instance: Instance) -> dict[str, Any]:
    """A few images without and with noise."""
    some = instance.truth.theta[:EXAMPLES]
    pose = jax.tree.map(lambda a: a[:EXAMPLES], instance.truth.pose)
    return {
        "image_clean": instance.problem.render(some, pose),
        "image_noisy": instance.problem.observations[:EXAMPLES],
    }


def _algorithm(config: RunConfig, problem: Problem, estimate: WeightedPoints, key: jax.Array) -> Algorithm | None:
    """Which algorithm computed the discrepancy, and its error on images of the estimate."""
    chosen = config.method_options.get("discrepancy")
    if chosen is None:
        return None
    sampling = resolved(config).method.resolved["sampling"]
    discrepancy = DISCREPANCIES[chosen["name"]](**chosen.get("options", {}))
    problem, target = flow_target(problem, discrepancy, sampling)
    clean, noisy = simulated_images(problem, estimate, len(problem.observations), key)
    error = float(programs.call(target.gradient_error, clean if sampling == "closed-form" else noisy))
    return Algorithm(target.algorithm, error if math.isfinite(error) else None)


def _evaluate(
    instance: Instance, estimate: WeightedPoints, points: WeightedPoints, known: dict[str, float] | None = None
) -> dict[str, float]:
    """All metrics; of given structures also those of their populations; of a protein mode by mode and in the paper's
    coordinates."""
    values = metrics.evaluate(estimate, points, known)
    support = _support(instance)
    if support is not None:
        values |= metrics.of_populations(estimate, points, support)
    if instance.molecule is None:
        return values
    whole = metrics.unwhitened(estimate, points, instance.molecule.amplitudes)
    return values | metrics.per_mode(estimate, points) | whole


def _support(instance: Instance) -> np.ndarray | None:
    """The structures that are given, if they are, in the coordinates that images can tell."""
    given = instance.problem.support
    return None if given is None else np.asarray(instance.truth.identifiable(given), np.float64)


def _digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def molecule_of(molecule: Structure) -> Molecule:
    """What a reader must know of the structure; of its file the name alone."""
    return Molecule(
        source=Path(molecule.source).name,
        chain=molecule.chain,
        n_atoms=molecule.n_atoms,
        n_beads=len(molecule.rest),
        eigenvalues=molecule.eigenvalues.tolist(),
        collectivity=molecule.collectivity.tolist(),
    )


def data_hash(problem: Problem, truth: Truth) -> str:
    """Of the observations and what is behind them."""
    digest = hashlib.sha256(np.ascontiguousarray(problem.observations).tobytes())
    digest.update(np.ascontiguousarray(truth.theta).tobytes())
    return digest.hexdigest()[:16]


def finite(values: Values) -> Values:
    """The numbers that JSON can hold; NaN and infinity are left out."""
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
