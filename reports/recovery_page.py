"""The page of a recovered distribution: what the data say of it, its figures, and whether to believe it."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryosip.records import recovery as records
from cryosip.records.recovery import Between, MethodOutcome, Recovery
from cryosip.records.schema import Array, Options
from cryosip.reports import output, recovery_belief, recovery_figures
from cryosip.reports.page import figure_files
from cryosip.reports.recovery_sentences import (
    ERRORS,
    NATS,
    between,
    gains,
    interval,
    percent,
    sentences,
    step_sizes,
    verdict,
)
from cryosip.reports.style import Plot, named_style
from cryosip.reports.tables import flat, plain

STRUCTURES = "structures.pdb"
SECTIONS = {
    "summary": "What the data say", "distribution": "Along each mode", "landscape": "Free energy",
    "structures": "Structures and motions", "methods": "Methods", "belief": "Do I believe it?",
    "files": "Files and rules",
}  # fmt: skip
RULES = (
    f"Something can be told where the held-out gain of the shown method is more than {ERRORS:g} standard errors, and "
    f"more than {NATS:g} nats over all images.",
    "Held-out gain: a method is fitted to one half of the images; its gain is the mean log-likelihood of an image of "
    "the other half, minus that under equal weights over the whole range. Both halves take their turn. ± is one "
    "standard error. A gain of 1 nat makes an image e = 2.7 times as probable. Gains compare on the same images, modes "
    "and range alone.",
    "A method is not significantly worse than the best one where their gains differ by less than "
    f"{ERRORS:g} standard errors of the difference, with both gains taken as independent.",
    "Bands, and intervals in brackets, are the 5 % and 95 % quantiles over images drawn again with replacement.",
    "Peaks are separated where between them the upper end of the band falls below its lower end at both.",
    "Spread is the root mean square distance of the distribution from its mean, over all modes.",
    "W2 is the Wasserstein distance: the root mean square distance by which one distribution must be moved to become "
    "the other, in the coordinates of the modes.",
    "Resampling: W2 between estimates from pairs of sets, each half as large as all images and drawn from them.",
    "Image distance: the squared energy distance between the images of one half and images simulated from the estimate "
    "of the other, beside that of images simulated from the estimate of their own half. Above that interval, images "
    "differ by more than chance explains. Without bias, it may be below 0.",
    "Finest detail: the median over images of the std of what one image alone says of its place along a mode.",
    "Junk: images that noise alone explains better than any structure. Unexplained: images that are further from all "
    "structures than noise takes them.",
    "Calibration: images are simulated from the distribution, with the poses and the noise of the data; the same "
    "method recovers a distribution from them, which is compared with the one that made them.",
)


class MethodRow(NamedTuple):
    """What the table of methods says of one of them."""

    method: MethodOutcome
    colour: str
    gains: bool
    far: bool
    options: str


class CalibrationRow(NamedTuple):
    """One mode: stds before and after, what their ratio says, the share of intervals that held, the largest error."""

    mode: int
    std: float
    recovered: float
    ratio: float
    verdict: str
    held: str
    error: float


def build(folder: Path, out: Path) -> Path:
    """Write the page of the recovery in `folder` as index.html in `out`, its figures beside it, and return its path.

    Raises
    ------
    ValueError
        Where `folder` holds no recovery that can be read.
    OSError
        Where `out` cannot be written.
    """
    recovery, arrays = records.read(folder)
    figures = figures_of(recovery, arrays)
    files = figure_files([plot for group in figures.values() for plot in group])
    output.write(out, files | {"index.html": render(recovery, arrays, figures)})
    return out / "index.html"


def figures_of(recovery: Recovery, arrays: Mapping[str, Array]) -> dict[str, list[Plot]]:
    """All figures, by the part of the page that they are in."""
    return {
        "distribution": recovery_figures.distributions(recovery, arrays),
        "landscape": recovery_figures.landscape(recovery, arrays),
        "structures": recovery_figures.structures(recovery, arrays),
        "halves": recovery_belief.halves(recovery),
        "predictive": recovery_belief.predictive(recovery, arrays),
    }


def render(recovery: Recovery, arrays: Mapping[str, Array], figures: dict[str, list[Plot]]) -> str:
    """The page as one HTML text, everything that comes from the record escaped."""
    filters: dict[str, Callable[..., Any]] = {"between": between, "interval_text": interval, "percent": percent}
    env = output.environment(**filters)
    env.globals |= {"commands": {}}  # the page names its one command at the top
    return env.get_template("recovery.html").render(
        r=recovery,
        figures=figures,
        sections=SECTIONS,
        series=series(recovery),
        caution=recovery_figures.caution(recovery),
        sentences=sentences(recovery, arrays),
        modes=len(recovery.lower),
        representatives=representatives(arrays),
        structures_file=STRUCTURES if STRUCTURES in recovery.files else "",
        methods=method_rows(recovery.methods),
        details=list(itertools.zip_longest(recovery.posterior_std, step_sizes(arrays))),
        calibration=calibration_rows(arrays),
        rules=RULES,
        options=[(name, plain(value)) for name, value in flat(recovery.options)],
    )


def series(recovery: Recovery) -> list[tuple[str, str]]:
    """What the page can switch on and off: the colours and the names of the methods."""
    styles = [named_style(name) for name in dict.fromkeys([recovery.shown, *(m.name for m in recovery.methods)])]
    return [(style.colour, style.label) for style in styles]


def representatives(arrays: Mapping[str, Array]) -> list[tuple[int, str, str, list[float]]]:
    """Number, share, the interval of the share, and coordinates of each representative structure."""
    names = "shares", "shares_low", "shares_high", "representatives"
    if not set(names) <= arrays.keys():
        return []
    rows = zip(*(arrays[name].tolist() for name in names), strict=True)
    return [
        (i, percent(share), f"[{percent(low)}, {percent(high)}]", place)
        for i, (share, low, high, place) in enumerate(rows, start=1)
    ]


def method_rows(methods: Iterable[MethodOutcome]) -> list[MethodRow]:
    """One for each method, in the order in which they ran; a failed one is among them."""
    return [
        MethodRow(
            method, named_style(method.name).colour, gains(method), beyond(method.image_distance), told(method.options)
        )
        for method in methods
    ]


def beyond(distance: Between | None) -> bool:
    """Whether images are further from simulated ones than two sets of these are from one another."""
    return distance is not None and distance.value > distance.high


def told(options: Options) -> str:
    """Options in words, such as "n_components 8"."""
    return ", ".join(f"{name} {plain(value)}" for name, value in flat(options))


def calibration_rows(arrays: Mapping[str, Array]) -> list[CalibrationRow]:
    """One for each mode."""
    rows = []
    for mode, (std, recovered, held, error) in enumerate(arrays.get("calibration", ()), start=1):
        ratio = recovered / std if std > 0 else math.nan
        rows.append(CalibrationRow(mode, std, recovered, ratio, verdict(ratio).strip(" ()"), percent(held), error))
    return rows
