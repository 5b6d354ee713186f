"""Every figure comes as SVG, PDF and a table of what it shows, from which a script of its own draws it again."""

import ast
import csv
import io
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import test_reports_consistency
import test_reports_images
import test_reports_movies
import test_reports_protein
import test_reports_scaling
import test_reports_schemes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cryosip.records.read import read_records
from cryosip.reports import drawn, redraw, style
from cryosip.reports.csv_text import csv_text
from cryosip.reports.gallery import study_figures
from cryosip.reports.style import Plot, draw, log_axes, painted, styled

GROUPS = {
    "fig1", "convergence", "dto", "fig2", "variances", "schemes", "scaling", "fig3", "fig4", "nanocluster_convergence",
    "nanocluster_dto", "tau", "paper-hsp90", "hsp90_open", "oned", "large-data", "particle-number", "distance",
    "equivalence",
}  # fmt: skip
KINDS = {"line", "points", "error bars", "steps", "filled steps", "band", "area", "image", "text"}


def raster(figure: Figure) -> np.ndarray:
    """(rows, columns, 3), from 0 to 1."""
    with styled():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255.0


def rows(table: list[list[Any]]) -> list[dict[str, str]]:
    """As they are in the file."""
    return list(csv.DictReader(io.StringIO(csv_text(table), newline="")))


def redrawn(table: list[dict[str, str]]) -> np.ndarray:
    with styled():
        return raster(redraw.redraw(table))


def differing(one: np.ndarray, other: np.ndarray) -> int:
    """How many pixels differ, by more than colours that were added in another order do."""
    return int((np.abs(one - other).max(-1) > 0.02).sum())


def write_the_rest(write) -> None:
    """The studies that `everything` does not have, with their failures."""
    for i in range(3):
        for study, method, setting in (
            ("paper-nanocluster", "flow", "published"), ("paper-nanocluster", "mixture", "K=10"),
            ("paper-nanocluster", "maximum-likelihood", "per image"),
        ):  # fmt: skip
            options = {"options": {"n_components": 10}} if method == "mixture" else {}
            test_reports_images.put(write, study, method, setting, i, **options)
        for tau in (0.15, 0.5):
            test_reports_images.put(write, "tau", "flow", f"tau={tau}", i, tau)
        test_reports_protein.put(write, "paper-hsp90", "flow", "published", i, "energy")
        test_reports_protein.put(write, "paper-hsp90", "mixture", "K=5", i)
        for cutoff in (10.0, 15.0):
            fields = {"cutoff_in_angstroms": cutoff, "snr": 1.0}
            test_reports_protein.put(write, "hsp90-open", "flow", f"{cutoff}", i, "invariant-energy", **fields)
        for scheme, draws in (("method-1", 1), ("method-3", 4)):
            test_reports_schemes.write_flow(write, scheme, i, [1.0, 0.09, 0.03 + 0.01 * i], draws=draws)
        test_reports_scaling.write_law(write, i, -0.5)
        write(study="scaling", method="flow", setting="N=7", replicate=i, status="error", options={"n_particles": 7})
        _compared(write, i)
    test_reports_consistency.put_all(write)
    test_reports_movies.put(write, test_reports_movies.way(1))
    test_reports_movies.put(write, test_reports_movies.way(2), study="paper-nanocluster")


def _compared(write, i: int) -> None:
    for method, end in (("flow", 2.0), ("mixture", 3.0), ("reweighting", 1.5)):
        values = [0.076 * ratio * (1 + 0.05 * i) for ratio in (9.0, 5.0, end)]
        options = {"discrepancy": {"name": "energy"}} if method == "flow" else {}
        write(
            study="otd-vs-dto", method=method, setting="for all", replicate=i, discrepancy=None, setup_seconds=0.1,
            status="ok" if method != "reweighting" or i else "diverged", program_memory_mb=3.0,
            oracle_metrics={"w1": 0.01, "w2": 0.02},
            config={"problem": {"name": "oned", "options": {"n_observations": 10_000}},
                    "method": {"name": method, "options": options}, "steps": 9, "every": 3, "stop_below": None,
                    "budgets": {"seconds": [2.0, 8.0], "forward_calls": [100.0]}},
            curve={"step": [1, 2, 3], "seconds": [1.0, 2.0, 4.0], "forward_calls": [40, 80, 160], "w2": values,
                   "w1": values, "energy_distance_squared": values},
        )  # fmt: skip


def lay_out(canvas: FigureCanvasSVG, file: Any) -> None:
    """Files take most of the time and are not looked at."""
    FigureCanvasAgg(canvas.figure).draw()
    file.write("<svg></svg>")


@pytest.fixture
def figures(write, results: Path, everything: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plot, Figure]]:
    """Every kind of figure of the page, beside what was painted."""
    seen: list[tuple[Any, ...]] = []
    of: dict[int, tuple[Any, ...]] = {}

    def paint(*how):
        seen.append(how)
        return painted(*how)

    def tell(figure, ax):
        table = drawn.drawn(figure, ax)
        of[id(table)] = seen[-1]
        return table

    monkeypatch.setattr(style, "painted", paint)
    monkeypatch.setattr(style, "drawn", tell)
    monkeypatch.setattr(FigureCanvasSVG, "print_svg", lay_out)
    write_the_rest(write)
    by_study = study_figures([*read_records(everything)[0], *read_records(results)[0]])
    groups = {name: group for own in by_study.values() for name, group in own.items()}
    assert not GROUPS - {name for name, plots in groups.items() if plots}
    with styled():  # painted afresh, for a layout moves a little when it is done again
        return [(p, painted(*of[id(p.drawing.table)])[0]) for plots in groups.values() for p in plots]


def test_every_figure_is_redrawn_from_its_table_alone(figures) -> None:
    """And no longer the same when the table says something else."""
    assert len(figures) > 50
    assert {"fig1-movie-0", "fig4-movie-0", "paper-hsp90-movie-1"} <= {plot.name for plot, _ in figures}
    seen = set()
    for plot, figure in figures:
        original, table = raster(figure), rows(plot.drawing.table)
        assert differing(original, redrawn(table)) == 0, plot.name
        for kind in {row["kind"] for row in table if row["artist"]} - seen:
            seen.add(kind)
            assert differing(original, redrawn(moved(table, kind))) > 5, (plot.name, kind)
    assert seen == KINDS


def moved(table: list[dict[str, str]], kind: str) -> list[dict[str, str]]:
    """The table with another number in the middle row of what is drawn of a kind."""
    own = [at for at, row in enumerate(table) if row["kind"] == kind and row["x"] + row["text"]]
    at = own[len(own) // 2]
    low, high = (float(row["y"]) for row in table if row["kind"] == "limits")
    row = dict(table[at])
    if kind == "image":
        row["text"] = " ".join(reversed(row["text"].split()))
    else:
        name = "high" if row["high"] else "y"
        old = float(row[name])
        row[name] = f"{low + 0.1 * (high - low) if abs(old - low) > 0.5 * (high - low) else high - 0.1 * (high - low)}"
    return [*table[:at], row, *table[at + 1 :]]


def everything_at_once(ax) -> None:
    """What lines can be told by: dashes of their own, marks at some points, hollow marks, a place beside the axes."""
    x = np.arange(1.0, 20.0)
    ax.plot(x, x, color="#2a84c6", linestyle=(0, (5, 2)), marker="o", markevery=[-1], label="one")
    ax.plot([], [], color="#e07b00", marker="s", markersize=5, linestyle="-.", label="nothing yet")
    ax.step(x, x[::-1], where="post", color="#009e73", linestyle="", marker="^", markerfacecolor="none")
    ax.plot([3], [1.02], transform=ax.get_xaxis_transform(), clip_on=False, marker="x", markeredgewidth=2)
    ax.fill_between(x, 0.5 * x, np.where(x == 9, np.nan, 2 * x), color="#c2649a", alpha=0.2, linewidth=0)
    ax.scatter([2, 5], [3, 4], [9, 90], c=[0.0, 1.0], cmap="viridis", marker="D")
    ax.scatter([], [], 30, color="#8c564b", marker="h", linewidths=0, label="no points")
    ax.text(4, 15, "words", rotation=30, va="top", color="#d1495b")
    log_axes(ax, "xy")
    ax.set(xlabel="x", ylabel="y")
    ax.set_xticks([2, 10], ["two", "ten"], rotation=60, ha="right")
    ax.set_yticks([3, 4], minor=True)


@pytest.mark.parametrize("paint", [everything_at_once, lambda ax: ax.plot([0, 1e-9], [1e6 + 1e-3, 1e6], label="tiny")])
def test_what_no_figure_of_the_page_has_is_redrawn_too(paint) -> None:
    """Also axes in units of their own, as 1e-9 or + 1e6."""
    table = rows(draw("all", paint).table)
    with styled():
        figure, _ = painted(paint, style.SIZE)
    assert differing(raster(figure), redrawn(table)) == 0


@pytest.mark.parametrize(
    ("paint", "says"),
    [
        (lambda ax: ax.pcolormesh(np.eye(3)), "has a QuadMesh"),
        (lambda ax: ax.scatter([0], [0], marker="x"), "points of an unknown shape"),
        (lambda ax: ax.fill_betweenx([0, 1], [0, 1], [2, 2]), "other x below than above"),
    ],
)
def test_what_cannot_be_told_is_an_error(paint, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draw("odd", paint)


def test_numbers_are_numbers_for_every_reader() -> None:
    """Not text with an apostrophe before its minus, which keeps a spreadsheet from running it."""
    table = rows(draw("x", lambda ax: ax.plot([-2.0, -1.0], [-3e-7, np.nan], "--", label="-1+1")).table)
    line = [row for row in table if row["kind"] == "line"]
    assert [(row["x"], row["y"]) for row in line] == [("-2.0", "-3e-07"), ("-1.0", "")]
    assert (line[0]["linestyle"], line[0]["label"]) == ("dashed", "'-1+1")
    with styled():
        (text,) = redraw.redraw(table).legends[0].get_texts()
    assert text.get_text() == "-1+1"


def test_the_script_runs_by_itself(tmp_path: Path) -> None:
    """In isolation from this package: it imports numpy and matplotlib, and few lines are easy to edit."""
    source = Path(redraw.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) < 100
    imported = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
    assert {name.split(".")[0] for name in imported} == {"csv", "sys", "typing", "numpy", "matplotlib"}
    (tmp_path / "redraw.py").write_text(source)
    table = draw("all", everything_at_once).table
    (tmp_path / "all.drawn.csv").write_bytes(csv_text(table).encode())
    run = [sys.executable, "redraw.py", "all.drawn.csv"]
    subprocess.run([*run, "all.png"], cwd=tmp_path, check=True)
    with styled():
        painted(everything_at_once, style.SIZE)[0].savefig(tmp_path / "original.png", dpi=200)
    pictures = [matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("all", "original")]
    assert differing(*pictures) == 0
    missing = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert (missing.returncode, "usage: python redraw.py" in missing.stderr) == (1, True)


def test_files_are_the_same_in_every_process() -> None:
    """Whatever the seed of Python's hashes, which order sets, and whatever the time."""
    code = (
        "import hashlib, time; from cryosip.reports.style import draw\n"
        "made = draw('x', lambda ax: (ax.plot([1, 2], [3, 4], label='é'), ax.scatter([1, 2], [3, 4])))\n"
        "print([hashlib.sha256(str(part).encode()).hexdigest() for part in made])"
    )
    run = [sys.executable, "-c", code]
    told = [
        subprocess.run(run, env=os.environ | more, check=True, capture_output=True, text=True).stdout
        for more in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "86400"})
    ]
    assert told[0] == told[1] != ""


@pytest.mark.pdf
def test_on_paper_ink_is_dark_and_the_ground_white() -> None:
    drawing = draw("x", lambda ax: ax.plot([0, 1], [0, 1], color=style.INK))
    assert drawing.pdf.startswith(b"%PDF")
    assert b"CreationDate" not in drawing.pdf
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", drawing.pdf, re.DOTALL)
    page = zlib.decompress(streams[0]).decode()
    ink = " ".join(f"{int(style.INK[i : i + 2], 16) / 255:.10f}".rstrip("0") for i in (1, 3, 5))
    assert f"{ink} RG" in page
    assert page.index("1 g\n") < page.index(f"{ink} RG")
    assert style.INK not in drawing.svg
    assert "currentColor" in drawing.svg
