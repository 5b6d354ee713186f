"""Small problems and small options of every method: the one table of the tests, the check and the speed suite.

"tiny" is as small as an answer allows, and compiles in a second; "small" is large enough to be timed.
"""

from typing import Any

from cryosip.bench.build import build_method
from cryosip.datasets import prody_adapter
from cryosip.datasets.instance import Instance
from cryosip.datasets.registry import DATASETS
from cryosip.methods.method import Method
from cryosip.methods.problem import Problem
from cryosip.records.schema import Options

# the snr is so low that a few structures in a few poses explain each image
PROTEIN: Options = {
    "n_observations": 12,
    "image_size": 12,
    "pixel_size_in_angstroms": 10.0,
    "atom_std_in_angstroms": 8.0,
    "atoms_per_bead": 4,
    "snr": 0.002,
}
# given structures whose poses are off by so much that few rotations stand for the error
ENSEMBLE: Options = {
    "n_observations": 12,
    "image_size": 12,
    "pixel_size_in_angstroms": 10.0,
    "atom_std_in_angstroms": 8.0,
    "snr": 0.002,
    "pose_spacing_in_degrees": 8.0,
}
# a cube of few waves, in given poses
VOLUMES: Options = PROTEIN | {"n_observations": 40, "snr": 0.05, "volume_size": 8, "pose_error_in_degrees": 2.0}
PROBLEMS: dict[str, dict[str, Options]] = {
    "tiny": {
        "fredholm": {"n_observations": 60, "dimension": 2},
        "inverse-kinematics": {"n_observations": 60, "angle_std": 0.1},  # so wide that a grid explains each image
        "oned": {"n_observations": 60},
        "nanocluster": {"n_observations": 40, "image_size": 16, "tau": 0.5},  # tau is as large as a pixel
        "slcp": {"n_observations": 60},
        "two-moons": {"n_observations": 60},
        "adk": PROTEIN,
        "adk-entangled": VOLUMES,
        "adk-states": VOLUMES,
        "adk-volumes": VOLUMES,
        "ensemble": ENSEMBLE,
        "hsp90": PROTEIN,
    },
    "small": {
        "fredholm": {"n_observations": 1_000, "dimension": 2},
        "inverse-kinematics": {"n_observations": 1_000},
        "oned": {"n_observations": 1_000},
        "slcp": {"n_observations": 1_000},
        "two-moons": {"n_observations": 1_000},
        "nanocluster": {"n_observations": 300},
        "adk": PROTEIN | {"n_observations": 50, "image_size": 16, "pixel_size_in_angstroms": 8.0, "snr": 0.01},
        "adk-volumes": VOLUMES | {"n_observations": 200, "image_size": 16, "pixel_size_in_angstroms": 8.0},
        "ensemble": ENSEMBLE | {"n_observations": 50, "image_size": 16, "pixel_size_in_angstroms": 8.0, "snr": 0.01},
        "hsp90": PROTEIN | {"n_observations": 50, "image_size": 16, "pixel_size_in_angstroms": 8.0, "snr": 0.01},
    },
}
METHODS: dict[str, dict[str, Options]] = {
    "tiny": {
        "autoencoder": {"n_components": 2, "width": 8, "n_batch": 8},
        "class3d": {"n_components": 2},
        "covariance": {"n_components": 2},
        "spectral-volumes": {"n_components": 2, "n_eigenvectors": 3, "n_neighbours": 5, "variability_steps": 2},
        "variability": {"n_components": 2},
        "flow": {
            "discrepancy": {"name": "energy"},
            "optimizer": {"name": "adam", "learning_rate": 0.05},
            "n_particles": 30,
        },
        "maximum-likelihood": {"n_support": 20},
        "mixture": {"n_components": 4, "estimate_weights": True},
        "posterior-npmle": {"n_support": 4, "n_refinements": 2},
        "pushforward": {
            "discrepancy": {"name": "energy"},
            "optimizer": {"name": "adam", "learning_rate": 0.01},
            "n_particles": 30,
            "width": 8,
        },
        "reweighting": {"n_support": 400},
        "weighted-flow": {"discrepancy": {"name": "data-kl"}, "n_particles": 8},
    },
    "small": {
        "flow": {
            "discrepancy": {"name": "energy"},
            "optimizer": {"name": "adam", "learning_rate": 0.03},
            "n_particles": 300,
        },
        "maximum-likelihood": {"n_support": 100},
        "mixture": {"n_components": 20},
        "posterior-npmle": {"n_support": 16, "n_refinements": 2},
        "pushforward": {
            "discrepancy": {"name": "energy"},
            "optimizer": {"name": "adam", "learning_rate": 0.003},
            "n_particles": 300,
        },
        "reweighting": {"n_support": 100},
        "weighted-flow": {"discrepancy": {"name": "data-kl"}, "n_particles": 50},
    },
}
IN_ALL_POSES = {"n_components": 4, "n_support": 8}  # at most, where each structure is rendered in hundreds of poses


def problem_options(name: str, size: str = "tiny") -> Options:
    """Of a problem that no table knows, none; HSP90 takes the bundled structure, since its own is a download."""
    structure = {"structure": str(prody_adapter.adenylate_kinase())} if name == "hsp90" else {}
    return PROBLEMS[size].get(name, {}) | structure


def example_problem(name: str, size: str = "tiny", **changes: Any) -> Instance:
    """A problem of that size, with changes to its options."""
    return DATASETS[name](**problem_options(name, size) | changes)


def example_method(problem: Problem, name: str, size: str = "tiny", **changes: Any) -> Method:
    """A method of that size on a problem, with its defaults where no table knows it.

    Raises ValueError where the method does not support the problem.
    """
    options = METHODS[size].get(name, {}) | changes
    if problem.pose_motion is not None:
        options |= {key: min(most, options[key]) for key, most in IN_ALL_POSES.items() if key in options}
    return build_method(problem, name, options)
