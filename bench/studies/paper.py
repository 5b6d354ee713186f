"""The paper's own studies: the runs behind its figures, and what it leaves open."""

from dataclasses import replace
from functools import partial
from typing import Any

from cryosip.bench.studies.sampling import FORMULAS
from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.records.store import RunConfig

# section 4.1 gives n, the steps and the bandwidth of the KDE; Adam's rate is not stated, 1e-3 reproduces the distances
PUBLISHED_RATE, PUBLISHED_STEPS = 1e-3, 25_000
PUBLISHED_DISCREPANCIES: list[Options] = [{"name": "energy"}, {"name": "kl", "options": {"bandwidth": "paper"}}]

# Chosen by the median W1 on replicates 100-105, which no study reports: Adam at 1e-3 ... 3e-2, constant or along a
# cosine, up to 25 000 steps (and the KL with Silverman's bandwidth); EM up to 400 steps; grids of 50 ... 200 points up
# to 1000 steps.
TUNED_FLOWS: dict[str, tuple[float, int]] = {"energy": (1e-2, 10_000), "kl": (1e-2, 5_000)}
MIXTURE_STEPS = 150
SUPPORT, REWEIGHTING_STEPS = 200, 1_000

# Section 4.2 gives n, sigma and the steps, neither tau nor the rate: tau = 0.25 is the problem's default, and Adam at
# 1e-3 brings the energy distance to where the paper's is. The others are chosen as above: flows at 3e-4 ... 1e-1, with
# the noise drawn or integrated out, up to 3000 steps; annealing from sigma * 10, 15, 20 or 100 within 100 or 200 steps;
# grids of 400 ... 6400 points with 3 ... 300 steps (stopping early regularises); 5 ... 20 steps of maximum likelihood.
NANOCLUSTER_RATE, NANOCLUSTER_STEPS = 1e-3, 3_000
NANOCLUSTER_TUNED = (1e-2, 500)
NANOCLUSTER_COMPONENTS = (1, 10, 100, 1_000)
ANNEALING, ANNEALED_STEPS, PLAIN_STEPS = (10.0, 200), 250, 250
NANOCLUSTER_SUPPORT, NANOCLUSTER_REWEIGHTING_STEPS = 3_600, 3
MAXIMUM_LIKELIHOOD_STEPS = 10
TAUS = (0.15, 0.25, 0.35, 1.0, 0.5)  # where not all are taken, the last

# Section 4.3 gives images of 128 x 128 pixels, 3000 of them, sigma and the steps, nothing else. Coarser images of the
# same field of view do for the small profile. Chosen on replicates 100-102: for the invariant flow Adam at 0.1 and 0.15
# and Euler steps of 0.1 and 0.3 (root mean square, in whitened units), along a cosine, 200 ... 3000 steps; EM with 12
# steps; banks of 64 ... 400 structures with grids of order 1 and 2, 4 ... 16 candidates, 10 and 12 refinements. The
# flow of raw images has the invariant flow's optimizer and was not tuned by itself.
PROTEIN_IMAGES: dict[str, Options] = {
    "smoke": {"image_size": 12, "pixel_size_in_angstroms": 16.0, "atom_std_in_angstroms": 12.0, "atoms_per_bead": 4},
    "small": {"image_size": 32, "pixel_size_in_angstroms": 6.0, "atom_std_in_angstroms": 5.0, "atoms_per_bead": 2},
    "paper": {"image_size": 128, "cropped_size": 63},
}
PROTEIN_RINGS = {"smoke": 1.6, "small": 1.6, "paper": 6.4}  # pixels; 9.6 angstroms but where images only smoke
PROTEIN_RATE, PROTEIN_STEPS, PROTEIN_PAPER_STEPS = 0.1, 200, 90_000
PROTEIN_POSTERIOR = {"n_support": 64, "quadrature_order": 2, "n_candidates": 4, "n_refinements": 10}
POSTERIOR_EM_STEPS = 10
POSE_EM_STEPS = 5
CUTOFFS, SNRS = (10.0, 12.0, 15.0), (0.1, 10.0)  # besides the last cutoff with a ratio of 1

# Draws of omega in each step: for (2.14) more, since all particles share them. Not tuned.
SCHEMES = {"method-1": 1, "method-2": 16, "method-3": 4, "closed-form": 1}
SCHEME_PARTICLES, SCHEME_GROWTH = 2_000, 1.3

NOISE_LEVELS = (0.5, 1.0, 1.5, 2.0, 3.0)  # Fig. 2 does not list its own


on_oned = partial(run_on, "oned", {}, 25)


def flow_on_oned(study: str, setting: str, size: Size, discrepancy: Options, rate: float, steps: int) -> RunConfig:
    """The particle flow with Adam, as many particles as observations."""
    adam = {"name": "adam", "learning_rate": rate}
    options = {"discrepancy": discrepancy, "optimizer": adam, "n_particles": size.n}
    return on_oned(study, setting, size, "flow", steps, **options)


def paper_1d(size: Size) -> list[RunConfig]:
    """Fig. 1 and its distances at the published setting and a better-tuned one; the DTO methods on the same data."""
    published = [
        flow_on_oned("paper-1d", "published", size, discrepancy, PUBLISHED_RATE, PUBLISHED_STEPS)
        for discrepancy in PUBLISHED_DISCREPANCIES
    ]
    tuned = [
        flow_on_oned("paper-1d", "tuned", size, {"name": name}, rate, steps)
        for name, (rate, steps) in TUNED_FLOWS.items()
    ]
    mixtures = [
        on_oned("paper-1d", f"K={k}", size, "mixture", MIXTURE_STEPS, n_components=k)
        for k in (2, 5, 10, 50, 200, 1_000)
        if k <= size.n
    ]
    setting = f"grid of {SUPPORT}"
    return [
        *published,
        *tuned,
        *mixtures,
        on_oned("paper-1d", setting, size, "reweighting", REWEIGHTING_STEPS, n_support=SUPPORT),
    ]


def noise(size: Size) -> list[RunConfig]:
    """Fig. 2: steps and seconds of the published setting until W < 0.2 against sigma. W1 < W2 falls below it first."""
    runs = []
    for sigma in NOISE_LEVELS if size.share_of_steps == 1 else NOISE_LEVELS[:2]:
        for discrepancy in PUBLISHED_DISCREPANCIES:
            run = flow_on_oned("noise", f"sigma={sigma}", size, discrepancy, PUBLISHED_RATE, PUBLISHED_STEPS)
            problem = run.problem_options | {"noise_std": sigma}
            every = max(1, run.steps // 100)
            runs.append(replace(run, problem_options=problem, every=every, stop_below={"w2": 0.2}))
    return runs


def sampling(size: Size) -> list[RunConfig]:
    """The variances of the estimators (2.13)-(2.15) against their formulas; what each scheme buys the flow."""
    variances = [
        on_oned("sampling", f"N={n}, K={k}", size, scheme, 1, n=n, k=k)
        for n, k in ((20, 2), (20, 8), (100, 2), (100, 8))
        for scheme in FORMULAS
    ]
    few = size._replace(n=min(size.n, SCHEME_PARTICLES))
    flows = [
        flow_on_oned("sampling", f"{scheme}, K={k}", few, {"name": "energy"}, *TUNED_FLOWS["energy"])
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


def on_nanocluster(
    study: str, setting: str, size: Size, method: str, steps: int, tau: float | None = None, **options: Any
) -> RunConfig:
    """On small images where the profile only smokes; few looks, since transport in the plane takes its time."""
    small = {"image_size": 32, "tau": 0.5} if size.share_of_steps < 1 else {}
    shown = small | ({} if tau is None else {"tau": tau})
    return run_on("nanocluster", shown, 5 if steps > 1_000 else 2, study, setting, size, method, steps, **options)


def flow_on_nanocluster(
    study: str, setting: str, size: Size, rate: float, steps: int, tau: float | None = None
) -> RunConfig:
    """The flow of the energy distance with Adam, as many particles as observations."""
    adam = {"name": "adam", "learning_rate": rate}
    options = {"discrepancy": {"name": "energy"}, "optimizer": adam, "n_particles": size.n}
    return on_nanocluster(study, setting, size, "flow", steps, tau=tau, **options)


def paper_nanocluster(size: Size) -> list[RunConfig]:
    """Figs. 3 and 4: the published flow and a better-tuned one; DTO methods and maximum likelihood on the same data."""
    study = "paper-nanocluster"
    annealed = {"anneal": ANNEALING}
    mixtures = [
        on_nanocluster(study, setting, size, "mixture", steps, n_components=k, **options)
        for k in (NANOCLUSTER_COMPONENTS if size.all_settings else NANOCLUSTER_COMPONENTS[-1:])
        for setting, steps, options in (
            (f"K={k}", PLAIN_STEPS, {}),
            (f"annealed K={k}", ANNEALED_STEPS, annealed),
            (f"annealed, weights K={k}", ANNEALED_STEPS, annealed | {"estimate_weights": True}),
        )[: 3 if size.all_settings else 2]
        if k <= size.n and (k > 1 or not options)
    ]
    support = NANOCLUSTER_SUPPORT if size.share_of_steps == 1 else 400
    few = NANOCLUSTER_REWEIGHTING_STEPS
    return [
        flow_on_nanocluster(study, "published", size, NANOCLUSTER_RATE, NANOCLUSTER_STEPS),
        *([flow_on_nanocluster(study, "tuned", size, *NANOCLUSTER_TUNED)] if size.all_settings else []),
        *mixtures,
        on_nanocluster(study, f"grid of {support}", size, "reweighting", few, n_support=support),
        on_nanocluster(study, "per image", size, "maximum-likelihood", MAXIMUM_LIKELIHOOD_STEPS),
    ]


def tau(size: Size) -> list[RunConfig]:
    """The published flow of section 4.2 for every tau that it may have had."""
    return [
        flow_on_nanocluster("tau", f"tau={tau}", size, NANOCLUSTER_RATE, NANOCLUSTER_STEPS, tau)
        for tau in (TAUS if size.all_settings else TAUS[-1:] if size.share_of_steps == 1 else TAUS[-2:])
    ]


def on_protein(
    problem: str, study: str, setting: str, size: Size, method: str, steps: int, looks: int = 2, **options: Any
) -> RunConfig:
    """On the images of the profile; settings in which images differ have them in `images`."""
    images = PROTEIN_IMAGES[size.images] | options.pop("images", {})
    return run_on(problem, images, looks, study, setting, size, method, steps, **options)


def flow_on_protein(
    problem: str, study: str, setting: str, size: Size, discrepancy: str, looks: int = 4, **options: Any
) -> RunConfig:
    """Euler steps along a cosine, as many particles as observations; 9 * 10^4 of them at the paper's size."""
    steps = PROTEIN_PAPER_STEPS if size.all_settings else PROTEIN_STEPS
    cosine = max(1, round(steps * size.share_of_steps))
    descent = {"name": "rms-sgd", "learning_rate": PROTEIN_RATE, "cosine_steps": cosine}
    rings = {"options": {"ring_width": PROTEIN_RINGS[size.images]}} if discrepancy == "invariant-energy" else {}
    chosen = {"discrepancy": {"name": discrepancy} | rings, "optimizer": descent, "n_particles": size.n}
    return on_protein(problem, study, setting, size, "flow", steps, looks, **chosen, **options)


def posterior_on_protein(problem: str, study: str, setting: str, size: Size, **options: Any) -> RunConfig:
    """All of the bank, whatever the profile; EM steps on the weights after that."""
    searched = PROTEIN_POSTERIOR if size.share_of_steps == 1 else {"n_support": 4, "n_refinements": 2}
    steps = searched["n_support"] + searched["n_refinements"] + 1 + POSTERIOR_EM_STEPS
    run = on_protein(problem, study, setting, size, "posterior-npmle", steps, 1, **searched, **options)
    return replace(run, steps=steps, every=steps)


def paper_protein(problem: str, study: str, size: Size) -> list[RunConfig]:
    """Figs. 5 to 8: the flow on images and on their invariants; EM over poses and per-image posteriors."""
    order = 2 if size.share_of_steps == 1 else 1
    mixtures = [
        on_protein(
            problem, study, f"K={k}", size, "mixture", POSE_EM_STEPS, n_components=k, quadrature_order=order,
            refine_poses=size.share_of_steps == 1, estimate_noise=True, estimate_weights=True,
        )
        for k in (5, 10)
    ]  # fmt: skip
    return [
        flow_on_protein(problem, study, "published", size, "energy"),
        flow_on_protein(problem, study, "tuned", size, "invariant-energy"),
        *mixtures,
        posterior_on_protein(problem, study, "per image", size),
    ]


def open_fields(problem: str, study: str, size: Size) -> list[RunConfig]:
    """The two methods that see most, for each value of what the paper leaves open."""
    values = [(cutoff, 1.0) for cutoff in CUTOFFS] + [(CUTOFFS[-1], snr) for snr in SNRS]
    settings = [
        (f"cutoff={cutoff:g}, SNR={snr:g}", {"cutoff_in_angstroms": cutoff, "snr": snr}) for cutoff, snr in values
    ]
    chosen = settings if size.share_of_steps == 1 else settings[:1]
    return [
        run
        for setting, images in chosen
        for run in (
            flow_on_protein(problem, study, setting, size, "invariant-energy", 1, images=images),
            posterior_on_protein(problem, study, setting, size, images=images),
        )
    ]
