"""Our kernels against what one would take instead: alternately in one process, each with its error against float64."""

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

SCHEMA = 1
FILE = Path("speed") / "peers.json"
ROUNDS = 7
LONG = 5.0  # seconds of a call from which on one round is enough
REST = 0.02  # seconds in which the threads of the call before come to rest
LIBRARIES = ("scikit-learn", "torch", "geomloss", "pykeops", "ott-jax")

Fields = dict[str, Any]


class Form(NamedTuple):
    """One way to compute something, ready to run.

    `call()` does it `calls` times and returns when all is done; `error()` is the largest deviation of its answer from a
    reference in float64, in units of the largest entry of that; `note` is what else a reader has to know.
    """

    call: Callable[[], Any]
    error: Callable[[], float]
    calls: int = 1
    note: str = ""


class Unavailable(Exception):
    """A form that cannot be had, and why."""


class Comparison(NamedTuple):
    """Forms by name, each made when it is measured, and the ratios wanted: `wanted[ours, peer]` times as fast."""

    name: str
    title: str
    ours: Mapping[str, Callable[[], Form]]
    peers: Mapping[str, Callable[[], Form]]
    wanted: Mapping[tuple[str, str], float]


def deviation(answer: Any, exact: np.ndarray) -> float:
    """max |answer - exact| / max |exact|. Raises ValueError where their shapes differ."""
    found = np.asarray(answer, np.float64)
    if found.shape != exact.shape:
        raise ValueError(f"the answer has shape {found.shape} and the reference {exact.shape}; wanted the same")
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def numpy_form(call: Callable[[], Any], exact: np.ndarray) -> Form:
    """A function that returns when its answer is there."""
    return Form(call, lambda: deviation(call(), exact))


def jax_form(f: Callable[..., Any], exact: np.ndarray, *arguments: Any) -> Form:
    """A function of jax arrays, compiled for these."""
    program = jax.jit(f).lower(*arguments).compile()
    return numpy_form(lambda: jax.block_until_ready(program(*arguments)), exact)


def looped(gradient: Callable[[Any], Any], exact: np.ndarray, y: Any, calls: int) -> Form:
    """A gradient so often in one compiled loop, each at what the one before has moved a little."""
    many = jax.jit(lambda y: jax.lax.fori_loop(0, calls, lambda _, x: x - 1e-6 * gradient(x), y)).lower(y).compile()
    return Form(lambda: jax.block_until_ready(many(y)), lambda: deviation(jax.jit(gradient)(y), exact), calls)


def seconds(form: Form) -> float:
    """Of one call, once the machine has come to rest."""
    time.sleep(REST)
    began = time.perf_counter()
    form.call()
    return (time.perf_counter() - began) / form.calls


def fastest(forms: Mapping[str, Form]) -> Form:
    """The one that takes least, which its note names; each is tried three times."""
    taken = {name: min(seconds(form) for _ in range(3)) for name, form in forms.items()}
    best = min(taken, key=lambda name: taken[name])
    return forms[best]._replace(note=f"{best}, the fastest of {len(forms)}")


def measure(comparison: Comparison, rounds: int = ROUNDS) -> Fields:
    """Every form in each round, one after the other; `times` are medians over rounds of the seconds to those of ours.

    A form of another library that is missing or fails keeps its row, which says so; one that takes more than five
    seconds is timed once, and compared with the median of ours.
    """
    rows: dict[str, Fields] = {}
    repeated: dict[str, Form] = {}
    taken: dict[str, list[float]] = {}
    for name, make in {**comparison.ours, **comparison.peers}.items():
        ours = name in comparison.ours
        rows[name] = {"form": name, "ours": ours}
        try:
            form = make()
            rows[name] |= {"note": form.note, "error": _finite(form.error())}
            first = seconds(form)  # and the call that warms up
        except Exception as error:  # whatever another library comes to; the others are compared
            if ours:
                raise
            rows[name]["note"] = _why(error)
            continue
        taken[name] = [first] if first > LONG else []
        if first <= LONG:
            repeated[name] = form
    for _ in range(rounds):
        for name, form in repeated.items():
            taken[name].append(seconds(form))
    for name, some in taken.items():
        rows[name] |= {"seconds": float(np.median(some)), "rounds": len(some)}
        rows[name]["times"] = {own: _ratio(some, taken[own]) for own in comparison.ours if own != name}
        rows[name]["wanted"] = {own: x for (own, peer), x in comparison.wanted.items() if peer == name}
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


def _ratio(taken: list[float], own: list[float]) -> float:
    """The median of the ratios within a round; what was timed once, beside all rounds, has no round of its own."""
    if len(taken) != len(own):
        return float(np.median(taken) / np.median(own))
    return float(np.median(np.divide(taken, own)))


def row(measured: Fields, form: str) -> Fields:
    """The row of a form."""
    return next(row for row in measured["rows"] if row["form"] == form)


def record(comparisons: Iterable[Callable[[], Comparison]], results: Path, tell: Callable[[Fields], None]) -> Path:
    """Measures all comparisons, tells each when it is done, and writes RESULTS/speed/peers.json, all or nothing."""
    path = results / FILE
    files.check_writable(path.parent)
    measured = []
    with jax.default_matmul_precision("highest"):  # as in every run
        for make in comparisons:
            measured.append(measure(make()))
            tell(measured[-1])
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
    """A comparison as people read it."""
    shown = Table("Form", title=escape(measured["title"]), title_justify="left")
    for column in ("ms", *(f"x {name}" for name in measured["ours"]), "error"):
        shown.add_column(escape(column), justify="right")
    shown.add_column("")
    for row in measured["rows"]:
        cells = ["", *("" for _ in measured["ours"]), ""]
        if "seconds" in row:
            ratios = (_told(row, own) for own in measured["ours"])
            error = "not finite" if row["error"] is None else f"{row['error']:.1e}"
            cells = [f"{1e3 * row['seconds']:.3g}", *ratios, error]
        shown.add_row(*map(escape, (row["form"], *cells, row["note"])))
    return shown


def _told(row: Fields, own: str) -> str:
    if own not in row["times"]:
        return ""
    wanted = f" (wanted {row['wanted'][own]:g})" if own in row["wanted"] else ""
    return f"{row['times'][own]:.3g}{wanted}"
