"""Exponents: those of known power laws are found, with intervals; what failed is shown, what cannot be told is said."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from cryosip.records.select import largest, read_records
from cryosip.reports.page import build
from cryosip.reports.sections import rates
from cryosip.reports.sections.rates import Fit, Rate, exponents, judged
from cryosip.reports.sections.scaling import scaling
from cryosip.reports.spreads import mean_interval

PARTICLES = (100, 1_000, 10_000)


def plots_of(results: Path):
    """Of the first problem and axis."""
    return next(iter(scaling(read_records(results)[0]).values()))


def write_law(write, replicate: int, slope: float, method: str = "flow", places=PARTICLES, axis: str = "N") -> None:
    """W2 = 3 * x^slope, 1e-6 seconds for each step and x^1, memory x / 100."""
    for x in places:
        option = {"N": "n_particles", "K": "n_components"}.get(axis)
        more = {"options": {option: x}} if option else {"n": x}
        write(
            study="scaling", method=method, setting=f"{axis}={x}", replicate=replicate, steps=100,
            metrics={"w2": 3.0 * x**slope, "w1": x**slope}, run_seconds=1e-4 * x, setup_seconds=0.1,
            program_memory_mb=x / 100, **more,
        )  # fmt: skip


def rows_of(results: Path, quantity: str = "W2"):
    return [row for row in exponents(read_records(results)[0]) if row.quantity == quantity]


def test_the_exponent_of_a_power_law_is_found(write, results: Path) -> None:
    for i in range(4):
        write_law(write, i, -0.5)
    (w2,) = rows_of(results)
    assert w2.fit.slope == pytest.approx(-0.5)
    assert math.exp(w2.fit.intercept) == pytest.approx(3.0)
    assert (w2.fit.low, w2.fit.high) == pytest.approx((-0.5, -0.5))
    assert (w2.fit.replicates, w2.fit.places, w2.verdict) == (4, PARTICLES, "as expected")
    (seconds,), (memory,) = rows_of(results, "seconds for each step"), rows_of(results, "planned memory, MB")
    assert (seconds.fit.slope, memory.fit.slope) == pytest.approx((1.0, 1.0))
    assert seconds.verdict == memory.verdict == "as expected"


def test_the_interval_is_that_of_students_law(write, results: Path) -> None:
    for i, slope in enumerate((-0.4, -0.5, -0.6)):
        write_law(write, i, slope)
    (w2,) = rows_of(results)
    half = 2.919986 * 0.1 / math.sqrt(3)
    assert w2.fit.slope == pytest.approx(-0.5)
    assert (w2.fit.low, w2.fit.high) == pytest.approx((-0.5 - half, -0.5 + half))


def test_the_interval_holds_the_mean_nine_times_in_ten() -> None:
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(1.0, 0.3, 5).tolist()) for _ in range(2_000)]
    held = [each.low <= 1.0 <= each.high for each in intervals]
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)


def test_too_few_replicates_have_no_interval_and_say_so(write, results: Path) -> None:
    for i in range(2):
        write_law(write, i, -0.5)
    (w2,) = rows_of(results)
    assert w2.fit.slope == pytest.approx(-0.5)
    assert math.isnan(w2.fit.low)
    assert w2.verdict == "undecided"
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    assert page.count("2 replicates, fewer than 3: no interval") >= 4


def test_one_value_has_no_exponent(write, results: Path) -> None:
    for i in range(3):
        write_law(write, i, -0.5, places=(100,))
    (w2,) = rows_of(results)
    assert math.isnan(w2.fit.slope)
    assert w2.fit.why == "1 value on the axis: no exponent"
    assert "1 value on the axis" in plots_of(results)[0].caption


def test_failed_runs_are_crosses_and_counted_and_a_method_that_always_fails_is_not_dropped(write, results) -> None:
    for i in range(3):
        write_law(write, i, 0.0, axis="M")
        for m in PARTICLES:
            write(study="scaling", method="own", setting=f"M={m}", n=m, replicate=i, status="error", metrics={},
                  message="TypeError: own() misses an argument", steps=0)  # fmt: skip
    own, flow = sorted(rows_of(results), key=lambda row: row.failed, reverse=True)
    assert (own.method, own.runs, own.failed, own.verdict) == ("own", 9, 9, "undecided")
    assert own.rate.words.startswith("powers of log M")
    assert flow.verdict == "as expected"
    plot = plots_of(results)[0]
    assert "own, failed" in plot.svg
    assert "own failed in 9 of 9 runs (crosses at the top, at 100, 1000, 10000)" in plot.caption
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    assert "own() misses an argument" in page
    assert "9, 9 failed" in page
    with open(results.parent / "out/figures/scaling-oned-m-w2.csv", encoding="utf-8", newline="") as stream:
        assert sum(row["status"] == "error" for row in csv.DictReader(stream)) == 9


@pytest.mark.parametrize(("other", "count"), [(PARTICLES[:2], 2), ((*PARTICLES, 30_000), 3)])
def test_replicates_are_fitted_where_most_of_them_are(write, results: Path, other: tuple[int, ...], count: int) -> None:
    """One that was stopped half way is left out, one that went further counts where the others are."""
    for i in range(3):
        write_law(write, i, -0.5 if i else -0.5 if count == 3 else -3.0, places=PARTICLES if i else other)
    (w2,) = rows_of(results)
    assert (w2.fit.slope, w2.fit.replicates, w2.fit.places) == (pytest.approx(-0.5), count, PARTICLES)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.6, -0.45, "as expected"), (-0.9, -0.7, "faster"), (-0.3, -0.1, "slower"), (-0.9, -0.2, "undecided"),
     (-0.39, -0.2, "slower"), (-0.41, -0.2, "as expected")],
)  # fmt: skip
def test_verdicts(low: float, high: float, verdict: str) -> None:
    fit = Fit((low + high) / 2, low, high, 0.0, 5, (1.0, 2.0), "")
    assert judged(fit, Rate(-0.5, -0.5, "", "")) == verdict
    assert judged(fit, rates.NONE_KNOWN) == "undecided"
    assert judged(fit._replace(low=math.nan, high=math.nan), Rate(-0.5, -0.5, "", "")) == "undecided"


def test_expected_rates_speak_of_what_they_are_proved_for() -> None:
    assert rates.expected("oned", "w2", "N", "flow").source == "fournier2015, bobkov2019"
    assert rates.expected("oned", "w2", "M", "some-new-method").source == "fan1991"
    assert rates.expected("nanocluster", "w2", "M", "flow") == rates.NONE_KNOWN
    assert rates.expected("oned", "seconds", "M", "some-new-method") == rates.NONE_KNOWN
    assert rates.expected("nanocluster", "seconds", "M", "mixture").low == 1.0


def test_sources_are_in_the_bibliography() -> None:
    text = (Path(__file__).parents[2] / "references.bib").read_text(encoding="utf-8")
    for rate in (*rates.ON_THE_LINE.values(), *rates.ANYWHERE.values()):
        for key in rate.source.split(", ") if rate.source != rates.WORK else ():
            assert f"{{{key}," in text


def test_all_sizes_of_the_furthest_profile_are_shown(write, results: Path) -> None:
    for m in (100, 1_000):
        write(study="scaling", setting=f"M={m}", n=m, profile="small")
        write(study="scaling", setting=f"M={m // 10}", n=m // 10, profile="smoke")
    shown = largest(read_records(results)[0])
    assert sorted((record.profile, record.labels.text) for record in shown) == [("small", "M=100"), ("small", "M=1000")]


def test_text_of_records_makes_no_path(write, results: Path) -> None:
    write_law(write, 0, -0.5)
    for x in PARTICLES:
        write(study="scaling", setting=f"N={x}", options={"n_particles": x}, problem="../<em>")
    page = build(results, results.parent / "out")
    assert "<em>" not in page.read_text(encoding="utf-8")
    assert (page.parent / "figures/scaling--em--n-w2.svg").exists()
