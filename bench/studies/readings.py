"""Ways to read what section 4.3 leaves open, to be held against its four published numbers."""

from typing import NamedTuple

from cryosip.bench.studies.protein import CONJECTURE
from cryosip.bench.studies.study import Options, Size
from cryosip.records.schema import Labels, RunConfig

STUDY, METHOD = "hsp90-readings", "reading"
SMOKE_IMAGES: Options = {"image_size": 12, "pixel_size_in_angstroms": 24.0}
CUTOFFS = (15.0, 12.0, 10.2)
CHAINS = ("A", "B", "C", "D", "A,B", "C,D", "A,B,C,D")


class Reading(NamedTuple):
    """A way to read what section 4.3 leaves open: the options of the problem that it names."""

    name: str
    options: Options


AS_PRINTED = Reading("z/√λ", {"amplitude": "root"})
AS_CONJECTURED = Reading("z/λ, scattering", CONJECTURE | {"pixel_size_in_angstroms": 2.0})
HALFWAY = Reading("z/λ", {"amplitude": "inverse", "pixel_size_in_angstroms": 2.0})


def readings(size: Size) -> list[RunConfig]:
    """As printed, of each cutoff and all chains; as conjectured, of each chain; z/λ with the signal as printed."""
    if size.images == "smoke":
        return [_run(size, one, "A", CUTOFFS[0]) for one in (AS_PRINTED, AS_CONJECTURED)]
    runs = [_run(size, AS_PRINTED, "A", cutoff) for cutoff in CUTOFFS]
    runs += [_run(size, AS_PRINTED, chain, CUTOFFS[0]) for chain in CHAINS[1:]]
    runs += [_run(size, AS_CONJECTURED, chain, CUTOFFS[0]) for chain in CHAINS if len(chain) == 1]
    return [*runs, _run(size, HALFWAY, "A", CUTOFFS[0])]


def _run(size: Size, reading: Reading, chain: str, cutoff: float) -> RunConfig:
    shown = SMOKE_IMAGES if size.images == "smoke" else {}
    options = {"n_observations": size.n, "chain": chain, "cutoff_in_angstroms": cutoff} | reading.options | shown
    labels = Labels(f"{reading.name}, chain {chain}, {cutoff:g} Å")
    return RunConfig(STUDY, labels, "hsp90", options, METHOD, {}, 1, 1, 0)
