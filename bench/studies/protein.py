"""Section 4.3: the runs behind Figs. 5 to 8, and what the section leaves open."""

from dataclasses import replace
from typing import Any

from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.records.schema import Labels, RunConfig

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


def on_protein(
    problem: str,
    study: str,
    labels: Labels,
    size: Size,
    method: str,
    steps: int,
    n_evaluations: int = 2,
    **options: Any,
) -> RunConfig:
    """On the images of the profile; variants in which images differ have them in `images`."""
    images = PROTEIN_IMAGES[size.images] | options.pop("images", {})
    return run_on(problem, images, n_evaluations, study, labels, size, method, steps, **options)


def flow_on_protein(
    problem: str, study: str, labels: Labels, size: Size, discrepancy: str, n_evaluations: int = 4, **options: Any
) -> RunConfig:
    """Euler steps along a cosine, as many particles as observations; 9 * 10^4 of them at the paper's size."""
    steps = PROTEIN_PAPER_STEPS if size.all_settings else PROTEIN_STEPS
    cosine = max(1, round(steps * size.share_of_steps))
    descent = {"name": "rms-sgd", "learning_rate": PROTEIN_RATE, "cosine_steps": cosine}
    rings = {"options": {"ring_width": PROTEIN_RINGS[size.images]}} if discrepancy == "invariant-energy" else {}
    chosen = {"discrepancy": {"name": discrepancy} | rings, "optimizer": descent, "n_particles": size.n}
    return on_protein(problem, study, labels, size, "flow", steps, n_evaluations, **chosen, **options)


def posterior_on_protein(problem: str, study: str, labels: Labels, size: Size, **options: Any) -> RunConfig:
    """All of the bank, whatever the profile; EM steps on the weights after that."""
    searched = PROTEIN_POSTERIOR if size.share_of_steps == 1 else {"n_support": 4, "n_refinements": 2}
    steps = searched["n_support"] + searched["n_refinements"] + 1 + POSTERIOR_EM_STEPS
    run = on_protein(problem, study, labels, size, "posterior-npmle", steps, 1, **searched, **options)
    return replace(run, steps=steps, every=steps)


def paper_protein(problem: str, study: str, size: Size) -> list[RunConfig]:
    """Figs. 5 to 8: the flow on images and on their invariants; EM over poses and per-image posteriors."""
    order = 2 if size.share_of_steps == 1 else 1
    mixtures = [
        on_protein(
            problem, study, Labels(axis="K", value=k), size, "mixture", POSE_EM_STEPS,
            n_components=k, quadrature_order=order,
            refine_poses=size.share_of_steps == 1, estimate_noise=True, estimate_weights=True,
        )
        for k in (5, 10)
    ]  # fmt: skip
    return [
        flow_on_protein(problem, study, Labels("published"), size, "energy"),
        flow_on_protein(problem, study, Labels("tuned"), size, "invariant-energy"),
        *mixtures,
        posterior_on_protein(problem, study, Labels("per image"), size),
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
            flow_on_protein(problem, study, Labels(setting), size, "invariant-energy", 1, images=images),
            posterior_on_protein(problem, study, Labels(setting), size, images=images),
        )
    ]
