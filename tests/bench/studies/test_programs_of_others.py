"""Programs that are run for a user: found by name, their maps measured, their last words kept where they fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench import volume_metrics
from cryosip.bench.app import cli
from cryosip.bench.build import build_instance
from cryosip.bench.studies import external, programs
from cryosip.datasets import particle_files, volumes
from cryosip.datasets.registry import DATASETS
from cryosip.methods.class3d import class3d
from cryosip.methods.method import WeightedPoints
from cryosip.records.select import read_records

OPTIONS = {
    "n_observations": 40,
    "image_size": 16,
    "pixel_size_in_angstroms": 8.0,
    "atom_std_in_angstroms": 6.0,
    "atoms_per_bead": 4,
    "pose_error_in_degrees": 0.0,
}
CHOSEN = external.StackProblem("adk", OPTIONS, 0)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(volume_metrics, "DRAWS", 200)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    external.write_stack(folder, CHOSEN)
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    """An executable that runs a shell script."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def invoke(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "200", "TERM": "dumb"})


def classes(folder: Path) -> None:
    """What RELION would leave: two classes, half of the images in each."""
    instance = build_instance(external.run_of(CHOSEN, "", {}))
    offered = instance.problem.volumes
    cube = volumes.Cube(offered.size, offered.voxel_size)
    found = volumes.voxels(cube, instance.volume(instance.truth.sample(jr.key(5), 2)))
    for k, voxels in enumerate(found):
        particle_files.write_mrc(folder / f"run_it025_class00{k + 1}.mrc", voxels, cube.voxel)
    (folder / "run_it025_model.star").write_text(
        "data_model_classes\nloop_\n_rlnReferenceImage #1\n_rlnClassDistribution #2\n"
        "run_it025_class001.mrc 0.5\nrun_it025_class002.mrc 0.5\n"
    )
    rows = "".join(f"{i + 1:06d}@particles.mrcs {1 + i % 2}\n" for i in range(40))
    (folder / "run_it025_data.star").write_text(f"data_particles\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n{rows}")


def test_a_program_is_run_and_its_classes_are_measured(stack, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    kept.mkdir()
    classes(kept)
    refine = program(
        tmp_path, "my_refine", f"[ $1 = --version ] && echo version 9 && exit; echo $@; cp {kept}/* $(dirname $4)"
    )
    program(tmp_path, "relion_reconstruct", "echo $@")
    monkeypatch.setenv("CRYOSIP_RELION", str(refine))
    out, results = tmp_path / "out", tmp_path / "results"
    made = invoke("external", "relion", "--stack", stack, "--out", out, "--n-components", 2, "--results", results)
    assert made.exit_code == 0, made.output
    assert "licence GPL-2" in made.output
    (record,), _ = read_records(str(results))
    assert (record.method, record.study, record.problem) == ("relion", "external", "adk")
    assert record.config_value("method.options.n_components") == 2
    assert record.run_seconds > 0
    assert record.message == "version 9"
    assert {"volume_w2", "own_area", "bayes_area", "consensus_area"} <= set(record.metrics)
    words = (out / "my_refine.log").read_text()
    assert "--K 2 --skip_align" in words
    assert "--particle_diameter 126" in words


def test_a_program_that_fails_leaves_a_record_with_its_last_lines(stack, tmp_path, monkeypatch):
    failing = program(tmp_path, "cryodrgn", "for i in $(seq 30); do echo line $i; done; exit 3")
    monkeypatch.setenv("CRYOSIP_CRYODRGN", str(failing))
    results = tmp_path / "results"
    made = invoke("external", "cryodrgn", "--stack", stack, "--out", tmp_path / "out", "--results", results)
    assert made.exit_code == 1
    assert "ended with 3" in made.output
    (record,), _ = read_records(str(results))
    assert record.status == "error"
    assert "line 30" in record.message
    assert "line 16 " in record.message
    assert "line 15 " not in record.message


@pytest.mark.parametrize(
    ("name", "executable", "message"),
    [
        ("relion", "relion_refine", "has neither weights.csv nor a file *_model.star"),
        ("cryodrgn", "cryodrgn", "No such file or directory"),
        ("recovar", "recovar", "No such file or directory"),
    ],
)
def test_a_program_that_writes_nothing_is_an_error(stack, tmp_path, monkeypatch, name, executable, message):
    program(tmp_path, "relion_reconstruct", "true")
    silent = program(tmp_path, executable, "echo my last words")
    monkeypatch.setenv(programs.PROGRAMS[name].variable, str(silent))
    made = invoke("external", name, "--stack", stack, "--out", tmp_path / "out", "--results", tmp_path / "r")
    assert made.exit_code == 1
    assert message in made.output
    (record,), _ = read_records(str(tmp_path / "r"))
    assert record.status == "error"
    assert "the last lines of the program: my last words" in record.message


def test_relion_searches_where_no_poses_are_given(tmp_path):
    task = programs.Task(tmp_path, tmp_path / "out", 8.0, 128.0, 40, 3, 1, has_poses=False, max_shift=10.0)
    folder, first, classes = programs.PROGRAMS["relion"].steps(task)
    assert callable(folder)
    assert "--denovo_3dref" in first
    for command in (first, classes):
        assert "--skip_align" not in command
        assert command[command.index("--healpix_order") + 1] == "1"
        assert command[command.index("--offset_range") + 1] == "2"  # pixels of 8 angstroms
    assert classes[classes.index("--ref") + 1].startswith(str(tmp_path / "out" / "initial" / "run_it"))


@pytest.mark.parametrize("name", ["aspire", "cryodrgn", "recovar"])
def test_programs_that_need_poses_are_refused_without(name, tmp_path, monkeypatch):
    external.write_stack(tmp_path, external.StackProblem("adk", OPTIONS | {"pose_error_in_degrees": None}, 0))
    monkeypatch.setenv(programs.PROGRAMS[name].variable, str(program(tmp_path, name, "true")))
    with pytest.raises(ValueError, match=f"has no poses, and {name} is run with given ones .* searches: relion"):
        programs.run_of_program(name, tmp_path, tmp_path / "out", None, 1)


def test_maps_that_will_be_too_small_are_refused_before_they_are_made(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("CRYOSIP_ASPIRE", str(program(tmp_path, "python3", "true")))
    with pytest.raises(ValueError, match=r"have 16 voxels a side, .* aspire at most 12; wanted .*volume_size=12"):
        programs.run_of_program("aspire", stack, tmp_path / "out", None, 1)


def test_a_python_without_aspire_says_so(tmp_path):
    script = programs.aspire_covariance.__file__
    words = [sys.executable, "-S", script, "particles.star", str(tmp_path), "2"]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "cannot import ASPIRE" in made.stderr
    assert "CRYOSIP_ASPIRE" in made.stderr


@pytest.mark.parametrize(
    ("name", "volumes_in", "files", "coordinates"),
    [
        ("recovar", "output/volumes", ("mean", "eigen_pos0000", "eigen_pos0001"), "model/zdim_2/latent_coords.npy"),
        ("aspire", ".", ("mean", "eigenvolume00", "eigenvolume01"), "coordinates.npy"),
    ],
)
def test_latent_coordinates_become_linear_maps(stack, tmp_path, name, volumes_in, files, coordinates):
    """The mean, and a map for each coordinate."""
    (tmp_path / volumes_in).mkdir(parents=True, exist_ok=True)
    (tmp_path / coordinates).parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cubes, z = rng.normal(size=(3, 16, 16, 16)), rng.normal(size=(40, 2))
    for file, cube in zip(files, cubes, strict=True):
        particle_files.write_mrc(tmp_path / volumes_in / f"{file}.mrc", cube, 8.0)
    np.save(tmp_path / coordinates, z)
    task = programs.Task(stack, tmp_path, 8.0, 128.0, 40, 2, 1)
    maps = programs.PROGRAMS[name].maps(task)
    wanted = cubes[0] + z[7, 0] * cubes[1] + z[7, 1] * cubes[2]
    np.testing.assert_allclose(maps.voxels[7], wanted, atol=1e-5)
    np.testing.assert_array_equal(maps.labels, np.stack([np.arange(40)] * 2, axis=1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("relion",), "install it, or name its executable, relion_refine, in CRYOSIP_RELION"),
        (("xmipp",), "program is 'xmipp'; wanted one of"),
    ],
)
def test_what_is_not_there_is_named(words, message, stack, tmp_path, monkeypatch):
    monkeypatch.setenv("CRYOSIP_RELION", str(tmp_path / "nowhere"))
    made = invoke("external", *words, "--stack", stack, "--out", tmp_path / "out", "--results", tmp_path / "r")
    assert made.exit_code == 1
    assert message in made.output


# of RELION 3.1.3 on these images, seeds 1-6: W2, and how many classes have more than a fifth of an equal share
RELION = {4: [8.96, 8.85, 8.84, 8.84, 8.91, 12.27], 10: [11.2, 10.95, 11.03, 9.98, 11.77, 11.38]}
RELION_ALIVE = {4: [4] * 6, 10: [10, 9, 10, 8, 10, 10]}


@pytest.mark.slow
@pytest.mark.parametrize("k", [4, 10])
def test_class3d_finds_what_relion_finds(k, monkeypatch, capsys, tmp_path):
    """On the same images: W2 no larger than the largest of its seeds, and as many classes alive."""
    monkeypatch.undo()
    images = OPTIONS | {"n_observations": 1_000, "atoms_per_bead": 2, "volume_size": 16}
    instance = DATASETS["adk-volumes"](**images)
    within = volume_metrics.true_volumes(instance).within
    method, distances, alive = class3d(instance.problem, k), [], []
    for seed in range(3):
        state, step = jax.jit(method.init)(jr.key(seed)), jax.jit(method.step)
        for t in range(25):
            state, _ = step(jr.fold_in(jr.key(seed), t), state)
        found = method.estimate(state)
        distances.append(
            volume_metrics.of_volumes(WeightedPoints(found.theta[:, 1:], found.weights), within)["volume_w2"]
        )
        alive.append(int((np.asarray(found.weights) > 0.2 / k).sum()))
    known = RELION[k]
    if shutil.which("relion_refine"):
        chosen = external.StackProblem("adk", images, 0)
        folder = tmp_path / "stack"
        folder.mkdir()
        external.write_stack(folder, chosen)
        config, measure = programs.run_of_program("relion", folder, tmp_path / "out", k, 1)
        known = [*known, measure(config, None)[0].metrics["volume_w2"]]
    with capsys.disabled():
        print(f"\nK = {k}: W2 {np.round(distances, 2)}, alive {alive}; of RELION {np.round(known, 2)}")
    assert np.median(distances) <= np.median(known)
    assert max(distances) <= max(known)
    assert min(alive) >= min(RELION_ALIVE[k])
