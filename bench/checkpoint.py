"""Checkpoints of long runs: one file that is replaced whole, so that a run that is killed goes on from there."""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cryosip.bench.frames import Frame
from cryosip.bench.runner import Progress
from cryosip.methods.method import State, WeightedPoints
from cryosip.records import files

INTERVAL_SECONDS = 20.0  # at least, between two checkpoints
SHARE = 0.01  # of a run's time that they may take


class Checkpoint(NamedTuple):
    """What a run is resumed from: progress, what evaluations left for the record, earlier resumptions.

    `setup_seconds` is what building the method took at first: a budget of seconds goes on with that clock.
    """

    progress: Progress
    curve: dict[str, list[Any]]
    estimate: WeightedPoints
    frames: list[Frame]
    resumed_at: list[int]
    setup_seconds: float


class CheckpointWriter:
    """Writes a run's checkpoints to `path`, if it has one: seldom enough that they take SHARE of its time at most."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.due = time.monotonic() + INTERVAL_SECONDS
        self.latest: Callable[[], Checkpoint] | None = None

    def offer(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Writes what the run has now, if it is time."""
        self.latest = checkpoint
        if time.monotonic() >= self.due:
            self.write()

    def write(self) -> None:
        """Writes the latest that was offered; a checkpoint that cannot be written is told and not missed."""
        if self.path is None or self.latest is None:
            return
        began = time.monotonic()
        try:
            save(self.path, self.latest())
        except (OSError, TypeError) as error:  # a full disk; a state of what is no array
            warnings.warn(f"no checkpoint at {self.path}: {error}", stacklevel=2)
        ended = time.monotonic()
        self.due = ended + max(INTERVAL_SECONDS, (ended - began) / SHARE)


_writers: list[CheckpointWriter] = []  # of the runs that this process is at


@contextmanager
def writing(path: Path | None) -> Iterator[CheckpointWriter]:
    """The writer of a run, which `flush` reaches while the block lasts."""
    writer = CheckpointWriter(path)
    _writers.append(writer)
    try:
        yield writer
    finally:
        _writers.remove(writer)


def flush() -> None:
    """Writes at once what the runs of this process have: it is about to end."""
    for writer in _writers:
        writer.write()


def save(path: Path, checkpoint: Checkpoint) -> None:
    """All of it or nothing. Raises OSError where it cannot be written, TypeError for a state that is not of arrays."""
    progress = checkpoint.progress
    told = {
        "file": path.name,
        "step": progress.step,
        "seconds": progress.seconds,
        "forward_evaluations": progress.forward_evaluations,
        "curve": checkpoint.curve,
        "frames": [(frame.step, frame.n, len(frame.theta)) for frame in checkpoint.frames],
        "resumed_at": checkpoint.resumed_at,
        "setup_seconds": checkpoint.setup_seconds,
    }
    leaves = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(progress.state))}
    arrays = {name: np.asarray(array) for name, array in checkpoint.estimate._asdict().items()}
    if checkpoint.frames:
        arrays["frames"] = np.concatenate([frame.theta for frame in checkpoint.frames])
    files.write_arrays(path, {"told": np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays, **leaves})


def load(path: Path | None, like: Callable[[], State]) -> Checkpoint | None:
    """The checkpoint at `path`, its state shaped as like(); None where there is none, and a warning for any other file.

    It never loads a pickle.
    """
    if path is None or not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            told = json.loads(arrays["told"].tobytes())
            leaves, structure = jax.tree.flatten(like())
            state = [arrays[f"leaf_{i}"] for i in range(len(leaves))]
            estimate = WeightedPoints(arrays["theta"], arrays["weights"])
            ends = np.cumsum([rows for _, _, rows in told["frames"]])
            points = np.split(arrays["frames"], ends[:-1]) if told["frames"] else []
            frames = [Frame(step, n, some) for (step, n, _), some in zip(told["frames"], points, strict=True)]
        if told["file"] != path.name or [(a.shape, a.dtype) for a in state] != [(a.shape, a.dtype) for a in leaves]:
            raise ValueError("it is of another run")
        progress = Progress(
            told["step"],
            told["seconds"],
            told["forward_evaluations"],
            jax.tree.unflatten(structure, [jnp.asarray(a) for a in state]),
        )
        return Checkpoint(progress, told["curve"], estimate, frames, told["resumed_at"], told["setup_seconds"])
    except Exception as error:  # a damaged archive raises whatever numpy, zipfile and zlib come to
        warnings.warn(f"{path} is no checkpoint of this run, which starts anew: {error}", stacklevel=2)
        return None
