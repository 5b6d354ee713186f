"""Section 2.5.3: the variances of the sampling schemes, and what each buys the flow."""

from dataclasses import replace

from cryosip.bench.studies.estimators import FORMULAS
from cryosip.bench.studies.oned import TUNED_FLOWS, flow_on_oned, on_oned
from cryosip.bench.studies.study import Size
from cryosip.records.schema import Labels, RunConfig

# Draws of omega in each step: for (2.14) more, since all particles share them. Not tuned.
SCHEMES = {"method-1": 1, "method-2": 16, "method-3": 4, "closed-form": 1}
SCHEME_PARTICLES, SCHEME_GROWTH = 2_000, 1.3


def sampling(size: Size) -> list[RunConfig]:
    """The variances of the estimators (2.13)-(2.15) against their formulas; what each scheme buys the flow."""
    variances = [
        on_oned("sampling", Labels(f"N={n}", "K", k), size, scheme, 1, n=n, k=k)
        for n, k in ((20, 2), (20, 8), (100, 2), (100, 8))
        for scheme in FORMULAS
    ]
    few = size._replace(n=min(size.n, SCHEME_PARTICLES))
    flows = [
        flow_on_oned("sampling", Labels(scheme, "K", k), few, {"name": "energy"}, *TUNED_FLOWS["energy"])
        for scheme, k in SCHEMES.items()
    ]
    return variances + [
        replace(
            run,
            problem_options={"n_observations": size.n},
            method_options=run.method_options | {"sampling": scheme, "n_draws": k},
            every=5,
            growth=SCHEME_GROWTH,
        )
        for run, (scheme, k) in zip(flows, SCHEMES.items(), strict=True)
    ]
