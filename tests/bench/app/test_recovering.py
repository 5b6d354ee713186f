"""`cryosip recover` from files to a page, and what it says of files that will not do."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from cryosip.bench import metrics
from cryosip.bench.app import recovering
from cryosip.bench.app.cli import app
from cryosip.bench.recovery.methods import CHOICES
from cryosip.bench.studies.external import StackProblem, write_stack
from cryosip.datasets import particle_files, prody_adapter
from cryosip.datasets.particle_stacks import read_particles
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.methods.method import WeightedPoints
from cryosip.records import recovery as records

STRUCTURE = str(prody_adapter.adenylate_kinase())
MEANS = 9.0, -7.0
MADE = {"n_observations": 2000, "image_size": 64, "pixel_size_in_angstroms": 2.5, "atom_std_in_angstroms": 4.0,
        "snr": 0.1, "pose_error_in_degrees": 2.0, "atoms_per_bead": 2, "means": [list(MEANS)] * 2}  # fmt: skip


def invoked(*arguments):
    return CliRunner().invoke(app, ["recover", *map(str, arguments)])


def test_what_is_wrong_with_the_files_is_said(tmp_path):
    missing = invoked("--star", tmp_path / "no.star", "--structure", STRUCTURE, "--out", tmp_path / "out")
    assert missing.exit_code == 1
    assert re.search(r"no\.star is not\s+there; wanted a STAR file", missing.stderr)
    (tmp_path / "text.star").write_text("no table")
    text = invoked("--star", tmp_path / "text.star", "--structure", STRUCTURE, "--out", tmp_path / "out")
    assert text.exit_code == 1
    assert "text.star" in text.stderr
    unknown = invoked("--star", tmp_path / "no.star", "--structure", STRUCTURE, "--method", "relion", "--out", tmp_path)
    assert "method is 'relion'; wanted one of" in " ".join(unknown.stderr.split())
    assert invoked("--star", tmp_path / "no.star", "--structure", STRUCTURE, "--modes", 4).exit_code == 2
    none = invoked("--star", tmp_path / "no.star", "--structure", tmp_path / "no.pdb", "--out", tmp_path)
    assert "no.pdb is not there; wanted a PDB or an mmCIF file" in " ".join(none.stderr.split())


def test_options_are_named_as_they_are_typed():
    with (
        pytest.raises(ValueError, match=r"^--half-width is 0\.0; wanted less than --atom-std$"),
        recovering.by_options(),
    ):
        raise ValueError("init_half_width is 0.0; wanted less than atom_std_in_angstroms")


def test_an_interrupt_ends_it_at_once(tmp_path):
    """While it reads, or computes: what it was doing cannot hold it up."""
    code = f"""
import signal
from pathlib import Path
from cryosip.bench.app import recovering
signal.signal(signal.SIGINT, recovering.stopped)
signal.raise_signal(signal.SIGINT)
Path({str(tmp_path / "on")!r}).touch()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "stopped; the same command goes on from what is kept" in done.stderr
    assert not (tmp_path / "on").exists()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    write_stack(folder, StackProblem("adk", MADE, 0))
    return folder


def truth(n, seed):
    rng = np.random.default_rng(seed)
    return WeightedPoints(rng.choice(MEANS, (n, 2)) + rng.normal(size=(n, 2)), np.full(n, 1 / n))


@pytest.mark.slow
def test_the_truth_of_a_stack_is_recovered(stack, tmp_path):
    """Three minutes. Within twice the floor for the best method, and for the one that is shown."""
    done = invoked("--star", stack / "particles.star", "--structure", STRUCTURE, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    found, arrays = records.read(tmp_path)
    assert [m.name for m in found.methods] == list(CHOICES)
    assert {m.status for m in found.methods} == {"ok"}
    reference = truth(4_000, 0)
    floor = np.median([metrics.w2(truth(2_000, seed), reference) for seed in range(1, 6)])
    for name in (found.shown, max(found.methods, key=lambda m: m.held_out).name):
        points = WeightedPoints(arrays[f"theta_{name}"], arrays[f"weights_{name}"])
        assert metrics.w2(points, reference) < 2 * floor
    page = (tmp_path / "index.html").read_text()
    assert "Nothing can be told" not in page
    assert found.resampling.low <= found.methods[2].halves <= 1.3 * found.resampling.high
    assert json.loads((tmp_path / "recovery.json").read_text())["n_images"] == 2_000


@pytest.mark.slow
def test_of_noise_nothing_can_be_told(stack, tmp_path):
    """A minute. The same table, whose images are white noise."""
    table = read_particles(stack / "particles.star")
    noise = np.random.default_rng(0).normal(size=(1_000, 64, 64)).astype(np.float32)
    pose = ProteinPose(table.rotation[:1_000], table.shift[:1_000], np.zeros(1_000))
    particle_files.write_stack(tmp_path, particle_files.Stack(noise, table.pixel, None, pose))
    options = "--method", "reweighting", "--method", "mixture"
    done = invoked("--star", tmp_path / "particles.star", "--structure", STRUCTURE, "--out", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    assert "Nothing can be told" in (tmp_path / "out" / "index.html").read_text()
    assert len(starfile.read(tmp_path / "out" / "particles.star")["particles"]) == 1_000
