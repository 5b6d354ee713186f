"""The board: it follows the numbers, says who failed, and is read in light and in dark."""

import io
import math
import re
from pathlib import Path

import pytest
from compared_runs import scattered
from rich.console import Console

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections import board, budgets, overall

READABLE = 4.5  # the contrast of text that WCAG 2 asks for at level AA


def boards(results):
    return {b.problem: b for b in board.boards(read_records(results)[0])}


def ranking_of(results):
    found = list(boards(results).values())
    return found, board.over_all(found)


@pytest.fixture
def three(compared):
    """A winner on the nanocluster, two without a significant difference and one that failed on the line."""
    compared("flow", [[9, 5], [9, 3], [9, 4.1], [9, 4.1]], setup=0.5)
    compared("mixture", [[9, 3], [9, 5], [9, 4], [9, 3]])
    compared("reweighting", [[2]] * 4, status=("error",) * 4)
    compared("mixture", scattered([9, 6, 5, 4]), problem="nanocluster")
    compared("reweighting", scattered([9, 3, 2, 1.1]), problem="nanocluster")


def test_the_board_has_ranks_ratios_and_seconds(three, results):
    found = boards(results)
    assert list(found) == ["oned", "nanocluster"]
    entries = {e.method: e for e in found["oned"].entries}
    assert [entries[m].rank for m in ("mixture", "flow", "reweighting")] == [1, 2, 3]
    assert entries["mixture"].ratio.median == pytest.approx(3.5)
    assert (entries["flow"].seconds.median, entries["mixture"].seconds.median) == (2.5, 2.0)
    assert (entries["reweighting"].notes, entries["reweighting"].solved) == ("4 of 4 failed", False)
    assert [e.mark for e in found["oned"].entries] == ["tied", "tied", ""]
    assert found["oned"].winner == "no significant difference"
    assert [(e.method, e.mark, e.shade) for e in found["nanocluster"].entries] == [
        ("reweighting", "winner", 0),
        ("mixture", "", 3),
    ]
    assert found["nanocluster"].winner == "reweighting"


def test_one_that_is_not_beaten_keeps_the_first_from_winning_though_the_runner_up_is(compared, results):
    compared("flow", [[2.0], [2.1], [1.9], [2.0]])
    compared("mixture", [[3.0], [3.1], [2.9], [3.0]])
    compared("reweighting", [[1.0], [3.2], [9.0], [9.0]])
    (found,) = boards(results).values()
    assert found.winner == "no significant difference"
    assert found.sentence.startswith("No significant difference between flow and reweighting: flow leads with W2 2 × ")
    compared("posterior-npmle", [[40.0]] * 4, status=("ok", "ok", "ok", "error"))
    assert boards(results)["oned"].winner == "no significant difference"


def test_a_far_method_with_a_failure_does_not_keep_the_first_from_winning(compared, results):
    compared("flow", scattered([2.0]))
    compared("mixture", scattered([3.0]))
    compared("posterior-npmle", [[40.0]] * 5, status=("ok", "ok", "ok", "ok", "error"))
    assert boards(results)["oned"].winner == "flow"


def test_what_is_undecided_has_no_frame(compared, results):
    compared("flow", [[2.0]])
    compared("mixture", [[3.0]])
    (found,) = boards(results).values()
    assert (found.winner, [e.mark for e in found.entries]) == ("undecided", ["", ""])


def test_the_terminal_shows_the_board_and_the_sentence(three, results):
    out = io.StringIO()
    board.show(list(boards(results).values()), Console(file=out, width=100))
    lines = [re.sub(r" +", " ", line).strip() for line in out.getvalue().splitlines()]
    assert lines[1] == "oned, budget of 8 s"
    assert lines[2].split(" ")[:3] == ["rank", "method", "W2"]
    assert lines[3].startswith("1 mixture 3.5 [3, 4.85] 2")
    assert lines[5] == "3 reweighting no estimate — 4 of 4 failed"
    assert lines[6].startswith("start 21.1 [21.1, 21.1]")
    assert lines[7] == "truth-sample 1 [0.447, 2.04]"
    assert lines[8] == "best-weights 0.263 [0.263, 0.263] points of flow"
    assert lines[9].startswith("No significant difference between mixture and flow: mixture leads with W2 3.5 ")
    assert any(line.startswith("reweighting wins with W2 1.") for line in lines[10:])
    assert lines[lines.index("all problems") + 1].startswith("Over 2 problems no overall ranking is decided: ")


def test_what_another_engine_made_is_marked(compared, results):
    compared("flow", [[2.0], [2.1], [1.9], [2.0]], created="2025-01-01", identity={"engine": "older"})
    compared("mixture", [[3.0], [3.1], [2.9], [3.0]], created="2025-01-02", identity={"engine": "newer"})
    found = list(boards(results).values())
    assert {e.method: e.engine.strip() for e in found[0].entries} == {"flow": "†", "mixture": ""}
    out = io.StringIO()
    board.show(found, Console(file=out, width=100))
    assert "flow †" in out.getvalue()
    assert out.getvalue().rstrip().endswith(board.OTHER_ENGINE)
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    assert "†</b>" in text
    assert f"{board.OTHER_ENGINE}:" in text
    assert "newer (4); older (4)" in text


def test_without_the_comparison_there_is_no_board(write, results):
    write()
    out = io.StringIO()
    found = board.boards(read_records(results)[0])
    board.show(found, Console(file=out))
    assert (found, out.getvalue()) == ([], "")


def test_the_page_opens_with_the_board(three, results):
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    order = [text.index(place) for place in ('<section id="board">', "<nav", '<section id="summary">')]
    assert order == sorted(order)
    start = text.index('<table class="board">')
    table = re.sub(r"\s+", " ", text[start : text.index("</table>", start)])
    assert '<td class="heat shade-0 winner" data-label="reweighting"><b>1.' in table
    assert '<td class="heat none" data-label="reweighting"><b>failed</b><small>4 of 4 failed</small></td>' in table
    assert '<td class="heat none" data-label="flow"><small>not run</small></td>' in table
    assert table.count(" tied") == 2
    words = text[text.index("In words", start) : text.index("</details>", start)]
    assert "<b>oned</b>: No significant difference" in words


def test_what_was_not_run_is_counted_and_folded(write, results):
    write()
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    folded = re.findall(r"<details.*?</details>", text, flags=re.DOTALL)
    open_text = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    count = re.search(r"Not run: (\d+) of the (\d+) numbers", text)
    assert count
    assert 0 < int(count[1]) < int(count[2])
    (table,) = (part for part in folded if 'class="paper"' in part)
    assert table.count('data-label="Verdict"') == int(count[1])
    assert open_text.count('data-label="Verdict"') == int(count[2]) - int(count[1])
    assert "verdict not-run" in open_text  # the count
    assert open_text.count("verdict not-run") == 1
    for name in ("scaling", "consistency", "protein", "otd-vs-dto"):
        assert f'<section id="{name}">' not in text
        assert f'href="#{name}"' not in text
    (listed,) = (part for part in folded if 'id="not-run"' in part)
    assert "run the study scaling" in listed


def test_every_budget_of_either_unit_is_on_the_page_and_the_longest_is_shown(three, results):
    shown = board.views(read_records(results)[0])
    assert [view.label for view in shown] == [
        "the longest, in seconds", "the longest, in forward evaluations", "2 s", "8 s", "100 forward evaluations",
    ]  # fmt: skip
    early = {e.method: e.ratio.median for e in shown[2].boards[0].entries}
    assert early == pytest.approx({"mixture": 3.5, "flow": 9, "reweighting": math.inf})  # the flow's setup takes time
    assert shown[4].boards[0].entry("flow").ratio.median == pytest.approx(4.1)  # but no evaluation
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    assert text.count('<input type="radio" name="board-budget"') == text.count('<table class="board">') == 5
    assert len(re.findall(r'name="board-budget" id="board-budget-\d" checked', text)) == 1
    for line in ("oned,seconds,2.0,1,mixture,3.5,", "oned,forward_evaluations,100.0,,start,21.05"):
        assert line in (results.parent / "out" / "board.csv").read_text(encoding="utf-8")


def test_budgets_of_seconds_come_before_those_of_evaluations(compared, results):
    compared("flow", scattered([2.0]), own={"seconds": [200.0], "forward_evaluations": [100.0]})
    labels = [view.label for view in board.views(read_records(results)[0])]
    assert labels[2:] == ["200 s", "100 forward evaluations"]


def test_a_budget_is_chosen_by_click_and_by_key_without_a_script(three, results, browser):
    page_file = page.build(results, results.parent / "out")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page_file.as_uri())
        views = browser.find_elements("css selector", "#board .view")
        assert [view.is_displayed() for view in views] == [True, False, False, False, False]
        browser.find_element("css selector", "label[for=board-budget-3]").click()
        assert [view.is_displayed() for view in views] == [False, False, True, False, False]
        browser.find_element("id", "board-budget-3").send_keys("\ue014")  # the right arrow
        assert [view.is_displayed() for view in views] == [False, False, False, True, False]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert all(view.is_displayed() for view in views)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_seconds_of_several_machines_are_marked_and_named(compared, results):
    compared("flow", scattered([2.0]), environment={"device": "gpu A100", "threads": 4})
    compared("mixture", scattered([3.0]))
    compared("reweighting", scattered([4.0]))
    (found,) = boards(results).values()
    assert {e.method: e.machine.strip() for e in found.entries} == {"flow": "‡", "mixture": "", "reweighting": ""}
    assert found.machines.startswith("Seconds are of the 10 runs on one machine (cpu); those of 5 runs on 1 other ")
    assert [math.isnan(e.seconds.median) for e in found.entries] == [True, False, False]
    shown = board.views(read_records(results)[0])
    assert not any(b.machines or e.machine for b in shown[1].boards for e in b.entries)  # evaluations do compare
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    assert "‡</b>" in text
    assert "The runs are of 2 machines: what is reached within so many seconds does not compare" in text


def test_one_machine_is_not_spoken_of(three, results):
    assert not any(b.machines or e.marks for b in boards(results).values() for e in b.entries)


def test_methods_from_outside_are_no_dto(compared, results):
    assert budgets.families(["flow"]) == "flow is OTD"
    compared("flow", scattered([2.0]))
    compared("mixture", scattered([3.0]))
    compared("reweighting", scattered([3.5]))
    compared("nearest", scattered([4.0]))
    text = " ".join(page.build(results, results.parent / "out").read_text(encoding="utf-8").split())
    assert text.count("flow is OTD; mixture and reweighting are DTO; nearest is from outside") == 2  # sections


def test_what_is_undecided_says_how_many_replicates_it_takes(compared, results):
    compared("flow", scattered([2.0], 0.3))
    compared("mixture", scattered([2.2], 0.3))
    (found,) = boards(results).values()
    assert found.winner == "no significant difference"
    needed = found.needed[found.entries[1].method]
    assert needed > 5
    assert f"{found.entries[1].method} about {needed:,.0f}" in found.more
    assert f"oned would take about {needed:,.0f} replicates (5 now)" in board.conclusion([found], None)


def test_a_known_order_on_many_problems_is_found(compared, results):
    for problem in range(12):
        for place, method in enumerate(("flow", "mixture", "reweighting")):
            compared(method, scattered([1.1 + place + 0.01 * problem]), problem=f"p{problem}")
    found, ranking = ranking_of(results)
    assert [row.style.label for row in ranking.methods] == ["flow", "mixture", "reweighting"]
    assert [row.mean_rank.value for row in ranking.methods] == [1, 2, 3]
    assert [row.area.value for row in ranking.methods] == sorted((r.area.value for r in ranking.methods), reverse=True)
    assert ranking.groups == []
    sentence = board.conclusion(found, ranking)
    assert sentence.startswith("Over 12 problems flow ranks first, significantly before mixture and reweighting (mean")
    assert "; on single problems, flow wins on p0, p1, p10, " in sentence
    assert overall.ranking_table(ranking)[1][:4] == ["flow", 1, 1, 1]


def test_on_few_problems_nothing_is_decided_over_all_and_it_says_so(three, results):
    found, ranking = ranking_of(results)
    assert ranking.problems == ["oned", "nanocluster"]
    assert [row.style.label for row in ranking.methods] == ["mixture", "reweighting"]
    assert ranking.left_out == "Not ranked: flow, which did not run on nanocluster."
    assert ranking.groups == [(0, 1)]
    sentence = board.conclusion(found, ranking)
    assert sentence.startswith("Over 2 problems no overall ranking is decided: all tie (Friedman's test p = 1,")
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    assert sentence.replace("'", "&#39;") in text
    assert ranking.left_out in text


def test_one_problem_is_not_ranked_over_all(compared, results):
    compared("flow", scattered([2.0]))
    compared("mixture", scattered([3.0]))
    found, ranking = ranking_of(results)
    assert ranking is None
    assert board.conclusion(found, ranking) == "On single problems, flow wins on oned."
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    assert "Nothing is ranked over all problems" in text
    assert not (results.parent / "out" / "ranking.csv").exists()


def luminance(colour: str) -> float:
    """Of #rrggbb, as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_is_readable_on_every_shade(mode):
    css = Path(page.__file__).with_name("page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in css.split("@media", 2)[:2])
    colours = light if mode == "light" else light | dark
    names = [f"shade-{i}" for i in range(len(board.SHADES) + 1)]
    assert all(f".{name} {{ background: var(--{name}); }}" in css for name in names)
    assert len({colours[name] for name in names}) == len(names)
    for name in names:
        bright, dim = sorted((luminance(colours["ink"]), luminance(colours[name])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) > READABLE, name


def test_every_shade_is_reached():
    entry = board.Entry(1, "flow", budgets.spread([1.0]), budgets.spread([1.0]), 0, 1, "")
    ratios = [1.0, *(bound * 1.01 for bound in board.SHADES)]
    assert [entry._replace(ratio=budgets.spread([x])).shade for x in ratios] == list(range(len(board.SHADES) + 1))
    assert len(board.shades()) == len(board.SHADES) + 1
