"""Two thousand records: the page is built while one waits, and opens."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryosip.bench.app import campaign
from cryosip.bench.execute import execute
from cryosip.bench.studies.registry import STUDIES
from cryosip.records import store
from cryosip.records.read import read_records
from cryosip.records.store import RunConfig
from cryosip.reports.sections.registry import KNOWN_STUDIES

# without the types checked at each call, and in seconds of one processor: what it takes where nothing else runs
BUILD = """import sys, time
from pathlib import Path
from cryosip.reports.page import build
began = time.process_time()
build(Path(sys.argv[1]), Path(sys.argv[2]))
print(time.process_time() - began)
"""
RECORDS, EVALUATIONS, POINTS = 2_000, 100, 1_000
DIMENSIONS = {"oned": 1, "nanocluster": 2, "adk": 4, "hsp90": 4}
MODES = ("energy_distance_squared_unwhitened", *(f"w{p}_mode_{i}" for p in (1, 2) for i in range(1, 5)))
MOLECULE = {"source": "4ake.pdb", "chain": "A", "n_atoms": 214, "n_beads": 200, "eigenvalues": [1.0, 2.0, 3.0, 4.0],
            "collectivity": [0.5] * 4}  # fmt: skip
READINGS = [f"images_{kind}_{statistic}" for kind in ("noisy", "clean", "mixed") for statistic in "uv"]


def write_many(results: Path) -> None:
    """Every run of every study at the paper's size, so often that there are enough; one in fifty fails."""
    each = len(campaign.plan(list(STUDIES), "paper", 1, None))
    for i, config in enumerate(campaign.plan(list(STUDIES), "paper", -(-RECORDS // each), None)):
        record, arrays = execute(config, "paper", error if i % 50 == 49 else outcome)
        store.write(store.record_path(results, config, f"{i:016x}"), record | {"run_id": f"{i:016x}"}, arrays)


def error(_config: RunConfig, _session: Any) -> Any:
    raise MemoryError("out of memory")


def outcome(config: RunConfig, _session: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What such a run would come to, of noise."""
    rng = np.random.default_rng([config.replicate, config.steps, len(config.setting)])
    if config.method in STATEMENTS:
        curve = {name: np.abs(values).tolist() for name, values in STATEMENTS[config.method](rng).items()}
        return {"metrics": {"minimum": 1.0, "fall_float32": 0.1, "fall_float64": 0.1}, "curve": curve}, {}
    if config.method.startswith("method-"):
        variances = ("variance", "variance_q05", "variance_q95", "variance_formula")
        return {"metrics": dict(zip(variances, 1 + 0.1 * rng.normal(size=4), strict=True))}, {}
    return run_of_a_method(config, rng)


def run_of_a_method(config: RunConfig, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    names = ["w1", "w2", "energy_distance", "energy_distance_squared"]
    d = DIMENSIONS[config.problem]
    told = names + [f"{name}_to_data" for name in names[:2]] + (list(MODES) if d == 4 else [])
    told += READINGS if d > 1 and config.method == "flow" else ["discrepancy"] if d == 1 else []
    shares = np.linspace(0, 1, EVALUATIONS)
    falling = 0.1 + 0.05 * rng.random() + np.exp(-5 * shares) + 0.01 * rng.random(EVALUATIONS)
    seconds = (config.stop_after_seconds or 10.0) * shares * (1 + 0.05 * rng.random())
    curve = {"step": np.round(config.steps * shares), "seconds": seconds, "forward_calls": np.round(1e7 * shares),
             "objective": -falling, **dict.fromkeys(names, falling)}  # fmt: skip
    floors = {name: {"median": 0.05, "q05": 0.03, "q95": 0.09, "n": 10_000} for name in names}
    fields = {
        "forward_calls": 10**7, "steps": config.steps, "setup_seconds": 0.01, "compile_seconds": 1.0,
        "run_seconds": float(seconds[-1]), "program_memory_mb": 5.0 + rng.random(),
        "dataset_hash": f"{config.replicate}",
        "algorithm": {"name": "sorted ranks", "gradient_error": 1e-7} if config.method == "flow" else None,
        "metrics": dict.fromkeys(told, float(falling[-1])), "initial_metrics": dict.fromkeys(told, 1.2),
        "oracle_metrics": dict.fromkeys(names[:2], 0.08), "floors": floors, "data_floors": floors,
        "sampled_metrics": floors, "initial_sampled_metrics": floors, "collapsed_components": 1,
        "curve": {name: values.tolist() for name, values in curve.items()},
        "molecule": MOLECULE if d == 4 else None,
    }  # fmt: skip
    shapes = dict.fromkeys(("theta", "theta_init", "theta_true"), (POINTS, d))
    if d == 1:
        shapes |= dict.fromkeys(("y_observed", "y_estimated", "y_init"), (POINTS, 1))
    elif config.replicate == 0:
        shapes |= dict.fromkeys(("image_clean", "image_noisy"), (4, 128**2))
    if d == 4 and config.replicate == 0:
        shapes |= {"beads": (200, 3), "motions": (4, 600)}
        shapes |= dict.fromkeys(("beta_true", "beta_init", "beta_estimated"), (POINTS, 2))
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return fields, arrays | {"weights": np.full(POINTS, 1 / POINTS, np.float32)}


def falls(rng: np.random.Generator, axis: str, at: list[float], *others: str) -> dict[str, np.ndarray]:
    """A gap that falls along an axis, with what else a statement measures there."""
    gap = np.array(at) ** -0.5 * (1 + 0.1 * rng.random(len(at)))
    return {axis: np.array(at), "gap": gap, "certificate": 1e-12 * gap, **dict.fromkeys(others, gap**0.5)}


STATEMENTS = {
    "large-data": lambda rng: falls(rng, "n", [30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4] * 4, "draw"),
    "particle-number": lambda rng: falls(rng, "k", [1.0, 2.0, 4.0, 8.0, 16.0], "w2", "energy_distance"),
    "prior-weight": lambda rng: {
        "factor": np.array([0.25, 0.5, 1.0, 2.0, 4.0]),
        **dict.fromkeys(("objective_difference", "distance"), rng.random(5) * [1e9, 1e9, 1e-9, 1e9, 1e9]),
    },
    "gradient-descent": lambda rng: {
        "step": np.arange(60.0),
        **dict.fromkeys((f"{a}_float{b}" for a in ("mixture", "written") for b in (32, 64)), rng.random(60)),
    },
}


@pytest.mark.slow
def test_a_page_of_two_thousand_records_is_built_in_half_a_minute(tmp_path):
    results = tmp_path / "results"
    write_many(results)
    seconds = float(subprocess.run([sys.executable, "-c", BUILD, results, tmp_path / "report"], capture_output=True,
                                   text=True, check=True).stdout)  # fmt: skip
    page = tmp_path / "report" / "index.html"
    records, skipped = read_records(results)
    assert skipped == []
    assert len(records) >= RECORDS
    assert {record.study for record in records} >= set(KNOWN_STUDIES)
    assert sum(record.status != "ok" for record in records) == len(records) // 50
    assert page.stat().st_size < 15e6
    assert seconds < 30
