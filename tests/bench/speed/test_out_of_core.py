"""The measurement out of core: what it counts, its limit, and the command that writes it."""

import json
import os

import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench.app import cli
from cryosip.bench.speed import out_of_core
from cryosip.bench.speed.out_of_core import CASES, first_rows, limited, measure, physical
from cryosip.datasets.shards import simulated
from cryosip.reports.sections.out_of_core import read_out_of_core

ROW = {
    "name": "mixture", "space": "pixels", "images": 1_000, "per": "step", "check_seconds": 1.0, "build_seconds": 2.0,
    "compile_seconds": 1.0, "step_seconds": 4.0, "steps": 3, "finite": True, "images_per_second": 250.0,
    "cpu_seconds": 3.0, "load": 0.5, "start_mb": 200.0, "peak_mb": 300.0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Forty images in files of sixteen."""
    for i, n in enumerate((16, 16, 8)):
        np.save(tmp_path / f"images-{i:05}.npy", np.full((n, 4), i, np.float32))
    return tmp_path


def test_the_first_images_are_of_the_first_files(folder):
    assert [len(m) for m in first_rows(folder, 20)] == [16, 4]
    assert [m[0, 0] for m in first_rows(folder, 40)] == [0, 1, 2]
    with pytest.raises(ValueError, match="holds 1 images less"):
        first_rows(folder, 41)


def test_rates_are_those_of_this_machine(folder):
    rates = physical(folder)
    assert all(rate > 0 for rate in rates.values())
    assert rates["flops_per_second"] > 1e8


def test_the_limit_is_the_larger_of_disk_and_products():
    rates = {"disk_bytes_per_second": 4.0 * out_of_core.P, "cache_bytes_per_second": 1.0, "flops_per_second": 10.0}
    case = CASES[0]._replace(flops=1, rows=None)
    assert limited(ROW, case, rates) == ROW | {"limit": "disk", "limit_seconds": 1_000.0}
    assert limited(ROW, case._replace(flops=20), rates)["limit_seconds"] == 2_000.0
    assert limited(ROW, case._replace(flops=20, rows=7), rates) == ROW | {"limit": "sgemm", "limit_seconds": 14.0}


@pytest.mark.slow  # methods on images of 64 x 64 pixels
@pytest.mark.parametrize("index", range(len(CASES)))
def test_a_case_is_measured(tmp_path, index):
    simulated(out_of_core.problem_instance(), 50, tmp_path)
    row = measure(CASES[index], tmp_path, 40)
    assert row["finite"]
    assert (row["name"], row["images"]) == (CASES[index].name, 40)
    counted = row[f"{row['per']}_seconds"]
    assert row["images_per_second"] == pytest.approx((CASES[index].rows or 40) / counted)
    assert row["peak_mb"] >= row["start_mb"] > 0
    assert row["cpu_seconds"] > 0


@pytest.mark.slow  # a process that imports everything
def test_a_case_runs_in_a_process_of_its_own(tmp_path):
    simulated(out_of_core.problem_instance(), 40, tmp_path)
    row = out_of_core.in_own_process(1, tmp_path, 40)
    assert row.keys() == ROW.keys()
    with pytest.raises(RuntimeError, match=r"mixture on 41 images failed:\n(.|\n)*holds 1 images less"):
        out_of_core.in_own_process(1, tmp_path, 41)


def cryosip(*words):
    result = CliRunner().invoke(cli.app, list(map(str, words)))
    return result.exit_code, " ".join(result.output.split())


def test_the_command_writes_what_the_report_reads_and_deletes_the_images(tmp_path, monkeypatch):
    seen = []

    def fake(index, folder, n):
        seen.append((index, n, os.path.dirname(folder) == str(tmp_path / "speed"), folder.exists()))
        return ROW | {"images": n, "name": CASES[index].name}

    monkeypatch.setattr(out_of_core, "in_own_process", fake)
    monkeypatch.setattr(out_of_core, "problem_instance", lambda: "toy")
    monkeypatch.setattr(
        out_of_core, "simulated", lambda _, n, folder: np.save(folder / "images-00000.npy", np.ones((n, 4)))
    )
    code, text = cryosip("speed", "--out-of-core", "--images", 30, "--images", 10, "--results", tmp_path)
    assert code == 0, text
    assert "mixture on 30 images, pixels" in text
    assert seen == [(i, n, True, True) for n in (10, 30) for i in range(len(CASES))]
    assert [path.name for path in (tmp_path / "speed").iterdir()] == ["out_of_core.json"]
    content = json.loads((tmp_path / "speed/out_of_core.json").read_text())
    assert content["simulation"]["images"] == 30
    found, unread = read_out_of_core(tmp_path)
    assert unread == []
    assert [(row.images, row.seconds) for row in found.rows] == [(n, 4.0) for n in (10, 30) for _ in CASES]


@pytest.mark.parametrize("words", [("--out-of-core", "--all"), ("--out-of-core", "--baselines"), ("--images", "3")])
def test_it_is_measured_alone(words):
    code, text = cryosip("speed", *words)
    assert code == 2
    assert "wanted it alone" in text or "without --out-of-core" in text
