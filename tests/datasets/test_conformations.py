"""Discrete conformers: their populations, the views of each, and what the problems with them offer and keep secret."""

from functools import partial

import jax.random as jr
import numpy as np
import pytest

from cryosip.bench import volume_metrics
from cryosip.bench.check.leaks import leaks
from cryosip.bench.studies import external
from cryosip.datasets import particle_files, volumes
from cryosip.datasets.conformations import MEANS, States, checked_conformations
from cryosip.datasets.protein import FOUR_STATES, adk, adk_entangled, adk_states
from cryosip.datasets.protein_experiment import _conformations, _particles
from cryosip.datasets.protein_poses import PoseRange, sample_poses
from cryosip.datasets.views import checked_views

DRAWS = 20_000
POPULATIONS = (0.4, 0.3, 0.2, 0.1)
SMALL = {
    "n_observations": 300, "image_size": 12, "pixel_size_in_angstroms": 13.0, "atom_std_in_angstroms": 9.0,
    "atoms_per_bead": 4, "pose_error_in_degrees": 2.0,
}  # fmt: skip
THERE = adk_entangled.__signature__.parameters


def test_populations_and_widths_are_those_that_are_said():
    states = checked_conformations(MEANS, 0.5, FOUR_STATES, POPULATIONS)
    theta, state = (np.asarray(a, np.float64) for a in states.sample(jr.key(0), DRAWS))
    counts = np.bincount(state.astype(int), minlength=4)
    p = np.array(POPULATIONS)
    assert (abs(counts - DRAWS * p) < 5 * np.sqrt(DRAWS * p * (1 - p))).all()
    away = theta - np.array(FOUR_STATES)[state.astype(int)]
    assert abs(away.mean(0)).max() < 5 * 0.5 / np.sqrt(DRAWS)
    assert abs(away.std(0) / 0.5 - 1).max() < 5 / np.sqrt(2 * DRAWS)


def test_populations_are_equal_where_none_are_given():
    np.testing.assert_allclose(checked_conformations(MEANS, 1.0, FOUR_STATES, None).populations, 0.25)


def test_the_pose_of_an_image_depends_on_its_state_and_the_methods_draws_do_not():
    among = checked_conformations(MEANS, 1.0, FOUR_STATES[::3], (0.7, 0.3))
    poses = partial(sample_poses, PoseRange(2.0, None))
    views = checked_views(4.0, THERE["view_axes"].default, 2)
    sample = partial(_conformations, among)
    theta, pose = _particles(sample, poses, views, jr.key(0), jr.key(1), DRAWS)
    moment = 1 / np.tanh(4) - 1 / 4
    high = np.asarray(theta[:, 0]) > 1  # states are 16 apart
    for chosen, axis in zip((high, ~high), np.array(THERE["view_axes"].default), strict=True):
        direction = np.asarray(pose.rotation, np.float64)[chosen, 2]
        np.testing.assert_allclose(direction.mean(0), moment * axis, atol=5 / np.sqrt(3 * chosen.sum()))
    without = _particles(sample, poses, None, jr.key(0), jr.key(1), DRAWS)
    np.testing.assert_array_equal(without[0], theta)
    np.testing.assert_array_equal(without[1].shift, pose.shift)
    assert abs(np.asarray(without[1].rotation).mean(0)).max() < 5 / np.sqrt(3 * DRAWS)


@pytest.mark.parametrize(
    ("states", "populations", "says"),
    [
        (None, [0.5, 0.5], r"populations is \[0.5, 0.5\] without states"),
        ([[9.0, 0.0]], None, r"states is \[\[9.0, 0.0\]\]; wanted two or more"),
        ([[9.0, 0.0], [1.0]], None, "wanted lists of numbers of equal length"),
        ([[9.0, float("inf")], [0.0, 1.0]], None, "states holds 1 NaN or infinite"),
        (FOUR_STATES, [0.5, 0.5], "populations has 2 entries; wanted 4"),
        (FOUR_STATES, [0.5, 0.5, 0.5, 0.5], "of the sum 2; wanted a sum of 1"),
        (FOUR_STATES, [1.5, -0.5, 0.0, 0.0], "wanted none that is negative"),
    ],
)
def test_states_that_cannot_be_are_refused(states, populations, says):
    with pytest.raises(ValueError, match=says):
        checked_conformations(MEANS, 1.0, states, populations)


def test_means_beside_states_are_refused_but_as_the_default_that_files_hold():
    with pytest.raises(ValueError, match=r"means is \[\[1.0\]\] and states is .*; wanted one of them"):
        checked_conformations([[1.0]], 1.0, FOUR_STATES, None)
    assert isinstance(checked_conformations([list(row) for row in MEANS], 1.0, FOUR_STATES, None), States)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:volume_size")
@pytest.mark.parametrize("make", [adk_states, adk_entangled])
def test_states_of_volumes_are_those_of_the_molecule_and_are_secret(make):
    problem, truth, _, volume = make(volume_size=10, **SMALL)
    options = ("states", "populations", "view_concentration", "view_axes")
    given = {name: make.__signature__.parameters[name].default for name in options}
    molecule = adk(volume_size=10, **given, **SMALL)
    np.testing.assert_array_equal(problem.observations, molecule.problem.observations)
    np.testing.assert_array_equal(molecule.truth.states, given["states"])
    np.testing.assert_allclose(truth.populations, given["populations"])
    np.testing.assert_allclose(truth.states, molecule.volume(np.float32(molecule.truth.states)), rtol=1e-5)
    np.testing.assert_array_equal(volume(truth.states), truth.states)
    for each in (molecule, (problem, truth)):
        assert leaks(each[0], each[1]) == []
        told = each[0]._replace(log_prior=partial(lambda known, t: known[0] + 0 * t[:, 0], truth.populations))
        assert len(leaks(told, each[1])) == 1
    # a nearest state is the one that was drawn from, and floors are those of counts
    _, states, floors = volume_metrics.true_volumes(make(volume_size=10, **SMALL))
    assert states.n_images == floors["population_total_variation"].n == SMALL["n_observations"]
    p = truth.populations
    wanted = (
        0.5 * np.sqrt(2 / np.pi) * np.sqrt(p * (1 - p) / SMALL["n_observations"]).sum()
    )  # the mean, of normal counts
    assert floors["population_total_variation"].median == pytest.approx(wanted, rel=0.4)  # of 20 samples


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:volume_size")
def test_maps_of_programs_are_measured_by_their_populations(monkeypatch):
    monkeypatch.setattr(volume_metrics, "DRAWS", 300)
    instance = adk_states(volume_size=10, **SMALL)
    offered = instance.problem.volumes
    cube = volumes.Cube(offered.size, offered.voxel_size)
    found = np.array([0.3, 0.4, 0.2, 0.1])
    maps = particle_files.Maps(volumes.voxels(cube, instance.truth.states), found, cube.voxel)
    values = external.measured(instance, maps)[0].metrics
    assert values["population_total_variation"] == pytest.approx(0.1)
    energies = np.log([(4 / 3) ** 2, 4 / 3, 4 / 3])
    assert values["population_error_in_kT"] == pytest.approx(np.sqrt((energies**2).mean()))
