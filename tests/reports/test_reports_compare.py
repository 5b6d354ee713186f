"""Two results folders side by side: what moved, what only seems to, and what counts as a regression."""

import io
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cryosip.reports import compare_page
from cryosip.reports.compare import Row, regressions

HERE = {"device": "cpu", "cpu": "one processor", "threads": 4}
BASE = [0.10, 0.20, 0.40]


def configured(problem, **options):
    return {"problem": {"name": problem, "options": options}, "method": {"name": "flow"}, "steps": 3}


@pytest.fixture
def folder(write, results: Path):
    """Makes a results folder of that name with these runs."""

    def made(name: str, *runs: list[dict]) -> Path:
        for record in (record for run in runs for record in run):
            write(**record)
        return results.rename(results.with_name(name))

    return made


def run(w2s, prefix="feed", **changes) -> list[dict]:
    """One replicate for each W2, each on its own data set."""
    names, same = [prefix and f"{prefix}{i}" for i in range(len(w2s))], {"environment": HERE} | changes
    return [{"replicate": i, "dataset_hash": names[i], "metrics": {"w2": w2}} | same for i, w2 in enumerate(w2s)]


def compared(a: Path, b: Path) -> list[Row]:
    return compare_page.read(a, b)[0].rows


def verdicts(a: Path, b: Path) -> dict[str, str]:
    """By quantity, of folders with one run."""
    return {row.quantity: row.verdict for row in compared(a, b)}


def statuses(a: Path, b: Path) -> list[str]:
    return [row.verdict for row in compared(a, b) if row.quantity == "status"]


def regressed(a: Path, b: Path) -> list[str]:
    return [row.quantity for row in regressions(compared(a, b))]


def w2(a: Path, b: Path) -> Row:
    (row,) = (row for row in compared(a, b) if row.quantity == "w2")
    return row


def page_of(a: Path, b: Path, command: str = "") -> str:
    return compare_page.build(compare_page.read(a, b)[0], a.parent / "out", command).read_text()


def scaled(factors) -> list[float]:
    return [x * f for x, f in zip(BASE, factors, strict=True)]


def printed(comparison: compare_page.Comparison) -> str:
    console = Console(file=io.StringIO(), width=300)
    compare_page.tell(comparison, console)
    return console.file.getvalue()


def test_a_ratio_that_repeats_has_students_interval_and_turns_with_the_sides(folder):
    factors = [1.2, 1.25, 1.3]
    a, b = folder("a", run(BASE)), folder("b", run(scaled(factors)))
    number = w2(a, b)
    logs = np.log(factors)
    half = 2.919986 * logs.std(ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom, 95 %
    expected = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    assert number.ratio[:3] == pytest.approx(expected, rel=1e-5)
    assert (number.verdict, number.notes, number.regression) == ("worse", ("3 pairs",), True)
    assert (number.a.median, number.b.median) == (0.2, pytest.approx(0.25))
    assert number.over_floor[1].median == pytest.approx(0.25 / 0.076)
    back = w2(b, a)
    assert (back.verdict, back.ratio.low) == ("better", pytest.approx(1 / expected[2], rel=1e-5))
    assert (regressed(a, b), regressed(b, a)) == (["w2"], [])
    far = w2(a, folder("c", run(scaled([1234.0] * 3))))
    assert compare_page.texts(far)[2] == ("1,234", "[1,234, 1,234]")  # three decimals near 1 alone


def test_data_that_differ_are_not_paired_and_only_intervals_that_do_not_meet_count(folder):
    a = folder("a", run(BASE))
    near = w2(a, folder("b", run(scaled([1.2, 1.25, 1.3]), prefix="other")))
    assert (near.verdict, near.notes, near.ratio.why) == ("no significant difference", (), "not paired")
    assert near.ratio.mean == pytest.approx(1.25)
    assert math.isnan(near.ratio.low)
    far = folder("c", run([0.5, 0.6, 0.7], prefix="other"))
    assert (w2(a, far).verdict, w2(far, a).verdict) == ("worse", "better")
    c, d = folder("d", run(BASE, prefix="")), folder("e", run(scaled([1.2, 1.25, 1.3]), prefix=""))
    assert (w2(c, d).notes, w2(c, c).verdict) == ((), "the same")  # data without a name pair with none


def test_a_folder_against_itself_is_the_same_throughout(everything: Path):
    rows = compared(everything, everything)
    assert len({row.run for row in rows}) == 49
    assert {row.verdict for row in rows} == {"the same"}
    assert {row.quantity for row in rows} == {"status", "w1", "w2", "seconds"}
    assert not any(row.regression or row.notes for row in rows)


@pytest.mark.parametrize("disagree", [([1.3, 0.9, 1.2], "feed"), ([1.0, 2.5, 1.5], "other")])
def test_replicates_that_disagree_show_no_significant_difference(folder, disagree):
    """Also where one of three is the same and the data of the others differ."""
    factors, prefix = disagree
    b = [*run(scaled(factors))[:1], *run(scaled(factors), prefix=prefix)[1:]]
    assert w2(folder("a", run(BASE)), folder("b", b)).verdict == "no significant difference"


def test_what_rounding_moves_is_no_significant_difference_however_often_it_repeats(folder):
    a = folder("a", run(BASE))
    assert w2(a, folder("b", run(scaled([1.0005] * 3)))).verdict == "no significant difference"
    assert w2(a, folder("c", run(scaled([1.002] * 3)))).verdict == "worse"
    assert w2(a, folder("d", run(scaled([0.9995] * 3)))).verdict == "no significant difference"
    assert w2(a, folder("e", run(scaled([0.998] * 3)))).verdict == "better"


def test_too_few_replicates_have_no_verdict_unless_they_are_equal(folder):
    a, b = folder("a", run(BASE[:2])), folder("b", run([0.2, 0.4]))
    number = w2(a, b)
    assert (number.verdict, number.ratio.why) == ("too few replicates", "2 replicates")
    assert number.ratio.mean == pytest.approx(2)
    assert w2(a, folder("c", run(BASE))).verdict == "the same"  # the two that both have
    assert w2(a, folder("d", run([0.1]))).verdict == "the same"
    assert w2(a, folder("e", run([0.1, 0.2, 0.9], prefix="other"))).verdict == "too few replicates"


def test_zero_has_no_ratio_but_an_interval(folder):
    a, b = folder("a", run([0.0, 0.0, 0.0])), folder("b", run([0.1, 0.2, 0.3]))
    number = w2(a, b)
    assert (number.verdict, number.ratio.why, number.a.n) == ("worse", "not paired", 3)
    assert (math.isnan(number.ratio.mean), w2(a, a).verdict) == (True, "the same")


def test_a_replicate_that_fails_in_b_alone_is_a_regression_and_has_no_numbers(folder):
    failed = [{"status": status} for status in ("ok", "diverged", "ok", "ok")]
    worse = [record | status for record, status in zip(run([*BASE, 0.3]), failed, strict=True)]
    a, b = folder("a", run([*BASE, 0.3])), folder("b", worse)
    status = compared(a, b)[0]
    assert (status.a, status.b, status.verdict) == ("4 ok", "1 diverged, 3 ok", "failed in B")
    assert (w2(a, b).verdict, w2(a, b).b.n) == ("the same", 3)
    assert regressed(a, b) == ["status"]
    assert (statuses(b, a), regressed(b, a)) == (["better"], [])
    assert statuses(b, b) == ["the same"]


@pytest.mark.parametrize(
    ("before", "after"), [(("ok",) * 3, ("error",) * 3), (("timeout", "ok", "ok"), ("ok", "timeout", "ok"))]
)  # fmt: skip
def test_any_replicate_that_fails_in_b_alone_counts_whatever_became_of_the_others(folder, before, after):
    a, b = ([record | {"status": s} for record, s in zip(run(BASE), of, strict=True)] for of in (before, after))
    assert statuses(folder("a", a), folder("b", b)) == ["failed in B"]


@pytest.mark.parametrize(
    "change",
    [{"study": "noise"}, {"profile": "small", "planned": 9}, {"problem": "other"}, {"sigma": 2.0},
     {"method": "mixture"}, {"discrepancy": "kl"}, {"setting": "tuned"}],
)  # fmt: skip
def test_what_makes_another_run(folder, change):
    a, b = folder("a", run(BASE)), folder("b", run(BASE), run([0.9, 0.9, 0.9], **change))
    assert sorted(statuses(a, b)) == ["only in B", "the same"]
    (other,) = (row for row in compared(a, b) if row.verdict == "only in B")
    assert (other.quantity, other.a, other.b) == ("status", "—", "3 ok")
    assert (sorted(statuses(b, a)), regressed(b, a)) == (["only in A", "the same"], [])


def test_runs_are_in_the_order_of_their_numbers_and_none_in_common_is_an_error(folder):
    c = folder("c", *(run(BASE, setting=f"K={k}") for k in (10, 9, 100, 2)))
    assert list(dict.fromkeys(row.run.setting for row in compared(c, c))) == ["K=2", "K=9", "K=10", "K=100"]
    a, b = folder("a", run(BASE)), folder("b", run(BASE, sigma=2.0))
    with pytest.raises(ValueError, match=r"none of the 1 runs of A is among the 1 of B \(wanted the same study"):
        compared(a, b)


def test_where_a_machine_keeps_a_structure_does_not_matter(folder):
    def at(path):
        return run(BASE, config=configured("adk", structure=path))

    a, b, c = folder("a", at("/here/4ake.pdb")), folder("b", at("/there/4ake.pdb")), folder("c", at("/here/2iop.pdb"))
    status = compared(a, b)[0]
    assert (status.verdict, status.notes) == ("the same", ())
    with pytest.raises(ValueError, match="nothing to compare"):
        compared(a, c)


def test_options_of_the_method_may_differ_and_are_named(folder):
    rate = {"optimizer": {"name": "adam", "learning_rate": 0.001}}
    a = folder("a", run(BASE, options=rate))
    b = folder("b", run(BASE, options={"optimizer": rate["optimizer"] | {"learning_rate": 0.01}}, planned=300))
    changed = ("method.options.optimizer.learning_rate: 0.001 → 0.01", "steps: 25000 → 300")
    assert compared(a, b)[0].notes == changed
    assert "learning_rate: 0.001 → 0.01" in page_of(a, b)


def test_of_two_configurations_under_one_name_the_younger_counts(folder):
    old = run([0.9, 0.9, 0.9], planned=10, created="2025-01-01T00:00:00Z")
    new = run(scaled([1.2, 1.25, 1.3]), created="2025-01-02T00:00:00Z")
    a, b = folder("a", run(BASE)), folder("b", new, old)
    assert w2(a, b).b.median == pytest.approx(0.25)
    left_out = compare_page.read(a, b)[0].b.skipped
    assert [why for _, why in left_out] == ["a younger configuration of this setting exists"] * 3


def test_metrics_that_one_side_lacks_are_named(folder):
    a = folder("a", run(BASE, metrics={"w1": 0.1, "w2": 0.2}))
    b = folder("b", run(BASE, metrics={"w2": 0.2, "energy_distance_squared": 0.1}))
    assert verdicts(a, b) == {
        "status": "the same", "w1": "only in A", "w2": "the same", "energy_distance_squared": "only in B",
        "seconds": "the same",
    }  # fmt: skip


def test_over_the_floor_is_judged_only_where_the_floor_moved(folder):
    def floors(median):
        return {"w2": {"median": median, "q05": 0.5 * median, "q95": 2 * median, "n": 10_000}}

    a = folder("a", run(BASE, data_floors=floors(0.1)))
    b = folder("b", run(BASE, data_floors=floors(0.05)))
    c = folder("c", run(BASE, data_floors=floors(0.100001)))
    assert verdicts(a, b) == {"status": "the same", "w2": "the same", "w2 ÷ floor": "worse", "seconds": "the same"}
    (moved,) = regressions(compared(a, b))
    assert moved.ratio.mean == pytest.approx(2)
    assert list(verdicts(a, c)) == ["status", "w2", "seconds"]


def slower(**changes) -> list[dict]:
    return [
        record | {"run_seconds": seconds} for record, seconds in zip(run(BASE, **changes), (9, 10, 11), strict=True)
    ]


@pytest.mark.parametrize(
    ("here", "there", "regress"),
    [(HERE, HERE, ["seconds"]), (HERE, HERE | {"cpu": "another"}, []), (HERE, HERE | {"threads": 8}, []),
     (HERE, HERE | {"device": "gpu"}, []), (HERE | {"cpu": None}, HERE | {"cpu": None}, [])],
)  # fmt: skip
def test_seconds_are_a_regression_on_one_machine_alone(folder, here, there, regress):
    """Machines that nobody named may differ."""
    a, b = folder("a", run(BASE, environment=here)), folder("b", slower(environment=there))
    assert verdicts(a, b)["seconds"] == "worse"
    assert regressed(a, b) == regress
    page = page_of(a, b)
    assert ("no regression: other machine" in page) == (not regress)
    assert ("Both sides name the same machine" in page) == bool(regress)


def test_errors_of_runs_that_stop_by_the_clock_hang_on_the_machine(folder):
    def timed(w2s, machine):
        config = configured("oned") | {"stop_after_seconds": 5.0}
        return [record | {"config": config, "run_seconds": 5.0 + w2} for w2, record in
                zip(w2s, run(w2s, environment=machine), strict=True)]  # fmt: skip

    a, worse = folder("a", timed(BASE, HERE)), scaled([1.2, 1.25, 1.3])
    b, c = folder("b", timed(worse, HERE)), folder("c", timed(worse, HERE | {"cpu": "another"}))
    assert verdicts(a, b) == {"status": "the same", "w2": "worse"}
    assert regressed(a, b) == ["w2"]
    assert "stops after so many seconds" in page_of(a, a)
    assert (w2(a, c).verdict, regressed(a, c)) == ("worse", [])


def test_what_chance_would_move_is_counted_without_what_is_equal(folder):
    ours = [run(BASE, setting=f"K={k}", run_seconds=1.0) for k in range(10)]
    theirs = [run(scaled([1.3, 0.9, 1.2]) if k else BASE, setting=f"K={k}", run_seconds=1.0) for k in range(10)]
    (comparison,) = compare_page.read(folder("a", *ours), folder("b", *theirs))
    text = printed(comparison)
    assert "Of the errors, 9 have an interval and are not the same" in text
    assert "at most about 0.45 would be “worse” and as many “better” (5 % each" in text
    assert "Errors and statuses: 9 no significant difference, 11 the same." in text
    assert "Seconds: 10 the same." in text


def test_the_terminal_lists_what_moved_and_takes_nothing_for_markup(folder):
    odd, same = "[bold]odd[/bold] [/]", [run(BASE, setting=name) for name in ("calm", "lost", "cured")]
    a = folder("[bold]a", run(BASE, setting=odd), *same)
    worse, better = run(scaled([1.2, 1.25, 1.3]), setting=odd), run(scaled([0.8, 0.75, 0.7]), setting="cured")
    b = folder("b", worse, same[0], run(BASE, setting="lost", status="error"), better)
    text = printed(compare_page.read(a, b)[0])
    assert text.startswith(f"A: {a}: 12 records, 0 left out\n")
    rows = [line for line in text.splitlines() if "│" in line]
    assert [re.split(" *│ *", row.rstrip()) for row in rows] == [
        ["failed in B", "paper-1d (paper), oned: flow energy, lost: status", "3 ok → 3 error", "—"],
        ["worse", f"paper-1d (paper), oned: flow energy, {odd}: w2", "0.2 → 0.25", "1.249 [1.168, 1.337]"],
        ["better", "paper-1d (paper), oned: flow energy, cured: w2", "0.2 → 0.15", "0.749 [0.669, 0.838]"],
    ]
    assert "Regressions from A to B: 2." in text
    assert "Nothing moved" not in text
    assert "Nothing moved beyond its interval." in printed(compare_page.read(a, a)[0])


def test_the_page_stands_alone_and_escapes_what_records_say(folder):
    evil = '<script>alert("x")</script>'
    fields = {"setting": evil, "problem": evil, "created": evil, "method": evil, "profile": evil, "study": "odd"}
    a = folder("<b>a", run(BASE, environment={evil: evil}, options={evil: 1, "x": 1}, **fields))
    b = folder("b", run(scaled([1.2, 1.25, 1.3]), environment={evil: "&"}, options={evil: 2, "x": evil}, **fields))
    (a / "odd" / "<script>.json").write_text("{")
    page = page_of(a, b, command=evil)
    assert page.count("<script") == 1  # that of the page
    assert "<b>a" not in page
    assert page.count("&lt;script&gt;") > 10
    assert not re.search(r"<(link|img|iframe|object)|@import|(src|href)=\"(https?:)?//|url\(http", page)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)


def test_the_page_holds_every_number_and_names_what_was_left_out(folder):
    a = folder("a", run(BASE), run(BASE, setting="gone"))
    b = folder("b", run(scaled([1.2, 1.25, 1.3]), environment=HERE | {"jax": "9.9"}))
    (b / "paper-1d" / "cut.json").write_text('{"schema": 1')
    page = page_of(a, b)
    assert all(words in page for words in ("paper-1d/cut.json", "Left out: 1."))
    table = page[page.index('<section id="numbers">') : page.index('<section id="rules">')]
    rows = re.findall(r'<th scope="row">(.*?)</th>.*?<span class="verdict [^"]*">(.*?)</span>', table, flags=re.DOTALL)
    assert sorted(rows) == [
        ("seconds", "the same"), ("status", "only in A"), ("status", "the same"), ("w2", "worse")
    ]  # fmt: skip
    assert '<td class="text">—</td><td class="text head">9.9</td>' in page
    assert "n_observations 10000, noise_std 1.5" in page
    assert page.count("3 pairs") == 2  # where it moved, and among all
    assert "[0.11, 0.38], 2.63 × floor</small></td>" in page
    assert '<td data-label="B">0.25<small class="finding">[0.133, 0.493], 3.29 × floor</small></td>' in page
    assert "Regressions from A to B: 1." in page
    assert page.count('<span class="verdict only-in-A">') == 3  # total, section, run


def test_records_of_two_codes_are_compared_though_never_pooled(folder):
    """A folder is read by itself: what its youngest code made is set against what the other's made."""
    a = folder("a", run(BASE, identity={"engine": "old"}))
    shutil.copytree(a, a.with_name("b"))
    for path in (a.with_name("b") / "paper-1d").glob("*.json"):
        record = json.loads(path.read_text())
        record["identity"]["engine"] = "new"
        path.write_text(json.dumps(record))
    assert w2(a, a.with_name("b")).verdict == "the same"
