"""Ensemble reweighting as its users do it: populations of given structures, whose poses are known, near or unknown."""

from typing import NamedTuple

from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.records.schema import Labels, RunConfig

# Images of the same field of view. Settings are what users would try first; none was tuned on this problem.
ENSEMBLE_IMAGES: dict[str, Options] = {
    "smoke": {
        "image_size": 12, "pixel_size_in_angstroms": 16.0, "atom_std_in_angstroms": 12.0,
        "pose_spacing_in_degrees": 8.0,
    },
    "small": {"image_size": 32, "pixel_size_in_angstroms": 6.0, "atom_std_in_angstroms": 5.0},
    "paper": {"image_size": 128, "cropped_size": 63},
}  # fmt: skip
# of the sum over poses nearby: it moves the edge of the molecule by less than a pixel
SPACINGS: dict[str, Options] = {"small": {"pose_spacing_in_degrees": 6.0}}
POSES = ("known", "near", "unknown")
EM_STEPS, POSE_EM_STEPS, FLOW_STEPS = 1_000, 10, 200
RINGS = {"smoke": 1.6, "small": 1.6, "paper": 6.4}  # pixels, as for the proteins


class Ensemble(NamedTuple):
    """K structures, and the options of the problem that give their populations."""

    name: str
    n_structures: int
    options: Options


ENSEMBLES = (
    Ensemble("two structures, .3 and .7", 2, {"populations": [0.3, 0.7]}),
    Ensemble("five on the path, a Dirichlet draw", 5, {"n_between": 3, "concentration": 1.0}),
)


def ensemble(size: Size) -> list[RunConfig]:
    """Each method on each ensemble, with poses known, within 10 degrees and unknown."""
    images = ENSEMBLE_IMAGES[size.images] | SPACINGS.get(size.images, {})
    return [
        run_on("ensemble", images | one.options | {"poses": poses}, 2, "ensemble",
               Labels(f"{one.name}; poses {poses}"), size, method, steps, **options)
        for one in ENSEMBLES
        for poses in POSES
        for method, steps, options in _methods(one.n_structures, poses, size)
    ]  # fmt: skip


def _methods(k: int, poses: str, size: Size) -> list[tuple[str, int, Options]]:
    whole = size.share_of_steps == 1
    descent = {"name": "rms-sgd", "learning_rate": 0.1, "cosine_steps": max(1, round(FLOW_STEPS * size.share_of_steps))}
    rings = {"name": "invariant-energy", "options": {"ring_width": RINGS[size.images]}}
    order = 2 if whole else 1
    # where poses are given, the problem's likelihood integrates over them
    over_poses = (
        {"refine_poses": whole, "estimate_noise": True, "quadrature_order": order} if poses == "unknown" else {}
    )
    return [
        ("reweighting", EM_STEPS, {"quadrature_order": order}),
        ("mixture", POSE_EM_STEPS, {"n_components": k, "estimate_weights": True, **over_poses}),
        ("flow", FLOW_STEPS, {"discrepancy": rings, "optimizer": descent, "n_particles": size.n}),
    ]
