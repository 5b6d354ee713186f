"""Programs of others on the images of a folder, as their users run them: what is asked of each, and where maps are."""

import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from cryosip.bench.execute import Measure, Session
from cryosip.bench.measure import Arrays
from cryosip.bench.studies import aspire_covariance, external
from cryosip.datasets.particle_files import Maps, list_maps_of_images, read_linear_maps, read_maps
from cryosip.records.schema import Result, RunConfig

SAMPLE = 300  # images whose volumes are made, evenly, where a program gives each image its own
LAST_LINES = 15  # of a program that fails
EPOCHS = 100
SEARCHED = 15  # iterations of RELION from random orientations, for a first map


class Task(NamedTuple):
    """What to run: the folder of images, the folder for the results, the pixel and the width of images, how many there
    are, the size of the latent space or the number of classes, a seed, whether poses are given, and how far molecules
    are from the middle of their images at most.
    """

    stack: Path
    out: Path
    pixel: float
    width: float
    n_images: int
    n_components: int
    seed: int
    has_poses: bool = True
    max_shift: float = 0.0


class Program(NamedTuple):
    """Commands of `steps` are run in turn in the folder of images, `{program}` being the executable; `maps` reads what
    is found.

    A step between commands that is a function prepares files for the next. `searches_poses` where images without poses
    will do; maps have at most `most_voxels` a side.
    """

    executable: str
    variable: str
    licence: str
    n_components: int
    steps: Callable[[Task], list[list[str] | Callable[[], None]]]
    maps: Callable[[Task], Maps]
    searches_poses: bool = False
    most_voxels: int | None = None


def _relion(task: Task) -> list[list[str] | Callable[[], None]]:
    """Class3D from the consensus; where poses are unknown, from a map that was found from nothing, with a search."""
    initial = task.out / "initial"  # apart from the classes, whose names are alike
    reference = task.out / "consensus.mrc" if task.has_poses else initial / f"run_it{SEARCHED:03d}_class001.mrc"

    def refine(out: Path, k: int, iterations: int) -> list[str]:
        return [
            "{program}", "--i", "particles.star", "--o", str(out / "run"), "--ctf", "--tau2_fudge", "4",
            "--ini_high", "40", "--pad", "2", "--particle_diameter", f"{task.width - 2:g}",
            "--dont_combine_weights_via_disc", "--random_seed", str(task.seed), "--iter", str(iterations),
            "--K", str(k),
        ]  # fmt: skip

    classes = refine(task.out, task.n_components, 25)
    if task.has_poses:
        consensus = ["{folder}/relion_reconstruct", "--i", "particles.star", "--o", str(reference), "--ctf"]
        return [consensus, [*classes, "--skip_align", "--ref", str(reference)]]
    pixels = str(math.ceil(task.max_shift / task.pixel))
    search = ["--healpix_order", "1", "--oversampling", "1", "--offset_range", pixels, "--offset_step", "1"]
    found = [*refine(initial, 1, SEARCHED), "--denovo_3dref", *search]
    return [initial.mkdir, found, [*classes, "--ref", str(reference), *search]]


def _cryodrgn(task: Task) -> list[list[str] | Callable[[], None]]:
    train = [
        "{program}", "train_vae", "particles.mrcs", "--poses", "poses.pkl", "--ctf", "ctf.pkl",
        "--zdim", str(task.n_components), "-n", str(EPOCHS), "--enc-dim", "128", "--dec-dim", "128", "--lr", "1e-3",
        "--no-window", "--enc-mask", "-1", "--no-amp", "--no-analysis", "--checkpoint", str(EPOCHS),
        "--seed", str(task.seed), "--shuffle-seed", str(task.seed), "-o", str(task.out / "vae"),
    ]  # fmt: skip
    z, maps = task.out / "z.txt", task.out / "maps"

    def latents() -> None:
        # a pickle of numpy that we have just had written
        found = np.load(task.out / "vae" / "z.pkl", allow_pickle=True)
        np.savetxt(z, found[_some(task.n_images)])

    decode = [
        "{program}", "eval_vol", str(task.out / "vae" / "weights.pkl"), "-c", str(task.out / "vae" / "config.yaml"),
        "--zfile", str(z), "--Apix", f"{task.pixel:g}", "-o", str(maps),
    ]  # fmt: skip
    return [train, latents, decode, lambda: list_maps_of_images(maps, _some(task.n_images))]


def _recovar(task: Task) -> list[list[str] | Callable[[], None]]:
    return [
        [
            "{program}", "pipeline", "particles.mrcs", "--poses", "poses.pkl", "--ctf", "ctf.pkl",
            "--zdim", str(task.n_components), "--accept-cpu", "--no-downsample", "-o", str(task.out),
            "--mask", "from_halfmaps", "--no-correct-contrast",
        ]
    ]  # fmt: skip


def _recovar_maps(task: Task) -> Maps:
    volumes = task.out / "output" / "volumes"
    z = np.load(task.out / "model" / f"zdim_{task.n_components}" / "latent_coords.npy", allow_pickle=False)
    directions = [volumes / f"eigen_pos{k:04d}.mrc" for k in range(task.n_components)]
    images = _some(len(z))
    return read_linear_maps(volumes / "mean.mrc", directions, z[images], images)


def _aspire(task: Task) -> list[list[str] | Callable[[], None]]:
    script = [aspire_covariance.__file__, "particles.star", str(task.out), str(task.n_components)]
    return [["{program}", *script]]


def _aspire_maps(task: Task) -> Maps:
    z = np.load(task.out / aspire_covariance.COORDINATES, allow_pickle=False)
    directions = [task.out / aspire_covariance.eigenvolume(k) for k in range(task.n_components)]
    images = _some(len(z))
    return read_linear_maps(task.out / aspire_covariance.MEAN, directions, z[images], images)


def _some(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))


PROGRAMS = {
    "aspire": Program(
        "python", "CRYOSIP_ASPIRE", "GPL-3", 4, _aspire, _aspire_maps, most_voxels=aspire_covariance.MOST_PIXELS
    ),
    "relion": Program(
        "relion_refine", "CRYOSIP_RELION", "GPL-2", 4, _relion, lambda task: read_maps(task.out), searches_poses=True
    ),
    "cryodrgn": Program(
        "cryodrgn", "CRYOSIP_CRYODRGN", "GPL-3", 4, _cryodrgn, lambda task: read_maps(task.out / "maps")
    ),
    "recovar": Program("recovar", "CRYOSIP_RECOVAR", "1.0.5 non-commercial, later MIT", 4, _recovar, _recovar_maps),
}


def found(program: Program) -> Path:
    """Its executable: that of the environment variable, else on the path. Raises ValueError where there is none."""
    named = os.environ.get(program.variable, "")
    path = shutil.which(named or program.executable)
    if path is None:
        raise ValueError(
            f"there is no program {named or program.executable}; install it, or name its executable, "
            f"{program.executable}, in {program.variable}"
        )
    return Path(path).absolute()


def run_of_program(name: str, stack: Path, out: Path, n_components: int | None, seed: int) -> tuple[RunConfig, Measure]:
    """The run of a program on a folder of `cryosip stack`, and what runs and measures it.

    Raises ValueError where the program is not installed, the folder is none, it has no poses and the program needs
    some, or the problem's volumes have more voxels than the maps will have.
    """
    program = PROGRAMS[name]
    executable, chosen = found(program), external.read_problem(stack)
    k = n_components or program.n_components
    config = external.run_of(chosen, name, {"n_components": k, "seed": seed})
    size, pixel = (chosen.options[key] for key in ("image_size", "pixel_size_in_angstroms"))
    has_poses = chosen.options.get("pose_error_in_degrees") is not None
    if not (has_poses or program.searches_poses):
        raise ValueError(
            f"{stack} has no poses, and {name} is run with given ones alone; wanted a stack with "
            "problem.pose_error_in_degrees, or a program that searches: "
            + ", ".join(other for other, one in PROGRAMS.items() if one.searches_poses)
        )
    voxels = config.problem_options["volume_size"]
    if program.most_voxels is not None and voxels > program.most_voxels:
        raise ValueError(
            f"the volumes of {stack} have {voxels} voxels a side, and maps of {name} at most {program.most_voxels}; "
            f"wanted a stack with problem.volume_size={program.most_voxels}, of any images"
        )
    shift = chosen.options.get("max_shift_in_angstroms", 0.0)
    task = Task(
        stack.absolute(), out.absolute(), pixel, size * pixel, chosen.options["n_observations"], k, seed,
        has_poses, shift,
    )  # fmt: skip

    def measure(config: RunConfig, _session: Session) -> tuple[Result, Arrays]:
        maps, seconds = _found_by(program, executable, task)
        result, arrays = external.measured(external.instance_of(config), maps)
        message = "; ".join(filter(None, [_version(executable), result.message]))
        return msgspec.structs.replace(result, run_seconds=seconds, message=message), arrays

    return config, measure


def _version(executable: Path) -> str:
    """The first line that a program tells of its version, "" where it tells none."""
    try:
        told = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip().partition("\n")[0] if told.returncode == 0 else ""


def _found_by(program: Program, executable: Path, task: Task) -> tuple[Maps, float]:
    """The maps of a program that is run, and its seconds. Raises RuntimeError with its last lines where it has none."""
    task.out.mkdir(parents=True)
    began = time.perf_counter()
    try:
        for step in program.steps(task):
            if callable(step):
                step()
            else:
                _call(step, executable, task)
        seconds = time.perf_counter() - began
        return program.maps(task), seconds
    except (OSError, ValueError) as error:
        raise RuntimeError(f"{error}; the last lines of the program: {_last_lines(task)}") from error


def _call(command: list[str], executable: Path, task: Task) -> None:
    """Runs a command; its output is kept beside its results. Raises RuntimeError with its last lines where it fails."""
    words = [word.replace("{program}", str(executable)).replace("{folder}", str(executable.parent)) for word in command]
    log = task.out / f"{Path(words[0]).name}.log"
    with log.open("a", encoding="utf-8") as output:
        code = subprocess.run(words, cwd=task.stack, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise RuntimeError(f"{' '.join(words)} ended with {code}: {_last_lines(task)}")


def _last_lines(task: Task) -> str:
    """Those of the log that was written last."""
    logs = sorted(task.out.glob("*.log"), key=lambda log: log.stat().st_mtime_ns)
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").splitlines() if logs else []
    return " | ".join(lines[-LAST_LINES:]) or "none"
