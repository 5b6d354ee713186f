"""The volumes of images: 1 where they are right, what Bayes' rule says, and the consensus beside them."""

from functools import cache

import numpy as np
import pytest

from cryosip.bench import metrics, volume_images
from cryosip.datasets.registry import DATASETS
from cryosip.methods.method import WeightedPoints

pytestmark = pytest.mark.filterwarnings("ignore:volume_size")


@cache
def made():
    return DATASETS["adk-volumes"](
        n_observations=60, image_size=12, pixel_size_in_angstroms=13.0, atom_std_in_angstroms=9.0, atoms_per_bead=4,
        volume_size=10, pose_error_in_degrees=0.0,
    )  # fmt: skip


def test_right_volumes_have_area_1_and_no_distance():
    problem, true = made().problem, np.asarray(made().truth.theta)
    found = volume_images.compared(problem, true, true)
    assert found.area == pytest.approx(1.0)
    assert found.rms == 0.0
    opposite = volume_images.compared(problem, -true, true)
    assert opposite.area == pytest.approx(-1.0)


def test_a_constant_changes_nothing_and_a_shell_only_itself():
    problem, true = made().problem, np.asarray(made().truth.theta)
    moved = true + np.eye(true.shape[1])[0] * 7.0
    assert volume_images.compared(problem, moved, true).rms == pytest.approx(0.0, abs=1e-6)
    shells = np.asarray(problem.volumes.shells)
    turned = np.where(shells == 2, -true, true)
    correlation = volume_images.compared(problem, turned, true).correlation
    np.testing.assert_allclose(correlation, np.where(np.arange(1, 5) == 2, -1.0, 1.0)[None].repeat(60, 0), atol=1e-6)


def test_bayes_finds_the_volume_of_an_image_among_all():
    problem, true = made().problem, made().truth.theta
    found = volume_images.posterior_mean(problem, metrics.equally_weighted(np.asarray(true)[None])[0])
    near = volume_images.compared(problem, np.asarray(found), np.asarray(true))
    far = volume_images.compared(problem, np.broadcast_to(np.asarray(true).mean(0), true.shape), np.asarray(true))
    assert near.rms < 0.6 * far.rms
    # all weight on one volume leaves no choice
    weights = np.eye(60)[3]
    one = np.asarray(volume_images.posterior_mean(problem, WeightedPoints(np.asarray(true), weights)))
    np.testing.assert_allclose(one, np.broadcast_to(np.asarray(true)[3], one.shape), rtol=1e-4, atol=1e-3)


def test_the_consensus_stands_beside_whatever_is_measured():
    instance = made()
    true = np.asarray(instance.truth.theta)
    estimate = metrics.equally_weighted(true[None])[0]
    own = volume_images.Own(np.arange(0, 60, 2), true[::2])
    values, curves = volume_images.of_images(instance.problem, true, estimate, own)
    assert values["own_area"] == pytest.approx(1.0)
    assert values["consensus_rms"] == pytest.approx(np.sqrt(true.var(0)[1:].sum()), rel=1e-5)
    assert values["consensus_area"] < values["bayes_area"] <= 1.0
    assert curves["fsc_own"].shape == curves["fsc_consensus"].shape == (4, 3)
    without, _ = volume_images.of_images(instance.problem._replace(poses=None), true, estimate, None)
    assert set(without) == {"consensus_area", "consensus_rms"}


def test_many_points_are_thinned_by_their_weights():
    rng = np.random.default_rng(0)
    weights = rng.random(2_000) ** 4
    thin = volume_images.thinned(WeightedPoints(np.arange(2_000.0)[:, None], weights))
    assert len(thin.theta) == volume_images.MOST_VOLUMES
    wanted = weights @ np.arange(2_000.0) / weights.sum()
    assert thin.weights @ thin.theta[:, 0] == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(("snr", "least", "most"), [(1.0, 3, 4), (1e-9, 0, 0)])
def test_halves_of_noise_agree_on_nothing(snr, least, most):
    problem = DATASETS["adk"](
        n_observations=200, image_size=12, pixel_size_in_angstroms=13.0, atom_std_in_angstroms=9.0, atoms_per_bead=4,
        volume_size=10, pose_error_in_degrees=0.0, snr=snr,
    ).problem  # fmt: skip
    values, curves = volume_images.of_halves(problem)
    assert least <= values["halves_shells"] <= most
    assert curves["fsc_halves"].shape == (4, 2)
    # the mean of four correlations of noise has a std of .13
    assert values["halves_area"] > 0.8 if snr == 1.0 else abs(values["halves_area"]) < 0.4
