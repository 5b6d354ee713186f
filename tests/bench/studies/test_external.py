"""From a problem to files for other programs, and from their maps to a record."""

import json

import jax.random as jr
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench import volume_metrics
from cryosip.bench.app import cli
from cryosip.bench.build import build_instance
from cryosip.bench.execute import execute
from cryosip.bench.studies import external
from cryosip.datasets import particle_files, volumes
from cryosip.records.select import read_records

OPTIONS = {
    "n_observations": 100,
    "image_size": 16,
    "pixel_size_in_angstroms": 8.0,
    "atom_std_in_angstroms": 6.0,
    "atoms_per_bead": 4,
    "pose_error_in_degrees": 0.0,
}
CHOSEN = external.StackProblem("adk", OPTIONS, 3)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Of the truth: seconds instead of a minute in all."""
    monkeypatch.setattr(volume_metrics, "DRAWS", 300)


@pytest.fixture(scope="module")
def instance():
    return build_instance(external.run_of(CHOSEN, "", {}))


def maps_of(instance, n=60, factor=1.0):
    """Voxels of draws of the truth."""
    problem = instance.problem.volumes
    cube = volumes.Cube(problem.size, problem.voxel_size)
    coefficients = instance.volume(instance.truth.sample(jr.key(5), n))
    return particle_files.Maps(factor * volumes.voxels(cube, coefficients), np.full(n, 1 / n), cube.voxel)


def test_draws_of_the_truth_are_at_the_floor(instance):
    result, _ = external.measured(instance, maps_of(instance, 100))
    floor = result.floors["volume_w2"]
    assert floor.n == 100
    assert 0.7 * floor.q05 < result.metrics["volume_w2"] < 1.3 * floor.q95
    assert result.metrics["volume_w2"] < 0.7 * result.metrics["volume_spread"]
    assert result.metrics["volume_outside"] < 0.1 * result.metrics["volume_spread"]
    assert result.metrics["grey_factor"] == pytest.approx(1.0, abs=0.1)


def test_maps_of_more_voxels_are_the_same_volumes(instance):
    """Those of a cube twice as fine, from the waves of the coarse one."""
    coarse = maps_of(instance, 5)
    waves = np.fft.fftshift(np.fft.fftn(coarse.voxels, axes=(1, 2, 3)), axes=(1, 2, 3))
    fine = np.zeros((5, 32, 32, 32), complex)
    fine[:, 8:24, 8:24, 8:24] = waves
    finer = np.fft.ifftn(np.fft.ifftshift(fine, axes=(1, 2, 3)), axes=(1, 2, 3)).real * 8
    given = particle_files.Maps(finer, coarse.weights, coarse.voxel / 2)
    both = [external.measured(instance, maps)[0].metrics for maps in (coarse, given)]
    assert both[0] == pytest.approx(both[1], rel=1e-6)


def test_a_constant_in_maps_does_not_count(instance):
    maps = maps_of(instance, 5)
    shifted = maps._replace(voxels=maps.voxels + 3.0)
    both = [external.measured(instance, each)[0].metrics for each in (maps, shifted)]
    assert both[0] == pytest.approx(both[1], rel=1e-6)


def test_maps_of_the_wrong_sign_are_told(instance):
    right, wrong = (external.measured(instance, maps_of(instance, 5, factor))[0] for factor in (0.5, -0.5))
    assert right.message == ""
    assert "opposite sign" in wrong.message
    assert wrong.metrics["grey_factor"] == pytest.approx(-right.metrics["grey_factor"])
    assert wrong.metrics["volume_w2"] == pytest.approx(right.metrics["volume_w2"])


@pytest.mark.parametrize(
    ("size", "voxel", "message"),
    [
        (8, 16.0, "maps are 128 angstroms wide, 8 voxels of 16; wanted 128 angstroms .* and 16 voxels or more"),
        (16, 7.0, "maps are 112 angstroms wide, 16 voxels of 7; wanted 128 angstroms"),
    ],
)
def test_maps_of_another_cube_are_refused(instance, size, voxel, message):
    maps = particle_files.Maps(np.ones((1, size, size, size)), np.ones(1), voxel)
    with pytest.raises(ValueError, match=message):
        external.measured(instance, maps)
    with pytest.raises(ValueError, match=message):  # before there is a record
        external.scored(CHOSEN, "name", maps)


def test_other_maps_have_another_record(instance):
    runs = [execute(*_with_profile(*external.scored(CHOSEN, "name", maps_of(instance, n))))[0] for n in (4, 5)]
    again = execute(*_with_profile(*external.scored(CHOSEN, "name", maps_of(instance, 5))))[0]
    assert runs[0].run_id != runs[1].run_id == again.run_id


def _with_profile(config, measure):
    return config, external.PROFILE, measure


def invoke(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "200", "TERM": "dumb"})


def test_from_the_command_line_to_a_record(instance, tmp_path):
    settings = [word for name, value in OPTIONS.items() for word in ("--set", f"problem.{name}={value}")]
    folder, found, results = tmp_path / "stack", tmp_path / "maps", tmp_path / "results"
    made = invoke("stack", folder, "--problem", "adk", "--replicate", 3, *settings)
    assert made.exit_code == 0, made.output
    assert sorted(p.name for p in folder.iterdir()) == [
        "ctf.pkl", "particles.mrcs", "particles.star", "poses.pkl", "problem.json",
    ]  # fmt: skip
    written = external.read_problem(folder)
    assert (written.problem, written.replicate) == ("adk", 3)
    assert written.options | OPTIONS == written.options
    assert written.options["cutoff_in_angstroms"] == 15.0  # a default
    found.mkdir()
    maps = maps_of(instance, 3)
    for i, voxels in enumerate(maps.voxels):
        particle_files.write_mrc(found / f"{i}.mrc", voxels, maps.voxel)
    (found / "weights.csv").write_text("map,weight\n" + "".join(f"{i}.mrc,1\n" for i in range(3)))
    scored = invoke("score", found, "--stack", folder, "--name", "mine", "--results", results)
    assert scored.exit_code == 0, scored.output
    assert "volume_w2" in scored.output
    (record,), skipped = read_records(str(results))
    assert not skipped
    assert (record.study, record.method, record.problem, record.replicate) == ("external", "mine", "adk", 3)
    wanted = external.measured(instance, maps)[0].metrics
    assert record.metrics == pytest.approx(wanted, rel=1e-4)  # maps are written in float32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--problem", "oned"], "wanted adk or hsp90"),
        (["--problem", "nothing"], "problem is 'nothing'; wanted"),
        (["--set", "method.n_components=3"], "wanted an option of the problem"),
        (["--set", "problem.nothing=3"], "has no option 'nothing'"),
        (["--set", "problem.image_size=15"], "images have 15 x 15 pixels; wanted an even number"),
    ],
)
def test_stacks_that_cannot_be_are_refused_and_leave_nothing(tmp_path, words, message):
    small = [
        word for name, value in OPTIONS.items() if name != "image_size" for word in ("--set", f"problem.{name}={value}")
    ]
    small = [] if words[0] == "--problem" else small
    result = invoke("stack", tmp_path / "new", *small, *words)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


def test_an_odd_box_is_refused_before_images_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(external, "build_instance", None)
    with pytest.raises(ValueError, match="images have 15 x 15 pixels; wanted an even number"):
        external.write_stack(tmp_path, external.StackProblem("adk", OPTIONS | {"image_size": 15}, 0))


def test_a_folder_that_exists_is_not_written(tmp_path):
    result = invoke("stack", tmp_path)
    assert result.exit_code == 1
    assert "exists; wanted a folder that is not there yet" in result.output


@pytest.mark.parametrize("content", [None, "{", json.dumps({"problem": "adk"})])
def test_a_folder_that_no_stack_is_in_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "problem.json").write_text(content)
    with pytest.raises(ValueError, match=r"problem.json is none that `cryosip stack` wrote"):
        external.read_problem(tmp_path)
