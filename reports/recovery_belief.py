"""The figures that help to judge a recovered distribution: halves, and what its images should look like."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cryosip.records.recovery import MethodOutcome, Recovery
from cryosip.records.schema import Array
from cryosip.reports.drawing import GREY
from cryosip.reports.recovery_figures import Arrays
from cryosip.reports.recovery_sentences import frequencies_outside
from cryosip.reports.style import INK, Plot, draw, named_style

ACROSS = 6  # views in a row
OBSERVED, SIMULATED = "#4477aa", GREY  # no colours of methods, which a reader can switch off


def halves(recovery: Recovery) -> list[Plot]:
    """W2 between the estimates of both halves, beside that of resampled halves."""
    known = [(method, method.halves) for method in recovery.methods if method.halves is not None]
    return [_halves(recovery, known)] if known else []


def _halves(recovery: Recovery, known: Sequence[tuple[MethodOutcome, float]]) -> Plot:
    low, high, name = recovery.resampling.low, recovery.resampling.high, "halves"

    def paint(ax: Axes) -> None:
        ax.axvspan(low, high, color=INK, alpha=0.12, linewidth=0, label=f"resampling of {recovery.shown}, 5–95 %")
        ax.axvline(recovery.spread.value / 2, color=INK, linestyle=":", linewidth=1.2, label="half of the spread")
        for row, (method, value) in enumerate(known):
            style = named_style(method.name)
            ax.plot(value, -row, marker=style.marker, color=style.colour, markersize=9, linestyle="none")
        ax.set_yticks([-row for row in range(len(known))], [method.name for method, _ in known])
        ax.set(xlabel="W2 between the estimates of two halves", ylim=(0.6 - len(known), 0.4))
        ax.set_xlim(left=0)

    caption = (
        "Within the band: the halves differ as chance explains. Beyond the dotted line: the images are too few to tell "
        "the shape. A method with its own randomness may differ by more."
    )
    rows = [[method.name, value] for method, value in known]
    rows += [["resampling, 5 %", low], ["resampling, 95 %", high], ["spread", recovery.spread.value]]
    drawing = draw(name, paint, (5.0, 1.8 + 0.3 * len(known)))
    return Plot(name, "Two halves of the images", caption, drawing, ["method", "W2"], rows)


def predictive(recovery: Recovery, arrays: Arrays) -> list[Plot]:
    """Observed images beside images simulated from the distribution: power, gains, averages."""
    plots = [_power(recovery, arrays["power"])] if "power" in arrays else []
    if {"gains_observed", "gains_simulated"} <= arrays.keys():
        plots.append(_gains(arrays["gains_observed"], arrays["gains_simulated"]))
    if {"view_observed", "view_simulated"} <= arrays.keys() and len(arrays["view_observed"]):
        plots.append(_views(arrays["view_observed"], arrays["view_simulated"]))
    return plots


def _power(recovery: Recovery, power: Array) -> Plot:
    observed, low, high = power
    frequency = np.arange(1, len(observed) + 1) / (recovery.image_size * recovery.pixel_in_angstroms)
    outside, middle = frequencies_outside(power), (low + high) / 2

    def paint(ax: Axes) -> None:
        ends = low / middle, high / middle
        ax.fill_between(frequency, *ends, color=SIMULATED, alpha=0.4, linewidth=0, label="simulated, 5–95 %")
        ax.plot(frequency, observed / middle, color=OBSERVED, linewidth=1.6, label="observed")
        ax.set(xlabel="frequency, 1/Å", ylabel="power ÷ that of simulated images")

    caption = (
        "The power of images at each frequency, divided by the middle of the band. Observed images are outside of the "
        f"band at {outside} of "
        f"{len(observed)} frequencies; about {len(observed) / 10:.0f} are expected by chance. More than that: the "
        "noise, the CTF or the structure of the model does not fit."
    )
    rows = np.column_stack([frequency, observed, low, high]).tolist()
    columns = ["frequency, 1/Å", "observed", "simulated, 5 %", "simulated, 95 %"]
    return Plot("power", "Power at each frequency", caption, draw("power", paint), columns, rows)


def _gains(observed: Array, simulated: Array) -> Plot:
    ends = min(observed.min(), simulated.min()), max(observed.max(), simulated.max())

    def paint(ax: Axes) -> None:
        ax.plot(ends, ends, color=INK, linestyle=":", linewidth=1.2, label="equal")
        ax.plot(simulated, observed, color=OBSERVED, marker="o", markersize=3, linewidth=1.2, label="quantiles")
        ax.set(xlabel="simulated images, nats", ylabel="observed images, nats")
        ax.xaxis.set_major_locator(MaxNLocator(6))

    caption = (
        "Quantiles of the log-likelihood of an image over that of noise alone, observed against simulated images. On "
        "the dotted line they are alike; below it observed images fit less well than images of the model would."
    )
    rows = np.column_stack([simulated, observed]).tolist()
    title = "Likelihoods of observed and simulated images"
    return Plot("gains", title, caption, draw("gains", paint), ["simulated", "observed"], rows)


def _views(observed: Array, simulated: Array) -> Plot:
    """Pairs of rows, observed above simulated."""
    size, count = observed.shape[1], min(len(observed), len(simulated))
    gap, across = max(1, size // 16), min(count, ACROSS)
    blocks = -(-count // across)
    pitch = size + gap
    picture = np.full((2 * blocks * pitch - gap, across * pitch - gap), np.nan)
    for index in range(count):
        block, column = divmod(index, across)
        for part, image in enumerate((observed[index], simulated[index])):
            top, left = (2 * block + part) * pitch, column * pitch
            picture[top : top + size, left : left + size] = image[::-1]  # the first row of an image is at its bottom

    def paint(ax: Axes) -> None:
        ax.imshow(picture, cmap="gray", interpolation="nearest")
        ax.set_yticks([row * pitch + size / 2 for row in range(2 * blocks)], ["observed", "simulated"] * blocks)
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)

    caption = (
        "Averages of images from like directions, each direction in a column, all in one grey scale: what is seen "
        "above should be seen below."
    )
    with np.errstate(invalid="ignore"):  # of an image that is constant
        alike = [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in zip(observed, simulated, strict=False)]
    rows = [[index, value] for index, value in enumerate(alike, start=1)]
    title, height = "Averages of images", 5.0 * picture.shape[0] / picture.shape[1] + 0.3
    return Plot("views", title, caption, draw("views", paint, (5.6, height)), ["direction", "correlation"], rows)
