"""Movies: what moves is what the records hold, within a bound of bytes, and stands still where that is asked for."""

import base64
import io
import re
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import test_reports_protein
from matplotlib.image import imread

from cryosip.records.schema import Record
from cryosip.records.select import read_records
from cryosip.reports.drawing import STANDS
from cryosip.reports.movies import film, modes, particles
from cryosip.reports.page import build
from cryosip.reports.style import Plot
from cryosip.reports.svg_animation import back_and_forth, flicker

MOST = 150_000  # bytes of a movie
SVG = "{http://www.w3.org/2000/svg}"
STEPS = [0, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000, 20_000, 25_000]


def way(d: int, frames: int = 12, k: int = 300) -> np.ndarray:
    """Particles that go from a narrow law at 0 to a wide one at 4."""
    rng = np.random.default_rng(1)
    start, end = 0.3 * rng.normal(size=(k, d)), 4 + rng.normal(size=(k, d))
    return np.stack([start + (end - start) * at for at in np.linspace(0, 1, frames)])


def put(write, theta: np.ndarray, discrepancy: str = "energy", **changes: Any) -> Record:
    d = theta.shape[2]
    rng = np.random.default_rng(2)
    arrays = {
        "theta": theta[-1], "theta_init": theta[0], "theta_true": 4 + rng.normal(size=(2_000, d)),
        "weights": np.full(theta.shape[1], 1 / theta.shape[1]),
        "frames": theta.reshape(-1, d), "frame_steps": np.array(STEPS[: len(theta)])[:, None],
    }  # fmt: skip
    path = write(arrays | changes.pop("arrays", {}), discrepancy=discrepancy, **changes)
    return next(r for r in read_records(path.parent.parent)[0] if r.path.name == path.name)


def animated(movie: str) -> tuple[list[ElementTree.Element], list[ElementTree.Element]]:
    """The paths and the texts that change."""
    root = ElementTree.fromstring(movie)
    found = ([e for e in root.iter(f"{SVG}{tag}") if e.find(f"{SVG}animate") is not None] for tag in ("path", "text"))
    return tuple(found)


def change(element: ElementTree.Element) -> dict[str, str]:
    (animate,) = element.iter(f"{SVG}animate")
    return animate.attrib


def points(outline: str) -> np.ndarray:
    return np.array([[float(x), float(y)] for x, y in re.findall(r"[ML](\S+?) ([-\d.]+)", outline)])


def positions(path: ElementTree.Element) -> np.ndarray:
    """(times, points, 2)."""
    return np.stack([points(outline) for outline in change(path)["values"].split(";")])


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


def test_particles_on_the_line_are_where_the_records_have_them(write) -> None:
    theta = way(1)
    (plot,) = particles([put(write, theta)], "fig1-")
    (outline, rug), _ = animated(plot.movie)
    moved = positions(rug)
    assert moved.shape == (14, 300, 2)  # the first and the last frame rest
    np.testing.assert_array_equal(moved[0], moved[1])
    np.testing.assert_array_equal(moved[-2], moved[-1])
    assert correlation(moved[1:-1, :, 0], theta) > 0.999999  # the axis is linear
    assert (moved[:, :, 1] == moved[0, :, 1]).all()  # each keeps its height
    np.testing.assert_array_equal(points(rug.attrib["d"]), moved[-1])  # where nothing moves
    heights = positions(outline)[1:-1]
    centre = [np.average(h[:, 0], weights=h[:, 1].max() - h[:, 1]) for h in heights]
    assert correlation(np.array(centre), theta.mean((1, 2))) > 0.999


def test_one_label_at_a_time_says_the_step(write) -> None:
    (plot,) = particles([put(write, way(1))], "x-")
    (path, *_), labels = animated(plot.movie)
    assert [label.text for label in labels] == [f"step {step:,}" for step in STEPS]
    times = [float(time) for time in change(path)["keyTimes"].split(";")]
    assert times == sorted(times)
    assert (times[0], times[-1], len(times)) == (0.0, 1.0, 14)
    assert len({change(each)["dur"] for each in (path, *labels)}) == 1
    for at, time in enumerate(times[1:-1]):
        shown = [label.text for label in labels if opacity(label, time + 1e-6)]
        assert shown == [f"step {STEPS[at]:,}"]
    assert [label.attrib["opacity"] for label in labels] == ["0"] * 11 + ["1"]


def opacity(label: ElementTree.Element, time: float) -> bool:
    times, values = (change(label)[name].split(";") for name in ("keyTimes", "values"))
    return [value for at, value in zip(times, values, strict=True) if float(at) <= time][-1] == "1"


def test_a_protein_swings_between_the_ends_of_its_mode(write, results: Path) -> None:
    test_reports_protein.put(write, "paper-hsp90", "flow", "published", 0, "energy")
    (record,), _ = read_records(results)
    plots = modes([record], "p-")
    beads, moves = record.arrays["beads"], record.arrays["motions"].reshape(2, 20, 3)
    assert len(plots) == 2
    for plot, move in zip(plots, moves, strict=True):
        (*runs, mark), _ = animated(plot.movie)
        assert len(runs) == 2 * 8
        drawn = [positions(run) for run in runs[:8]]  # the first view
        for before, after in pairwise(drawn):
            np.testing.assert_array_equal(before[:, -1], after[:, 0])  # a trace without gaps
        trace = np.concatenate([drawn[0][:, :1], *(run[:, 1:] for run in drawn)], axis=1)
        assert trace.shape == (3, 20, 2)
        for at, z in enumerate((STANDS[0], STANDS[-1], STANDS[0])):
            shape = (beads + z * move)[:, [0, 2]]
            assert correlation(trace[at, :, 0], shape[:, 0]) > 0.99999
            assert correlation(trace[at, :, 1], shape[:, 1]) < -0.99999
        assert np.ptp(positions(mark)[:, 0, 0]) > 20
        assert "currentColor" in mark.attrib["stroke"]
        assert change(runs[0])["calcMode"] == "spline"


def everything(write, results: Path) -> dict[str, Plot]:
    plots = particles([put(write, way(1)), put(write, way(1), "kl"), put(write, way(2), "mmd")], "fig1-")
    test_reports_protein.put(write, "paper-hsp90", "flow", "published", 0, "energy")
    proteins = [r for r in read_records(results)[0] if r.study == "paper-hsp90"]
    return {plot.name: plot for plot in plots + modes(proteins, "p-")}


def test_movies_are_small_and_run_no_script(write, results: Path) -> None:
    """With as many frames and particles as a record may hold."""
    plots = everything(write, results)
    assert set(plots) == {"fig1-movie-0", "fig1-movie-1", "p-movie-1", "p-movie-2"}
    for plot in plots.values():
        assert 5_000 < len(plot.movie.encode()) < MOST
        assert not re.search(r"<script|onload|href=\"http", plot.movie)
        (first, *_), _ = animated(plot.movie)
        assert change(first)["repeatCount"] == "indefinite"


def test_the_page_shows_frames_side_by_side_on_paper_and_where_motion_is_unwanted(write, results: Path) -> None:
    put(write, way(1))
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    figure = page[page.index('<figure id="fig1-movie-0">') :]
    figure = figure[: figure.index("</figure>")]
    moving, still = (figure.index(f'<div class="{name}"><svg') for name in ("moving", "still"))
    assert figure.index('<input type="checkbox"') < moving < still
    assert figure.count("<animate ") == 2 + len(STEPS)
    assert "<animate " not in figure[still:]
    rule = page[page.index("@media print, (prefers-reduced-motion: reduce)") :][:200]
    assert ".movie .still { display: block; }" in rule
    assert re.search(r"\.movie \.moving, [^}]*\{ display: none; \}", rule)
    svg = (results.parent / "out/figures/fig1-movie-0.svg").read_text(encoding="utf-8")
    assert "<animate" not in svg
    assert [f"step {STEPS[at]:,}" in svg for at in (0, 3, 6, 8, 11)] == [True] * 5
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "arrays",
    [
        {"frames": np.zeros((7, 1)), "frame_steps": np.zeros((2, 1))},
        {"frames": np.zeros((0, 1)), "frame_steps": np.zeros((2, 1))},
        {"frames": np.zeros((3, 1)), "frame_steps": np.zeros((1, 1))},
        {"frames": np.full((24, 1), np.nan), "frame_steps": np.zeros((2, 1))},
        {"frames": np.zeros((12, 2))},
    ],
)
def test_what_is_no_film_is_no_movie(write, arrays) -> None:
    record = put(write, way(1), arrays=arrays)
    assert (film(record) is None) == (len(arrays) == 2)
    assert particles([record], "") == []


def test_a_flow_and_a_truth_of_one_point_are_drawn(write) -> None:
    theta = np.zeros((2, 5, 1))
    record = put(write, theta, arrays={"theta_true": np.zeros((9, 1))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of limits that are one
        (plot,) = particles([record], "x-")
    (path, *_), _ = animated(plot.movie)
    assert np.isfinite(positions(path)).all()


def test_the_numbers_of_a_movie_are_all_its_particles(write) -> None:
    theta = way(1, frames=3, k=4)
    (plot,) = particles([put(write, theta)], "x-")
    assert plot.columns == ["step", "particle", "theta"]
    assert len(plot.rows) == 12
    assert plot.rows[5] == pytest.approx([100, 1, *theta[1, 1]])
    assert plot.caption.startswith("4 of 4 particles, the same ones in all 3 frames")


def test_one_picture_is_shown_at_a_time_there_and_back() -> None:
    pictures = np.stack([np.full((2, 3), grey) for grey in (0.0, 0.5, 1.0)])
    pictures[:, 0, 1] = np.nan
    svg = flicker(
        "it", lambda ax: ax.set(xlim=(-0.5, 2.5), ylim=(-0.5, 1.5)), (3, 2), pictures, back_and_forth(3), "abc"
    )
    images = list(ElementTree.fromstring(svg).iter(f"{SVG}image"))
    shown = np.array([change(image)["values"].split(";") for image in images], int)
    np.testing.assert_array_equal(shown, [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0]])
    assert [change(text)["values"] for text in animated(svg)[1]] == [change(image)["values"] for image in images]
    pixels = imread(io.BytesIO(base64.b64decode(images[1].attrib["href"].partition(",")[2])))
    # the first row is at the bottom
    np.testing.assert_allclose(pixels[..., 3], [[1, 1, 1], [1, 0, 1]])
    np.testing.assert_allclose(pixels[0, :, 0], 0.5, atol=0.01)
