"""The registry of studies."""

from functools import partial

from cryosip.bench.studies import otd_dto
from cryosip.bench.studies.bound import Sizes, axes, bound
from cryosip.bench.studies.certificates import certificates, run_certified
from cryosip.bench.studies.consistency import consistency, measure_statement
from cryosip.bench.studies.contamination import contamination
from cryosip.bench.studies.ensemble import ensemble
from cryosip.bench.studies.estimators import measure
from cryosip.bench.studies.fredholm import fredholm
from cryosip.bench.studies.held_out import run_held_out
from cryosip.bench.studies.measured_bound import measure_bound
from cryosip.bench.studies.measured_marginal import measure_marginal
from cryosip.bench.studies.measured_reading import measure_reading
from cryosip.bench.studies.measured_stability import measure_stability
from cryosip.bench.studies.measured_volumes import measure_volumes
from cryosip.bench.studies.nanocluster import paper_nanocluster, tau
from cryosip.bench.studies.oned import noise, paper_1d
from cryosip.bench.studies.protein import hsp90_long, hsp90_methods, open_fields, paper_hsp90, paper_protein
from cryosip.bench.studies.readings import readings
from cryosip.bench.studies.sampling import sampling
from cryosip.bench.studies.scaling import scaling
from cryosip.bench.studies.stability import stability
from cryosip.bench.studies.study import Size, Study
from cryosip.bench.studies.tuning import FIRST_REPLICATE, tuning
from cryosip.bench.studies.volumes import volumes

PROTEIN_SIZES = {
    "smoke": Size(1, 12, 0.02, images="smoke"),
    "small": Size(3, 500, 1.0, images="small"),
    "paper": Size(3, 3_000, 1.0, all_settings=True, images="paper"),
}

BUDGETED = {"smoke": otd_dto.SMOKE, "small": otd_dto.SMALL, "paper": otd_dto.PAPER}

STUDIES: dict[str, Study] = {
    "bound": Study(
        "How near the data let anyone come: the NPMLE and the true family with exact likelihoods",
        {
            "smoke": Sizes(1, otd_dto.SMOKE),
            "small": Sizes(3, otd_dto.SMALL, axes((250, 1_000, 4_000), (100, 300), ("adk",), "small")),
            "paper": Sizes(
                5,
                otd_dto.PAPER,
                axes((500, 1_000, 3_000, 10_000), (500, 1_000, 3_000, 10_000), ("adk", "hsp90"), "small"),
            ),
        },
        bound,
        measure_bound,
    ),
    "paper-1d": Study(
        "Fig. 1 and its distances: flow, mixture and reweighting on the 1D system",
        {"smoke": Size(1, 300, 0.004), "small": Size(10, 10_000, 1.0), "paper": Size(10, 10_000, 1.0)},
        paper_1d,
    ),
    "noise": Study(
        "Fig. 2: steps and seconds to an accuracy against the noise level",
        {"smoke": Size(1, 300, 0.004), "small": Size(3, 10_000, 1.0), "paper": Size(1, 10_000, 1.0)},
        noise,
    ),
    "sampling": Study(
        "Variances of the sampling schemes of section 2.5.3 against their formulas, and the flow's time to an accuracy",
        {"smoke": Size(1, 300, 0.01), "small": Size(3, 10_000, 1.0), "paper": Size(1, 10_000, 1.0)},
        sampling,
        measure,
    ),
    "scaling": Study(
        "Errors, seconds and memory against particles, components, draws, observations and noise",
        {
            "smoke": Size(1, 300, 0.004),
            "small": Size(5, 10_000, 1.0),
            "paper": Size(10, 10_000, 1.0, all_settings=True),
        },
        scaling,
    ),
    "consistency": Study(
        "Section 3: large data, many particles, distance against objective, lambda = K/N and one flow for both",
        {"smoke": Size(1, 60, 0.1), "small": Size(5, 1_000, 1.0), "paper": Size(10, 3_000, 1.0)},
        consistency,
        measure_statement,
    ),
    "certificates": Study(
        "How far estimates are from the largest likelihood of all distributions, proved by their duality gap",
        {"smoke": Size(1, 60, 0.05), "small": Size(5, 10_000, 1.0), "paper": Size(10, 10_000, 1.0)},
        certificates,
        run_certified,
    ),
    "contamination": Study(
        "Every method on clean data and with a share of outliers, run to convergence",
        {
            "smoke": Size(1, 60, 0.02),
            "small": Size(3, 500, 1.0),
            "paper": Size(10, 1_000, 1.0, all_settings=True, images="paper"),
        },
        contamination,
    ),
    "ensemble": Study(
        "Populations of given structures, with poses known, within 10 degrees and unknown",
        {
            "smoke": Size(1, 12, 0.02, images="smoke"),
            "small": Size(3, 200, 1.0, images="small"),
            "paper": Size(5, 1_000, 1.0, all_settings=True, images="paper"),
        },
        ensemble,
    ),
    "paper-nanocluster": Study(
        "Figs. 3 and 4 and their distances: flow, mixture, reweighting and maximum likelihood on images",
        {"smoke": Size(1, 60, 0.01), "small": Size(10, 1_000, 1.0), "paper": Size(10, 1_000, 1.0, all_settings=True)},
        paper_nanocluster,
    ),
    "tau": Study(
        "The width of an atom, which the paper does not state, against the distances of section 4.2",
        {"smoke": Size(1, 60, 0.01), "small": Size(1, 100, 1.0), "paper": Size(3, 1_000, 1.0, all_settings=True)},
        tau,
    ),
    "paper-hsp90": Study(
        "Figs. 5 to 8 and their distances: the flow on images of HSP90, as conjectured and as printed",
        PROTEIN_SIZES,
        paper_hsp90,
    ),
    "hsp90-methods": Study(
        "The flow on invariants, EM over poses, posteriors and reweighting on HSP90, as conjectured and as printed",
        PROTEIN_SIZES,
        hsp90_methods,
    ),
    "hsp90-long": Study(
        "The flow on images of HSP90 as conjectured, with the 90,000 steps of the paper in its profile: for a GPU",
        PROTEIN_SIZES,
        hsp90_long,
    ),
    "paper-adk": Study(
        "The same on adenylate kinase, whose structure needs no file and no network",
        PROTEIN_SIZES,
        partial(paper_protein, "adk", "paper-adk"),
    ),
    "hsp90-open": Study(
        "What section 4.3 leaves open, cutoff and signal-to-noise ratio, against the distances",
        PROTEIN_SIZES | {"small": Size(1, 500, 1.0, images="small")},
        partial(open_fields, "hsp90", "hsp90-open"),
    ),
    "hsp90-readings": Study(
        "Ways to read section 4.3, and which of its four published distances each can give",
        {
            "smoke": Size(1, 12, 0.02, images="smoke"),
            "small": Size(3, 1_000, 1.0),
            "paper": Size(5, 3_000, 1.0),
        },
        readings,
        measure_reading,
    ),
    "fredholm": Study(
        "The table of Crucinio et al.: integrated squared errors of the first marginal in one to four dimensions",
        {"smoke": Size(1, 100, 0.02), "small": Size(3, 2_000, 1.0), "paper": Size(100, 1_000_000, 1.0)},
        fredholm,
        measure_marginal,
    ),
    "volumes": Study(
        "Classes, variability, covariance, autoencoder and flows of whole volumes on the same images, in given poses",
        {
            "smoke": Size(1, 24, 0.1, images="smoke"),
            "small": Size(1, 2_000, 1.0, images="small"),
            "paper": Size(3, 5_000, 1.0, all_settings=True, images="paper"),
        },
        volumes,
        measure_volumes,
    ),
    "stability": Study(
        "How much a distribution of volumes changes with the seed, the half of the images, some noise, the components",
        {
            "smoke": Size(1, 40, 0.1, images="smoke"),
            "small": Size(1, 1_000, 1.0, images="small"),
            "paper": Size(5, 5_000, 1.0, images="paper"),
        },
        stability,
        measure_stability,
    ),
    "otd-vs-dto": Study(
        "Every method on every problem within the same budgets of seconds and of forward evaluations",
        BUDGETED,
        otd_dto.otd_vs_dto,
    ),
    "tuning": Study(
        "The sweep behind otd-vs-dto on other replicates, scored by held-out images; `cryosip tune` keeps the best",
        {profile: size._replace(replicates=min(size.replicates, 3)) for profile, size in BUDGETED.items()},
        tuning,
        run_held_out,
        first_replicate=FIRST_REPLICATE,
    ),
}
