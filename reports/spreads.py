"""What is said about replicates: their spread, the cost to a threshold, and the range for one further run."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import stats

from cryosip.records.schema import Floor, Record

MIN_REPLICATES = 3  # below it no interval is drawn and no verdict given

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items of each key, keys in the order of their first item."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


class Spread(NamedTuple):
    """Median and 5-95 % of n values; the quantiles are nan for fewer than MIN_REPLICATES values."""

    median: float
    q05: float
    q95: float
    n: int


NOTHING = Spread(math.nan, math.nan, math.nan, 0)


def spread(values: Sequence[float]) -> Spread:
    """Median and 5-95 % over replicates; an infinite value is a threshold that was never reached and counts as such."""
    kept = np.sort([value for value in values if not math.isnan(value)])
    if kept.size == 0:
        return NOTHING
    enough = kept.size >= MIN_REPLICATES
    q05, q95 = (_quantile(kept, q) if enough else math.nan for q in (0.05, 0.95))
    return Spread(_quantile(kept, 0.5), q05, q95, int(kept.size))


def _quantile(ordered: np.ndarray, q: float) -> float:
    """Linear interpolation between order statistics that is infinite, not nan, where one of the two is infinite."""
    position = q * (ordered.size - 1)
    low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
    share = position - math.floor(position)
    return float(low) if share == 0 or low == high else float(low * (1 - share) + high * share)


def data_floor(records: Iterable[Record], metric: str) -> float:
    """The median over records of the floor of their data, nan where none is known."""
    return spread([r.data_floors[metric].median for r in records if metric in r.data_floors]).median


def over_floor(record: Record, metric: str, metrics: dict[str, float] | None = None) -> float:
    """The metric, of the estimate or among `metrics`, in units of the floor of the data; nan where one is missing."""
    floor, metrics = record.data_floors.get(metric), record.metrics if metrics is None else metrics
    return metrics.get(metric, math.nan) / floor.median if floor and floor.median > 0 else math.nan


def typical_floor(floors: Sequence[Floor]) -> Floor | None:
    """The floor over replicates: medians of its quantiles."""
    if not floors:
        return None
    median, q05, q95 = (spread([getattr(floor, part) for floor in floors]).median for part in ("median", "q05", "q95"))
    return Floor(median, q05, q95, floors[0].n)


def prediction_range(values: Sequence[float], sample_spread: float) -> tuple[float, float]:
    """Where one further run, measured against a finite sample of the truth, falls with 90 % probability.

    mean +- sqrt(t^2 s^2 (1 + 1/R) + (f/2)^2), with s the standard deviation over the R values, t the 95 % quantile of
    Student's t distribution with R - 1 degrees of freedom and f the 5-95 % width of the metric of one estimate against
    samples of the truth of the data's size (0 where unknown): both are treated as normal and independent. Raises
    ValueError for fewer than MIN_REPLICATES values.
    """
    count = len(values)
    if count < MIN_REPLICATES:
        raise ValueError(f"got {count} values: wanted at least {MIN_REPLICATES} for an interval")
    student = float(stats.t.ppf(0.95, count - 1))
    half = math.hypot(student * float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / count), sample_spread / 2)
    mean = float(np.mean(values))
    return mean - half, mean + half


def cost_below(record: Record, metric: str, threshold: float, unit: str) -> float:
    """The cost at which a metric first is below a threshold.

    Parameters
    ----------
    record, metric, threshold
        The run, and what is to be below what.
    unit
        What is spent, a name in the curve such as "step" or "seconds".

    Returns
    -------
    float
        inf if it never is below; nan where the record cannot say: it has no such curve, or stopped early for another
        reason.
    """
    curve = record.curve
    if metric not in curve or unit not in curve:
        return math.nan
    hits = np.flatnonzero(curve[metric] < threshold)
    if hits.size:
        return float(curve[unit][hits[0]])
    stopped_early = record.status == "ok" and record.steps < record.config_number("steps")
    return math.nan if stopped_early else math.inf


def counted(replicates: int) -> str:
    """The number of replicates in words of a sentence."""
    return f"{replicates} replicate{'' if replicates == 1 else 's'}"


class Estimate(NamedTuple):
    """A number over n replicates with an interval, nan at both ends for fewer than MIN_REPLICATES."""

    value: float
    low: float
    high: float
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Median and 5-95 % over replicates."""
    return Estimate(*spread(values))


def mean_interval(values: Sequence[float]) -> Estimate:
    """The mean over replicates with the 90 % interval of Student's t distribution: where the mean of many would be."""
    kept = [value for value in values if math.isfinite(value)]
    mean = float(np.mean(kept)) if kept else math.nan
    if len(kept) < MIN_REPLICATES:
        return Estimate(mean, math.nan, math.nan, len(kept))
    half = float(stats.t.ppf(0.95, len(kept) - 1) * np.std(kept, ddof=1)) / math.sqrt(len(kept))
    return Estimate(mean, mean - half, mean + half, len(kept))


class Ratio(NamedTuple):
    """How many times as large: geometric mean and 90 % interval, nan where there is none and why.

    `p` is that of the two-sided test of the mean being 1, nan without an interval, `std` that of the logarithm.
    """

    mean: float
    low: float
    high: float
    why: str
    p: float = math.nan
    std: float = math.nan


def paired_ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """First / second, pair by pair: Student's t of the logarithm; no interval for fewer than MIN_REPLICATES pairs."""
    table = np.array(pairs, float).reshape(-1, 2)
    if not np.isfinite(table).all() or not len(table) or (table <= 0).any():
        return Ratio(math.nan, math.nan, math.nan, "a replicate of one of them gave no number")
    logs = np.log(table[:, 0] / table[:, 1])
    log_ratio = mean_interval(logs.tolist())
    if math.isnan(log_ratio.low):
        few = f"{counted(log_ratio.n)}, fewer than {MIN_REPLICATES}: no interval"
        return Ratio(math.exp(log_ratio.value), math.nan, math.nan, few)
    std = float(np.std(logs, ddof=1))
    p = _two_sided(log_ratio.value, std / math.sqrt(len(logs)), len(logs) - 1)
    return Ratio(math.exp(log_ratio.value), math.exp(log_ratio.low), math.exp(log_ratio.high), "", p, std)


def _two_sided(mean: float, standard_error: float, freedom: int) -> float:
    """The p-value of a mean of 0; 1 where it is 0 without any scatter, 0 where it is another number without any."""
    if standard_error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / standard_error, freedom))
