"""When a published number or statement counts as reproduced: pure rules, stated once and shown on the page."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from scipy import stats

from cryosip.reports.spreads import MIN_REPLICATES, prediction_range

Verdict = Literal["reproduced", "better", "worse", "ambiguous", "other size", "not run"]
Outcome = Literal["holds", "fails", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "better", "worse", "ambiguous", "other size", "not run")

RULES = (
    "A verdict needs runs at the published setting and size. Runs of the setting at another size are shown without, "
    "as “other size”.",
    "Distances: “reproduced” when the published value, which is a single run's, lies within the 90 % prediction range "
    "for one further run of ours, mean ± √(t²s²(1 + 1/R) + (f/2)²): s is the standard deviation over our R replicates, "
    "t the 95 % Student quantile with R − 1 degrees of freedom, and f the 5–95 % width of one estimate's metric over "
    "samples of the truth as large as the data, because the paper seems to have measured against such a sample. "
    "Outside it, “better” means that ours is lower, “worse” that ours is higher.",
    "Statements about cost: at one σ a statement holds when every replicate of the one side lies above every replicate "
    "of the other (chance 1 in 20 for 3 against 3 if there were no difference), with “not reached” above every number; "
    "costs grow when those at the largest σ lie above those at the smallest, with no such fall between neighbours. "
    "“Reproduced” when it holds at every σ it speaks of, “better” (lower cost than stated) or “worse” when it "
    "fails at every one, “ambiguous” otherwise.",
    "Variance formulas: “reproduced” when the 90 % intervals of the measured variances miss the formula no more often "
    "than chance allows (99 % quantile of the binomial distribution at 10 %).",
    f"“Ambiguous” also when fewer than {MIN_REPLICATES} replicates ran (no interval is drawn then), when a replicate "
    "failed, or when the paper's number has no single interpretation.",
)


def distance_verdict(published: float, ours: Sequence[float], sample_spread: float) -> Verdict:
    """Whether the published distance could have been one more of our runs; lower is better.

    See `prediction_range` for the range; fewer than MIN_REPLICATES values cannot decide: "ambiguous".
    """
    if not ours:
        return "not run"
    if len(ours) < MIN_REPLICATES:
        return "ambiguous"
    low, high = prediction_range(ours, sample_spread)
    if published > high:
        return "better"
    return "worse" if published < low else "reproduced"


def compare(lower: Sequence[float], higher: Sequence[float]) -> Outcome:
    """Whether all of `higher` lie above all of `lower` ("holds"), all below ("fails"), or neither; inf is allowed."""
    if min(len(lower), len(higher)) < MIN_REPLICATES:
        return "undecided"
    if min(higher) > max(lower):
        return "holds"
    return "fails" if max(higher) < min(lower) else "undecided"


def reached(costs: Sequence[float]) -> Outcome:
    """Whether every replicate reached the threshold, none did, or some did."""
    if len(costs) < MIN_REPLICATES:
        return "undecided"
    finite = [math.isfinite(cost) for cost in costs]
    if all(finite):
        return "holds"
    return "undecided" if any(finite) else "fails"


def grows(costs: Sequence[Sequence[float]]) -> Outcome:
    """Whether the last costs lie above the first with no separated fall between neighbours, or below them."""
    if len(costs) < 2:
        return "undecided"
    ends = compare(costs[0], costs[-1])
    falls = any(compare(a, b) == "fails" for a, b in itertools.pairwise(costs))
    return "undecided" if ends == "holds" and falls else ends


def statement_verdict(outcomes: Mapping[str, Outcome], contradicted: Literal["better", "worse"]) -> Verdict:
    """Fold a statement's outcomes at each place it speaks of into one verdict."""
    seen = set(outcomes.values())
    if not seen:
        return "not run"
    if seen == {"holds"}:
        return "reproduced"
    return contradicted if seen == {"fails"} else "ambiguous"


def formula_verdict(ratios: Sequence[float], misses: int) -> Verdict:
    """Whether 90 % intervals of measured variances miss their formula no more often than chance allows.

    `ratios` are measured / formula, `misses` counts the intervals that do not hold the formula.
    """
    if not ratios:
        return "not run"
    if misses <= stats.binom.ppf(0.99, len(ratios), 0.1):
        return "reproduced"
    return "worse" if sum(ratios) > len(ratios) else "better"
