"""Results travel: packed, read elsewhere, beside others, and compared, with the same numbers throughout."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cryosip.records.read import record_files
from cryosip.records.schema import Record
from cryosip.records.select import read_records
from cryosip.records.sources import opened
from cryosip.records.table import load
from cryosip.reports import compare, compare_page, packing, page
from cryosip.reports.compare import Row

WORDS = packing.Words("mine", "A. <Author>", "Runs of a test.", "CC-BY-4.0")
NAMES = ("theta", "theta_init", "theta_true", "y_estimated", "y_init", "y_observed")
CLOUD = dict.fromkeys(NAMES, np.linspace(-2, 2, 200)[:, None]) | {"weights": np.full(200, 1 / 200)}
GPU = {"device": "cuda NVIDIA A100", "cpu": "AMD EPYC"}


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.fixture
def mine(write, results: Path, tmp_path: Path) -> Path:
    """A pack of two replicates, of which the figure draws the first, an older version of it, and a damaged file."""
    write(CLOUD, n=200, created="2024-11-20T12:00:00Z")
    for replicate in (0, 1):
        write(CLOUD, n=200, replicate=replicate, metrics={"w2": 0.1 + 0.1 * replicate}, identity={"engine": "new"},
              environment=GPU, dataset_hash=f"feed{replicate}")  # fmt: skip
    (results / "paper-1d" / "cut.json").write_text("{")
    kept = packing.pack(results, tmp_path / "mine.tar.zst", WORDS)
    assert (len(kept.records), kept.without_arrays) == (3, 2)
    assert [path.name for path, _ in kept.left_out] == ["cut.json"]
    return tmp_path / "mine.tar.zst"


def test_a_pack_holds_all_records_and_the_arrays_of_figures(mine: Path, results: Path) -> None:
    records, skipped = read_records(mine)
    assert {record.replicate: bool(record.arrays) for record in records} == {0: True, 1: False}
    assert [reason.split(":")[0] for _, reason in skipped] == ["superseded"]
    of_folder, of_pack = (load(source).drop(columns="run_id") for source in (results, mine))
    order = ["replicate", "metric"]
    before, after = (table.sort_values(order, ignore_index=True) for table in (of_folder, of_pack))
    assert after.equals(before)
    assert all(row.verdict == "the same" for row in rows(results, mine))


def rows(a: Path, b: Path) -> list[Row]:
    return compare_page.read(a, b)[0].rows


def test_the_page_names_its_sources_and_warns_of_seconds_of_several_machines(mine, write, results, tmp_path) -> None:
    other = results.with_name("other")
    results.rename(results.with_name("away"))
    write(n=200, replicate=2, identity={"engine": "new"}, environment={"device": "cpu cpu", "cpu": "Intel"})
    results.rename(other)
    report = page.make([other, mine], tmp_path / "out")
    html = report.page.read_text(encoding="utf-8")
    section = text_of(html[html.index("Sources of the records") : html.index('<section id="provenance">') + 10**6])
    assert f"{other} 1 a folder — Intel —" in section
    assert f"{mine} 2 mine by A. &lt;Author&gt;: Runs of a test. cryosip run paper-1d --profile paper" in section
    assert "CC-BY-4.0 cpu; cuda NVIDIA A100, AMD EPYC" in section
    assert "The seconds of paper-1d come from more than one machine" in html
    folders = page.build([other, results.with_name("away")], tmp_path / "folders").read_text(encoding="utf-8")
    assert "Sources of the records" in folders
    alone = page.build(other, tmp_path / "alone").read_text(encoding="utf-8")
    assert "Sources of the records" not in alone
    assert "more than one machine" not in alone


def test_one_is_compared_with_each_of_the_others(mine: Path, results: Path, tmp_path: Path) -> None:
    comparisons = compare_page.read(results, mine, results)
    assert [comparison.b.folder for comparison in comparisons] == [str(mine), str(results)]
    out = compare_page.build(comparisons[0], tmp_path / "out", name="compare-2.html")
    assert str(mine) in out.read_text(encoding="utf-8")


def test_older_records_are_compared_with_those_that_know_their_defaults(write, results: Path) -> None:
    """And a default that has changed is named."""
    write(n=200)
    (old,), _ = read_records(results)

    def known(**defaults: float) -> Record:
        problem = msgspec.structs.replace(old.config.problem, defaults=defaults)
        return msgspec.structs.replace(old, config=msgspec.structs.replace(old.config, problem=problem))

    def notes(a: Record, b: Record) -> tuple[str, ...]:
        return compare.compare(compare.chosen([a])[0], compare.chosen([b])[0])[0].notes

    assert notes(old, known(tau=1)) == ()
    assert notes(known(tau=1), known(tau=2)) == ("problem.options.tau: 1 → 2",)


def test_a_run_stands_beside_all_that_are_published(write, results: Path) -> None:
    path = write(study="otd-vs-dto", method="nearest", created="9999-01-01", environment={"dtype": "float32"})
    records, skipped = read_records([results, "published"])
    with opened("published") as (source,):
        files = {Path("published") / file.relative_to(source.folder) for file in record_files(source.folder)}
    assert skipped == []
    assert len(files) > 700
    assert {record.path for record in records} == {path, *files}
