"""Synthetic records, for these tests only: they look like the runs of the 1D study and were never run."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import compared_runs
import numpy as np
import pytest
from matplotlib.backends.backend_pdf import FigureCanvasPdf

from cryosip.records.files import digest

MISSING = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]


@pytest.fixture(autouse=True)
def without_pdf(request, monkeypatch):
    """Paper takes a fifth of the time of a page; tests that look at it say so."""
    if request.node.get_closest_marker("pdf") is None:
        monkeypatch.setattr(FigureCanvasPdf, "print_pdf", lambda *_, **__: None)


ENVIRONMENT = {"commit": "0123abcd", "dirty": False, "python": "3.11.9", "jax": "0.8.1", "device": "cpu", "prody": None}
FLOORS = {"w1": (0.021, 0.012, 0.036), "w2": (0.076, 0.034, 0.155)}


def floors(n: int) -> dict[str, Any]:
    scale = math.sqrt(10_000 / n)
    return {
        name: dict(zip(("median", "q05", "q95"), (x * scale for x in values), strict=True)) | {"n": n}
        for name, values in FLOORS.items()
    }


def record(study: str = "paper-1d", method: str = "flow", setting: str = "published", **changes: Any) -> dict[str, Any]:
    """A whole record of the published size; `discrepancy`, `sigma`, `steps` and `n` reach into its configuration."""
    discrepancy, sigma = changes.pop("discrepancy", "energy" if method == "flow" else None), changes.pop("sigma", 1.5)
    planned, n = changes.pop("planned", 25_000), changes.pop("n", 10_000)
    options = changes.pop("options", {})
    if discrepancy:
        options = {"discrepancy": {"name": discrepancy, "options": {}}, "n_particles": n} | options
    problem = {"name": "oned", "options": {"noise_std": sigma, "n_observations": n}}
    base = {
        "schema": 2, "study": study, "profile": "paper", "setting": setting, "problem": "oned", "method": method,
        "config": {"problem": problem, "method": {"name": method, "options": options}, "steps": planned, "every": 500,
                   "stop_below": None},
        "replicate": 0, "seed": 7, "status": "ok", "message": "", "steps": planned, "forward_evaluations": planned * n,
        "compile_seconds": 1.2, "run_seconds": 7.5, "peak_memory_mb": 310.0,
        "algorithm": {"name": "sorted ranks", "gradient_error": 0.0} if discrepancy else None,
        "metrics": {"w1": 0.08, "w2": 0.2, "energy_distance": 0.05}, "floors": floors(n), "data_floors": floors(n),
        "sampled_metrics": floors(n),
        "initial_metrics": {"w1": 1.5, "w2": 1.6}, "curve": {}, "dataset_hash": "feed", "environment": ENVIRONMENT,
        "created": "2025-11-20T12:00:00Z",
    }  # fmt: skip
    return base | changes


Write = Callable[..., Path]


def write_record(results: Path, arrays: dict[str, np.ndarray] | None = None, **changes: Any) -> Path:
    data = record(**changes)
    named = json.dumps(data | {"schema": 1}, sort_keys=True)  # the order of records stays from schema to schema
    data.setdefault("run_id", hashlib.sha256(named.encode()).hexdigest()[:16])
    path = results / data["study"] / f"{data['run_id']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = ""
    if arrays is not None:
        np.savez(path.with_suffix(".npz"), **arrays)
        known = digest(path.with_suffix(".npz").read_bytes())
    path.write_text(json.dumps({"arrays_hash": known} | data), encoding="utf-8")
    return path


def curve(final_w2: float, pace: float, steps: int = 25_000) -> dict[str, list[float]]:
    at = np.unique(np.concatenate([[0], np.geomspace(50, steps, 40).astype(int)]))
    w2 = final_w2 + (1.6 - final_w2) * np.exp(-at / pace)
    return {"step": at.tolist(), "seconds": (at * 3e-4).tolist(), "w2": w2.tolist(), "w1": (w2 * 0.45).tolist()}


def clouds(rng: np.random.Generator, n: int = 10_000, blur: float = 0.1, sigma: float = 1.5) -> dict[str, np.ndarray]:
    def truth() -> np.ndarray:
        left = rng.random(n) < 0.5
        return np.where(left, rng.normal(-2, 0.75, n), rng.normal(2, 0.3, n))

    theta, init = truth() + blur * rng.normal(size=n), rng.normal(size=n)
    noisy = [x + sigma * rng.normal(size=n) for x in (theta, init, truth())]
    names = ("theta", "theta_init", "theta_true", "y_estimated", "y_init", "y_observed")
    arrays = dict(zip(names, (theta, init, truth(), *noisy), strict=True))
    return {name: array[:, None] for name, array in arrays.items()} | {"weights": np.full(n, 1 / n)}


def write_everything(results: Path, replicates: int = 3) -> None:
    """All studies at the published size, with a diverged run and a threshold that is never reached."""
    rng = np.random.default_rng(5)
    for i in range(replicates):
        same: dict[str, Any] = {"replicate": i, "seed": 7 + i, "dataset_hash": f"feed{i}"}
        for name, w2 in (("energy", 0.22), ("kl", 0.21)):
            for setting, factor in (("published", 1.0), ("tuned", 0.6)):
                now = factor * w2 + 0.02 * (i - 1)
                write_record(results, clouds(rng), discrepancy=name, setting=setting, curve=curve(now, 2500 * factor),
                             metrics={"w1": 0.42 * now, "w2": now}, **same)  # fmt: skip
            for sigma in (0.5, 1.0, 1.5, 2.0, 2.5):
                pace = 600 * (1 + sigma) * (3 if name == "kl" and sigma < 1 else 1) * (1 + 0.1 * i)
                final = 0.15 if sigma < 2 else 0.17 + 0.02 * i if sigma < 2.5 else 0.3
                write_record(results, study="noise", setting=f"sigma={sigma}", discrepancy=name, sigma=sigma,
                             curve=curve(final, pace), **same)  # fmt: skip
        for k in (2, 5, 10, 50, 100, 1000):
            w2 = 0.57 * (2 / k) ** 0.25 + 0.02 * rng.normal()
            write_record(results, method="mixture", setting=f"K={k}", options={"n_components": k}, floors=floors(k),
                         metrics={"w1": 0.4 * w2, "w2": w2}, run_seconds=0.02 * k, **same)  # fmt: skip
        write_record(results, method="reweighting", setting="grid 100", metrics={"w1": 0.06, "w2": 0.14 + 0.01 * i},
                     floors=floors(100), run_seconds=0.05, curve=curve(0.14, 30, 200), **same)  # fmt: skip
    for scheme in (1, 2, 3):
        for n in (10, 100, 1000):
            for k in (1, 4, 16):
                formula = {1: 1.0, 2: 0.4 + 0.6 / k, 3: 0.4 + 0.6 / k}[scheme] / n + (0.3 / k if scheme == 2 else 0)
                measured = formula * (1 + 0.01 * rng.normal())
                write_record(results, study="sampling", method=f"method-{scheme}", setting=f"N={n}, K={k}",
                             discrepancy=None, options={"n": n, "k": k}, curve=None,
                             metrics={"variance": measured, "variance_q05": 0.97 * measured,
                                      "variance_q95": 1.03 * measured, "variance_formula": formula})  # fmt: skip
    write_record(results, discrepancy="mmd", setting="untuned", status="diverged", message="loss is nan at step 40",
                 dataset_hash="feed0", metrics={"w2": None})  # fmt: skip


@pytest.fixture
def write_all() -> Callable[..., None]:
    """`write_everything` for tests that want more replicates."""
    return write_everything


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture(scope="session")
def write_into() -> Write:
    """`write_record` for fixtures that outlive a test."""
    return write_record


@pytest.fixture
def write(results: Path) -> Write:
    """Write one synthetic record below `results`: a whole record of the published size, with changes."""

    def write_here(arrays: dict[str, np.ndarray] | None = None, **changes: Any) -> Path:
        return write_record(results, arrays, **changes)

    return write_here


@pytest.fixture
def compared(write: Write) -> Callable[..., None]:
    """Write the runs of a method in the comparison."""
    return partial(compared_runs.write_runs, write)


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with all studies at the published size."""
    path = tmp_path_factory.mktemp("everything") / "results"
    write_everything(path)
    return path


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, one for all tests of a process, that logs what it asks for and what scripts complain of."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()
