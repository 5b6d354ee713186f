"""The bound on the page: ratios are paired by the data, and who is too far has its reason from measured numbers."""

import pytest

from cryosip.records.select import largest, read_records
from cryosip.reports import page
from cryosip.reports.section import Everything, Source
from cryosip.reports.sections import bound


def bounded(write, w2, variant="otd-vs-dto", **changes):
    """The bound of a replicate for each of the numbers; the converged NPMLE is twice as far."""
    for replicate, value in enumerate(w2):
        metrics = {"stopped_w2": value, "npmle_w2": 2 * value, "parametric_w2": value / 2}
        write(study="bound", method="bound", setting=variant, replicate=replicate, metrics=metrics, **changes)


def rows(results):
    records, _ = read_records(results)
    source = Source([r for r in records if r.study == "bound"], {}, Everything(records, largest(records), []))
    return bound.rows(source)


@pytest.fixture
def two_kinds(write, compared):
    """mixture is near its bound in each replicate, if not by medians apart; flow is three times as far."""
    bounded(write, [0.1, 0.2, 0.4])
    compared("mixture", [[9, 0.1 / 0.076], [9, 0.2 / 0.076], [9, 0.4 / 0.076]])
    compared("flow", [[9, 0.3 / 0.076], [9, 0.6 / 0.076], [9, 1.2 / 0.076]])


def test_ratios_are_of_the_same_data(two_kinds, results):
    (row,) = rows(results)
    assert row.estimates == pytest.approx({"stopped": 0.2, "npmle": 0.4, "parametric": 0.1})
    assert row.best["DTO"][:2] == ("mixture", pytest.approx(1.0))
    assert row.best["OTD"][:2] == ("flow", pytest.approx(3.0))
    assert row.best["OTD"].of_points == pytest.approx(0.02 / 0.2)  # that of the records of the tests


def test_who_is_too_far_has_a_reason(two_kinds, results):
    (row,) = rows(results)
    assert "mixture, the best DTO method, is within 1.5 × the bound (1)." in row.sentence
    assert "flow, the best OTD method, is not within 1.5 × the bound (3)" in row.sentence
    assert "its weights are wrong" in row.sentence
    far = bound.Best("flow", 3.0, 2.0)
    assert "its points are wrong" in row._replace(best={"OTD": far}).sentence
    assert "No OTD method" in row._replace(best={"OTD": far._replace(ratio=float("inf"))}).sentence


def test_other_data_have_no_part_in_a_ratio(write, compared, results):
    bounded(write, [0.1, 0.2], n=300)
    compared("mixture", [[9, 2.0], [9, 2.0]])
    assert all(not row.best for row in rows(results))


def test_the_page_has_the_table_and_the_curves(two_kinds, write, results, tmp_path):
    for n in (100.0, 1_000.0):
        bounded(write, [1 / n, 2 / n], f"sigma 1.5 observations={n:g}", planned=int(n))
    text = " ".join(page.build(results, tmp_path / "out").read_text().split())
    assert "the best OTD method, is not within 1.5" in text
    assert "what the data tell" in text
    assert (tmp_path / "out" / "bound.csv").read_text().count("\n") == 2


def test_methods_on_several_machines_are_said_to_be(two_kinds, compared, results):
    assert "machines" not in rows(results)[0].sentence
    compared("reweighting", [[9, 5.0]] * 3, environment={"device": "cuda A100"})
    assert "The runs are of 2 machines: what is reached within so many seconds does not" in rows(results)[0].sentence
