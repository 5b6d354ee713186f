"""The images of a stack with the likelihoods of structures, and which of them are particles at all."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float, Int

from cryosip import __version__
from cryosip.bench.recovery import belief, tables
from cryosip.bench.recovery.methods import CHOICES
from cryosip.bench.recovery.tables import OfImages, Table
from cryosip.datasets.imaging import Imaging
from cryosip.datasets.stack import stack
from cryosip.methods import checks
from cryosip.methods.tabulated import Grid, refined
from cryosip.records.files import digest
from cryosip.records.recovery import Between
from cryosip.records.schema import Options

FINE = {1: 113, 2: 29, 3: 13}  # points along each mode of the distribution that is shown
CACHE = "table"  # the folder of what is computed, for a resume
FEWEST = 20  # images
AT_A_TIME = 5_000  # images whose likelihoods on the grid that is shown are in memory
SURELY = 0.9  # images that are noise alone with more than this probability take no part

Report = Callable[[str], None]
Rows = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Request:
    """What to recover, by which methods; `stack_options` are those of `stack`."""

    particles: str
    structure: tuple[str, ...]
    methods: tuple[str, ...] = tuple(CHOICES)
    stack_options: Options = field(default_factory=dict)
    seed: int = 0


class ScoredImages(NamedTuple):
    """Images with a table of the likelihoods of structures, and the grid `fine` of the distribution that is shown.

    On that grid `best` (m,) is the largest log-likelihood of each, and `evidence` (m,) that of equal weights. `junk`
    (m,) is the probability of each to be noise alone, and `rows` are those that take part. `identity` is a hash of all
    that they depend on, and `cache` the folder of what equal runs have left.
    """

    cache: Path
    identity: str
    imaging: Imaging
    of: OfImages
    table: Table
    fine: Grid
    best: Float[np.ndarray, " m"]
    evidence: Float[np.ndarray, " m"]
    junk: Float[np.ndarray, " m"]
    junk_share: Between
    rows: Rows

    def log_values(self, rows: Rows | slice) -> Float[np.ndarray, "n k"]:
        """Log-likelihoods of some images on the grid that is shown: those of all may be more than memory holds."""
        return refined(self.table.grid, self.table.coefficients[rows], self.fine.per_axis)


def checked(request: Request) -> Request:
    """ValueError for methods that are unknown, or none, and more modes than can be shown."""
    if not request.methods:
        raise ValueError(f"no method is given; wanted one or more of {', '.join(CHOICES)}")
    for name in request.methods:
        checks.one_of("method", name, CHOICES)
    n_modes = checks.positive_int("n_modes", request.stack_options.get("n_modes", 2))
    if n_modes not in FINE:
        raise ValueError(f"n_modes is {n_modes}; wanted 1 to {max(FINE)}, of which a grid can be shown")
    return request


def with_likelihoods(request: Request, folder: Path, report: Report) -> ScoredImages:
    """The likelihoods of all images, and which of them are particles."""
    for path in request.structure:
        if not Path(path).expanduser().is_file():
            raise FileNotFoundError(f"the structure {path} is not there; wanted a PDB or an mmCIF file")
    structures = request.structure[0] if len(request.structure) == 1 else list(request.structure)
    report(f"reading {request.particles}")
    imaging = stack(request.particles, structures, seed=request.seed, **request.stack_options)
    if imaging.particles.message:
        report(imaging.particles.message)
    m, of = len(imaging.particles.place), tables.of_images(imaging)
    if m < FEWEST:
        raise ValueError(f"{request.particles} has {m} images; wanted {FEWEST} or more")
    grid = tables.fitting_grid(imaging, of)
    cache, name = folder / CACHE, identity(request, imaging, grid)
    before = min(m, tables.BATCH * len(list(cache.glob(f"*[0-9]-{name}.npz"))))
    report(
        f"likelihoods of {m:,} images on {len(grid.points):,} structures"
        + (f"; {before:,} images are there from before" if before else "")
    )
    table = tables.of_stack(imaging, of, grid, cache, name, Clock(m, report))
    fine = Grid(grid.lower, grid.upper, FINE[grid.dimension])
    best, evidence = np.empty(m), np.empty(m)
    for start in range(0, m, AT_A_TIME):
        values = refined(grid, table.coefficients[start : start + AT_A_TIME], fine.per_axis)
        best[start : start + AT_A_TIME] = values.max(1)
        evidence[start : start + AT_A_TIME] = scipy.special.logsumexp(values, axis=1) - np.log(values.shape[1])
    share, junk = belief.junk_probabilities(evidence)
    rows = np.flatnonzero(junk <= SURELY)
    if len(rows) < max(FEWEST, 0.05 * m):  # noise alone, or all but: whoever asks gets an answer to that
        rows = np.arange(m)
    return ScoredImages(cache, name, imaging, of, table, fine, best, evidence, junk, share, rows)


def identity(request: Request, imaging: Imaging, grid: Grid) -> str:
    """Of all that a table depends on: a run that is started again reads what an equal one has left."""
    files = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in imaging.particles.files]
    numbers = (imaging.optics.weights, imaging.beads.atoms, imaging.beads.rest, imaging.beads.motions, grid.points,
               imaging.turns.rotation, imaging.turns.weights,
               np.array([imaging.scale_std, imaging.shift_error]))  # fmt: skip
    hashes = [digest(np.ascontiguousarray(np.asarray(a, np.float64)).tobytes()) for a in numbers]
    parts = (__version__, imaging.particles.source.stat().st_mtime_ns, files, hashes, request.stack_options)
    return digest(str(parts).encode())[:12]


class Clock:
    """Says every ten seconds how many images are done, and how long the rest will take."""

    def __init__(self, total: int, report: Report) -> None:
        self.total, self.report, self.begun = total, report, time.monotonic()
        self.first: int | None = None
        self.due = self.begun + 10

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        self.first = done if self.first is None else self.first
        if now < self.due or done == self.first:
            return
        left = (now - self.begun) / (done - self.first) * (self.total - done)
        self.report(f"{done:,} of {self.total:,} images, about {left:.0f} s left")
        self.due = now + 10
