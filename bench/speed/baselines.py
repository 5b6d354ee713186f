"""Our kernels against baselines: timed alternately in one process, each with its error against float64 formulas."""

import datetime
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.markup import escape
from rich.table import Table

from cryosip.bench.environment import environment
from cryosip.records import files

SCHEMA = 2
FILE = Path("speed") / "baselines.json"
ROUNDS = 7
LONG = 5.0  # seconds; a call that takes longer is timed once
REST = 0.02  # seconds before a call, for the threads of the previous one to become idle
LIBRARIES = ("scikit-learn", "torch", "geomloss", "pykeops", "ott-jax")

Fields = dict[str, Any]


Exact = Callable[[], np.ndarray]  # the answer by a formula in float64, computed when first needed


class Implementation(NamedTuple):
    """One way to compute something, ready to run.

    `call()` does it `calls` times and returns when all is done; `error()` is the largest deviation of its answer from
    that of a formula in float64, in units of the largest entry; `note` is what else a reader has to know.
    """

    call: Callable[[], Any]
    error: Callable[[], float]
    calls: int = 1
    note: str = ""


class Unavailable(Exception):
    """An implementation that cannot be measured here, and why."""


class Comparison(NamedTuple):
    """Implementations of the same quantity by name, each made when it is measured.

    `wanted[ours, baseline]` is how many times as fast as a baseline one of ours should be.
    """

    name: str
    title: str
    ours: Mapping[str, Callable[[], Implementation]]
    baselines: Mapping[str, Callable[[], Implementation]]
    wanted: Mapping[tuple[str, str], float]


def deviation(answer: Any, exact: np.ndarray) -> float:
    """max |answer - exact| / max |exact|. Raises ValueError where their shapes differ."""
    found = np.asarray(answer, np.float64)
    if found.shape != exact.shape:
        raise ValueError(f"the answer has shape {found.shape} and that of the formula {exact.shape}; wanted the same")
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def from_numpy(call: Callable[[], Any], exact: Exact) -> Implementation:
    """A function that returns when its answer is there."""
    return Implementation(call, lambda: deviation(call(), exact()))


def from_jax(f: Callable[..., Any], exact: Exact, *arguments: Any) -> Implementation:
    """A function of jax arrays, compiled for these."""
    program = jax.jit(f).lower(*arguments).compile()
    return from_numpy(lambda: jax.block_until_ready(program(*arguments)), exact)


def looped(gradient: Callable[[Any], Any], exact: Exact, y: Any, calls: int) -> Implementation:
    """A gradient evaluated several times in one compiled loop, each after a small step along the previous one.

    Parameters
    ----------
    gradient
        A function of (n, p) in JAX.
    exact
        Its answer at `y`, (n, p).
    y
        (n, p), where the loop starts.
    calls
        How many times it is evaluated in a loop.

    Returns
    -------
    The implementation, whose seconds are those of one evaluation.
    """
    many = jax.jit(lambda y: jax.lax.fori_loop(0, calls, lambda _, x: x - 1e-6 * gradient(x), y)).lower(y).compile()
    return Implementation(
        lambda: jax.block_until_ready(many(y)), lambda: deviation(jax.jit(gradient)(y), exact()), calls
    )


def seconds(implementation: Implementation) -> float:
    """Of one evaluation, on an idle machine."""
    time.sleep(REST)
    began = time.perf_counter()
    implementation.call()
    return (time.perf_counter() - began) / implementation.calls


def fastest(candidates: Mapping[str, Implementation]) -> Implementation:
    """The candidate with the lowest time of three trials, named in its note."""
    lowest = {name: min(seconds(candidate) for _ in range(3)) for name, candidate in candidates.items()}
    best = min(lowest, key=lambda name: lowest[name])
    return candidates[best]._replace(note=f"{best}, the fastest of {len(candidates)}")


def measure(comparison: Comparison, rounds: int = ROUNDS) -> Fields:
    """Time every implementation in each round, one after the other.

    A baseline that is missing or fails keeps its row, whose note says why; one that takes more than five seconds is
    timed once, and compared with the median of ours. `times` are medians over rounds of the ratios to ours.
    """
    rows: dict[str, Fields] = {}
    repeated: dict[str, Implementation] = {}
    timings: dict[str, list[float]] = {}
    for name, make in {**comparison.ours, **comparison.baselines}.items():
        ours = name in comparison.ours
        rows[name] = {"implementation": name, "ours": ours}
        try:
            implementation = make()
            rows[name] |= {"note": implementation.note, "error": _finite(implementation.error())}
            first = seconds(implementation)  # and the call that warms up
        except Exception as error:  # whatever another library raises; the others are compared
            if ours:
                raise
            rows[name]["note"] = _why(error)
            continue
        timings[name] = [first] if first > LONG else []
        if first <= LONG:
            repeated[name] = implementation
    for _ in range(rounds):
        for name, implementation in repeated.items():
            timings[name].append(seconds(implementation))
    for name, timing in timings.items():
        rows[name] |= {"seconds": float(np.median(timing)), "rounds": len(timing)}
        rows[name]["times"] = {ours: _ratio(timing, timings[ours]) for ours in comparison.ours if ours != name}
        rows[name]["wanted"] = {ours: x for (ours, baseline), x in comparison.wanted.items() if baseline == name}
    return {
        "name": comparison.name,
        "title": comparison.title,
        "ours": list(comparison.ours),
        "rows": list(rows.values()),
    }


def _why(error: Exception) -> str:
    if isinstance(error, Unavailable):
        return str(error)
    return f"not installed: {error}" if isinstance(error, ImportError) else f"failed: {type(error).__name__}: {error}"


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _ratio(timing: list[float], ours: list[float]) -> float:
    """The median of the ratios within a round; where one was timed once, the ratio of the medians."""
    if len(timing) != len(ours):
        return float(np.median(timing) / np.median(ours))
    return float(np.median(np.divide(timing, ours)))


def row(measured: Fields, implementation: str) -> Fields:
    """The row of an implementation."""
    return next(row for row in measured["rows"] if row["implementation"] == implementation)


def record(comparisons: Iterable[Callable[[], Comparison]], results: Path, show: Callable[[Fields], None]) -> Path:
    """Measure all comparisons, show each when it is done, and write RESULTS/speed/baselines.json, all or nothing."""
    path = results / FILE
    files.check_writable(path.parent)
    measured = []
    with jax.default_matmul_precision("highest"):  # as in every run
        for make in comparisons:
            measured.append(measure(make()))
            show(measured[-1])
    content = {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": environment() | {name: _version(name) for name in LIBRARIES},
        "comparisons": measured,
    }
    files.write_text(path, json.dumps(content, indent=1, allow_nan=False))
    return path


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(measured: Fields) -> Table:
    """A comparison for the terminal."""
    shown = Table("Implementation", title=escape(measured["title"]), title_justify="left")
    for column in ("ms", *(f"x {name}" for name in measured["ours"]), "error"):
        shown.add_column(escape(column), justify="right")
    shown.add_column("")
    for row in measured["rows"]:
        cells = ["", *("" for _ in measured["ours"]), ""]
        if "seconds" in row:
            ratios = (_ratio_text(row, ours) for ours in measured["ours"])
            error = "not finite" if row["error"] is None else f"{row['error']:.1e}"
            cells = [f"{1e3 * row['seconds']:.3g}", *ratios, error]
        shown.add_row(*map(escape, (row["implementation"], *cells, row["note"])))
    return shown


def _ratio_text(row: Fields, ours: str) -> str:
    if ours not in row["times"]:
        return ""
    wanted = f" (wanted {row['wanted'][ours]:g})" if ours in row["wanted"] else ""
    return f"{row['times'][ours]:.3g}{wanted}"
