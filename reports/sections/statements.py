"""The four statements of section 3: what was measured of each, a number with its interval, and whether it held."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cryosip.records.schema import Array, Record
from cryosip.reports.sections.verdicts import Outcome
from cryosip.reports.spreads import MIN_REPLICATES, Estimate, counted, estimate, grouped, mean_interval

RESOLVED = 10  # a gap counts where it is so many times as large as the duality gap of its optimum
AGREE, DIFFER = 1e3, 1e6  # ulps
PRECISIONS = ("float32", "float64")
OTHERS = {"mixture": "gradient descent on (3.5)", "written": "automatic differentiation of (3.5) written out"}
DISTANCES = {"w2": "W2", "energy_distance": "energy distance"}
NEEDED = {
    "large-data": {"n", "gap", "certificate"},
    "particle-number": {"k", "gap", "certificate", *DISTANCES},
    "prior-weight": {"factor", "distance", "objective_difference"},
    "gradient-descent": {"step", *(f"{other}_{precision}" for other in OTHERS for precision in PRECISIONS)},
}


class Finding(NamedTuple):
    """One number of a statement; `expected` is what theory says of it."""

    case: str
    quantity: str
    number: Estimate
    expected: str
    outcome: Outcome


class Statement(NamedTuple):
    """A statement of section 3, the rule by which it is judged, and the sentence that the records write."""

    name: str
    title: str
    rule: str
    findings: list[Finding]
    outcome: Outcome
    sentence: str


def statements(records: Sequence[Record]) -> list[Statement]:
    """The statements that have runs which ended well, in the order of the paper."""
    kept = measured(records)
    parts = (large_data(kept), particle_number(kept), distance(kept), equivalence(kept))
    return [part for part in parts if part.findings]


def measured(records: Sequence[Record]) -> list[Record]:
    """The runs that ended well and have a finite number for all that their statement is about."""
    return [
        record
        for record in records
        if record.status == "ok"
        and NEEDED.get(record.method, {""}) <= set(record.curve)
        and all(np.isfinite(record.curve[name]).all() for name in NEEDED[record.method])
    ]


def by_variant(records: Sequence[Record], method: str) -> dict[tuple[str, str], list[Record]]:
    """The runs of one measure by problem and setting, in the order of their replicates."""
    groups = grouped([r for r in records if r.method == method], lambda r: (r.problem, r.labels.text))
    return {key: sorted(own, key=lambda r: r.replicate) for key, own in groups.items()}


def gaps(record: Record) -> tuple[Array, Array]:
    """N, or K, and the gap there: the root mean square over samples; gaps lost in the duality gap are left out."""
    curve = record.curve
    axis = curve["n" if "n" in curve else "k"]
    at = np.unique(axis)
    gap = np.array([math.sqrt((curve["gap"][axis == x] ** 2).mean()) for x in at])
    certificate = np.array([curve["certificate"][axis == x].max() for x in at])
    kept = gap > RESOLVED * certificate
    return at[kept], gap[kept]


def exponent(x: Array, y: Array) -> float:
    """p of the least-squares fit log y = p log x + c, nan for fewer than two different x."""
    kept = (x > 0) & (y > 0)
    if np.unique(x[kept]).size < 2:
        return math.nan
    return float(np.polyfit(np.log(x[kept]), np.log(y[kept]), 1)[0])


def upper_half(x: Array, y: Array) -> tuple[Array, Array]:
    """Where a limit other than zero would show: from the middle x on."""
    start = len(x) // 2
    return x[start:], y[start:]


def sign(number: Estimate) -> int:
    """The sign of a number whose interval leaves no doubt, else 0."""
    if math.isnan(number.low) or number.low <= 0 <= number.high:
        return 0
    return 1 if number.low > 0 else -1


def judged(signs: Sequence[int], wanted: Sequence[int]) -> Outcome:
    """Holds where every sign is as wanted, fails where one is the opposite, else undecided."""
    if any(s == -w for s, w in zip(signs, wanted, strict=True)):
        return "fails"
    return "holds" if list(signs) == list(wanted) else "undecided"


def large_data(records: Sequence[Record]) -> Statement:
    """Proposition 3.1: the exponent of |min E_N - min E| in N."""
    findings = []
    for (_, case), own in by_variant(records, "large-data").items():
        number, outcome = _decay(own)
        expected = "−1" if own[0].labels.value == "energy" else "−1/2"
        findings.append(Finding(case, "exponent of |min E_N − min E| in N", number, expected, outcome))
    return _statement(
        "large-data",
        "Proposition 3.1: min E_N → min E as data grow",
        "Holds where the exponent in N is below 0, over all N and over their upper half, at which a limit other than "
        "min E would show; fails where one of them is above 0. Expected is the rate of sampling: N^(−1/2) for a mean "
        "of log-densities, N^(−1) for a squared distance that vanishes at the truth.",
        findings,
        f"|min E_N − min E| goes as N to the power {_span(findings)}",
    )


def particle_number(records: Sequence[Record]) -> Statement:
    """Lemma 3.2: the exponent of E(rho^K) - E(rho*) in K."""
    findings = []
    for (_, case), own in by_variant(records, "particle-number").items():
        number, outcome = _decay(own)
        if any((r.curve["gap"] < -r.curve["certificate"] - 1e-12).any() for r in own):
            outcome = "undecided"
        findings.append(Finding(case, "exponent of E(ρ^K) − E(ρ*) in K", number, "below 0", outcome))
    return _statement(
        "particle-number",
        "Lemma 3.2: E(ρ^K) → E(ρ*) as particles grow",
        "Holds where the exponent in K is below 0, over all K and over their upper half; fails where one of them is "
        "above 0; undecided too where E(ρ^K) is found below E(ρ*) by more than the duality gap, which cannot be. "
        "E(ρ*) is certified; E(ρ^K) is the lowest of several local minima and so at most too high.",
        findings,
        f"E(ρ^K) − E(ρ*) goes as K to the power {_span(findings)}",
    )


def distance(records: Sequence[Record]) -> Statement:
    """Proposition 3.3: the exponent alpha of d(rho^K, rho*) in E(rho^K) - E(rho*)."""
    findings = []
    for (_, case), own in by_variant(records, "particle-number").items():
        for metric, name in DISTANCES.items():
            alpha = mean_interval([exponent(*distances(r, metric)) for r in own])
            decay = mean_interval([exponent(r.curve["k"], r.curve[metric]) for r in own])
            outcome = judged([sign(alpha), sign(decay)], [1, -1])
            findings.append(Finding(case, f"α for d = {name}", alpha, "above 0", outcome))
    return _statement(
        "distance",
        "Proposition 3.3: d(ρ^K, ρ*) ≤ C |E(ρ^K) − E(ρ*)|^α",
        "Holds where α is above 0 and d falls as K grows; fails where one of them is the other way round. A sequence "
        "can refute (3.12) and cannot prove it: (3.12) speaks of every ν. A small α is what an ill-posed problem has: "
        "noise hides from E what d sees.",
        findings,
        f"along ρ^K, α is {_span(findings)}",
    )


def distances(record: Record, metric: str) -> tuple[Array, Array]:
    """Gap and distance of each K, where the gap is resolved."""
    k, gap = gaps(record)
    return gap, record.curve[metric][np.isin(record.curve["k"], k)]


def equivalence(records: Sequence[Record]) -> Statement:
    """§3.1: lambda = K/N, and the flow against gradient descent."""
    findings = []
    for (_, case), own in by_variant(records, "prior-weight").items():
        same, other = _split([(r.curve["factor"], r.curve["objective_difference"]) for r in own])
        near, far = _split([(r.curve["factor"], r.curve["distance"]) for r in own])
        objective_holds = bool(same.max() <= AGREE and other.min() >= DIFFER)
        nearest = bool(near.max() <= 1e-3 * far.min())
        quantity = "N L_{N,K} against the log-posterior at λ = K/N, ulps"
        findings.append(_agreement(case, quantity, same, f"at most {AGREE:,.0f}", objective_holds))
        quantity = "distance of the minimiser from the MAP estimate at λ = K/N"
        findings.append(_agreement(case, quantity, near, "0", nearest))
    for (problem, case), own in by_variant(records, "gradient-descent").items():
        for other_name, label in OTHERS.items():
            for precision in PRECISIONS:
                largest = np.array([r.curve[f"{other_name}_{precision}"].max() for r in own])
                moved = all(r.metrics.get(f"fall_{precision}", 0.0) > 0 for r in own)
                quantity = f"flow against {label}, {precision}, ulps"
                agrees = bool(moved and largest.max() <= AGREE)
                findings.append(_agreement(f"{problem}, {case}", quantity, largest, f"at most {AGREE:,.0f}", agrees))
    rounded = [finding for finding in findings if finding.quantity.endswith("ulps")]
    located = [finding for finding in findings if finding not in rounded]
    return _statement(
        "equivalence",
        "§3.1: (3.5) with λ = K/N is RELION's objective, and both approaches are one flow",
        f"Holds where no replicate differs by more than {AGREE:,.0f} ulps (of the largest value; steps carry "
        f"ulps on) while E falls, other λ differ by more than {DIFFER:g}, and the minimiser at λ = K/N is a "
        "thousand times nearer to the MAP estimate than at any other λ; fails otherwise.",
        findings,
        f"the medians of the differences are {_span(rounded)} ulps, and the minimiser at λ = K/N lies "
        f"{_span(located)} from the MAP estimate",
    )


def _decay(records: Sequence[Record]) -> tuple[Estimate, Outcome]:
    """The exponent of the gap over all N, or K, and whether it and that over their upper half are below 0."""
    own = [gaps(record) for record in records]
    number = mean_interval([exponent(*pair) for pair in own])
    tail = mean_interval([exponent(*upper_half(*pair)) for pair in own])
    return number, judged([sign(number), sign(tail)], [-1, -1])


def _split(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Values at factor 1, one a replicate, and all the others."""
    return (
        np.concatenate([values[factor == 1] for factor, values in pairs]),
        np.concatenate([values[factor != 1] for factor, values in pairs]),
    )


def _agreement(case: str, quantity: str, values: Array, expected: str, agrees: bool) -> Finding:
    number = estimate(values.tolist())
    enough = number.n >= MIN_REPLICATES
    outcome: Outcome = ("holds" if agrees else "fails") if enough or not agrees else "undecided"
    return Finding(case, quantity, number, expected, outcome)


def _statement(name: str, title: str, rule: str, findings: list[Finding], says: str) -> Statement:
    outcomes = [finding.outcome for finding in findings]
    outcome: Outcome = "fails" if "fails" in outcomes else "undecided" if "undecided" in outcomes else "holds"
    return Statement(name, title, rule, findings, outcome, _sentence(findings, outcome, says))


def _span(findings: Sequence[Finding]) -> str:
    """From the lowest to the highest number."""
    values = [finding.number.value for finding in findings if math.isfinite(finding.number.value)]
    return f"{min(values):.2g} to {max(values):.2g}" if values else "not known"


def _sentence(findings: Sequence[Finding], outcome: Outcome, says: str) -> str:
    """What the numbers range over, in how many cases the statement held, and why it is undecided."""
    if not findings:
        return ""
    words = {"holds": "held", "fails": "did not hold", "undecided": "is undecided"}
    counts = {word: sum(f.outcome == word for f in findings) for word in words}
    text = f"The statement {words[outcome]}: {says}"
    text += f" ({counts['holds']} hold, {counts['fails']} fail, {counts['undecided']} undecided)."
    fewest = min(finding.number.n for finding in findings)
    if fewest < MIN_REPLICATES:
        text += f" No interval is drawn from {counted(fewest)}, fewer than {MIN_REPLICATES}."
    elif counts["undecided"]:
        text += " What is undecided has an interval that holds 0."
    return text
