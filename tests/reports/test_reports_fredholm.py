"""The section on fredholm: means beside the published ones, and verdicts that turn with the numbers."""

import math

import numpy as np
import pytest

from cryosip.records.schema import Choice, Config, Floor, Labels, Record
from cryosip.reports.sections.fredholm import (
    DIMENSIONS,
    EM,
    FLOW,
    OBSERVATIONS,
    PRINTED,
    marginals,
    mean_verdict,
    other_size,
    table,
    unit,
    verdict_table,
)


def record(method, error, d=1, replicate=0, variant="", n=OBSERVATIONS, **options):
    nodes = np.linspace(0, 1, 5)
    return Record(
        run_id=f"{method}-{d}-{replicate}",
        study="fredholm",
        profile="paper",
        labels=Labels(variant, "d", d),
        config=Config(
            Choice("fredholm", {"dimension": d, "n_observations": n}), Choice(method, options), steps=49, every=49
        ),
        replicate=replicate,
        seed=replicate,
        created="2025-11-20T12:00:00Z",
        identity={},
        metrics={} if error is None else {"integrated_squared_error": error},
        data_floors={"integrated_squared_error": Floor(0.002, 0.001, 0.003, 10_000)},
        arrays={"marginal": np.stack([nodes, nodes, nodes**2], axis=1)},
    )


def three(method, mean, half=0.001, **fields):
    return [record(method, mean + half * (i - 1), replicate=i, **fields) for i in range(3)]


def cell(records, d=1):
    (row,) = table(records)
    return row.cells[d - 1]


@pytest.mark.parametrize(("printed", "one"), [(".104", 0.001), ("3.67", 0.01), ("4", 1.0)])
def test_the_unit_of_the_last_digit(printed, one):
    assert unit(printed) == pytest.approx(one)


def test_a_number_without_spread_is_reproduced_to_its_last_digit():
    for printed, exact in zip(PRINTED[EM], (0.10372, 0.12559, 3.67114, 4.23490), strict=True):
        assert mean_verdict(float(printed), [exact] * 3, unit(printed), same=True) == "reproduced"
        assert mean_verdict(float(printed) + unit(printed), [exact] * 3, unit(printed), same=True) == "better"
        assert mean_verdict(float(printed) - 2 * unit(printed), [exact] * 3, unit(printed), same=True) == "worse"


def test_the_range_is_that_of_two_means():
    """t_{0.95, 2} s sqrt(1/3 + 1/100) with s = 0.01, and half a unit, which adds 1e-6."""
    values, half = [0.06, 0.07, 0.08], 2.919986 * 0.01 * math.sqrt(1 / 3 + 1 / 100)
    assert mean_verdict(0.07 + half - 1e-5, values, 1e-3, same=True) == "reproduced"
    assert mean_verdict(0.07 + half + 1e-4, values, 1e-3, same=True) == "better"
    assert mean_verdict(0.07 + half - 1e-5, values, 1e-3, same=False) == "ambiguous"
    assert mean_verdict(0.07, values[:2], 1e-3, same=True) == "ambiguous"


def test_verdicts_of_cells():
    their = {"n_particles": 10_000, "attraction": -1.0, "variant": "published"}
    assert cell(three(FLOW, 0.0755, **their)).verdict == "reproduced"
    assert cell(three(FLOW, 0.06, **their)).verdict == "better"
    assert cell(three("mixture", 0.1)).verdict == "worse"
    few = cell(three(FLOW, 0.06, **their | {"n_particles": 1_000, "n": 2_000}))
    assert (few.verdict, few.printed) == ("other size", ".075")
    assert "2,000 observations against 1,000,000, 1,000 points against 10,000; lower all the same" in few.why
    assert cell(three("mixture", 0.1)[:2]).verdict == "ambiguous"
    lost = cell([*three("mixture", 0.1), record("mixture", None, replicate=3)])
    assert (lost.verdict, lost.why) == ("ambiguous", "1 of 4 replicates failed.")
    assert cell(three("mixture", 0.1), d=2).verdict == "not run"


def test_em_as_published_takes_no_observations():
    grid = {"n_bins": 10_000, "n": 10}
    assert other_size(record(EM, 0.1, variant="published", **grid)) == ""
    assert other_size(record(EM, 0.1, variant="observations", **grid)) == "10 observations against 1,000,000"
    assert "100 points" in other_size(record(EM, 0.1, variant="published", n_bins=100))


def test_the_table_has_published_methods_first_and_a_line_for_each_cell():
    records = [r for d in DIMENSIONS for r in (*three("mixture", 0.1, d=d), *three(EM, 0.1, d=d, variant="published"))]
    rows = table(records)
    assert [row.label for row in rows] == ["one-step-late EM, published", "mixture"]
    assert [row.published for row in rows] == [True, False]
    lines = verdict_table(rows)
    assert len(lines) == 1 + 2 * len(DIMENSIONS)
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [plot.name for plot in marginals(records)] == ["fredholm-1d", "fredholm-4d"]
    assert marginals(records)[0].columns == ["theta", "truth", "mixture", "one-step-late EM, published"]
