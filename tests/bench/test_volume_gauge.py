"""Maps in frames of their own: distances that no motion and no mirror changes."""

from functools import cache

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench import volume_gauge
from cryosip.bench.studies import external
from cryosip.datasets import rotations, volumes
from cryosip.datasets.particle_files import Maps
from cryosip.datasets.registry import DATASETS

pytestmark = pytest.mark.filterwarnings("ignore:volume_size")
CUBE = volumes.Cube(12, 10.0)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(volume_gauge, "DRAWS", 80)
    monkeypatch.setattr(volume_gauge, "FLOOR_SAMPLES", 2)


@cache
def made():
    """A problem without poses."""
    return DATASETS["adk"](
        n_observations=60, image_size=12, pixel_size_in_angstroms=10.0, atom_std_in_angstroms=8.0, atoms_per_bead=4,
        volume_size=12,
    )  # fmt: skip


@cache
def draws(n=6):
    return np.asarray(made().volume(made().truth.sample(jr.key(5), n)))


def moved(rotation, shift):
    """Each of the draws after a motion."""
    there = [volumes.rotated(CUBE, jnp.asarray(v), r[None])[0] for v, r in zip(draws(), rotation, strict=True)]
    return np.array(volumes.shifted(CUBE, jnp.stack(there), jnp.asarray(shift, jnp.float32)))


def test_small_motions_change_no_distance():
    """Without them volumes are far from themselves; two draws are as far from each other as before."""
    motion = np.deg2rad(1.0) * np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, 0.7, 0.7], [0, -1, 0]])
    there = moved(rotations.turned(jnp.tile(jnp.eye(3), (6, 1, 1)), jnp.asarray(motion)), np.tile(np.eye(3), (2, 1)))
    still, away = volume_gauge.movable(CUBE, draws()), volume_gauge.movable(CUBE, there)
    before, after = volume_gauge.squares(still, still), volume_gauge.squares(away, still)
    apart = ((there - draws())[:, 1:] ** 2).sum(1)
    assert (np.diag(after) < 0.02 * apart).all()
    others = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(
        np.sqrt(after[others]), np.sqrt(before[others]), rtol=0.1, atol=0.03 * apart.max() ** 0.5
    )
    assert (before <= ((draws()[:, None] - draws())[..., 1:] ** 2).sum(2) + 1e-6).all()


def test_a_map_that_fits_nothing_stays_where_it_is():
    noise = volume_gauge.movable(CUBE, np.random.default_rng(0).normal(size=draws().shape))
    true = volume_gauge.movable(CUBE, draws())
    apart = ((noise.volumes[:, None] - true.volumes) ** 2).sum(2)
    assert (volume_gauge.squares(noise, true) <= apart + 1e-6).all()
    assert (volume_gauge.squares(noise, true) > 0.9 * apart).all()


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, -0.3])
def test_maps_in_any_frame_and_hand_have_the_same_score(factor):
    """To the error of interpolation, which the norm of volumes multiplies."""
    shift = np.random.default_rng(0).uniform(-6, 6, (6, 3))
    there = moved(rotations.uniform(jr.key(9), 6), shift)
    there[::2] = np.asarray(volumes.mirrored(jnp.asarray(there[::2])))
    both = [
        external.measured(made(), Maps(factor * volumes.voxels(CUBE, maps), np.full(6, 1 / 6), CUBE.voxel))[0]
        for maps in (draws(), there)
    ]
    still, away = (result.metrics for result in both)
    error = 0.01 * float(np.linalg.norm(draws()[:, 1:], axis=1).mean())
    assert away["volume_w2_aligned"] == pytest.approx(still["volume_w2_aligned"], abs=error)
    assert away["grey_factor"] == pytest.approx(1 / factor, rel=0.05)
    assert ("opposite sign" in both[1].message) == (factor < 0)
    assert set(both[0].floors) == {"volume_w2_aligned"}
    assert not {"volume_w2", "volume_spread", "bayes_area"} & set(away)


@pytest.mark.slow
def test_the_volume_of_an_image_is_compared_in_its_frame():
    labels = np.stack([np.arange(6), np.arange(6)], axis=1)
    true = np.asarray(made().volume(made().truth.theta))[:6]
    rotation = rotations.uniform(jr.key(9), 6)
    there = np.stack([volumes.rotated(CUBE, jnp.asarray(v), r[None])[0] for v, r in zip(true, rotation, strict=True)])
    maps = Maps(volumes.voxels(CUBE, there), np.full(6, 1 / 6), CUBE.voxel, labels)
    metrics = external.measured(made(), maps)[0].metrics
    assert metrics["own_area"] > max(0.9, metrics["consensus_area"])
