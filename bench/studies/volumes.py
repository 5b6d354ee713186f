"""What packages do, and methods of this suite, on the same images: distributions of volumes on one table."""

from collections.abc import Iterator
from typing import NamedTuple

from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.records.schema import Labels, RunConfig

MOLECULE = "adk"
# Images of the same field of view, without and with a CTF. Classes take the 25 steps that RELION's users take, the
# autoencoder 50 epochs; those of EM and of the covariance were chosen on replicate 0, 1000 images at an SNR of 1,
# where the objective had come to rest. Options are the methods' defaults, but for the flow, which was not tuned.
VOLUME_IMAGES: dict[str, Options] = {
    "smoke": {
        "image_size": 12, "pixel_size_in_angstroms": 11.0, "atom_std_in_angstroms": 8.0, "atoms_per_bead": 4,
        "volume_size": 12, "snr": 0.1,
    },
    "small": {
        "image_size": 16, "pixel_size_in_angstroms": 8.0, "atom_std_in_angstroms": 6.0, "atoms_per_bead": 2,
        "volume_size": 16, "snr": 0.1,
    },
    "paper": {
        "image_size": 32, "pixel_size_in_angstroms": 4.0, "atom_std_in_angstroms": 4.0, "atoms_per_bead": 2,
        "volume_size": 32, "snr": 0.1, "defocus_range_in_angstroms": [10_000.0, 20_000.0],
    },
}  # fmt: skip
GIVEN: Options = {"pose_error_in_degrees": 0.0}
NOISE: Options = {"snr": 1e-6}
ON_NOISE = ("classes, K = 4", "covariance, deconvolved")
CLASSES = (4, 10)
CLASS_STEPS, EM_STEPS, COVARIANCE_STEPS, FLOW_STEPS = 25, 20, 6, 200
EPOCHS, BATCH = 50, 64
DISTRIBUTIONS = ("posterior-means", "model", "deconvolved")
PARTICLES = 300
# discrete conformers, and how many; the same images otherwise
STATES = {"adk-states": 4, "adk-entangled": 2}


class Row(NamedTuple):
    """A method on the volumes of the molecule, or on its modes."""

    variant: str
    method: str
    steps: int
    options: Options
    of_modes: bool = False


def volumes(size: Size) -> list[RunConfig]:
    """Each row on the same images, in the poses that are given; some on discrete conformers, and on noise alone."""
    images = VOLUME_IMAGES[size.images] | GIVEN
    found = list(rows(size))
    chosen = [(MOLECULE if row.of_modes else f"{MOLECULE}-volumes", images, row) for row in found]
    chosen += [(problem, images, row) for problem, k in STATES.items() for row in of_states(k, size)]
    chosen += [(f"{MOLECULE}-volumes", images | NOISE, row) for row in found if row.variant in ON_NOISE]
    return [
        run_on(problem, options, 2, "volumes", Labels(row.variant), size, row.method, row.steps, **row.options)
        for problem, options, row in chosen
    ]


def of_states(k: int, size: Size) -> list[Row]:
    """As many classes as there are states, and more; and two rows of as many volumes as images."""
    others = [row for row in rows(size) if row.variant in ("covariance, deconvolved", "autoencoder")]
    return [_classes(k), _classes(max(CLASSES)), *others]


def _classes(k: int) -> Row:
    return Row(f"classes, K = {k}", "class3d", CLASS_STEPS, {"n_components": k})


def rows(size: Size) -> Iterator[Row]:
    """Those that look for volumes, then those that know the modes and not the poses."""
    descent = {"name": "rms-sgd", "learning_rate": 0.1, "cosine_steps": max(1, round(FLOW_STEPS * size.share_of_steps))}
    for k in CLASSES:
        yield _classes(k)
    for distribution in DISTRIBUTIONS:
        yield Row(f"3D variability, {distribution}", "variability", EM_STEPS, {"distribution": distribution})
    for distribution in ("posterior-means", "deconvolved", "density"):
        yield Row(f"covariance, {distribution}", "covariance", COVARIANCE_STEPS, {"distribution": distribution})
    regression = {"distribution": "density", "volumes": "kernel-regression"}
    yield Row("covariance, kernel regression", "covariance", COVARIANCE_STEPS, regression)
    spectral = {"variability_steps": max(1, round(EM_STEPS * size.share_of_steps)), "n_neighbours": min(15, size.n - 1)}
    yield Row(
        "spectral volumes", "spectral-volumes", EM_STEPS + 4, spectral | ({"n_eigenvectors": 2} if size.n < 30 else {})
    )
    yield Row("autoencoder", "autoencoder", EPOCHS * -(-size.n // BATCH), {"n_batch": BATCH})
    yield Row(
        "flow of volumes", "flow", FLOW_STEPS,
        {"discrepancy": {"name": "energy"}, "optimizer": descent, "n_particles": min(PARTICLES, size.n)},
    )  # fmt: skip
    yield Row("modes known, poses unknown", "reweighting", 200, {"n_support": 1_000, "quadrature_order": 1}, True)
    yield Row("modes known, poses unknown", "posterior-npmle", 84, {"n_support": 64, "n_refinements": 10}, True)
