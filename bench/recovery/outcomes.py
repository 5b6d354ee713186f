"""A method on all images, and on each half of them to be judged by the other."""

import jax.numpy as jnp
import msgspec
import numpy as np

from cryosip.bench import metrics
from cryosip.bench.recovery import belief
from cryosip.bench.recovery.images import FEWEST, Request, Rows, ScoredImages
from cryosip.bench.recovery.methods import FEW, Choice, by_likelihood, recovered
from cryosip.datasets.imaging import observed, problem_of
from cryosip.methods.method import WeightedPoints
from cryosip.methods.tabulated import interpolated
from cryosip.records.files import digest, write_arrays
from cryosip.records.recovery import MethodOutcome

JUDGED = 1_000  # images, at most, that are simulated for the distribution that is shown
COMPARED = 500  # for each method


def halves(rows: Rows) -> tuple[Rows, Rows]:
    """Every other image, and the rest."""
    return rows[::2], rows[1::2]


def few(rows: Rows, seed: int) -> Rows:
    """At most 4000 of them, drawn at random."""
    if len(rows) <= FEW:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, FEW, replace=False))


def cached_outcome(
    images: ScoredImages, name: str, choice: Choice, request: Request
) -> tuple[MethodOutcome, WeightedPoints | None]:
    """That of `outcome`, or what an equal run has left on disk."""
    same = digest(repr((images.identity, choice, request.seed)).encode())[:12]
    path = images.cache / f"{name}-{same}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            found = msgspec.json.decode(arrays["outcome"].tobytes(), type=MethodOutcome)
            return found, WeightedPoints(arrays["theta"], arrays["weights"])
    found, estimate = outcome(images, name, choice, request)
    if estimate is not None:
        text = np.frombuffer(msgspec.json.encode(found), np.uint8)
        theta, weights = map(np.asarray, estimate)
        write_arrays(path, {"outcome": text, "theta": theta, "weights": weights})
    return found, estimate


def outcome(
    images: ScoredImages, name: str, choice: Choice, request: Request
) -> tuple[MethodOutcome, WeightedPoints | None]:
    """A method on all images, and on either half, whose estimates are judged by the other."""
    rows = few(images.rows, request.seed) if choice.few else images.rows
    if choice.by_likelihood:
        problem, places = by_likelihood(problem_of(images.imaging, rows[:FEWEST]), images.table), rows
    else:
        problem, places = problem_of(images.imaging, rows), np.arange(len(rows))
    whole = recovered(problem, name, choice, places, request.seed)
    if whole.estimate is None:
        return MethodOutcome(name, choice.options, "error", whole.message, whole.seconds, len(rows)), None
    parts = [recovered(problem, name, choice, half, request.seed) for half in halves(places)]
    estimates = [part.estimate for part in parts]
    if None in estimates:
        message = next(part.message for part in parts if part.estimate is None)
        failed = MethodOutcome(
            name, choice.options, "ok", f"on half of the images: {message}", whole.seconds, len(rows)
        )
        return failed, whole.estimate
    first, second = estimates
    assert first is not None
    assert second is not None
    others = halves(rows)
    log_likelihood = interpolated(images.table.grid, jnp.asarray(images.table.coefficients))
    gains = np.concatenate(
        [
            belief.held_out(estimate, log_likelihood, images.evidence, other)
            for estimate, other in zip((first, second), others[::-1], strict=True)
        ]
    )
    judged = others[1][:COMPARED]
    pixels = observed(images.imaging.particles, images.imaging.optics, judged)
    found = MethodOutcome(
        name=name,
        options=choice.options,
        status="ok",
        seconds=whole.seconds,
        n_images=len(rows),
        held_out=float(gains.mean()),
        held_out_error=float(gains.std(ddof=1) / np.sqrt(len(gains))),
        image_distance=belief.image_distance(images.imaging, first, second, pixels, judged, request.seed),
        halves=metrics.w2(first, second),
    )
    return found, whole.estimate
