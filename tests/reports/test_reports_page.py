import csv
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cryosip.reports import redraw
from cryosip.reports.page import build

FIGURES = {
    "fig1a", "fig1b", "fig2a", "fig2b", "fig2a-w1", "fig2b-w1", "curve-w2-step", "curve-w2-seconds", "curve-w1-step",
    "curve-w1-seconds", "dto-w2", "dto-w1", "variance-k", "variance-ratio",
}  # fmt: skip


class Page(HTMLParser):
    """Collects tags, ids and every address that a browser would fetch or follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def out(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("report") / "report"
    assert build(everything, target, command="cryosip reproduce") == target / "index.html"
    return target


def test_page_is_one_self_contained_file(out: Path) -> None:
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags & {"link", "img", "iframe", "object"}
    assert (text.count("<script>"), text.count("<script")) == (1, 1)
    assert not [link for link in page.links if re.match(r"(https?:)?//", link)]
    assert "@import" not in text
    assert "url(http" not in text
    assert len(page.ids) == len(set(page.ids)) > 100
    anchors = {link[1:] for link in page.links if link.startswith("#")} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert anchors
    assert anchors <= set(page.ids)
    for link in page.links:
        assert link.startswith("#") or (out / link).is_file()


def test_every_figure_comes_as_svg_pdf_and_numbers(out: Path) -> None:
    for ending in (".svg", ".pdf", ".csv"):
        found = {path.stem for path in (out / "figures").glob(f"*{ending}")}
        assert found == FIGURES, ending
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f'<figure id="{name}">' in page for name in FIGURES)
    for name in FIGURES:
        assert f'<a href="figures/{name}.pdf">PDF</a>' in page
        assert f'<a href="figures/{name}.csv">' in page
    assert (out / "figures" / "redraw.py").read_text(encoding="utf-8") == Path(redraw.__file__).read_text("utf-8")


def test_csv_files_hold_the_numbers(out: Path) -> None:
    dto = [row for row in table(out / "figures" / "dto-w2.csv") if row["K"] == ""]
    energy = next(row for row in dto if row["method"] == "energy flow, published")
    assert [float(energy[name]) for name in ("median", "q05", "q95")] == pytest.approx([0.22, 0.202, 0.238])
    (paper,) = [
        row for row in table(out / "paper_vs_reproduced.csv") if row["paper"] == "0.1911" and "W2" in row["quantity"]
    ]
    assert (float(paper["median"]), float(paper["floor_median"]), paper["replicates"]) == (0.22, 0.076, "3")
    assert paper["verdict"] == "reproduced"
    assert paper["convention"]
    ratios = [float(row["measured / formula"]) for row in table(out / "figures" / "variance-ratio.csv")]
    assert len(ratios) == 27
    assert ratios == pytest.approx([1.0] * 27, abs=0.06)


def test_histograms_are_weighted_and_of_mass_one(write, results: Path) -> None:
    points = np.array([[0.0]] * 50 + [[1.0]] * 50)
    weights = np.repeat([0.9 / 50, 0.1 / 50], 50)
    write(arrays={"theta": points, "weights": weights, "theta_true": points})
    rows = table(build(results, results.parent / "out").parent / "figures" / "fig1a.csv")
    width = float(rows[1]["centre"]) - float(rows[0]["centre"])
    mass = {name: [float(row[name]) * width for row in rows] for name in ("energy flow", "truth")}
    assert (mass["energy flow"][0], mass["energy flow"][-1]) == pytest.approx((0.9, 0.1))
    assert (mass["truth"][0], mass["truth"][-1]) == pytest.approx((0.5, 0.5))


def test_not_reached_is_drawn_and_listed(out: Path) -> None:
    rows = table(out / "figures" / "fig2a.csv")
    assert len(rows) == 2 * 5 * 3
    assert {row["step"] for row in rows if row["sigma"] == "2.5"} == {"inf"}
    svg = (out / "figures" / "fig2a.svg").read_text(encoding="utf-8")
    assert "not reached in 25,000 steps" in svg
    assert "not reached" in (out / "figures" / "fig2b.svg").read_text(encoding="utf-8")
    missed = sum(row["step"] == "inf" for row in rows)
    assert missed > 6
    hollow = re.findall(r'<use [^>]*y="([\d.]+)" style="fill-opacity: 0; stroke', svg)
    assert len(hollow) == missed
    assert len(set(hollow)) == 1


def test_nothing_reached_still_makes_a_page(write, results: Path) -> None:
    write(study="noise", curve={"step": [0, 100], "seconds": [0, 1], "w2": [1.0, 0.9], "w1": [1.0, 0.9]})
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    assert "not reached" in page
    assert "No finished flow at the published setting" in page


def test_text_of_records_is_escaped(write, results: Path) -> None:
    evil = '<script>alert("x")</script>$\\frac{$'
    fields = {"setting": evil, "message": evil, "problem": evil, "dataset_hash": evil, "created": evil}
    write(study="odd", method=evil, metrics={evil: 1.0}, **fields)
    write(
        method="reweighting",
        environment={evil: evil},
        algorithm={"name": evil},
        curve={"step": [1], "seconds": [1], "w2": [1]},
    )
    write(method="mixture", options={"n_components": 3}, **{**fields, "problem": "oned"})
    write(study="noise", status="diverged", discrepancy=evil, **fields)
    (results / "odd" / "<script>.json").write_text("{")
    page = build(results, results.parent / "out", command=evil).read_text(encoding="utf-8")
    assert page.count("<script") == 1  # that of the page
    assert page.count("&lt;script&gt;") > 10


def test_unknown_studies_get_a_table(write, results: Path) -> None:
    write(study="brand-new", metrics={"score": 1.25})
    write(study="brand-new", metrics={"score": 2.5}, problem="another")
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    assert page.index("Study brand-new: another") < page.index("<td>2.5</td>") < page.index("Study brand-new: oned")
    assert "<td>1.25</td>" in page


def test_different_data_and_smaller_profiles_are_said(write, results: Path) -> None:
    write(dataset_hash="aa")
    write(dataset_hash="bb", discrepancy="kl")
    write(profile="small", n=2_000)
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    assert "Not the same data throughout" in page
    assert "1 runs of paper-1d in the smaller profile small" in page


def test_mixtures_are_set_against_the_floor_of_the_data(write, results: Path) -> None:
    floor = {"w2": {"median": 0.7, "q05": 0.6, "q95": 0.8, "n": 2}}
    write(method="mixture", setting="K=2", options={"n_components": 2}, metrics={"w2": 0.57}, floors=floor)
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    assert '<td class="head">7.5</td><td>0.57</td>' in page  # 0.57 / 0.076, not 0.57 / 0.7


@pytest.mark.pdf
def test_building_twice_gives_the_same_bytes(everything: Path, out: Path, tmp_path: Path) -> None:
    build(everything, tmp_path / "again", command="cryosip reproduce")
    names = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    assert len(names) == 3 + 3 * len(FIGURES)
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_no_record_is_an_error_that_leaves_the_old_report(write, results: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    write()
    before = build(results, target).read_bytes()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"no readable record in .*empty"):
        build(empty, target)
    assert (target / "index.html").read_bytes() == before


def test_a_full_disk_leaves_the_old_report_and_no_litter(
    write, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    write()
    before = build(results, target).read_bytes()
    write(replicate=1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write the report to .*out: No space left"):
        build(results, target)
    assert (target / "index.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "results"}


def test_output_that_cannot_be_written_is_named(write, results: Path, tmp_path: Path) -> None:
    write()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write the report to .*file"):
        build(results, tmp_path / "file")


def test_a_metric_that_the_report_does_not_know_has_columns(write, results, tmp_path):
    floor = {"median": 0.5, "q05": 0.4, "q95": 0.6, "n": 9}
    write(metrics={"w1": 0.1, "w2": 0.2, "mean_error": 1.5}, data_floors={"mean_error": floor})
    text = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert "<th>mean_error ÷ floor</th><th>mean_error</th>" in text
