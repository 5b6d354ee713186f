"""Seconds are never pooled over machines: those of the one with fewer runs change no number, and the page says so."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard
from compared_runs import scattered

from cryosip.records.machines import machine_of
from cryosip.records.schema import Record
from cryosip.records.select import read_records
from cryosip.reports import compare, compare_page, curves, packing, page
from cryosip.reports.sections import (
    board,
    budgets,
    certificates,
    ensemble,
    oned,
    otd_dto,
    paper,
    rates,
    sampling,
    scaling,
    volumes,
)
from cryosip.reports.tables import method_rows

HOST, OTHER = "left-17.example.org", "right-4.example.org"
LEFT = {"host": HOST, "machine": "machine 0a1b2c", "device": "cuda A100", "cpu": "EPYC", "threads": 4, "jobs": 1}
RIGHT = LEFT | {"host": OTHER, "machine": "machine 3d4e5f"}
SAID = re.compile(
    r"Seconds are of the \d+ runs on one machine \(machine 0a1b2c, cuda A100, EPYC, 4 threads\); those of "
    r"\d+ runs on 1 other machine are left out\."
)
STEPS = [1, 10, 100]
CURVE = {"step": STEPS, "seconds": [0.5, 2.0, 7.0], "forward_evaluations": [10 * s for s in STEPS],
         "w1": [0.5, 0.15, 0.03], "w2": [0.9, 0.3, 0.1], "likelihood_gap": [1.0, 5e-5, 3e-5]}  # fmt: skip
LATER = CURVE | {"seconds": [0.6, 3.0, 9.0]}


def on_images(problem: str, method: str, **options) -> dict:
    config = {"problem": {"name": problem, "options": options}, "method": {"name": method}, "steps": 9}
    return {"problem": problem, "method": method, "config": config}


KINDS = {
    "paper-1d": [{}],
    "noise": [{"setting": "sigma=1.5"}, {"setting": "sigma=1.5", "discrepancy": "kl", "curve": LATER}],
    "sampling": [{"options": {"sampling": "method-1", "n_draws": 1}, "setting": "method-1"}],
    "certificates": [{"setting": "line"}],
    "ensemble": [{"setting": "two; known", **on_images("ensemble", "mixture", poses="known")}],
    "scaling": [{"setting": f"N={n}", "options": {"n_particles": n}, "steps": 100, "run_seconds": 1e-2 * n**2}
                for n in (10, 100)],
    "volumes": [on_images("adk-volumes", "class3d", n_observations=100, image_size=8, snr=1.0, volume_size=8)],
}  # fmt: skip


@pytest.fixture
def of_two(write, results: Path, compared) -> Callable[[str], list[Record]]:
    """The records of a study: replicates 0 to 2 of one machine, 3 and 4 of another."""

    def made(study: str) -> list[Record]:
        for replicate, kind in itertools.product(range(5), KINDS[study]):
            where = LEFT if replicate < 3 else RIGHT
            write(study=study, replicate=replicate, environment=where, setup_seconds=0.25, **{"curve": CURVE} | kind)
        return read_records(results)[0]

    return made


def slower(records: list[Record], host: str) -> list[Record]:
    """The same but for the seconds of a host, which are a thousand times as many."""
    return [_slower(record) if record.environment["host"] == host else record for record in records]


def _slower(r: Record) -> Record:
    curve = {name: 1e3 * column if name == "seconds" else column for name, column in r.curve.items()}
    whole = {name: 1e3 * getattr(r, name) for name in ("setup_seconds", "compile_seconds", "run_seconds")}
    return msgspec.structs.replace(r, curve=curve, **whole)


def figures(plots: list) -> list:
    return [(plot.name, plot.caption, plot.rows) for plot in plots]


TOLD = {
    "table of methods": ("paper-1d", lambda records: method_rows(records, ["w2"])),
    "convergence": ("paper-1d", lambda records: figures(curves.convergence(records))),
    "Fig. 2": ("noise", lambda records: figures(oned.costs(records))),
    "statements of Fig. 2": ("noise", paper.cost_rows),
    "time to accuracy": ("sampling", sampling.time_to_accuracy),
    "schemes": ("sampling", lambda records: figures(sampling.schemes(records))),
    "certificates": ("certificates", certificates.rows),
    "ensemble": ("ensemble", ensemble.case_rows),
    "exponents": ("scaling", rates.exponents),
    "scaling": ("scaling", lambda records: figures(next(iter(scaling.scaling(records).values())))),
    "volumes": ("volumes", volumes.groups),
}


@pytest.mark.parametrize("what", TOLD)
def test_seconds_of_the_machine_with_fewer_runs_change_nothing(of_two, what, monkeypatch):
    for module in (curves, oned, sampling, scaling):
        monkeypatch.setattr(module, "draw", lambda *_: None)
    study, told = TOLD[what]
    records = of_two(study)
    known = repr(told(records))
    assert repr(told(slower(records, OTHER))) == known
    if what != "statements of Fig. 2":  # who needs more does not change where all need more
        assert repr(told(slower(records, HOST))) != known


@pytest.fixture
def compared_methods(compared, results: Path) -> list[Record]:
    """A comparison in which two replicates of one method, and all of another, ran on the other machine."""
    for method, ratios in (("flow", [9.0, 3.0, 2.0]), ("mixture", [9.0, 4.0, 3.0]), ("reweighting", [9.0, 5.0, 3.5])):
        compared(method, scattered(ratios), environment=LEFT)
    elsewhere = {("mixture", 3), ("mixture", 4), *(("reweighting", replicate) for replicate in range(5))}
    return [
        msgspec.structs.replace(r, environment=RIGHT) if (r.method, r.replicate) in elsewhere else r
        for r in read_records(results)[0]
    ]


def test_a_comparison_has_the_seconds_of_one_machine_and_the_errors_of_all(compared_methods, monkeypatch):
    monkeypatch.setattr(otd_dto, "draw", lambda *_: None)
    (found,) = board.boards(compared_methods)
    entries = {entry.method: entry for entry in found.entries}
    assert {name: (entry.seconds.n, entry.runs) for name, entry in entries.items()} == {
        "flow": (5, 5), "mixture": (3, 5), "reweighting": (0, 5)}  # fmt: skip
    assert SAID.match(found.machines)
    reached = {reach.style.label: reach.reached[5.0] for reach in budgets.reaches(compared_methods, "seconds")}
    assert list(reached.values()) == ["5 of 5", "3 of 3", "0 of 0"]
    assert all(reach.costs[5.0].n == 5 for reach in budgets.reaches(compared_methods, "forward_evaluations"))
    plots = {plot.name: plot for group in otd_dto.plots(compared_methods).values() for plot in group}
    assert len({row[0] for row in plots["oned-w2-forward-evaluations"].rows}) == 3
    for name in ("oned-w2-seconds", "oned-pareto-seconds"):
        assert len({row[0] for row in plots[name].rows}) == 2
        assert SAID.search(plots[name].caption)
    assert [row[-1] for row in plots["oned-pareto-seconds"].rows] == [5] * 4  # errors, of two methods at two budgets


def test_the_page_says_whose_seconds_it_shows_and_names_no_host(of_two, results, tmp_path):
    for study in ("paper-1d", "certificates"):
        of_two(study)
    text = page.build(results, tmp_path / "out").read_text(encoding="utf-8")
    sections = dict(re.findall(r'<section id="([^"]+)">(.*?)</section>', text, flags=re.DOTALL))
    assert all(SAID.search(sections[name]) for name in ("convergence", "methods", "certificates"))
    assert "The seconds of certificates, paper-1d come from more than one machine" in sections["provenance"]
    assert "machine 0a1b2c" in sections["provenance"]
    assert not any(host in text for host in (HOST, OTHER))


def test_a_pack_keeps_machines_apart_and_names_no_host(of_two, results, tmp_path):
    before = {record.replicate: machine_of(record) for record in of_two("paper-1d")}
    (results / "speed").mkdir()
    timings = {"schema": 2, "created": "2026", "environment": LEFT, "comparisons": []}
    (results / "speed/baselines.json").write_text(json.dumps(timings))
    mine = tmp_path / "mine.tar.zst"
    packing.pack(results, mine, packing.Words("mine", "A. Author", "Runs of a test.", "CC-BY-4.0"))
    with mine.open("rb") as file:
        content = zstandard.ZstdDecompressor().stream_reader(file).read()
    assert b"speed/baselines.json" in content
    assert content.count(b"machine 0a1b2c") == 3 + 1
    assert not any(part.encode() in content for host in (HOST, OTHER) for part in (host, host.partition(".")[0]))
    assert {record.replicate: machine_of(record) for record in read_records(mine)[0]} == before
    page.build(mine, tmp_path / "out")  # its timings are read


def test_sides_are_compared_on_the_machine_that_both_have(of_two, results):
    a = of_two("paper-1d")
    b = [msgspec.structs.replace(r, run_seconds=r.run_seconds * (2 if r.environment == LEFT else 9)) for r in a]
    rows = {row.quantity: row for row in compare.compare(*(compare.chosen(side)[0] for side in (a, b)))}
    assert (rows["seconds"].ratio.mean, rows["seconds"].a.n, rows["w2"].a.n) == (pytest.approx(2), 3, 5)
    assert "2 of 5 runs of B left out: other machine" in rows["seconds"].notes
    assert not rows["seconds"].regression
    left, right = ([r for r in a if r.environment == where] for where in (LEFT, RIGHT))
    rows = {row.quantity: row for row in compare.compare(*(compare.chosen(side)[0] for side in (left, right)))}
    assert (rows["seconds"].a.n, rows["seconds"].b.n, rows["seconds"].notes) == (3, 2, ())
    assert not any(host in str(compare_page.read(results, results)) for host in (HOST, OTHER))
