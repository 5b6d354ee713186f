"""What was recovered from particles, on disk: recovery.json, and its arrays in recovery.npz."""

import io
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct, field

from cryosip.records.files import digest, write_bytes, write_text
from cryosip.records.schema import Array, Options, Text

FILE, ARRAYS = "recovery.json", "recovery.npz"


class Between(Struct, frozen=True, forbid_unknown_fields=True):
    """A number, and the 5 % and 95 % quantiles of what it varies by."""

    value: float
    low: float
    high: float


class MethodOutcome(Struct, frozen=True, forbid_unknown_fields=True):
    """A method on all images, and on each half of them to be judged by the other.

    `held_out` is the gain in log-likelihood of an image of the other half over that of equal weights in the box, in
    nats, and `held_out_error` its standard error. `image_distance` is the squared energy distance between images of
    the other half and images simulated from the estimate; its `low` and `high` are those of images simulated from the
    estimate of that half.
    `halves` is the W2 between the estimates of both halves. The arrays hold its `theta_NAME` and `weights_NAME`.
    """

    name: Text
    options: Options
    status: Text  # "ok", or "error"
    message: Text = ""
    seconds: float = 0.0
    n_images: int = 0
    held_out: float | None = None
    held_out_error: float | None = None
    image_distance: Between | None = None
    halves: float | None = None


class Recovery(Struct, frozen=True, forbid_unknown_fields=True):
    """A distribution of conformations, and what there is to say whether to believe it.

    Of `d` modes and `n` steps between `lower` and `upper` along each, the arrays hold, of the distribution `shown`:
    `density`, `density_low`, `density_high` (d, n) along each mode, `cumulative` and its two (d, n); where d > 1 the
    free energy of the first two modes in k_B T above its lowest, `free_energy` and `free_energy_std` (n, n), the first
    mode along rows, NaN where no image is; `representatives` (s, d) and `shares`, `shares_low`, `shares_high` (s,); the
    molecule as `beads` (b, 3) and `motions` (d, 3 b), in angstroms. Points of a grid include both ends.
    Of the images: `view_observed`, `view_simulated` (v, s, s), averages of images from like directions; `power` (3, f),
    the mean square of images at each frequency in units of noise, observed, and the 5 % and 95 % quantiles of simulated
    images; `gains_observed`, `gains_simulated` (g,), quantiles of the log-likelihood of an image over that of noise
    alone. `calibration` (d, 4): the std of the distribution along each mode, that of the distribution recovered from
    images simulated from it, the share of its 90 % intervals that held, and the largest error of its cumulative.
    """

    version: Text
    created: Text
    command: Text
    particles: Text
    structure: Text
    chain: Text
    n_images: int
    image_size: int
    pixel_in_angstroms: float
    options: Options
    scale: float
    lower: list[float]
    upper: list[float]
    shown: Text
    methods: list[MethodOutcome]
    resampling: Between  # W2 between estimates of two sets of half as many images, drawn from all
    spread: Between  # root mean square distance of the distribution from its mean
    junk_share: Between  # of images that noise alone explains better than any structure
    unexplained_share: float  # of images that are further from all structures than noise takes them
    posterior_std: list[float]  # the median over images, of the posterior of one image along each mode
    files: list[Text] = field(default_factory=list)  # beside the page
    notes: list[Text] = field(default_factory=list)
    arrays_hash: Text = ""


def write(folder: Path, recovery: Recovery, arrays: dict[str, np.ndarray]) -> Recovery:
    """The arrays first, then the record, each whole or not at all; returns what is on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    np.savez_compressed(data, allow_pickle=False, **arrays)
    recovery = msgspec.structs.replace(recovery, arrays_hash=digest(data.getvalue()))
    write_bytes(folder / ARRAYS, data.getvalue())
    write_text(folder / FILE, msgspec.json.format(msgspec.json.encode(recovery), indent=1).decode() + "\n")
    return recovery


def read(folder: str | Path) -> tuple[Recovery, dict[str, Array]]:
    """The record and its arrays; ValueError where the folder holds none, or arrays of another."""
    folder = Path(folder)
    try:
        recovery = msgspec.json.decode((folder / FILE).read_bytes(), type=Recovery)
        data = (folder / ARRAYS).read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{folder} holds no recovery that can be read: {error}") from error
    if digest(data) != recovery.arrays_hash:
        raise ValueError(f"{folder / ARRAYS} is of another run than {FILE}; wanted those of one run")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return recovery, dict(arrays)
