"""What outliers do to each method: the same data clean and with a share of the observations contaminated."""

from collections.abc import Sequence
from typing import NamedTuple

from cryosip.bench.studies.protein import PROTEIN_IMAGES, PROTEIN_POSTERIOR
from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.datasets.outliers import KINDS
from cryosip.records.schema import Labels, RunConfig

EVALUATIONS = 10  # between the last two lies a tenth of the steps, over which the report shows what still changes
IMAGES: Options = {"image_size": 32, "tau": 0.5}  # transport in the plane, not rendering, should take the time


class Row(NamedTuple):
    """A method to be run to convergence: steps are many and fixed, lest stopping early be taken for robustness."""

    method: str
    steps: int
    options: Options


def _flow(discrepancy: str, rate: float, steps: int) -> Row:
    """The noise integrated out and a constant rate, so that the flow comes to rest at what the discrepancy wants.

    With drawn noise and a rate that falls, energy flows still moved towards the outliers after 40 000 steps.
    """
    adam = {"name": "adam", "learning_rate": rate}
    chosen = {"discrepancy": {"name": discrepancy}, "optimizer": adam, "n_particles": 500, "sampling": "closed-form"}
    return Row("flow", steps, chosen)


LIKELIHOOD = Row("weighted-flow", 200, {"discrepancy": {"name": "data-kl"}, "n_particles": 100})
ANNEALED: Options = {"n_components": 100, "anneal": [10.0, 200]}

# the name of a row is the variant of its runs; a method that is added here is in the table of the report
ROWS: dict[str, dict[str, Row]] = {
    "oned": {
        "equal weights": Row("mixture", 5_000, {"n_components": 10}),
        "estimated weights": Row("mixture", 5_000, {"n_components": 10, "estimate_weights": True}),
        "with a background": Row("mixture", 5_000, {"n_components": 10, "estimate_weights": True, "background": True}),
        "grid of 200": Row("reweighting", 10_000, {"n_support": 200}),
        "energy": _flow("energy", 1e-2, 20_000),
        "KL": _flow("kl", 1e-2, 20_000),
        "likelihood": LIKELIHOOD,
        "per image": Row("maximum-likelihood", 20, {"n_support": 200}),
        "posteriors": Row("posterior-npmle", 64 + 12 + 1 + 4_000, {"n_support": 64, "n_candidates": 1}),
    },
    "nanocluster": {
        "equal weights": Row("mixture", 400, ANNEALED),
        "estimated weights": Row("mixture", 400, ANNEALED | {"estimate_weights": True}),
        "with a background": Row("mixture", 400, ANNEALED | {"estimate_weights": True, "background": True}),
        "grid of 400": Row("reweighting", 300, {"n_support": 400}),
        "energy": _flow("energy", 3e-2, 1_000),
        "likelihood": Row("weighted-flow", 200, LIKELIHOOD.options | {"anneal": [10.0, 50]}),
        "per image": Row("maximum-likelihood", 20, {"n_support": 400}),
        "posteriors": Row("posterior-npmle", 100 + 12 + 1 + 300, {"n_support": 100}),
    },
    "adk": {
        "estimated weights": Row(
            "mixture",
            30,
            {
                "n_components": 10,
                "quadrature_order": 2,
                "refine_poses": True,
                "estimate_noise": True,
                "estimate_weights": True,
            },
        ),
        "posteriors": Row("posterior-npmle", 64 + 10 + 1 + 100, PROTEIN_POSTERIOR),
    },
}


def contamination(size: Size) -> list[RunConfig]:
    """The line with wide outliers, images with all kinds; the protein in the largest profile alone."""
    smokes = size.share_of_steps < 1
    few, all_shares = (0.0, 0.1), (0.0, 0.02, 0.1)
    runs = _on("oned", {}, ("wide",), few if smokes else all_shares, size)
    runs += _on("nanocluster", IMAGES, KINDS, all_shares if size.all_settings else few, size)
    if size.all_settings:
        runs += _on("adk", PROTEIN_IMAGES[size.images], KINDS, few, size)
    return runs


def _on(problem: str, shown: Options, kinds: Sequence[str], shares: Sequence[float], size: Size) -> list[RunConfig]:
    """Every row of a problem on clean data, and on each kind and share of outliers; seeds are the same throughout."""
    cases = [(kinds[0], shares[0]), *((kind, share) for kind in kinds for share in shares[1:])]
    return [
        run_on(
            problem,
            shown | {"outliers": share, "outlier_kind": kind},
            EVALUATIONS,
            "contamination",
            Labels(name, kind if share else "clean", share),
            size,
            row.method,
            row.steps,
            **row.options,
        )
        for kind, share in cases
        for name, row in ROWS[problem].items()
    ]
