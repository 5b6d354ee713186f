"""What a recovered distribution says, and whether anything can be told at all, in a few sentences."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import binom

from cryosip.records.recovery import Between, MethodOutcome, Recovery
from cryosip.records.schema import Array
from cryosip.reports.tables import number

ERRORS, NATS = 2.0, 3.0  # what a gain must exceed: standard errors, and nats over all images
WANTED, LEAST = 0.9, 0.8  # the share of 90 % intervals that hold, and from where on it is too small
RARE = 0.01  # the probability of what is taken for no chance
NARROW, WIDE = 0.8, 1.25  # recovered std / std beyond which a distribution is too narrow or too wide


def sentences(recovery: Recovery, arrays: Mapping[str, Array]) -> list[str]:
    """The conclusions, the most important first; where the images say nothing, that and the share of junk alone."""
    parts = [evidence(recovery)]
    if informative(recovery):
        parts += [*distribution(recovery, arrays), halves(recovery), resolution(recovery, arrays)]
    parts.append(junk(recovery))
    if informative(recovery):
        parts += [calibration(arrays), simulated_images(recovery, arrays)]
    return [sentence for sentence in parts if sentence]


def outcome(recovery: Recovery) -> MethodOutcome | None:
    """That of the shown method, None where it has none."""
    return next((method for method in recovery.methods if method.name == recovery.shown), None)


def gains(method: MethodOutcome | None) -> bool:
    """Whether the held-out gain is more than 2 standard errors, and more than 3 nats over all images."""
    if method is None or method.status != "ok" or method.held_out is None or method.held_out_error is None:
        return False
    return method.held_out > ERRORS * method.held_out_error and method.held_out * method.n_images > NATS


def informative(recovery: Recovery) -> bool:
    """Whether anything can be told of the distribution."""
    return gains(outcome(recovery))


def evidence(recovery: Recovery) -> str:
    """Whether anything can be told, with the numbers that decide it."""
    shown = outcome(recovery)
    if shown is None or shown.status != "ok" or shown.held_out is None or shown.held_out_error is None:
        return (
            f"Nothing can be told of the distribution from these images: the held-out gain of {recovery.shown}, the "
            "method shown here, is not known."
        )
    numbers = (
        f"{number(shown.held_out)} ± {number(shown.held_out_error)} nats an image over equal weights, that is "
        f"{number(shown.held_out * shown.n_images)} nats over {shown.n_images:,} images"
    )
    if gains(shown):
        return (
            f"The images tell something of the distribution: on images not seen before, {shown.name} gains {numbers}."
        )
    others = [method.name for method in recovery.methods if method.name != shown.name and gains(method)]
    also = f" By the same measure {listed(others)} {'does' if len(others) == 1 else 'do'} gain." if others else ""
    return (
        f"Nothing can be told of the distribution from these images: on images not seen before, {shown.name} gains "
        f"{numbers}. More than {ERRORS:g} standard errors and more than {NATS:g} nats over all images are wanted.{also}"
    )


def distribution(recovery: Recovery, arrays: Mapping[str, Array]) -> list[str]:
    """Its width and its peaks, then which methods do best."""
    text = (
        f"The distribution shown is that of {recovery.shown}. Its spread, the root mean square distance from its mean, "
        f"is {between(recovery.spread)}."
    )
    if {"density", "density_low", "density_high"} <= arrays.keys():
        bands = zip(arrays["density_low"], arrays["density_high"], strict=True)
        counts = [separated_peaks(low, high) for low, high in bands]
        clear = [f"at least {n} along mode {k}" for k, n in enumerate(counts, start=1) if n > 1]
        text += (
            f" Peaks that are separated by more than their 5–95 % bands: {listed(clear)}."
            if clear
            else " Along no mode do the 5–95 % bands need more than one peak."
        )
    return [text, best(recovery)]


def separated_peaks(low: Array, high: Array) -> int:
    """The least number of peaks of any density between the ends (n,) of a band.

    Between two of them the upper end falls below the lower end at both.
    """
    count, falling, top, bottom = 1, False, -math.inf, math.inf
    for below, above in zip(low, high, strict=True):
        top, bottom = max(top, below), min(bottom, above)
        if not falling and above < top:
            falling, bottom = True, above
        elif falling and below > bottom:
            count, falling, top = count + 1, False, below
    return count


def best(recovery: Recovery) -> str:
    """The method with the largest held-out gain, those that are not significantly worse, and those that failed."""
    known = [m for m in recovery.methods if m.status == "ok" and m.held_out is not None]
    failed = [m.name for m in recovery.methods if m.status != "ok"]
    lost = f" {listed(failed)} failed." if failed else ""
    if len(known) < 2:
        return lost.strip()
    first = max(known, key=lambda m: m.held_out or 0.0)
    near = [m.name for m in known if m is not first and not worse(m, first)]
    text = f"The best method by held-out likelihood is {first.name}"
    return f"{text}; {listed(near)} {'is' if len(near) == 1 else 'are'} not significantly worse.{lost}" if near else (
        f"{text}; all others are significantly worse.{lost}")  # fmt: skip


def worse(method: MethodOutcome, first: MethodOutcome) -> bool:
    """Whether the held-out gains differ by more than 2 standard errors, taken as independent."""
    error = math.hypot(method.held_out_error or 0.0, first.held_out_error or 0.0)
    return (first.held_out or 0.0) - (method.held_out or 0.0) > ERRORS * error


def halves(recovery: Recovery) -> str:
    """How far the estimates of two halves of the images are from one another, beside what resampling explains."""
    shown = outcome(recovery)
    if shown is None or shown.halves is None:
        return ""
    inside = shown.halves <= recovery.resampling.high
    text = (
        f"The estimates from two halves of the images differ by W2 = {number(shown.halves)}: "
        f"{'as' if inside else 'more than'} resampling explains ({interval(recovery.resampling)})."
    )
    if shown.halves > recovery.spread.value / 2:
        spread = number(recovery.spread.value)
        return f"{text} This is more than half of the spread, {spread}: too few images to tell the shape."
    return text


def resolution(recovery: Recovery, arrays: Mapping[str, Array]) -> str:
    """The size of details that are blurred along each mode, in angstroms too where the motions are known."""
    stds = recovery.posterior_std
    if not stds:
        return ""
    sizes = step_sizes(arrays)
    lengths = [f" ({number(std * size)} Å)" for std, size in zip(stds, sizes, strict=False)] or [""] * len(stds)
    parts = [
        f"{number(std)}{length} along mode {k}" for k, (std, length) in enumerate(zip(stds, lengths, strict=False), 1)
    ]
    return f"Details finer than about {listed(parts)} cannot be told apart: one image alone leaves that much open."


def step_sizes(arrays: Mapping[str, Array]) -> list[float]:
    """By how many angstroms a step of 1 along each mode moves the beads, root mean square."""
    if "motions" not in arrays:
        return []
    return [float(np.sqrt((move.reshape(-1, 3) ** 2).sum(1).mean())) for move in arrays["motions"]]


def junk(recovery: Recovery) -> str:
    """How many images no structure explains."""
    low, high = (percent(end) for end in (recovery.junk_share.low, recovery.junk_share.high))
    return (
        f"Noise alone explains {percent(recovery.junk_share.value)} of the images [{low}, {high}] better than "
        f"any structure; {percent(recovery.unexplained_share)} are further from all structures than noise takes them."
    )


def calibration(arrays: Mapping[str, Array]) -> str:
    """How often 90 % intervals held on simulated images, and whether the recovered distribution was too wide."""
    if "calibration" not in arrays:
        return ""
    modes = list(enumerate(arrays["calibration"], start=1))
    held = listed([f"{percent(row[2])} of the time along mode {k}" for k, row in modes])
    ratios = {k: row[1] / row[0] for k, row in modes if row[0] > 0}
    wide = listed([f"{number(ratio)} along mode {k}{verdict(ratio)}" for k, ratio in ratios.items()])
    short = any(row[2] < LEAST for _, row in modes)
    return (
        f"On images simulated from the distribution, 90 % intervals held {held} ({percent(WANTED)} is wanted); the "
        f"recovered std over the true one was {wide or 'not known'}."
        + (" The bands on this page are too narrow." if short else "")
    )


def simulated_images(recovery: Recovery, arrays: Mapping[str, Array]) -> str:
    """Whether images that are simulated from the distribution look like the observed ones."""
    shown, failed = outcome(recovery), []
    if "power" not in arrays:
        return ""
    n, outside = arrays["power"].shape[1], frequencies_outside(arrays["power"])
    if binom.sf(outside - 1, n, 0.1) < RARE:
        failed.append(f"their power is outside of the 5–95 % band at {outside} of {n} frequencies")
    if (
        shown is not None
        and shown.image_distance is not None
        and shown.image_distance.value > shown.image_distance.high
    ):
        failed.append("their distance from simulated images is larger than chance makes it")
    if not failed:
        return "Images simulated from the distribution look like the observed ones, in power and in distance."
    return (
        f"Observed images do not look like those simulated from the distribution: {listed(failed)}. The structure, its "
        "modes, the noise or the CTF of the model does not fit; try more modes, another structure or atom width."
    )


def frequencies_outside(power: Array) -> int:
    """At how many frequencies the power of observed images is outside of the interval of simulated ones."""
    observed, low, high = power
    return int(((observed < low) | (observed > high)).sum())


def verdict(ratio: float) -> str:
    """What a ratio of stds says, "" where it is near 1."""
    return " (too narrow)" if ratio < NARROW else " (too wide)" if ratio > WIDE else ""


def listed(words: Sequence[str]) -> str:
    """Such as "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def percent(share: float) -> str:
    """A share in percent, to three digits."""
    return "—" if math.isnan(share) else f"{100 * share:.3g} %"


def interval(value: Between) -> str:
    """Such as "0.2 to 0.4"."""
    return f"{number(value.low)} to {number(value.high)}"


def between(value: Between) -> str:
    """Such as "0.3 [0.2, 0.4]"."""
    return f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"
