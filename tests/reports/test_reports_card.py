"""One record for a person: found by the beginning of its id, with its numbers, and harmless on a terminal."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cryosip.reports.card import find, show, visible


def printed(results: Path, beginning: str, width: int = 200) -> str:
    buffer = io.StringIO()
    show(results, beginning, Console(file=buffer, width=width))
    return buffer.getvalue()


def test_a_beginning_that_no_other_has_is_enough(write, results):
    for run_id in ("ab12", "ab34", "cd56", "cd5678"):
        write(run_id=run_id)
    assert find(results, "ab3") == Path("paper-1d/ab34.json")
    assert find(results, "cd56") == Path("paper-1d/cd56.json")  # whole, though another begins so
    assert find(results, "cd567") == Path("paper-1d/cd5678.json")


@pytest.mark.parametrize(
    ("beginning", "says"),
    [
        ("ab", "2 run ids begin with 'ab': noise/ab34, paper-1d/ab12$"),
        ("", r"7 run ids begin with '': noise/ab34, (paper-1d/000\d, ){4}\.\.\.$"),
        ("ef57", r"no run id in .*results begins with 'ef57'; the nearest of 7: paper-1d/ef56,"),
        ("*", r"no run id in .*results begins with '\*'; the nearest of 7: "),
        ("../ab12", r"no run id in .*results begins with '../ab12'; the nearest of 7: paper-1d/ab12, "),
    ],
)
def test_what_is_unknown_or_ambiguous_names_the_candidates(write, results, beginning, says):
    write(run_id="ab34", study="noise")
    for run_id in ("ab12", "ef56", "0001", "0002", "0003", "0004"):
        write(run_id=run_id)
    with pytest.raises(ValueError, match=says):
        find(results, beginning)


def test_folders_without_records_say_so(results):
    with pytest.raises(ValueError, match="no results folder at"):
        find(results, "ab")
    (results / "paper-1d").mkdir(parents=True)
    with pytest.raises(ValueError, match="begins with 'ab'; there are no records"):
        find(results, "ab")


def test_a_file_that_is_no_record_says_why(results):
    (results / "odd").mkdir(parents=True)
    (results / "odd" / "ab.json").write_text('{"schema": 1')
    with pytest.raises(ValueError, match="not complete JSON"):
        show(results, "ab", Console(file=io.StringIO()))


def test_all_that_a_record_says_is_printed(write, results):
    path = write(
        {"theta": np.ones((40, 2)), "weights": np.ones(40) / 40}, discrepancy="kl", replicate=3, message="slow",
        metrics={"w1": 0.08, "w2": 0.2}, initial_metrics={"w2": 1.6, "start": 4.5}, oracle_metrics={"w2": 0.11},
        floors={"w2": {"median": 0.7, "q05": 0.6, "q95": 0.8, "n": 50}}, setup_seconds=0.25, program_memory_mb=12.0,
        options={"anneal": [10.0, 50], "bare": {}}, dataset_hash="feed",
        identity={"engine": "e1", "method": "m1", "problem": "p1", "measure": ""},
    )  # fmt: skip
    text = printed(results, path.stem)
    cells = {" ".join(line.split()) for line in text.splitlines()}
    assert {
        "paper-1d: published", f"run id {path.stem}", "method flow kl on oned", "profile paper",
        "replicate 3, seed 7", "status ok: slow", "data set feed", "created 2025-11-20T12:00:00Z",
        "algorithm name sorted ranks", "problem.options.noise_std 1.5", "method.options.anneal [10.0, 50]",
        "method.options.bare {}", "stop_below —",
        "metric value ÷ floor floor, n = 10,000 floor, n = 50 initial best weights",
        "w2 0.2 2.63 0.076 [0.034, 0.155] 0.7 [0.6, 0.8] 1.6 0.11",
        "w1 0.08 3.81 0.021 [0.012, 0.036] — —", "start — 4.5 —",
        "steps 25,000", "forward evaluations 250,000,000", "seconds 7.5, building the method 0.25, compilation 1.2",
        "memory in MB 310 peak of the process, 12 planned by the compiler", "jax 0.8.1", "prody —",
        "engine e1", "method m1", "problem p1",
        str(path), f"{path.with_suffix('.npz')}: theta 40×2, weights 40",
    } <= cells  # fmt: skip


def test_one_floor_is_told_once(write, results):
    path = write()
    assert printed(results, path.stem).count("n = 10,000") == 1


def test_failures_and_arrays_that_cannot_be_read_are_told(write, results):
    path = write(status="error", message="out of memory", metrics={}, initial_metrics={}, floors={}, data_floors={})
    text = printed(results, path.stem)
    assert "error: out of memory" in text
    assert "no arrays" in text
    path.with_suffix(".npz").write_bytes(b"garbage")
    assert "arrays not read: " in printed(results, path.stem)


def test_names_and_paths_stay_whole_where_lines_are_short(write, results):
    names = ("energy_distance_squared", "energy_distance_squared_unwhitened")
    path = write({"theta": np.ones((4, 1))}, metrics=dict.fromkeys(names, 0.1))
    lines = printed(results, path.stem, width=80).splitlines()
    assert {line.split()[0] for line in lines if "energy_distance" in line} == set(names)
    assert f"  {path}" in lines
    assert f"  {path.with_suffix('.npz')}: theta 4×1" in lines


def test_a_terminal_obeys_nothing_of_a_record(write, results):
    evil = "[bold]\u202eabc\ud800"
    fields = dict.fromkeys(("setting", "message", "method", "problem", "created", "dataset_hash", "profile"), evil)
    path = write(**fields, environment={evil: evil}, metrics={evil: 1.0}, options={evil: evil})
    text = printed(results, path.stem)
    assert text.count(r"[bold]\u202eabc\ud800") >= 11
    assert not {"\u202e", "\ud800"} & set(text)
    with pytest.raises(ValueError, match="matching regex"):
        printed(results, write(message="\x1b]0;owned\x07", replicate=1).stem)
    assert visible("μ\n") == "μ\n"
