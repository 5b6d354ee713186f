"""Files of images for the programs of cryo-EM, and of the maps that these write: the only one that knows formats."""

import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np
import pandas as pd
import starfile
from jaxtyping import Float, Int

from cryosip.datasets.euler_angles import euler_angles
from cryosip.datasets.projection import AMPLITUDE_CONTRAST, SPHERICAL_ABERRATION
from cryosip.datasets.protein_images import VOLTAGE_IN_KILOVOLTS
from cryosip.datasets.protein_poses import ProteinPose

IMAGES, STAR, POSES, CTF = "particles.mrcs", "particles.star", "poses.pkl", "ctf.pkl"
WEIGHTS, LABELS = "weights.csv", "labels.csv"
ORTHOGONAL = 1e-3  # the most that an entry of R R^T is off the identity
MODEL, DATA = "*_model.star", "*_data.star"  # of classes of RELION, one for each iteration


class Stack(NamedTuple):
    """Images (n, s, s) by y and x, as observed, and their pixel in angstroms.

    `defocus` (n,) in angstroms is None where there is no CTF, and `pose` where no refinement has told it.
    """

    images: Float[np.ndarray, "n s s"]
    pixel: float
    defocus: Float[np.ndarray, " n"] | None
    pose: ProteinPose | None


class Maps(NamedTuple):
    """Volumes (k, l, l, l) by z, y and x, their weights, which sum to 1, and the voxel in angstroms.

    `labels`, where they are known, have an image and its volume in each row, both counted from 0.
    """

    voxels: Float[np.ndarray, "k l l l"]
    weights: Float[np.ndarray, " k"]
    voxel: float
    labels: Int[np.ndarray, "n 2"] | None = None


def write_stack(folder: Path, stack: Stack) -> None:
    """Images, poses and CTF as RELION 3.1 and later, cryoSPARC, cryoDRGN and RECOVAR read them.

    `particles.star` and `particles.mrcs` are RELION's, `poses.pkl` and `ctf.pkl` cryoDRGN's. RELION's CTF has the
    opposite sign of ours and of cryoDRGN's, which inverts images by default; so images with a CTF are written as -y,
    and neither program needs an option. Without one the CTF that is written is 1 for RELION and -1 for cryoDRGN, and
    images are written as y.

    Parameters
    ----------
    folder
        Where the files are written; it is there.
    stack
        The images. Of a pose, a point X of the molecule is seen at (R X)_xy + t.

    Raises
    ------
    ValueError
        Images have an odd number of pixels a side, which RELION and cryoDRGN refuse, or a pose is no rotation.
    """
    n, size, _ = stack.images.shape
    check_box(size)
    has_ctf = stack.defocus is not None
    contrast, aberration = (AMPLITUDE_CONTRAST, SPHERICAL_ABERRATION * 1e-7) if has_ctf else (1.0, 0.0)  # mm
    defocus = np.zeros(n) if stack.defocus is None else np.asarray(stack.defocus, float)
    optics = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnVoltage": [VOLTAGE_IN_KILOVOLTS],
        "rlnSphericalAberration": [aberration],
        "rlnAmplitudeContrast": [contrast],
        "rlnImagePixelSize": [stack.pixel],
        "rlnImageSize": [size],
        "rlnImageDimensionality": [2],
    }
    particles = {
        "rlnImageName": [f"{i + 1:06d}@{IMAGES}" for i in range(n)],
        "rlnMicrographName": [IMAGES] * n,
        "rlnOpticsGroup": [1] * n,
        "rlnDefocusU": defocus,
        "rlnDefocusV": defocus,
        "rlnDefocusAngle": np.zeros(n),
        "rlnPhaseShift": np.zeros(n),
    }
    if stack.pose is not None:
        rot, tilt, psi = euler_angles(_checked(np.asarray(stack.pose.rotation, float)))
        origin = -np.asarray(stack.pose.shift, float)  # it takes an image back to the middle
        particles |= {"rlnAngleRot": rot, "rlnAngleTilt": tilt, "rlnAnglePsi": psi}
        particles |= {"rlnOriginXAngst": origin[:, 0], "rlnOriginYAngst": origin[:, 1]}
        fractions = (origin / (size * stack.pixel)).astype(np.float32)
        _write_pickle(folder / POSES, (np.asarray(stack.pose.rotation, np.float32), fractions))
    columns = [size, stack.pixel, defocus, defocus, 0.0, VOLTAGE_IN_KILOVOLTS, aberration, contrast, 0.0]
    _write_pickle(folder / CTF, np.stack([np.broadcast_to(c, n) for c in columns], axis=1).astype(np.float32))
    write_mrc(folder / IMAGES, -stack.images if has_ctf else stack.images, stack.pixel)
    starfile.write({"optics": pd.DataFrame(optics), "particles": pd.DataFrame(particles)}, folder / STAR)


def check_box(size: int) -> None:
    """Raises ValueError for an odd number of pixels a side."""
    if size % 2:
        raise ValueError(f"images have {size} x {size} pixels; wanted an even number, as RELION and cryoDRGN do")


def _checked(rotation: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3 3"]:
    """Raises ValueError for matrices that are no rotations."""
    away = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max((1, 2))
    wrong = ~((away < ORTHOGONAL) & (np.linalg.det(rotation) > 0))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"the pose of image {i + 1} is {rotation[i].round(3).tolist()}; wanted a rotation, an orthogonal matrix of "
            "determinant 1"
        )
    return rotation


def _write_pickle(path: Path, content: Any) -> None:
    with open(path, "wb") as file:
        pickle.dump(content, file)


def write_mrc(path: Path, data: Float[np.ndarray, "n h w"], voxel: float) -> None:
    """Images, if its name ends with "s", or a volume, in float32."""
    with mrcfile.new(path, np.asarray(data, np.float32)) as file:
        file.set_image_stack() if path.suffix == ".mrcs" else file.set_volume()
        file.voxel_size = voxel  # then, as its depth counts the images of a stack otherwise


def write_maps(folder: Path, cubes: dict[str, Float[np.ndarray, "3 n"]], width: float) -> list[Path]:
    """Three volumes of each name, their voxels in one row, as MRC files in a new folder: low, mean and high.

    `width` is that of the cubes, in angstroms.
    """
    folder.mkdir(parents=True)
    files = []
    for name, rows in cubes.items():
        size = round(rows.shape[1] ** (1 / 3))
        for which, row in zip(("low", "mean", "high"), rows, strict=True):
            files.append(folder / f"{name}-{which}.mrc")
            write_mrc(files[-1], row.reshape(size, size, size), width / size)
    return files


def read_maps(folder: Path) -> Maps:
    """Maps with weights: what `weights.csv` names, else the classes of RELION's last iteration.

    Parameters
    ----------
    folder
        With `weights.csv`, of the columns map (a file beside it) and weight, and where images have maps `labels.csv`,
        of the columns image (from 1 on) and map; or with the `_model.star` and `_data.star` of RELION.

    Raises
    ------
    ValueError
        It holds neither, a file is missing or is no map, maps are no cubes, or differ in size or voxel, hold numbers
        that are not finite or all the same, or weights are negative or all 0.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; wanted one with maps and their weights")
    files, listed = _listed(folder)
    weights = np.asarray(listed, float)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise ValueError(
            f"the weights in {folder} are {weights.tolist()}; wanted finite ones, none negative, not all 0"
        )
    maps, voxels = zip(*map(_read_map, files), strict=True)
    for file, one, weight in zip(files, maps, weights, strict=True):
        if weight > 0 and one.min() == one.max():  # RELION empties the maps of classes that have vanished
            raise ValueError(f"{file} is {one.min():g} everywhere; wanted a map, or the weight 0")
    for file, one, voxel in zip(files, maps, voxels, strict=True):
        if one.shape != maps[0].shape or not np.isclose(voxel, voxels[0], rtol=1e-3):
            raise ValueError(
                f"{file} has {one.shape[0]} voxels of {voxel:g} angstroms a side, and {files[0]} {maps[0].shape[0]} of "
                f"{voxels[0]:g}; wanted equal ones"
            )
    labels = _labels(folder, [file.name for file in files])
    return Maps(np.stack(maps), weights / weights.sum(), voxels[0], labels)


def list_maps_of_images(folder: Path, images: Int[np.ndarray, " n"]) -> None:
    """Lists the maps of a folder, by name those of these images in turn, all with the same weight.

    Raises ValueError where there are not as many.
    """
    names = [file.name for file in sorted(folder.glob("*.mrc"))]
    if len(names) != len(images):
        raise ValueError(f"{folder} holds {len(names)} maps; wanted {len(images)}")
    pd.DataFrame({"map": names, "weight": 1.0}).to_csv(folder / WEIGHTS, index=False)
    pd.DataFrame({"image": images + 1, "map": names}).to_csv(folder / LABELS, index=False)


def read_linear_maps(
    mean: Path, directions: list[Path], z: Float[np.ndarray, "n q"], images: Int[np.ndarray, " n"]
) -> Maps:
    """Maps mean + sum_q z_q direction_q of some images, all with the same weight."""
    center, voxel = _read_map(mean)
    along = np.stack([_read_map(path)[0] for path in directions])
    labels = np.stack([images, np.arange(len(z))], axis=1)
    return Maps(center + np.tensordot(z, along, 1), np.full(len(z), 1 / len(z)), voxel, labels)


def _labels(folder: Path, names: list[str]) -> Int[np.ndarray, "n 2"] | None:
    """What `labels.csv` says of images, or the classes of RELION's last iteration; None where neither is there."""
    table, classes = folder / LABELS, sorted(folder.glob(DATA), key=_iteration)
    if table.is_file():
        rows = pd.read_csv(table)
        if not {"image", "map"} <= set(rows.columns) or not set(rows["map"]) <= set(names):
            raise ValueError(f"{table} wants the columns image and map, and maps that {WEIGHTS} names")
        images, which = rows["image"].to_numpy(), [names.index(name) for name in rows["map"]]
    elif classes and not (folder / WEIGHTS).is_file():
        particles: Any = starfile.read(classes[-1], always_dict=True)["particles"]
        images = particles["rlnImageName"].str.partition("@")[0].astype(int).to_numpy()
        which = (particles["rlnClassNumber"].astype(int) - 1).tolist()
    else:
        return None
    if not np.issubdtype(images.dtype, np.integer) or images.min() < 1:
        raise ValueError(f"{folder} labels images that are no numbers from 1 on; wanted those of the stack")
    return np.stack([images - 1, np.array(which)], axis=1)


def _listed(folder: Path) -> tuple[list[Path], list[float]]:
    """The files of the maps, and their weights."""
    table = folder / WEIGHTS
    models = sorted(folder.glob(MODEL), key=_iteration)
    if table.is_file():
        rows = pd.read_csv(table)
        if not {"map", "weight"} <= set(rows.columns) or rows.empty:
            raise ValueError(f"{table} has the columns {list(rows.columns)}; wanted map and weight, and a row or more")
        try:
            return [folder / str(name) for name in rows["map"]], rows["weight"].astype(float).tolist()
        except ValueError as error:
            raise ValueError(f"{table} has a weight that is no number: {error}") from error
    if models:
        classes: Any = starfile.read(models[-1], always_dict=True).get("model_classes")
        if classes is None:
            raise ValueError(f"{models[-1]} has no table model_classes; wanted one that RELION wrote")
        # the names are relative to where RELION was started
        names = [folder / Path(str(name)).name for name in classes["rlnReferenceImage"]]
        return names, classes["rlnClassDistribution"].astype(float).tolist()
    raise ValueError(f"{folder} has neither {WEIGHTS} nor a file {MODEL}; wanted maps and their weights")


def _iteration(model: Path) -> int:
    """Of run_it025_model.star, or run_ct25_it030_model.star of a job that was continued; the final one has none."""
    found = re.search(r"_it(\d+)", model.name)
    return int(found[1]) if found else 10**9


def _read_map(path: Path) -> tuple[Float[np.ndarray, "l l l"], float]:
    """A map, and its voxel in angstroms."""
    try:
        with mrcfile.open(path) as file:
            data, voxel = np.asarray(file.data, float), file.voxel_size
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a map: {error}") from error
    if data.ndim != 3 or len(set(data.shape)) != 1:
        raise ValueError(f"{path} has {' x '.join(map(str, data.shape))} voxels; wanted a cube")
    if not np.isfinite(data).all():
        raise ValueError(f"{path} holds NaN or infinite values; wanted finite numbers")
    sides = [float(voxel[axis]) for axis in ("x", "y", "z")]
    if min(sides) <= 0 or not np.allclose(sides, sides[0], rtol=1e-3):
        raise ValueError(f"{path} has voxels of {sides} angstroms; wanted cubes with a size")
    return data, sides[0]
