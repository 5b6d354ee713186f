"""What a record says of an estimate: its metrics beside those of the initial distribution and of the truth."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from cryosip.bench import metrics, programs, sharing
from cryosip.bench.fixed_view import principal_components
from cryosip.bench.image_distances import observed_totals, readings, simulated_images
from cryosip.bench.sources import problem_code
from cryosip.datasets.instance import Instance, Molecule, Truth
from cryosip.methods.flow import flow_target
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES
from cryosip.records.store import RunConfig

Fields = dict[str, Any]
Arrays = dict[str, np.ndarray]

ESTIMATE_KEY = 1002  # fold_in number of a replicate's key
EXAMPLES = 4  # images that a record shows


def describe(
    config: RunConfig,
    instance: Instance,
    points: WeightedPoints,
    estimate: WeightedPoints,
    known: dict[str, float],
    of_all: sharing.Shared,
) -> tuple[Fields, Arrays]:
    """Metrics of the estimate beside those of the initial law and of draws of the truth, and the clouds themselves."""
    problem = instance.problem
    key_init, key_estimate = jr.split(jr.fold_in(jr.key(config.replicate), ESTIMATE_KEY))
    n = len(problem.observations)
    initial = WeightedPoints(problem.sample_init(key_init, n), np.full(n, 1 / n))
    data = _hash(problem, instance.truth)
    initial_metrics = of_all.numbers(("initial", data), lambda: plain(_evaluate(instance, initial, points)))
    if problem.observations.shape[1] == 1:
        distances, images = _on_the_line(problem, estimate, initial, key_estimate, key_init)
    else:
        distances, images = {}, _examples(instance) if config.replicate == 0 else {}
        if "discrepancy" in config.method_options:  # the distances of images are what it minimises
            totals = of_all.once(("totals", data), lambda: observed_totals(instance))
            distances = readings(instance, totals, estimate, key_estimate)
            seen = of_all.numbers(
                ("initial images", data), lambda: plain(readings(instance, totals, initial, key_init))
            )
            initial_metrics = initial_metrics | seen
    drawn_by = problem_code(config.problem)  # the reference is of all draws, and samples are drawn anew
    law = drawn_by + hashlib.sha256(np.ascontiguousarray(points.theta).tobytes()).hexdigest()
    size = len(estimate.theta)
    floors, data_floors = (
        of_all.numbers(("floors", law, k), partial(metrics.floors, instance.truth, points, k)) for k in (size, n)
    )
    samples = metrics.equally_weighted(of_all.array(("samples", law, n), lambda: metrics.samples(instance.truth, n)))
    values = _evaluate(instance, estimate, points, known) | metrics.to_data(estimate, instance.truth) | distances
    fields: Fields = {
        "algorithm": _algorithm(config, problem, estimate, key_estimate),
        "metrics": plain(values),
        "unsolved": [name for name, value in values.items() if isinstance(value, metrics.Unsolved)],
        "initial_metrics": initial_metrics,
        "oracle_metrics": metrics.best_weights(estimate, points),
        "floors": floors,
        "data_floors": data_floors,
        "sampled_metrics": metrics.against_samples(estimate, samples),
        "initial_sampled_metrics": of_all.numbers(
            ("initial samples", data), lambda: metrics.against_samples(initial, samples)
        ),
        "dataset_hash": data,
    }
    if instance.molecule is not None:
        molecule = instance.molecule
        fields["molecule"] = _molecule(molecule)
        if config.replicate == 0:
            images |= {"beads": molecule.rest, "motions": molecule.motions.reshape(len(molecule.motions), -1)}
            images |= principal_components(instance, initial, estimate, key_estimate)
    if config.method == "mixture":
        fields["collapsed_components"] = metrics.collapsed(estimate, np.asarray(initial.theta).std(0))
    arrays = {
        "theta": estimate.theta,
        "weights": estimate.weights,
        "theta_init": initial.theta,
        "theta_true": points.theta,
    }
    return fields, {name: np.asarray(array, np.float32) for name, array in (arrays | images).items()}


def _on_the_line(
    problem: Problem, estimate: WeightedPoints, initial: WeightedPoints, key_estimate: jax.Array, key_init: jax.Array
) -> tuple[Fields, dict[str, Any]]:
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


def _algorithm(config: RunConfig, problem: Problem, estimate: WeightedPoints, key: jax.Array) -> Fields | None:
    """Which algorithm computed the discrepancy, and its error on images of the estimate."""
    chosen = config.method_options.get("discrepancy")
    if chosen is None:
        return None
    sampling = config.method_options.get("sampling", "method-1")
    discrepancy = DISCREPANCIES[chosen["name"]](**chosen.get("options", {}))
    problem, target = flow_target(problem, discrepancy, sampling)
    clean, noisy = simulated_images(problem, estimate, len(problem.observations), key)
    error = float(programs.call(target.gradient_error, clean if sampling == "closed-form" else noisy))
    return {"name": target.algorithm, **plain({"gradient_error": error})}


def _evaluate(
    instance: Instance, estimate: WeightedPoints, points: WeightedPoints, known: dict[str, float] | None = None
) -> dict[str, float]:
    """All metrics; of a protein also mode by mode and in the paper's coordinates."""
    values = metrics.evaluate(estimate, points, known)
    if instance.molecule is None:
        return values
    scale = 1 / np.sqrt(instance.molecule.eigenvalues)
    return values | metrics.per_mode(estimate, points) | metrics.unwhitened(estimate, points, scale)


def _molecule(molecule: Molecule) -> Fields:
    """What a reader must know of the structure; of its file the name alone."""
    return {
        "source": Path(molecule.source).name,
        "chain": molecule.chain,
        "n_atoms": molecule.n_atoms,
        "n_beads": len(molecule.rest),
        "eigenvalues": molecule.eigenvalues.tolist(),
        "collectivity": molecule.collectivity.tolist(),
    }


def _hash(problem: Problem, truth: Truth) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(problem.observations).tobytes())
    digest.update(np.ascontiguousarray(truth.theta).tobytes())
    return digest.hexdigest()[:16]


def plain(values: dict[str, Any]) -> Fields:
    """Numbers that are not finite as null."""
    return {name: finite(value) for name, value in values.items()}


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for both."""
    return value if np.isfinite(value) else None
