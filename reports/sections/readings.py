"""The study hsp90-readings: which of the four published distances of §4.3 each way to read the section can give."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy import stats

from cryosip.records.schema import Molecule, Record
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections.published_numbers import HSP90_D2, HSP90_IMAGES
from cryosip.reports.spreads import MIN_REPLICATES, Spread, grouped, prediction_range, spread
from cryosip.reports.tables import number

SAMPLES = 20  # of the published size, from which the spread of D² of parameters is known
STATISTICS = ("images_u", "images_v", "floor_u", "floor_v")
PUBLISHED = (*HSP90_D2, *HSP90_IMAGES)
AMPLITUDES = {"root": "z/√λ", "inverse": "z/λ"}


class Reading(NamedTuple):
    """One way to read §4.3; `gives` says of each published number whether the reading can give it, and why not."""

    chain: str
    cutoff: float
    amplitude: str
    signal: str
    molecule: Molecule | None
    n_images: float
    rms_motion: float
    snr: float
    d2: float
    d2_range: tuple[float, float]
    images: dict[str, Spread]
    gives: list[tuple[str, str, str]]
    statuses: str

    @property
    def given(self) -> int:
        """How many of the four."""
        return sum(word == "yes" for _, word, _ in self.gives)


def rows(records: Sequence[Record]) -> list[Reading]:
    """The readings that give most of the numbers first."""
    groups = grouped(sorted(records, key=lambda r: r.replicate), lambda r: (r.profile, r.labels.text))
    return sorted((_row(own) for own in groups.values()), key=lambda row: (-row.given, row.chain, row.cutoff))


def _row(records: Sequence[Record]) -> Reading:
    first = records[0]
    ok = [r for r in records if r.status == "ok"]

    def mean(name: str) -> float:
        values = [r.metrics[name] for r in ok if name in r.metrics]
        return sum(values) / len(values) if values else math.nan

    # of one further sample, its spread known from so many
    reach = float(stats.t.ppf(0.95, SAMPLES - 1)) * mean("d2_sampled_std") * math.sqrt(1 + 1 / SAMPLES)
    d2_range = mean("d2_sampled_mean") - reach, mean("d2_sampled_mean") + reach
    found = {name: [r.metrics[name] for r in ok if name in r.metrics] for name in STATISTICS}
    failed = "" if ok else records[0].message
    return Reading(
        chain=str(first.config_value("problem.options.chain")),
        cutoff=first.config_number("problem.options.cutoff_in_angstroms"),
        amplitude=AMPLITUDES.get(str(first.config_value("problem.options.amplitude")), "?"),
        signal=_signal(first),
        molecule=ok[0].molecule if ok else None,
        n_images=first.config_number("problem.options.n_observations"),
        rms_motion=mean("rms_motion"),
        snr=mean("snr"),
        d2=mean("d2"),
        d2_range=d2_range,
        images={name: spread(values) for name, values in found.items()},
        gives=[] if failed else gives(mean("d2"), d2_range, found),
        statuses=failed or f"{len(ok)} of {len(records)}",
    )


def _signal(record: Record) -> str:
    if str(record.config_value("problem.options.intensity")) == "scattering":
        return "scattering factors"
    return f"SNR {record.config_number('problem.options.snr'):g}"


def gives(d2: float, d2_range: tuple[float, float], images: dict[str, list[float]]) -> list[tuple[str, str, str]]:
    """For each published number: itself, "yes", "no" or "open", and the reason.

    An initial distance is given where it lies in the 90 % range for one further run. A final one can be reached where
    the initial distance is no lower, and of images where their floor is no higher: then it depends on the method.
    """
    initial, final = map(float, HSP90_D2)
    first, last = map(float, HSP90_IMAGES)
    low, high = d2_range
    found = [
        (HSP90_D2[0], _word(low <= initial <= high), f"{number(d2)}, of samples [{number(low)}, {number(high)}]"),
        (HSP90_D2[1], _word(d2 >= final), f"starts at {number(d2)}"),
    ]
    ranges = {name: prediction_range(values, 0.0) for name, values in images.items() if len(values) >= MIN_REPLICATES}
    if len(ranges) < len(STATISTICS):
        return [*found, *((one, "open", f"fewer than {MIN_REPLICATES} replicates") for one in HSP90_IMAGES)]
    for printed, value, test in (
        (HSP90_IMAGES[0], first, lambda s, v: ranges[f"images_{s}"][0] <= v <= ranges[f"images_{s}"][1]),
        (HSP90_IMAGES[1], last, lambda s, v: ranges[f"floor_{s}"][0] <= v <= ranges[f"images_{s}"][1]),
    ):
        by = [s.upper() for s in ("u", "v") if test(s, value)]
        shown = "; ".join(
            f"{s.upper()} from [{number(ranges[f'images_{s}'][0])}, {number(ranges[f'images_{s}'][1])}] down to "
            f"[{number(ranges[f'floor_{s}'][0])}, {number(ranges[f'floor_{s}'][1])}]"
            for s in ("u", "v")
        )
        found.append((printed, _word(bool(by)), f"as {' or '.join(by)}; {shown}" if by else shown))
    return found


def _word(holds: bool) -> str:
    return "yes" if holds else "no"


def table(readings: Sequence[Reading]) -> list[list[Any]]:
    """A header and a line for each reading, for a file."""
    header = ["chain", "cutoff", "amplitude", "signal", "images", "atoms", "eigenvalues", "collectivity", "rms_motion",
              "snr", "d2_exact", "d2_low", "d2_high"]  # fmt: skip
    header += [f"{name}_{part}" for name in STATISTICS for part in ("median", "q05", "q95")]
    header += [f"gives_{printed}" for printed in PUBLISHED]
    return [header] + [
        [r.chain, r.cutoff, r.amplitude, r.signal, r.n_images, r.molecule and r.molecule.n_atoms,
         _listed(r.molecule.eigenvalues) if r.molecule else "", _listed(r.molecule.collectivity) if r.molecule else "",
         r.rms_motion, r.snr, r.d2, *r.d2_range, *(x for name in STATISTICS for x in r.images[name][:3]),
         *([word for _, word, _ in r.gives] or [""] * len(PUBLISHED))]
        for r in readings
    ]  # fmt: skip


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _context(source: Source) -> Context:
    found = rows(source.records)
    return {"readings": found, "statistics": STATISTICS, "published": PUBLISHED, "zip": zip} if found else {}


SECTION = Section(
    "hsp90-readings", "Readings of §4.3", ("hsp90-readings",), context=_context, template="readings.html",
    tables=lambda context: {"hsp90-readings.csv": table(context["readings"])} if context else {},
    missing="No reading of §4.3 in the records: run the study hsp90-readings with the structure 2IOP.",
)  # fmt: skip
