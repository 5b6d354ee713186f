"""docs/extending.md keeps its promise: on a copy of the checkout, what it says is enough."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import follow

import cryosip

ROOT = Path(__file__).parent.parent
NEW = {"methods/nearest.py", "datasets/tripled.py", "bench/studies/sizes.py"}
MAIN = "from cryosip.bench.app.cli import main; main()"
CONTRACTS = [  # of every method, problem, metric and study of the registries
    "tests/methods/test_flow.py",
    "tests/bench/test_truth.py",
    "tests/bench/test_metrics.py",
    "tests/bench/test_programs.py",
    "tests/bench/check/test_check.py",
    "tests/datasets/test_pixel_order.py",
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout after all recipes."""
    copy = tmp_path_factory.mktemp("recipes") / "checkout"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "published", "__pycache__", "results", "report")
    shutil.copytree(ROOT, copy, ignore=ignored, symlinks=True)
    changed = follow(ROOT / "docs/extending.md", copy)
    assert set(changed) >= NEW
    return copy


def python(checkout, *words, seconds=600):
    """Runs Python in the copy, which comes first on the path."""
    env = os.environ | {"PYTHONPATH": str(checkout), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=checkout, env=env, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_study_runs_and_the_report_shows_the_newcomers(checkout, tmp_path):
    text = python(checkout, "-c", MAIN, "list")
    for newcomer in ("nearest", "tripled", "sizes", "lion"):
        assert f" {newcomer} " in text
    results = tmp_path / "results"
    python(checkout, "-c", MAIN, "run", "sizes", "--profile", "smoke", "--replicates", "1", "--results", results)
    table = cryosip.load(results)
    assert set(table["method"]) == {"nearest", "mixture"}
    assert set(table["problem"]) == {"oned", "tripled"}
    assert (table["status"] == "ok").sum() > 0
    assert (table[table["metric"] == "mean_error"]["value"] > 0).all()
    python(checkout, "-c", MAIN, "report", "--results", results, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for newcomer in ("nearest", "tripled", "sizes", "mean_error"):
        assert newcomer in page


@pytest.mark.slow
@pytest.mark.parametrize("file", CONTRACTS)
def test_the_contract_tests_pass_with_the_newcomers(checkout, file):
    python(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, seconds=1_800)


@pytest.mark.slow
def test_the_check_passes_and_names_what_it_has_no_formula_for(checkout):
    text = python(checkout, "-c", MAIN, "check", seconds=1_800)
    assert "tripled: no reference distribution" in text
    assert "mean_error: no formula" in text
    assert "all passed" in text
