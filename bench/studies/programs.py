"""Programs of others on the images of a folder, as their users run them: what is asked of each, and where maps are."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from cryosip.bench.build import build_instance
from cryosip.bench.execute import Measure, Session
from cryosip.bench.measure import Arrays
from cryosip.bench.studies import external
from cryosip.datasets.particle_files import Maps, list_maps_of_images, read_linear_maps, read_maps
from cryosip.records.schema import Result, RunConfig

SAMPLE = 300  # images whose volumes are made, evenly, where a program gives each image its own
LAST_LINES = 15  # of a program that fails
EPOCHS = 100


class Task(NamedTuple):
    """What to run: the folder of images, the folder for the results, the pixel and the width of images, how many there
    are, the size of the latent space or the number of classes, and a seed.
    """

    stack: Path
    out: Path
    pixel: float
    width: float
    n_images: int
    n_components: int
    seed: int


class Program(NamedTuple):
    """`commands` are run in turn in the folder of images, `{program}` being the executable; `maps` reads what is found.

    A step between commands that is a function prepares files for the next.
    """

    executable: str
    variable: str
    licence: str
    n_components: int
    steps: Callable[[Task], list[list[str] | Callable[[], None]]]
    maps: Callable[[Task], Maps]


def _relion(task: Task) -> list[list[str] | Callable[[], None]]:
    consensus = str(task.out / "consensus.mrc")
    refine = [
        "{program}", "--i", "particles.star", "--o", str(task.out / "run"), "--ref", consensus,
        "--K", str(task.n_components), "--skip_align", "--ctf", "--tau2_fudge", "4", "--iter", "25",
        "--particle_diameter", f"{task.width - 2:g}", "--ini_high", "40", "--pad", "2",
        "--dont_combine_weights_via_disc", "--random_seed", str(task.seed),
    ]  # fmt: skip
    return [["{folder}/relion_reconstruct", "--i", "particles.star", "--o", consensus, "--ctf"], refine]


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


def _some(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))


PROGRAMS = {
    "relion": Program("relion_refine", "CRYOSIP_RELION", "GPL-2", 4, _relion, lambda task: read_maps(task.out)),
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
            f"{named or program.executable} is no program here; install it, or name its executable in "
            + program.variable
        )
    return Path(path).absolute()


def run_of_program(name: str, stack: Path, out: Path, n_components: int | None, seed: int) -> tuple[RunConfig, Measure]:
    """The run of a program on a folder of `cryosip stack`, and what runs and measures it.

    Raises ValueError where the program is not installed, or the folder is none.
    """
    program = PROGRAMS[name]
    executable, chosen = found(program), external.read_problem(stack)
    k = n_components or program.n_components
    config = external.run_of(chosen, name, {"n_components": k, "seed": seed})
    size, pixel = (chosen.options[key] for key in ("image_size", "pixel_size_in_angstroms"))
    task = Task(stack.absolute(), out.absolute(), pixel, size * pixel, chosen.options["n_observations"], k, seed)

    def measure(config: RunConfig, _session: Session) -> tuple[Result, Arrays]:
        task.out.mkdir(parents=True)
        began = time.perf_counter()
        for step in program.steps(task):
            if callable(step):
                step()
            else:
                _call(step, executable, task)
        seconds = time.perf_counter() - began
        result, arrays = external.measured(build_instance(config), program.maps(task))
        return msgspec.structs.replace(result, run_seconds=seconds), arrays

    return config, measure


def _call(command: list[str], executable: Path, task: Task) -> None:
    """Runs a command; its output is kept beside its results. Raises RuntimeError with its last lines where it fails."""
    words = [word.replace("{program}", str(executable)).replace("{folder}", str(executable.parent)) for word in command]
    log = task.out / f"{Path(words[0]).name}.log"
    with log.open("a", encoding="utf-8") as output:
        code = subprocess.run(words, cwd=task.stack, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        raise RuntimeError(f"{' '.join(words)} ended with {code}: " + " | ".join(last))
