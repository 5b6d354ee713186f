"""From a stack and a structure to a distribution of conformations, and what there is to say whether to believe it."""

import datetime
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip import __version__
from cryosip.bench.recovery import belief, files, views
from cryosip.bench.recovery.distribution import (
    Estimate,
    basins,
    estimated,
    free_energy,
    halves_of_resamples,
    likelihoods,
    marginal,
    smoothed,
    with_interval,
)
from cryosip.bench.recovery.images import Report, Request, Rows, ScoredImages, checked, with_likelihoods
from cryosip.bench.recovery.methods import CHOICES
from cryosip.bench.recovery.outcomes import JUDGED, cached_outcome
from cryosip.datasets.class_maps import class_maps
from cryosip.datasets.imaging import observed
from cryosip.methods.method import WeightedPoints
from cryosip.records.files import check_writable
from cryosip.records.recovery import MethodOutcome, Recovery, write

PAIRS = 20  # of resampled halves
SHOWN = "reweighting"
QUANTILES = np.linspace(0.01, 0.99, 99)
AT_A_TIME = 5_000  # images whose posteriors are computed

Arrays = dict[str, np.ndarray]


class Posteriors(NamedTuple):
    """Of each image, under the distribution: mean and std (m, d) of theta, the basin of most weight, shares (m, b)."""

    mean: Float[np.ndarray, "m d"]
    std: Float[np.ndarray, "m d"]
    shares: Float[np.ndarray, "m b"]


def recover(request: Request, folder: Path, report: Report, command: str = "") -> Recovery:
    """Runs the methods and writes recovery.json, its arrays, and the files of structures, maps and images.

    The distribution that is shown with intervals is that of EM on the weights of a grid of structures, stopped by
    cross-validation: `reweighting`, which runs in any case. Images that noise alone explains better take no part.

    Raises ValueError where `checked`, `stack` or the reading of images refuse, OSError where files are missing or
    cannot be written. A method that fails is in the record, with its message.
    """
    checked(request)
    check_writable(folder)
    images = with_likelihoods(request, folder, report)
    found: list[MethodOutcome] = []
    arrays: Arrays = {}
    names = list(dict.fromkeys([*request.methods, SHOWN]))
    for number, name in enumerate(names, start=1):
        report(f"{name}: step {number} of {len(names) + 1}")
        result, points = cached_outcome(images, name, CHOICES[name], request)
        found.append(result)
        if points is not None:
            arrays |= {f"theta_{name}": np.asarray(points.theta), f"weights_{name}": np.asarray(points.weights)}
    report(f"intervals, simulated images and files: step {len(names) + 1} of {len(names) + 1}")
    rng = np.random.default_rng(request.seed)
    likelihood = likelihoods_of(images)
    estimate = estimated(likelihood, rng)
    pairs = halves_of_resamples(likelihood, estimate.steps, rng, PAIRS)
    del likelihood
    posteriors, label, peaks = posteriors_of(images, estimate)
    arrays |= shown(images, estimate, label, peaks) | compared(images, estimate, request.seed)
    written = write_files(images, posteriors, peaks, folder)
    return write(folder, record(request, images, found, estimate, pairs, posteriors, written, command), arrays)


def likelihoods_of(images: ScoredImages) -> Float[Array, "n k"]:
    """Those of the particles, with the largest of each 1; only these are held, and no logarithms."""
    found = np.empty((len(images.rows), len(images.fine.points)), np.float32)
    for start in range(0, len(found), AT_A_TIME):
        batch = images.rows[start : start + AT_A_TIME]
        found[start : start + AT_A_TIME] = likelihoods(images.log_values(batch))
    return jnp.asarray(found)


def posteriors_of(images: ScoredImages, estimate: Estimate) -> tuple[Posteriors, Rows, Rows]:
    """Those of all images, the peak that each point of the grid belongs to, and the peaks, as places on the grid."""
    points = images.fine.points
    std = np.zeros(images.fine.dimension)
    label, peaks = np.zeros(len(points), int), np.zeros(1, int)
    for smoothing in (False, True):  # by what an image tells: peaks that are finer are chance
        weights = smoothed(images.fine, estimate.weights, std) if smoothing else estimate.weights
        label, peaks = basins(images.fine, weights)
        found = _posteriors(images, estimate.weights, points, label, len(peaks))
        std = np.median(found.std, axis=0)
    return found, label, peaks


def _posteriors(
    images: ScoredImages, weights: np.ndarray, points: np.ndarray, label: np.ndarray, n_basins: int
) -> Posteriors:
    parts = []
    member = (label[:, None] == np.arange(n_basins)).astype(float)
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    for start in range(0, len(images.junk), AT_A_TIME):
        joint = images.log_values(slice(start, start + AT_A_TIME)) + log_weights
        share = np.exp(joint - joint.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        mean = share @ points
        parts.append((mean, np.sqrt(np.maximum(share @ points**2 - mean**2, 0.0)), share @ member))
    return Posteriors(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def shown(images: ScoredImages, estimate: Estimate, label: Rows, peaks: Rows) -> Arrays:
    """The distribution for figures, with intervals."""
    fine, n = images.fine, len(images.rows)
    step = (fine.upper - fine.lower) / (fine.per_axis - 1)
    arrays: Arrays = {}
    for name in ("density", "cumulative"):
        rows = []
        for mode in range(fine.dimension):
            value, resampled = (marginal(fine, w, mode) / step[mode] for w in (estimate.weights, estimate.resampled))
            if name == "cumulative":
                value, resampled = (np.cumsum(a * step[mode], axis=-1) for a in (value, resampled))
            rows.append(with_interval(value, resampled))
        for suffix, parts in zip(("", "_low", "_high"), zip(*rows, strict=True), strict=True):
            arrays[name + suffix] = np.stack(parts)
    if fine.dimension > 1:
        arrays["free_energy"], arrays["free_energy_std"] = free_energy(fine, estimate, n)
    arrays["representatives"] = fine.points[peaks]
    member = (label[:, None] == np.arange(len(peaks))).astype(float)
    shares = with_interval(estimate.weights @ member, estimate.resampled @ member)
    arrays |= dict(zip(("shares", "shares_low", "shares_high"), shares, strict=True))
    molecule = images.imaging.molecule
    arrays["beads"], arrays["motions"] = molecule.rest, molecule.motions.reshape(fine.dimension, -1)
    return arrays


def compared(images: ScoredImages, estimate: Estimate, seed: int) -> Arrays:
    """Simulated images beside the observed ones, and what is recovered from them."""
    imaging, rows = images.imaging, images.rows
    subset = np.sort(np.random.default_rng(seed).choice(rows, min(JUDGED, len(rows)), replace=False))
    table, made, log_values = belief.calibration(
        imaging, images.of, images.table.grid, images.fine, estimate, subset, seed
    )
    real = observed(imaging.particles, imaging.optics, subset)
    truth = WeightedPoints(images.fine.points, estimate.weights)
    rng = np.random.default_rng(seed)
    errors = 1 + imaging.noise_error[1:] * rng.normal(
        size=(PAIRS, len(imaging.noise) - 1)
    )  # of what noise is taken for
    powers = [
        error * views.power(imaging.optics, belief.simulated(imaging, truth, subset, jr.key(seed + 1 + i)).images)
        for i, error in enumerate(errors)
    ]
    groups = views.like_directions(imaging, subset)
    return {
        "calibration": table,
        "power": np.stack([views.power(imaging.optics, real), *np.quantile(powers, belief.LEVELS, axis=0)]),
        "gains_observed": np.quantile(images.best[subset], QUANTILES),
        "gains_simulated": np.quantile(log_values.max(1), QUANTILES),
        "view_observed": views.averages(imaging, real, subset, groups),
        "view_simulated": views.averages(imaging, made.images, subset, groups),
    }


def write_files(images: ScoredImages, posteriors: Posteriors, peaks: Rows, folder: Path) -> list[str]:
    """Posteriors of images, structures and maps of the peaks; the names of the files."""
    imaging, rows = images.imaging, images.rows
    label = posteriors.shares.argmax(1)
    for stale in (*folder.glob("class-*.mrc"), *folder.glob("mode-*.pdb")):  # of an earlier run with more of them
        stale.unlink()
    files.write_posteriors(folder, imaging.particles, posteriors.mean, posteriors.std, images.best, label, images.junk)
    theta, shares = images.fine.points[peaks], posteriors.shares[rows].mean(0)
    middle = imaging.particles.size // 2 * imaging.particles.pixel
    files.write_structures(folder, imaging.molecule, theta, shares, imaging.half_width, middle)
    maps = class_maps(imaging, rows, posteriors.shares[rows])
    files.write_class_maps(folder, maps, imaging.particles.pixel)
    names = (files.POSTERIORS, files.PARTICLES, files.STRUCTURES, "mode-*.pdb", "class-*.mrc")
    return [path.name for name in names for path in sorted(folder.glob(name))]


def record(
    request: Request, images: ScoredImages, found: list[MethodOutcome], estimate: Estimate, pairs: np.ndarray,
    posteriors: Posteriors, written: list[str], command: str,
) -> Recovery:  # fmt: skip
    """All numbers of the page."""
    imaging, fine = images.imaging, images.fine
    particles = imaging.particles
    best = images.best[images.rows]
    spread = belief.spread(fine, np.vstack([estimate.weights, *estimate.resampled]))
    return Recovery(
        version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        particles=Path(request.particles).name,
        structure=", ".join(Path(s).name for s in request.structure),
        chain=imaging.molecule.chain,
        n_images=len(images.junk),
        image_size=particles.size,
        pixel_in_angstroms=particles.pixel,
        options=dict(request.stack_options) | {"seed": request.seed, "frequencies": imaging.optics.kept // 2,
                                               "pose_nodes": len(imaging.turns.weights),
                                               "table": images.table.grid.per_axis, "em_steps": estimate.steps},
        scale=imaging.scale,
        lower=fine.lower.tolist(),
        upper=fine.upper.tolist(),
        shown=SHOWN,
        methods=found,
        resampling=belief.between(np.array([belief.distance(fine, *pair) for pair in pairs])),
        spread=belief.between(spread[1:], spread[0]),
        junk_share=images.junk_share,
        unexplained_share=belief.unexplained(images.table.squares[images.rows], best, imaging.optics.kept**2 - 1),
        posterior_std=np.median(posteriors.std[images.rows], axis=0).tolist(),
        files=written,
        notes=notes(images),
    )  # fmt: skip


def notes(images: ScoredImages) -> list[str]:
    """What a reader must know of this run."""
    m, n, message = len(images.junk), len(images.rows), images.imaging.particles.message
    return [
        *([f"{m - n:,} of {m:,} images are noise rather than the molecule, and take no part."] if n < m else []),
        *([f"The table of particles has {message}."] if message else []),
    ]
