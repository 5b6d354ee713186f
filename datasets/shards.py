"""More simulated images than memory holds: drawn batch by batch, and written to files."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float

from cryosip.datasets.instance import Instance
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, Pose, PRNGKey, checked

BATCH = 2**22  # numbers that are drawn at a time: 16 MB in float32
SHARD = 2**26  # numbers in a file: 256 MB
TYPE = np.dtype(np.float32)

Drawn = tuple[Points, Pose, Float[np.ndarray, "n p"]]


def simulated(instance: Instance, n: int, folder: str | Path, seed: int = 0) -> Instance:
    """The same problem with n new observations in files of `folder`, y = T(theta*, omega) of (2.1).

    theta* is drawn from the truth and omega from the problem, a batch at a time: memory holds theta* and the poses of
    all, and the images of one batch. The first images do not depend on n. `theta_box` stays what it was.

    Parameters
    ----------
    instance
        Whose truth, poses and noise are drawn from.
    n
        Images.
    folder
        Where images-00000.npy and so on are written in float32, each whole or not at all; it is made where it is not.
    seed
        Of theta*, poses and noise; 0 by default.

    Returns
    -------
    Instance
        Its observations are on disk.

    Raises
    ------
    ValueError
        n is below 1, the folder has such files already or too little space, or the problem knows more of each of its
        observations: their likelihood, or their poses.
    """
    problem, n, folder = instance.problem, checks.positive_int("n", n), Path(folder)
    checks.non_negative_int("seed", seed)
    for name in ("log_likelihood", "poses"):
        if getattr(problem, name) is not None:
            raise ValueError(f"problem {problem.name!r} offers {name} of its observations; wanted one that does not")
    p = problem.observations.shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(folder, n, p)
    theta, pose, paths = [], [], []
    batches = _batches(instance, n, seed)
    per_file = _per_batch(p) * max(1, SHARD // BATCH)
    for number, first in enumerate(range(0, n, per_file)):
        paths.append(folder / f"images-{number:05}.npy")
        behind = _write(paths[-1], batches, min(per_file, n - first), p)
        theta += [one for one, _ in behind]
        pose += [one for _, one in behind]
    truth = instance.truth._replace(
        theta=jnp.concatenate(theta), pose=jax.tree.map(lambda *parts: jnp.concatenate(parts), *pose)
    )
    observations: Any = [np.load(path, mmap_mode="r") for path in paths]
    return instance._replace(problem=checked(problem._replace(observations=observations)), truth=truth)


def _check_room(folder: Path, n: int, p: int) -> None:
    if known := sorted(folder.glob("images-*.npy")):
        raise ValueError(f"{folder} holds {known[0].name} already; wanted a folder without images")
    needed, free = n * p * TYPE.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{n} images of {p} pixels take {needed / 1e9:.3g} GB, and {folder} has {free / 1e9:.3g} GB free; wanted "
            "fewer images or more space"
        )


def _per_batch(p: int) -> int:
    return max(1, BATCH // p)


def _batches(instance: Instance, n: int, seed: int) -> Iterator[Drawn]:
    """Batches of equal shape, of which the last is cut, so that no image depends on how many follow."""
    problem, size = instance.problem, _per_batch(instance.problem.observations.shape[1])

    @jax.jit
    def clean(key: PRNGKey) -> tuple[Points, Pose, Images]:
        key_theta, key_pose = jr.split(key)
        theta, pose = instance.truth.sample(key_theta, size), problem.sample_pose(key_pose, size)
        return theta, pose, problem.render(theta, pose)

    for number, first in enumerate(range(0, n, size)):
        theta, pose, images = clean(jr.fold_in(jr.key(seed), number))
        y = np.random.default_rng((seed, number)).standard_normal(images.shape, TYPE)  # ten times as fast as JAX's
        y *= TYPE.type(problem.noise_std)
        y += np.asarray(images)
        cut = slice(min(size, n - first))
        yield jax.tree.map(lambda a, cut=cut: a[cut], (theta, pose, y))


def _write(path: Path, batches: Iterator[Drawn], rows: int, p: int) -> list[tuple[Points, Pose]]:
    """A file of so many of the next images, and what is behind them."""
    behind, written = [], 0
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".images-")
    try:
        with open(handle, "wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(TYPE), "fortran_order": False, "shape": (rows, p)}
            np.lib.format.write_array_header_1_0(file, header)
            while written < rows:
                theta, pose, y = next(batches)
                file.write(y.data)
                behind.append((theta, pose))
                written += len(y)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return behind
