"""Baselines: every implementation agrees with the formula, all run in turn, and what is missing keeps a row."""

import json
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench.app import cli
from cryosip.bench.speed import baselines, cases, image_cases, third_party, volume_cases
from cryosip.bench.speed.baselines import Comparison, Implementation, Unavailable

SMALL = {
    "energy-line": lambda: cases.energy_line(60),
    "energy-value-line": lambda: cases.energy_value_line(60),
    "kl-line": lambda: cases.kl_line(60),
    "kl-value-line": lambda: cases.kl_value_line(60),
    "steps-line": lambda: cases.steps_line(60),
    "energy-24": lambda: image_cases.energy_images(24, 30),
    "steps-nanocluster": lambda: cases.steps_nanocluster(12),
    "renderer-50": lambda: image_cases.renderer(50.0, 2, 20),
    "slices-32": lambda: volume_cases.slices(32, 8),
    "backprojection-32": lambda: volume_cases.slices(32, 8, transposed=True),
}
# of the largest entry: rounding, cells, the moments of a kernel that is almost quadratic, and a Gram product on the
# line, which takes neighbours for one point
ROUNDING = 2e-5
LOOSE = {
    ("energy-line", "binned"): 0.1,
    ("energy-line", "scikit-learn euclidean_distances, gradient by hand"): 0.02,
    ("energy-line", "POT ot.dist, gradient by hand"): 0.02,
    ("energy-line", "torch cdist, autograd"): 0.02,
    ("energy-line", "geomloss energy, tensorized"): 0.02,
    ("energy-24", "torch cdist, autograd"): 1e-3,
    ("energy-24", "geomloss energy, tensorized"): 1e-3,
    ("energy-line", "OTT-JAX, Sinkhorn divergence of large entropy"): 0.01,
    ("energy-24", "OTT-JAX, Sinkhorn divergence of large entropy"): 0.01,
    ("kl-line", "binned"): 2e-3,
    ("kl-value-line", "ours"): 2e-3,
    ("steps-line", "KL flow"): 2e-3,
    ("steps-nanocluster", "noise integrated out"): 0.02,
}
LOOSE |= {
    (f"{name}-32", who): error  # of linear interpolation, on a finer grid or not
    for name in ("slices", "backprojection")
    for who, error in (("ours", 0.02), ("cryoJAX, padded 2 times", 0.02), ("cryoJAX, padded 1 times", 0.2))
}
EXPENSIVE = ("steps-nanocluster", "renderer-50", "slices-32", "backprojection-32")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in EXPENSIVE)) for n in SMALL])
def test_every_implementation_agrees_with_the_formula(name, monkeypatch):
    monkeypatch.setattr(cases, "TILES", cases.TILES[:2])
    monkeypatch.setattr(image_cases, "N_SPREADS", (7, 23))
    measured = baselines.measure(SMALL[name](), rounds=1)
    timed = [row for row in measured["rows"] if "seconds" in row]
    assert len(timed) >= 2
    assert [row["implementation"] for row in timed if row["ours"]] == measured["ours"]
    for row in timed:
        assert row["error"] <= LOOSE.get((name, row["implementation"]), ROUNDING), row
        assert set(row["times"]) == set(measured["ours"]) - {row["implementation"]}
    for row in measured["rows"]:
        if "seconds" not in row:
            assert row["note"].startswith("not installed: ") or row["note"] == "gives the value only, compared below"
            assert not row["implementation"].startswith(("scipy c", "POT", "JAX", "cryoJAX"))  # these come with cryosip


def test_the_whole_set_is_the_small_one_at_full_size():
    assert {name.split("-")[0] for name in cases.COMPARISONS} == {name.split("-")[0] for name in SMALL}
    for name in ("energy-line", "kl-line", "steps-line", "renderer-50"):
        assert name in cases.COMPARISONS


def cryosip(*words):
    """Exit code of a command, and what it prints, with single spaces."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"[\s│╭╮╰╯─]+", " ", result.output)


def absent():
    import a_library_that_nobody_has  # noqa: F401


def refuse():
    raise Unavailable("gives the value only")


def broken():
    raise RuntimeError("[the] kernel does not compile")


@pytest.fixture
def clock(monkeypatch):
    """Time passes only as implementations say."""
    now = [0.0]
    monkeypatch.setattr(baselines.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(baselines.time, "sleep", lambda _: None)
    return now


def lasting(clock, log, name, durations, calls=1, answer=2.0):
    left = list(durations)

    def call():
        log.append(name)
        clock[0] += left.pop(0) if left else 0.0

    return lambda: Implementation(call, lambda: baselines.deviation([answer], np.array([2.0])), calls)


def toy(ours, others, wanted=None):
    return Comparison("toy", "A toy", ours, others, wanted or {})


def test_implementations_run_in_turn_and_a_ratio_is_the_median_of_ratios(clock):
    log = []
    comparison = toy(
        {"ours": lasting(clock, log, "ours", [9, 2, 4, 6], calls=2)},
        {"theirs": lasting(clock, log, "theirs", [4, 3, 2, 30])},
        {("ours", "theirs"): 20.0, ("ours", "another"): 5.0},
    )
    measured = baselines.measure(comparison, rounds=3)
    assert log == ["ours", "theirs"] * 4
    ours, theirs = measured["rows"]
    assert (ours["seconds"], theirs["seconds"]) == (2.0, 3.0)  # the first call warms up
    assert theirs["times"] == {"ours": 3.0}  # of 3, 1 and 10; the ratio of the medians is 1.5
    assert theirs["wanted"] == {"ours": 20.0}
    assert (ours["times"], ours["wanted"]) == ({}, {})
    assert baselines.row(measured, "theirs") is theirs


def test_what_takes_minutes_on_large_images_is_not_run():
    third_party._few_pixels(np.zeros((1, 1_024)))
    with pytest.raises(Unavailable, match="not run"):
        third_party._few_pixels(np.zeros((1, 16_384)))


def test_what_takes_long_is_timed_once(clock):
    log = []
    comparison = toy(
        {"ours": lasting(clock, log, "ours", [0, 3, 2, 2])}, {"theirs": lasting(clock, log, "theirs", [60, 9, 9, 9])}
    )
    theirs = baselines.row(baselines.measure(comparison, rounds=3), "theirs")
    assert (theirs["seconds"], theirs["rounds"], theirs["times"]["ours"]) == (60, 1, 30)
    assert log.count("theirs") == 1


def test_what_cannot_be_had_keeps_a_row_that_says_so(clock):
    comparison = toy(
        {"ours": lasting(clock, [], "ours", [1] * 9)},
        {"absent": absent, "refuse": refuse, "broken": broken, "theirs": lasting(clock, [], "theirs", [2] * 9)},
    )
    rows = {row["implementation"]: row for row in baselines.measure(comparison)["rows"]}
    assert rows["absent"]["note"] == "not installed: No module named 'a_library_that_nobody_has'"
    assert rows["refuse"]["note"] == "gives the value only"
    assert rows["broken"]["note"] == "failed: RuntimeError: [the] kernel does not compile"
    assert rows["theirs"]["times"] == {"ours": 2.0}
    assert not any("seconds" in rows[name] for name in ("absent", "refuse", "broken"))


def test_ours_must_not_fail(clock):
    with pytest.raises(RuntimeError, match="does not compile"):
        baselines.measure(toy({"ours": broken}, {}))


def test_an_error_is_in_units_of_the_largest_entry():
    assert baselines.deviation([1.0, -3.5], np.array([1.0, -4.0])) == 0.125
    with pytest.raises(ValueError, match=r"shape \(1,\) and that of the formula \(2,\)"):
        baselines.deviation([1.0], np.array([1.0, -4.0]))


def test_the_fastest_implementation_is_named(clock):
    candidates = {str(s): lasting(clock, [], "", [9, s, 9])() for s in (3.0, 1.0, 2.0)}
    assert baselines.fastest(candidates).note == "1.0, the fastest of 3"


def test_a_looped_implementation_counts_its_calls_and_compares_one():
    looped = baselines.looped(lambda x: 2 * x, lambda: np.array([2.0, 4.0]), jnp.array([1.0, 2.0]), 5)
    assert (looped.calls, looped.error()) == (5, 0)
    np.testing.assert_allclose(looped.call(), [1.0, 2.0], rtol=1e-4)
    assert float(looped.call()[0]) < 1  # it moved


@pytest.fixture
def two(monkeypatch, clock):
    """Two comparisons, one of them with something of another library that breaks and one that gives no number."""
    ours = {"[ours]": lasting(clock, [], "ours", [1] * 99)}
    others = {"gone": absent, "off": lasting(clock, [], "off", [2] * 99, answer=math.nan)}
    made = {"one": lambda: toy(ours, others, {("[ours]", "off"): 3.0}), "two": lambda: toy(ours, {})}
    monkeypatch.setattr(cases, "COMPARISONS", made)


def test_the_command_writes_and_shows_what_it_measured(two, tmp_path):
    code, text = cryosip("speed", "--baselines", "--results", tmp_path)
    assert code == 0, text
    for part in ("A toy", "[ours]", "not installed: No module named", "2 (wanted 3)", "not finite", "2e+03"):
        assert part in text, (part, text)
    assert "[ours] 1e+03 0.0e+00" in text  # not taken for markup
    path = tmp_path / "speed" / "baselines.json"
    assert str(path) in text
    content = json.loads(path.read_text())
    assert content["schema"] == 2
    assert [c["title"] for c in content["comparisons"]] == ["A toy", "A toy"]
    assert {"commit", "dirty", "device", "cpu", "threads", "jax", "torch", "ott-jax"} <= set(content["environment"])
    assert content["created"][:2] == "20"
    assert content["comparisons"][0]["rows"][2]["error"] is None


def test_nothing_is_written_where_the_measurement_breaks_off(two, tmp_path, monkeypatch):
    monkeypatch.setitem(cases.COMPARISONS, "three", lambda: toy({"ours": broken}, {}))
    with pytest.raises(RuntimeError):
        baselines.record(cases.COMPARISONS.values(), tmp_path, lambda _: None)
    assert list((tmp_path / "speed").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(two, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "measure", lambda _: pytest.fail("measured"))
    (tmp_path / "speed").write_text("a file")
    code, text = cryosip("speed", "--baselines", "--results", tmp_path)
    assert (code, "Traceback" in text) == (1, False)
    assert text.startswith("cryosip: ")


@pytest.mark.parametrize("word", ["--all", "--publish", "--fail", "--against=HEAD", "--bench=kl"])
def test_baselines_are_measured_alone(word):
    code, text = cryosip("speed", "--baselines", word)
    assert code == 2
    assert "wanted it alone" in text
