"""What a reading of section 4.3 gives: how far its molecule moves, and distances of parameters and of images."""

import jax
import jax.random as jr
import numpy as np
import scipy.spatial.distance

from cryosip.bench.build import build_instance, resolved
from cryosip.bench.execute import Session
from cryosip.bench.limits import ending_after
from cryosip.bench.measure import Arrays, finite, molecule_of
from cryosip.bench.studies.product_laws import Law, Uniform, energy_distance_squared, scaled
from cryosip.bench.studies.study import Options
from cryosip.datasets.gaussian_mixture import gaussian_mixture
from cryosip.datasets.instance import Instance
from cryosip.methods import images
from cryosip.methods.problem import Images, Points
from cryosip.records.schema import Result, RunConfig

PUBLISHED_IMAGES = 3_000  # of the published V-statistics
SAMPLES = 20  # of pairs of data sets, for the spread of a D^2 of parameters that is measured on samples
READING_KEY = 1006  # fold_in number of a replicate's key


def measure_reading(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """How far the molecule moves, and the distances of the initial from the true distribution.

    `d2` is exact; `d2_sampled_*` are V-statistics of samples as large as the published ones. `images_*` are D^2 between
    noisy images of both, `floor_*` those of two data sets of the truth: u without the distances of images to
    themselves, v with them, as of 3000 images whatever their number is here. `snr` is that of a pixel.
    """
    with ending_after(session.limits.seconds):
        instance = build_instance(config)
        options = resolved(config).problem.resolved
        key = jr.fold_in(jr.key(config.replicate), READING_KEY)
        values = of_parameters(instance, options, key) | of_images(instance, key)
    molecule = instance.molecule
    return Result(steps=1, metrics=finite(values), molecule=molecule and molecule_of(molecule)), {}


def laws(options: Options) -> tuple[list[Law], list[Law]]:
    """The initial and the true law of each mode, whitened."""
    true: list[Law] = [
        gaussian_mixture(row, [options["std"]] * len(row), [1 / len(row)] * len(row)) for row in options["means"]
    ]
    return [Uniform(options["init_half_width"])] * len(true), true


def of_parameters(instance: Instance, options: Options, key: jax.Array) -> dict[str, float]:
    """D^2 in the paper's coordinates, exact and from samples, and by how much atoms move: root mean squares."""
    molecule = instance.molecule
    assert molecule is not None
    initial, true = ([scaled(law, a) for law, a in zip(own, molecule.amplitudes, strict=True)] for own in laws(options))

    def sampled(key: jax.Array) -> float:
        """A V-statistic."""
        first, second = jr.split(key)
        x = instance.problem.sample_init(first, PUBLISHED_IMAGES) * molecule.amplitudes
        y = instance.truth.sample(second, PUBLISHED_IMAGES) * molecule.amplitudes
        mean = [scipy.spatial.distance.cdist(a, b).mean() for a, b in ((x, y), (x, x), (y, y))]
        return float(2 * mean[0] - mean[1] - mean[2])

    found = [sampled(k) for k in jr.split(key, SAMPLES)]
    theta = np.asarray(instance.truth.theta, np.float64)
    moved = np.tensordot(theta, molecule.motions, 1)
    return {
        "d2": energy_distance_squared(initial, true),
        "d2_sampled_mean": float(np.mean(found)),
        "d2_sampled_std": float(np.std(found, ddof=1)),
        "rms_motion": float(np.sqrt((moved**2).sum(2).mean())),
    }


def of_images(instance: Instance, key: jax.Array) -> dict[str, float]:
    """D^2 between noisy images of the initial and the true distribution, and between two data sets of the truth."""
    problem, n = instance.problem, len(instance.problem.observations)
    keys = jr.split(key, 4)
    initial, _ = _drawn(instance, problem.sample_init(keys[0], n), keys[1])
    again, clean = _drawn(instance, instance.truth.sample(keys[2], n), keys[3])
    clouds = {"observed": np.asarray(problem.observations), "initial": np.asarray(initial), "again": np.asarray(again)}
    # of pairs of different images: those of one data set with itself are n / (n - 1) times their mean
    within = {name: images.mean_distance(cloud, cloud) * n / (n - 1) for name, cloud in clouds.items()}
    values: dict[str, float] = {}
    for what, other in (("images", "initial"), ("floor", "again")):
        inside = within["observed"] + within[other]
        u = 2 * images.mean_distance(clouds[other], clouds["observed"]) - inside
        values |= {f"{what}_u": u, f"{what}_v": u + inside / PUBLISHED_IMAGES}
    return values | {"snr": float((np.asarray(clean, np.float64) ** 2).mean()) / problem.noise_std**2}


def _drawn(instance: Instance, theta: Points, key: jax.Array) -> tuple[Images, Images]:
    """Noisy images in poses of their own, and those without noise."""
    problem = instance.problem
    key_pose, key_noise = jr.split(key)
    clean = jax.jit(problem.render)(theta, problem.sample_pose(key_pose, len(theta)))
    return clean + problem.noise_std * jr.normal(key_noise, clean.shape), clean
