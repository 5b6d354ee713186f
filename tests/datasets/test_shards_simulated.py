"""Images that are simulated to disk: their distribution, their files, and what is refused."""

import shutil

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from examples import instance

from cryosip.datasets import shards
from cryosip.datasets.shards import simulated


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    """Batches of 4 images of the tiny nanocluster, and files of 8."""
    monkeypatch.setattr(shards, "BATCH", 4 * 256)
    monkeypatch.setattr(shards, "SHARD", 8 * 256)


def test_images_are_those_of_their_parameters_and_noise_of_the_problem(tmp_path):
    """Residuals divided by the std of the noise: mean 0 and variance 1 within 5 standard errors of 23 * 256 draws."""
    nano = instance("nanocluster")
    found = simulated(nano, 23, tmp_path / "new")
    assert [np.load(p).shape for p in sorted((tmp_path / "new").glob("*"))] == [(8, 256), (8, 256), (7, 256)]
    assert found.truth.theta.shape == (23, 2)
    y = np.asarray(found.problem.observations[jnp.arange(23)])
    rest = (y - np.asarray(nano.problem.render(found.truth.theta, ()))) / nano.problem.noise_std
    assert abs(rest.mean()) < 5 / np.sqrt(rest.size)
    assert abs(rest.var() - 1) < 5 * np.sqrt(2 / rest.size)
    assert len(np.unique(rest.round(4))) > 0.9 * rest.size / 5  # no batch repeats another
    assert np.abs(np.corrcoef(rest)[np.triu_indices(23, 1)]).max() < 0.4  # 253 pairs of 256 pixels: 6 standard errors


def test_the_first_images_do_not_depend_on_how_many_follow(tmp_path):
    few, many = (simulated(instance("nanocluster"), n, tmp_path / str(n)) for n in (6, 10))
    np.testing.assert_array_equal(few.problem.observations[:], many.problem.observations[:6])
    np.testing.assert_array_equal(few.truth.theta, many.truth.theta[:6])
    other = simulated(instance("nanocluster"), 6, tmp_path / "other", seed=1)
    assert (np.asarray(other.problem.observations[:]) != np.asarray(few.problem.observations[:])).all()


@pytest.mark.slow  # the renderer of a protein takes seconds to compile
def test_poses_are_those_behind_the_images(tmp_path):
    protein = instance("adk")
    found = simulated(protein, 6, tmp_path)
    clean = protein.problem.render(found.truth.theta, found.truth.pose)
    rest = (np.asarray(found.problem.observations[:]) - np.asarray(clean)) / protein.problem.noise_std
    assert len(jax.tree.leaves(found.truth.pose)[0]) == 6
    assert abs(rest.var() - 1) < 5 * np.sqrt(2 / rest.size)


def test_a_disk_without_room_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(
        ValueError, match=r"1000 images of 256 pixels take 0.00102 GB, and .* has 0.001 GB free; wanted"
    ):
        simulated(instance("nanocluster"), 1_000, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_there_are_not_written_over(tmp_path):
    simulated(instance("nanocluster"), 3, tmp_path)
    with pytest.raises(ValueError, match=r"holds images-00000.npy already; wanted a folder without images"):
        simulated(instance("nanocluster"), 3, tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    nano = instance("nanocluster")
    calls = []

    def sample(key, n):
        if calls:
            raise KeyboardInterrupt
        calls.append(n)
        return jr.normal(key, (n, 2))

    with pytest.raises(KeyboardInterrupt), jax.disable_jit():
        simulated(nano._replace(truth=nano.truth._replace(sample=sample)), 8, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("known", ["log_likelihood", "poses"])
def test_a_problem_that_knows_more_of_each_image_is_refused(tmp_path, known):
    nano = instance("nanocluster")
    problem = nano.problem._replace(**{known: lambda theta, image: theta[:, 0]})
    with pytest.raises(ValueError, match=f"offers {known} of its observations; wanted one that does not"):
        simulated(nano._replace(problem=problem), 3, tmp_path)
