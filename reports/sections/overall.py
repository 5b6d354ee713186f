"""All methods over all problems: mean ranks with a critical difference, and the performance profile."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.schema import Array
from cryosip.reports import ranking
from cryosip.reports.ranking import LEVEL, TAU_MAX, Friedman
from cryosip.reports.section import Table
from cryosip.reports.sections.budgets import listed, p_value
from cryosip.reports.spreads import MIN_REPLICATES, Estimate
from cryosip.reports.style import INK, Plot, SeriesStyle, draw, log_axes, named_style
from cryosip.reports.tables import number

Ratios = Mapping[str, Mapping[str, Mapping[int, float]]]  # by problem and method, the errors of its replicates
TAUS = np.geomspace(1.0, TAU_MAX, 61)
RULE = (
    "On each problem the methods are ranked by their medians, 1 the nearest to the truth; those that failed share the "
    "last ranks. Ranked is the largest complete table, of problems on which all of its methods ran, over the "
    "replicates that all of them have. Mean ranks are tested by Friedman's test, with permutations, and where it finds "
    f"a difference by Nemenyi's critical difference, at a level of {100 * LEVEL:.0f} %. The profile is the share of "
    "replicates, all problems weighing the same, in which a method is within a factor τ of the best on the same data; "
    f"its area is that below the profile for log τ up to log {TAU_MAX:g}, 1 for a method that is always the best. "
    "Intervals hold 90 %, for the mean over many more problems such as these: Student's t over problems, and at least "
    f"the scatter of a bootstrap of the replicates. There is none for fewer than {MIN_REPLICATES} problems, and for "
    "fewer than ten it may hold as little as 80 %."
)


class Ranked(NamedTuple):
    """One method: its rank on each problem, their mean, and the area below its performance profile."""

    style: SeriesStyle
    ranks: dict[str, float]
    mean_rank: Estimate
    area: Estimate


class Overall(NamedTuple):
    """The ranking, the best first; `errors` has a table (replicates, methods) for each problem."""

    problems: list[str]
    methods: list[Ranked]
    errors: list[Array]
    friedman: Friedman
    critical_difference: float
    groups: list[tuple[int, int]]
    sentence: str
    left_out: str


def overall(ratios: Ratios) -> Overall | None:
    """The ranking over all problems, None where no two of them have two methods in common."""
    problems, methods = complete(ratios)
    tables = {problem: _shared(ratios[problem], methods) for problem in problems}
    problems = [problem for problem in problems if len(tables[problem])]
    if len(problems) < 2 or len(methods) < 2:
        return None
    errors = [tables[problem] for problem in problems]
    places, areas = ranking.mean_ranks(errors), ranking.areas(errors)
    order = sorted(range(len(methods)), key=lambda at: (places[at].value, methods[at]))
    by_problem = np.array([ranking.rank_scores(own) for own in errors])
    ranked = [
        Ranked(
            named_style(methods[at]),
            dict(zip(problems, by_problem[:, at].tolist(), strict=True)),
            places[at],
            areas[at],
        )
        for at in order
    ]
    test = ranking.friedman(by_problem)
    width = ranking.critical_difference(len(methods), len(problems))
    groups = ranking.level_groups([row.mean_rank.value for row in ranked], width if test.p <= LEVEL else math.inf)
    found = Overall(problems, ranked, [own[:, order] for own in errors], test, width, groups, "", "")
    return found._replace(sentence=_sentence(found), left_out=_left_out(ratios, problems, methods))


def complete(ran: Mapping[str, Collection[str]]) -> tuple[list[str], list[str]]:
    """The largest table of problems on which all of its methods ran; of two, that with more problems."""
    on = {m: frozenset(p for p in ran if m in ran[p]) for m in sorted({m for own in ran.values() for m in own})}
    sets = set(on.values())
    while more := {a & b for a in sets for b in sets} - sets:
        sets |= more
    tables = [([p for p in ran if p in chosen], [m for m in on if chosen <= on[m]]) for chosen in sets]
    return max(tables, key=lambda t: (len(t[0]) * len(t[1]), len(t[0]), t[1]), default=([], []))


def _shared(of_methods: Mapping[str, Mapping[int, float]], methods: Sequence[str]) -> Array:
    """(replicates, methods) errors of the replicates of which all methods have a number; inf is one, nan is none."""
    known = [{r for r, error in of_methods[method].items() if not math.isnan(error)} for method in methods]
    replicates = sorted(set.intersection(*known)) if known else []
    return np.array([[of_methods[method][r] for method in methods] for r in replicates]).reshape(-1, len(methods))


def _left_out(ratios: Ratios, problems: Sequence[str], methods: Sequence[str]) -> str:
    others = sorted({method for own in ratios.values() for method in own} - set(methods))
    parts = [f"{method}, which did not run on {listed([p for p in problems if method not in ratios[p]])}"
             for method in others if any(method not in ratios[p] for p in problems)]  # fmt: skip
    for problem in (problem for problem in ratios if problem not in problems):
        absent = [method for method in methods if method not in ratios[problem]]
        why = f"on which {listed(absent)} did not run" if absent else "of which they share no replicate"
        parts.append(f"the problem {problem}, {why}")
    return f"Not ranked: {'; '.join(parts)}." if parts else ""


def _sentence(found: Overall) -> str:
    """What may be concluded over all problems, and how many would be needed for the rest."""
    names = [row.style.label for row in found.methods]
    means = [row.mean_rank.value for row in found.methods]
    over = f"Over {len(found.problems)} problems"
    level = next((last for first, last in found.groups if first == 0), 0)
    if level == len(names) - 1:
        width = f"critical difference {number(found.critical_difference)} at a level of {100 * LEVEL:.0f} %"
        why = f"Friedman's test p {p_value(found.friedman.p)}, {width}"
        span = f"from {number(means[0])} ({names[0]}) to {number(means[-1])} ({names[-1]})"
        those = f"the mean ranks, {span}, do not differ significantly" if means[0] < means[-1] else "all tie"
        said = f"{over} no overall ranking is decided: {those} ({why})"
    else:
        but = f" but not before {listed(names[1 : level + 1])}" if level else ""
        said = (f"{over} {names[0]} ranks first, significantly before {listed(names[level + 1 :])}{but} (mean rank "
                f"{number(means[0])}, critical difference {number(found.critical_difference)})")  # fmt: skip
    return f"{said}{_more_problems(found, level)}"


def _more_problems(found: Overall, level: int) -> str:
    if level == 0:
        return ""
    first, second = found.methods[:2]
    difference = second.mean_rank.value - first.mean_rank.value
    needed = ranking.problems_needed(len(found.methods), difference)
    if math.isinf(needed):
        both = f"{first.style.label} and {second.style.label}"
        return f"; {both} have the same mean rank, so no number of problems can be given"
    return (f"; at the difference seen, about {needed:,.0f} problems would separate {first.style.label} from the "
            f"second, {second.style.label}")  # fmt: skip


def plots(found: Overall) -> list[Plot]:
    """The critical-difference diagram and the performance profile."""
    return [_diagram(found), _profile(found)]


def _diagram(found: Overall) -> Plot:
    k, width = len(found.methods), found.critical_difference
    top = -0.5 - 0.45 * len(found.groups)
    half = (k + 1) // 2
    left, right = 1 - 0.12 * (k - 1), k + 0.12 * (k - 1)

    def paint(ax: Axes) -> None:
        ax.plot([1, k], [0, 0], color=INK, linewidth=1.2)
        for rank in range(1, k + 1):
            ax.plot([rank, rank], [0, 0.18], color=INK, linewidth=1.0)
            ax.text(rank, 0.3, str(rank), ha="center", va="bottom")
        ax.plot(
            [1, 1, 1, 1 + width, 1 + width, 1 + width], [1.25, 1.55, 1.4, 1.4, 1.55, 1.25], color=INK, linewidth=1.2
        )
        ax.text(1 + width / 2, 1.75, f"critical difference {number(width)}", ha="center", va="bottom")
        for place, row in enumerate(found.methods):
            best, depth = place < half, place if place < half else k - 1 - place
            x, y, edge = row.mean_rank.value, top - 0.75 * depth, left if best else right
            ax.plot([x, x, edge], [0, y, y], color=row.style.colour, linewidth=1.1)
            ax.plot([x], [0], marker=row.style.marker, color=row.style.colour, markersize=6, linestyle="")
            name, side = f"{row.style.label} {x:.2f}", -1 if best else 1
            ax.text(edge + 0.03 * (k - 1) * side, y, name, ha="right" if best else "left", va="center")
        for at, (first, last) in enumerate(found.groups):
            ends = [found.methods[first].mean_rank.value - 0.04, found.methods[last].mean_rank.value + 0.04]
            ax.plot(ends, [-0.4 - 0.45 * at] * 2, color=INK, linewidth=4.0, solid_capstyle="butt")
        pad = 0.86 * (k - 1)
        ax.set(xlim=(1 - pad, k + pad), ylim=(top - 0.75 * (half - 1) - 0.5, 2.6))
        ax.set_axis_off()

    caption = (
        "Mean ranks over problems, 1 the nearest to the truth, at the longest budget of seconds. A bar joins methods "
        f"without a significant difference at a level of {100 * LEVEL:.0f} % (Friedman, Nemenyi)."
    )
    rows = [[row.style.label, *row.mean_rank, width] for row in found.methods]
    columns = ["method", "mean rank", "low", "high", "problems", "critical difference"]
    height = 1.3 + 0.25 * half + 0.12 * len(found.groups)
    drawing = draw("board-ranks", paint, (5.0, height))
    return Plot("board-ranks", "Mean ranks over all problems", caption, drawing, columns, rows)


def _profile(found: Overall) -> Plot:
    shares = ranking.profile(found.errors, TAUS)

    def paint(ax: Axes) -> None:
        for row, own in zip(found.methods, shares.T, strict=True):
            ax.step(TAUS, own, where="post", color=row.style.colour, linewidth=1.6,
                    marker=row.style.marker, markersize=4, markevery=15,
                    label=f"{row.style.label}, area {row.area.value:.2f}")  # fmt: skip
        log_axes(ax, "x")
        ax.set(xlim=(1, TAU_MAX), ylim=(-0.02, 1.02), xlabel="factor τ", ylabel="share within τ × the best")

    caption = (
        "The share of replicates in which a method's W2 is within τ times that of the best method on the same data, at "
        "the longest budget of seconds; all problems weigh the same, and a failure is within no factor."
    )
    rows = [
        [row.style.label, *pair]
        for row, own in zip(found.methods, shares.T.tolist(), strict=True)
        for pair in zip(TAUS.tolist(), own, strict=True)
    ]
    return Plot("board-profile", "Performance profile", caption, draw("board-profile", paint),
                ["method", "tau", "share"], rows)  # fmt: skip


def ranking_table(found: Overall) -> Table:
    """The mean ranks and areas with their intervals, as a file."""
    header = ["method", "mean_rank", "low", "high", "area", "area_low", "area_high", "problems",
              *(f"rank_{problem}" for problem in found.problems)]  # fmt: skip
    rows = [
        [r.style.label, *r.mean_rank[:3], *r.area[:3], r.mean_rank.n, *(r.ranks[problem] for problem in found.problems)]
        for r in found.methods
    ]
    return [header, *rows]
