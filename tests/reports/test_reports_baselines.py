"""Speed against baselines: the ratios, what is wanted of them, what is missing, and files that cannot be read."""

import csv
import json
import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cryosip.records.select import read_records
from cryosip.reports import publish
from cryosip.reports.card import find
from cryosip.reports.page import build
from cryosip.reports.sections.baselines import read_baselines

ROWS: list[dict[str, Any]] = [
    {"implementation": "sorted", "ours": True, "note": "", "error": 0.0, "seconds": 1e-3, "rounds": 7,
     "times": {"binned": 8.0}, "wanted": {}},
    {"implementation": "binned", "ours": True, "note": "", "error": 2e-3, "seconds": 1.25e-4, "rounds": 7,
     "times": {"sorted": 0.125}, "wanted": {}},
    {"implementation": "<b>naive</b>", "ours": False, "note": "tiles of <1>", "error": 1e-6, "seconds": 0.06,
     "rounds": 7, "times": {"sorted": 60.0, "binned": 480.0}, "wanted": {"sorted": 80.0, "binned": 400.0}},
    {"implementation": "torch", "ours": False, "note": "not installed: No module named 'torch'"},
    {"implementation": "jax", "ours": False, "note": "", "error": None, "seconds": 1.0, "rounds": 7,
     "times": {"sorted": 1e3, "binned": 8e3}, "wanted": {"sorted": 100.0}},
]  # fmt: skip


def content(**changes: Any) -> dict[str, Any]:
    comparison = {"name": "line", "title": "On the <line>", "ours": ["sorted", "binned"], "rows": ROWS}
    base = {"schema": 2, "created": "2026-11-21T12:00:00+00:00", "environment": {"device": "cpu & co", "torch": None},
            "comparisons": [comparison]}  # fmt: skip
    return base | changes


@pytest.fixture
def put(write, results: Path):
    """A results folder with one run and a measurement of baselines."""
    write()

    def write_baselines(text: str, name: str = "baselines.json") -> Path:
        path = results / "speed" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return results

    return write_baselines


def section(out: Path) -> str:
    text = (out / "index.html").read_text(encoding="utf-8")
    assert '<a href="#baselines">Speed</a>' in text
    found = re.search(r'<section id="baselines">.*?</section>', text, flags=re.DOTALL)
    assert found
    return found.group()


def cells(html: str, name: str) -> list[str]:
    """The text of a row."""
    row = next(r for r in re.findall(r"<tr>.*?</tr>", html, flags=re.DOTALL) if f'<th scope="row">{name}' in r)
    plain = [re.sub(r"<[^>]*>", " ", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL)]
    return [" ".join(unescape(cell).split()) for cell in plain]


def test_the_section_shows_ratios_and_whether_they_are_what_is_wanted(put, tmp_path: Path) -> None:
    html = section(build(put(json.dumps(content())), tmp_path / "out").parent)
    assert cells(html, "sorted") == ["sorted cryosip", "1", "—", "8", "0", ""]
    assert cells(html, "&lt;b&gt;naive") == [
        "<b>naive</b>", "60", "60 fails wanted 80", "480 holds wanted 400", "1.0e-06", "tiles of <1>"
    ]  # fmt: skip
    assert cells(html, "torch") == ["torch", "—", "—", "—", "—", "not installed: No module named 'torch'"]
    assert cells(html, "jax")[2:5] == ["1,000 holds wanted 100", "8,000", "—"]
    assert "On the &lt;line&gt;" in html
    assert "cpu &amp; co" in html
    assert "2026-11-21T12:00:00" in html
    assert "<b>naive" not in html


def test_the_numbers_are_a_file_too(put, tmp_path: Path) -> None:
    out = build(put(json.dumps(content())), tmp_path / "out").parent
    with open(out / "baselines.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * len(ROWS)
    naive = next(row for row in rows if row["implementation"] == "<b>naive</b>" and row["against"] == "sorted")
    assert [float(naive[name]) for name in ("milliseconds", "times", "wanted", "error")] == [60, 60, 80, 1e-6]
    assert (naive["comparison"], naive["note"]) == ("On the <line>", "tiles of <1>")


def test_a_page_without_a_measurement_has_no_section(write, results: Path, tmp_path: Path) -> None:
    write()
    out = build(results, tmp_path / "out").parent
    assert 'id="baselines"' not in (out / "index.html").read_text(encoding="utf-8")
    assert not (out / "baselines.csv").exists()


def test_a_published_report_keeps_the_measurement(put, tmp_path: Path) -> None:
    """publish() compares the page of what it keeps with the page of all."""
    publish.publish(put(json.dumps(content())), tmp_path / "published", "cryosip report")
    publish.unpack(tmp_path / "published", tmp_path / "unpacked")
    assert json.loads((tmp_path / "unpacked/results/speed/baselines.json").read_text(encoding="utf-8")) == content()
    assert "sorted" in section(tmp_path / "unpacked/report")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "JSONDecodeError"),
        ("[1]", "TypeError"),
        ("{}", "KeyError: 'schema'"),
        (json.dumps(content(schema=3)), "schema 3: this version of cryosip reads schema 2"),
        (json.dumps(content(schema=1)), "KeyError: 'form'"),
        (json.dumps(content(comparisons=[{"title": "a"}])), "KeyError: 'ours'"),
        (json.dumps(content(comparisons=[{"title": "a", "ours": ["x"], "rows": [{"implementation": 1}]}])), "KeyError"),
        (json.dumps(content(environment=[1])), "AttributeError"),
        ('{"schema": 2' + "\x00", "JSONDecodeError"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(put, tmp_path: Path, text: str, why: str) -> None:
    out = build(put(text), tmp_path / "out").parent
    page = unescape((out / "index.html").read_text(encoding="utf-8"))
    assert "speed/baselines.json" in page
    assert why in page
    assert 'id="baselines"' not in page


def test_timings_are_no_runs(put) -> None:
    """The folder is not looked through for records, nor for what `show` offers."""
    results = put(json.dumps(content()))
    records, skipped = read_records(results)
    assert (len(records), skipped) == (1, [])
    assert find(results, "") == records[0].path


def test_what_was_not_measured_has_no_outcome(put) -> None:
    baselines, skipped = read_baselines(put(json.dumps(content())))
    assert skipped == []
    assert baselines is not None
    (line,) = baselines.comparisons
    outcomes = {row.implementation: [times.outcome for times in row.times] for row in line.rows}
    assert outcomes == {"sorted": ["", ""], "binned": ["", ""], "<b>naive</b>": ["fails", "holds"], "torch": ["", ""],
                        "jax": ["holds", ""]}  # fmt: skip
    assert math.isnan(line.rows[4].error)


def old(data: dict[str, Any]) -> str:
    """As schema 1 had it."""
    text = json.dumps({**data, "schema": 1})
    return text.replace('"implementation"', '"form"')


def test_a_file_of_schema_1_is_read_under_its_old_name(put, tmp_path: Path) -> None:
    results = put(old(content()), "peers.json")
    before = read_baselines(results)
    publish.publish(results, tmp_path / "published", "cryosip report")
    publish.unpack(tmp_path / "published", tmp_path / "unpacked")
    after = read_baselines(tmp_path / "unpacked/results"), read_baselines(put(json.dumps(content())))
    assert {repr(read) for read in after} == {repr(before)}  # of which some numbers are nan
    assert before[0] is not None


def test_the_current_file_goes_before_the_old_one(put) -> None:
    put(old(content(created="long ago")), "peers.json")
    baselines, _ = read_baselines(put(json.dumps(content(created="today"))))
    assert baselines is not None
    assert baselines.created == "today"
