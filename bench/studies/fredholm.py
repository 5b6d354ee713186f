"""The table of [crucinio2022]: our methods and the two published ones, in one to four dimensions."""

from functools import partial
from typing import Any

from cryosip.bench.studies import fredholm_published as published
from cryosip.bench.studies.fredholm_settings import CHOSEN, DIMENSIONS, TRIED, sized
from cryosip.bench.studies.study import Size, run_on
from cryosip.records.schema import Labels, RunConfig

PUBLISHED_OBSERVATIONS = 1_000_000  # of the published table
# where the first marginal of one-step-late EM is from
EM_VARIANTS = ("published", "all coordinates", "observations")
ATTRACTIONS = {"published": -1.0, "as in the paper": 1.0}


def fredholm(size: Size) -> list[RunConfig]:
    """Our methods and the two of the published table, in one to four dimensions.

    The published ones have their own sizes, but in a profile of fewer steps.
    """
    runs = []
    whole = size.share_of_steps == 1
    for at, d in enumerate(DIMENSIONS):
        labels = partial(Labels, axis="d", value=d)
        for row, (method, settings) in TRIED.items():
            setting = settings[CHOSEN[row][at]]
            # before all steps of its search it has no estimate to speak of
            own = size._replace(share_of_steps=1.0) if method == "posterior-npmle" else size
            runs.append(on_fredholm(d, labels(), own, method, setting.steps, **sized(setting, method, size.n)))
        theirs = size._replace(n=PUBLISHED_OBSERVATIONS if whole else size.n, share_of_steps=1.0)
        n = published.PARTICLES if whole else size.n
        for variant in EM_VARIANTS:
            runs.append(on_fredholm(d, labels(variant), theirs, "one-step-late-em", published.STEPS, n_bins=n,
                                    marginal=variant))  # fmt: skip
        for variant, attraction in ATTRACTIONS.items():
            runs.append(on_fredholm(d, labels(variant), theirs, "noisy-flow", published.STEPS, n_particles=n,
                                    attraction=attraction))  # fmt: skip
    return runs


def on_fredholm(d: int, labels: Labels, size: Size, method: str, steps: int, **options: Any) -> RunConfig:
    """A run in d dimensions, evaluated once."""
    return run_on("fredholm", {"dimension": d}, 1, "fredholm", labels, size, method, steps, **options)
