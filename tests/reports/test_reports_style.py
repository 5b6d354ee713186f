"""Figures: every section draws its own, all come out the same every time, and a table is enough to draw one again."""

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import test_reports_consistency
import test_reports_images
import test_reports_movies
import test_reports_protein
import test_reports_scaling
import test_reports_schemes
from compared_runs import scattered
from matplotlib.backends.backend_svg import FigureCanvasSVG

from cryosip.bench.studies.registry import STUDIES
from cryosip.records.select import largest, read_records
from cryosip.reports import drawing, page, redraw, style
from cryosip.reports.csv_text import csv_text
from cryosip.reports.section import Everything
from cryosip.reports.sections.registry import KNOWN_STUDIES, SECTIONS
from cryosip.reports.style import STYLES, draw, newcomer, switches


def write_the_rest(write) -> None:
    """The studies that `everything` does not have."""
    for i in range(3):
        for study, method, setting in (
            ("paper-nanocluster", "flow", "published"), ("paper-nanocluster", "mixture", "K=10"),
            ("paper-nanocluster", "maximum-likelihood", "per image"),
        ):  # fmt: skip
            options = {"options": {"n_components": 10}} if method == "mixture" else {}
            test_reports_images.put(write, study, method, setting, i, **options)
        for tau in (0.15, 0.5):
            test_reports_images.put(write, "tau", "flow", f"tau={tau}", i, tau)
        for study in ("paper-hsp90", "paper-adk"):
            test_reports_protein.put(write, study, "flow", "published", i, "energy")
        for study in ("paper-hsp90", "hsp90-methods", "hsp90-long"):
            test_reports_protein.put(write, study, "flow", "as conjectured", i, "energy", amplitude="inverse")
        for cutoff in (10.0, 15.0):
            fields = {"cutoff_in_angstroms": cutoff, "snr": 1.0}
            test_reports_protein.put(write, "hsp90-open", "flow", f"{cutoff}", i, "invariant-energy", **fields)
        test_reports_schemes.write_flow(write, "method-3", i, [1.0, 0.09, 0.03 + 0.01 * i], draws=4)
        test_reports_scaling.write_law(write, i, -0.5)
    test_reports_consistency.put_all(write)
    test_reports_movies.put(write, test_reports_movies.way(1))


OWN_TESTS = {
    "bound",
    "certificates",
    "contamination",
    "ensemble",
    "fredholm",
    "hsp90-readings",
    "stability",
    "volumes",
    "tuning",
}  # sections whose tests write records of their own


def test_every_section_has_its_figures_and_their_commands(write, compared, results, everything, monkeypatch) -> None:
    """A study is in the registry, and with its records the section is shown."""
    monkeypatch.setattr(FigureCanvasSVG, "print_svg", lambda _, file: file.write("<svg></svg>"))
    write_the_rest(write)
    compared("flow", scattered([9, 6, 5, 4]))
    records = [*read_records(everything)[0], *read_records(results)[0]]
    parts = {part.section.name: part for part in page.made(Everything(records, largest(records), []))}
    assert {name for name, part in parts.items() if not part.shown} == {
        "others",
        "baselines",
        "out-of-core",
        *OWN_TESTS,
    }
    for name, part in parts.items():
        assert all(part.figures.values()) or name in OWN_TESTS, name
        for figure, command in page.figure_commands(part).items():
            assert command.split()[:2] == ["cryosip", "run"], figure
            assert command.split()[2] in part.section.studies
    assert page.figure_commands(parts["nanocluster"])["tau-images"].startswith("cryosip run tau ")
    known = KNOWN_STUDIES - {"external"}  # no study, but what other programs found
    assert {record.study for record in records} | OWN_TESTS == known <= set(STUDIES)
    names = [plot.name for part in parts.values() for plots in part.figures.values() for plot in plots]
    assert len(names) == len(set(names)) > 50
    assert {"fig1-movie-0", "paper-hsp90-movie-1"} <= set(names)


def test_names_of_sections_differ_and_their_templates_are_there() -> None:
    assert len({section.name for section in SECTIONS}) == len(SECTIONS)
    folder = Path(page.__file__).parent / "sections"
    assert all((folder / section.template).is_file() for section in SECTIONS)


def test_a_table_is_enough_to_draw_a_figure_again(tmp_path: Path) -> None:
    """By a script of its own, from any two columns; colours and axes are the reader's to choose."""
    rows = [
        [name, i, x, x**-power] for name, power in (("one", 1), ("-two", 2)) for i in (0, 1) for x in (1.0, 10.0, 1e3)
    ]
    (tmp_path / "table.csv").write_text(csv_text([["method", "replicate", "x", "y"], *rows]), encoding="utf-8")
    (tmp_path / "redraw.py").write_text(Path(redraw.__file__).read_text(encoding="utf-8"))
    run = [sys.executable, "-I", "redraw.py", "table.csv", "x", "y"]
    subprocess.run([*run, "out.svg"], cwd=tmp_path, check=True)
    svg = (tmp_path / "out.svg").read_text(encoding="utf-8")
    assert [f"<!-- {label} -->" in svg for label in ("one, 0", "one, 1", "'-two, 0", "'-two, 1")] == [True] * 4
    assert "10^{3}" in svg  # logarithmic
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
    page_text = zlib.decompress(streams[0]).decode()
    ink = " ".join(f"{int(style.INK[i : i + 2], 16) / 255:.10f}".rstrip("0") for i in (1, 3, 5))
    assert f"{ink} RG" in page_text
    assert page_text.index("1 g\n") < page_text.index(f"{ink} RG")
    assert style.INK not in drawing.svg
    assert "currentColor" in drawing.svg


def test_a_colour_is_that_of_one_method(write, results: Path) -> None:
    """The page switches a method by its colour; any flow and that of the energy distance share theirs."""
    colours = [series.colour for name, series in STYLES.items() if name != "energy"]
    newcomers = [newcomer(f"method {i}").colour for i in range(20)]
    assert len({*colours, *newcomers, style.INK, drawing.GREY, drawing.START}) == len(colours) + 23
    for method, options in (("mine", {"discrepancy": {"name": "energy"}}), ("yours", {}), ("flow", {})):
        write(method=method, discrepancy=None, options=options)
    shown = dict(switches(read_records(results)[0]))
    assert shown[STYLES["energy"].colour] == "flow, energy flow"
    assert (shown[newcomer("mine").colour], shown[newcomer("yours").colour]) == ("mine energy", "yours")
    assert not {STYLES["case-1"].colour, STYLES["objective-energy"].colour} & set(shown)
