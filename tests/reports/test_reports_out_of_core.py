"""Data larger than memory: rows, exponents, the figure, and files that cannot be read."""

import csv
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cryosip.reports import publish
from cryosip.reports.page import build
from cryosip.reports.sections.out_of_core import exponent, last_exponent, read_out_of_core


def row(images: int, seconds: float, **changes: Any) -> dict[str, Any]:
    base = {
        "name": "mixture", "space": "pixels", "images": images, "per": "step", "check_seconds": 0.5,
        "build_seconds": 9.0, "compile_seconds": 1.0, "step_seconds": seconds, "steps": 3, "finite": True,
        "cpu_seconds": seconds / 2,
        "images_per_second": images / seconds, "load": 1.5, "start_mb": 200.0, "peak_mb": 1_000.0, "limit": "disk",
        "limit_seconds": seconds / 4,
    }  # fmt: skip
    return base | changes


def content(**changes: Any) -> dict[str, Any]:
    rows = [row(10_000, 1.0), row(100_000, 2.0), row(1_000_000, 20.0), row(10_000, 3.0, name="<b>", per="build")]
    base = {
        "schema": 1, "created": "2026-11-30T12:00:00+00:00", "environment": {"device": "cpu & co"}, "image_size": 64,
        "simulation": {"images": 1_000_000, "seconds": 100.0}, "rows": rows,
        "rates": {"disk_bytes_per_second": 2e9, "cache_bytes_per_second": 7e9, "flops_per_second": 9e10},
    }  # fmt: skip
    return base | changes


@pytest.fixture
def put(write, results: Path):
    """A results folder with one run and a measurement."""
    write()

    def write_file(text: str) -> Path:
        (results / "speed").mkdir(exist_ok=True)
        (results / "speed/out_of_core.json").write_text(text, encoding="utf-8")
        return results

    return write_file


def section(out: Path) -> str:
    text = (out / "index.html").read_text(encoding="utf-8")
    assert '<a href="#out-of-core">Data larger than memory</a>' in text
    found = re.search(r'<section id="out-of-core">.*?</section>', text, flags=re.DOTALL)
    assert found
    return found.group()


def test_the_section_says_what_was_measured(put, tmp_path: Path) -> None:
    environment = content()["environment"] | {"host": "node7.example", "machine": "machine 3fa2c1"}
    out = build(put(json.dumps(content(environment=environment))), tmp_path / "out").parent
    html = section(out)
    assert "machine 3fa2c1" in html
    assert "node7" not in (out / "index.html").read_text(encoding="utf-8")
    words = " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())
    for part in ("1,000,000 of them take 16.4 GB", "memory of any, pages of files included, was 1.05 GB",
                 "The disk gave 2 GB a second, the system’s cache 7 , and products of matrices 90 billion", "cpu & co",
                 "mixture in pixels (step) 0.651 and 1", "<b> in pixels (build) — and —",
                 "mixture pixels 1,000,000 step 20 10 50,000 5 disk 4 0.5 1,000 1.5"):  # fmt: skip
        assert part.replace("7 ,", "7,") in words, (part, words)
    assert "<b>" not in re.sub(r"</?b>(?=&)", "", html) or "&lt;b&gt;" in html
    assert "figures/out-of-core.svg" in html
    assert (out / "figures/out-of-core.svg").is_file()
    with open(out / "out_of_core.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(r["seconds / limit"]) for r in rows] == [4.0, 4.0, 4.0, 12.0]
    assert [float(r["seconds"]) for r in rows] == [1.0, 2.0, 20.0, 9.0]


def test_exponents_are_slopes_in_logarithms(put) -> None:
    measured, _ = read_out_of_core(put(json.dumps(content())))
    assert measured is not None
    rows = measured.rows[:3]
    assert exponent(rows) == pytest.approx(0.6505, abs=1e-4)  # log10(20) / 2
    assert last_exponent(rows[::-1]) == pytest.approx(1.0)
    assert exponent(rows[:1]) != exponent(rows[:1])  # nan


def test_a_published_report_keeps_the_measurement(put, tmp_path: Path) -> None:
    publish.publish(put(json.dumps(content())), tmp_path / "published", "cryosip report")
    publish.unpack(tmp_path / "published", tmp_path / "unpacked")
    assert json.loads((tmp_path / "unpacked/results/speed/out_of_core.json").read_text(encoding="utf-8")) == content()


def test_a_page_without_a_measurement_has_no_section(write, results: Path, tmp_path: Path) -> None:
    write()
    out = build(results, tmp_path / "out").parent
    assert 'id="out-of-core"' not in (out / "index.html").read_text(encoding="utf-8")
    assert not (out / "out_of_core.csv").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "JSONDecodeError"),
        (json.dumps(content(schema=2)), "schema 2: this version of cryosip reads schema 1"),
        (json.dumps(content(rows=[{"name": "a"}])), "KeyError"),
        (json.dumps(content(rates=None)), "TypeError"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(put, tmp_path: Path, text: str, why: str) -> None:
    out = build(put(text), tmp_path / "out").parent
    page = unescape((out / "index.html").read_text(encoding="utf-8"))
    assert "speed/out_of_core.json" in page
    assert why in page
