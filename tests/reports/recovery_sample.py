"""Synthetic recoveries, for these tests only: they look like runs of `cryosip recover` and were never run."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cryosip.records.recovery import Between, MethodOutcome, Recovery, write

HALF_WIDTH, STEPS, BEADS = 6.0, {1: 113, 2: 29, 3: 13}, 40
CENTRES, STDS, SHARES = np.array([[-2.5, -1.0, 0.5], [2.0, 1.5, -0.5]]), (1.0, 0.7), np.array([0.6, 0.4])
NAMES = ("posterior-npmle", "mixture", "reweighting", "flow")
GAINS = {"posterior-npmle": 0.118, "mixture": 0.122, "reweighting": 0.120, "flow": 0.080}


def outcome(name: str, **changes: Any) -> MethodOutcome:
    """A method that ended well."""
    base = MethodOutcome(
        name=name, options={"n_components": [1, 2, 4]} if name == "mixture" else {}, status="ok", seconds=12.5,
        n_images=4_000, held_out=GAINS[name], held_out_error=0.005, image_distance=Between(0.031, 0.01, 0.04),
        halves=0.35,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def recovery(d: int = 2, **changes: Any) -> Recovery:
    """One in which something can be told."""
    base = Recovery(
        version="0.1.0", created="2026-01-05T12:00:00Z", command="cryosip recover particles.star 4ake.pdb",
        particles="particles.star", structure="4ake.pdb", chain="A", n_images=4_321, image_size=64,
        pixel_in_angstroms=2.62, options={"snr": None, "pose": {"error": 0.05}}, scale=0.93,
        lower=[-HALF_WIDTH] * d, upper=[HALF_WIDTH] * d, shown="reweighting", methods=[outcome(name) for name in NAMES],
        resampling=Between(0.36, 0.28, 0.47), spread=Between(2.71, 2.6, 2.8), junk_share=Between(0.123, 0.11, 0.135),
        unexplained_share=0.031, posterior_std=[0.83, 1.17, 1.4][:d], files=["structures.pdb", "weights of images.csv"],
        notes=["The pixel was read from the header."],
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def noise(d: int = 2) -> Recovery:
    """One of pure noise: no method gains more than chance."""
    methods = [outcome(name, held_out=0.0001, held_out_error=0.001, halves=2.2) for name in NAMES]
    return recovery(d, methods=methods, resampling=Between(1.9, 1.5, 2.4), junk_share=Between(0.97, 0.94, 0.99))


def failed(d: int = 2) -> Recovery:
    """One whose flow diverged."""
    flow = MethodOutcome("flow", {}, "error", "it diverged before step 200", 3.5, 4_000)
    return recovery(d, methods=[*(outcome(name) for name in NAMES[:3]), flow])


def arrays(d: int = 2, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Of two Gaussians, what a `Recovery` says that its arrays hold; `without` are names left out."""
    rng, n = np.random.default_rng(4), STEPS[d]
    points = np.linspace(-HALF_WIDTH, HALF_WIDTH, n)
    step = points[1] - points[0]
    parts = [np.stack([np.exp(-0.5 * ((points - c) / s) ** 2) / (s * 2.5066) for c in centre[:d]])
             for centre, s in zip(CENTRES, STDS, strict=True)]  # fmt: skip
    density = sum(share * part for share, part in zip(SHARES, parts, strict=True))
    cumulative = np.cumsum(density, axis=1) * step
    error = 0.04 * np.sqrt(density) + 0.002
    found = {
        "density": density, "density_low": np.maximum(density - error, 0), "density_high": density + error,
        "cumulative": cumulative, "cumulative_low": np.maximum(cumulative - 0.02, 0),
        "cumulative_high": np.minimum(cumulative + 0.02, 1), "representatives": CENTRES[:, :d], "shares": SHARES,
        "shares_low": SHARES - 0.05, "shares_high": SHARES + 0.05,
    }  # fmt: skip
    if d > 1:
        plane = sum(share * part[0][:, None] * part[1] for share, part in zip(SHARES, parts, strict=True))
        energy = -np.log(plane) + np.log(plane.max())
        empty = plane * step**2 * 4_321 < 1
        found["free_energy"] = np.where(empty, np.nan, energy)
        found["free_energy_std"] = np.where(empty, np.nan, 0.05 + 0.1 * energy)
    found |= _estimates(rng, d) | _molecule(rng, d) | _images(rng)
    found["calibration"] = np.array([[2.35, 2.19, 0.88, 0.021], [1.5, 1.05, 0.74, 0.06], [0.9, 1.2, 0.9, 0.05]])[:d]
    return {name: array for name, array in found.items() if name not in without}


def _estimates(rng: np.random.Generator, d: int) -> dict[str, np.ndarray]:
    found = {}
    for name, count in zip(NAMES, (200, 8, 800, 500), strict=True):
        part = rng.choice(2, size=count, p=SHARES)
        found[f"theta_{name}"] = CENTRES[part, :d] + np.array(STDS)[part, None] * rng.normal(size=(count, d))
        found[f"weights_{name}"] = rng.dirichlet(np.full(count, 5.0))
    return found


def _molecule(rng: np.random.Generator, d: int) -> dict[str, np.ndarray]:
    beads = np.cumsum(rng.normal(size=(BEADS, 3)), axis=0) * 3
    turns = [np.cos(np.pi * (k + 1) * np.linspace(0, 1, BEADS)) for k in range(d)]
    return {"beads": beads, "motions": np.stack([np.outer(t, np.eye(3)[k]).ravel() for k, t in enumerate(turns)])}


def _images(rng: np.random.Generator) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:32, :32] - 15.5
    clean = np.stack([np.exp(-(((x - k) / (4 + k)) ** 2 + ((y + k) / 7) ** 2)) for k in range(6)])
    band = 1 + 40 * np.exp(-np.arange(31) / 4)
    quantiles = np.sort(rng.gamma(4, 3, size=40))
    return {
        "view_observed": clean + 0.1 * rng.normal(size=clean.shape),
        "view_simulated": clean + 0.1 * rng.normal(size=clean.shape),
        "power": np.stack([1.02 * band, 0.95 * band, 1.05 * band]),
        "gains_observed": 0.9 * quantiles, "gains_simulated": quantiles,
    }  # fmt: skip


def put(folder: Path, made: Recovery, held: dict[str, np.ndarray]) -> Path:
    """Write it, and return the folder."""
    write(folder, made, held)
    return folder
