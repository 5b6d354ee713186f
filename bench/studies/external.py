"""Other programs on our problems: images for them, and the distribution of the maps that they find."""

import inspect
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np

from cryosip.bench import volume_gauge, volume_metrics
from cryosip.bench.build import build_instance, resolved
from cryosip.bench.execute import Measure, Session
from cryosip.bench.measure import Arrays
from cryosip.bench.volume_images import Own, of_halves, of_images
from cryosip.datasets import particle_files
from cryosip.datasets.instance import Instance
from cryosip.datasets.registry import DATASETS
from cryosip.datasets.volumes import Cube, from_voxels
from cryosip.methods.method import WeightedPoints
from cryosip.records.files import digest
from cryosip.records.schema import Floor, Labels, Options, Result, RunConfig

STUDY = PROFILE = "external"
PROBLEM = "problem.json"
Compared = tuple[WeightedPoints, float, dict[str, float], dict[str, Floor]]
VOLUME_SIZE = 16  # where the problem names none, and images are not smaller


@dataclass(frozen=True)
class StackProblem:
    """The problem whose images a folder holds; with it they can be made again."""

    problem: str
    options: Options
    replicate: int


def write_stack(folder: Path, chosen: StackProblem) -> None:
    """The images of a problem as programs read them, and how to make them again.

    Raises ValueError for problems that are not seen in poses of a molecule, and images of an odd size.
    """
    if "volume_size" not in inspect.signature(DATASETS[chosen.problem]).parameters:
        raise ValueError(f"problem {chosen.problem!r} has no images of a molecule in space; wanted adk or hsp90")
    config = RunConfig(STUDY, Labels(), chosen.problem, chosen.options, "", {}, 0, 1, chosen.replicate)
    options, defocus = resolved(config).problem.resolved, None
    if isinstance(options["image_size"], int):
        particle_files.check_box(options["image_size"])
    problem, truth, *_ = build_instance(config)
    if options["defocus_range_in_angstroms"] is not None:
        defocus = np.asarray(truth.pose.defocus)
    images = np.asarray(problem.observations).reshape(-1, options["image_size"], options["image_size"])
    stack = particle_files.Stack(images, options["pixel_size_in_angstroms"], defocus, problem.poses)
    particle_files.write_stack(folder, stack)
    # with the defaults of today, whatever they will be
    whole = StackProblem(chosen.problem, options, chosen.replicate)
    (folder / PROBLEM).write_text(json.dumps(asdict(whole), indent=1) + "\n", encoding="utf-8")


def read_problem(folder: Path) -> StackProblem:
    """The problem of a folder that `write_stack` filled. Raises ValueError for what is none."""
    file = folder / PROBLEM
    try:
        return msgspec.convert(json.loads(file.read_text(encoding="utf-8")), StackProblem)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"{file} is none that `cryosip stack` wrote: {error}") from error


def run_of(chosen: StackProblem, name: str, method_options: Options) -> RunConfig:
    """A run on the problem, which has to offer volumes."""
    options = dict(chosen.options)
    if options.get("volume_size") is None:
        options.pop("cropped_size", None)
        options["volume_size"] = min(VOLUME_SIZE, options.get("image_size", 128))
    return RunConfig(STUDY, Labels(name), chosen.problem, options, name, method_options, 0, 1, chosen.replicate)


def scored(chosen: StackProblem, name: str, maps: particle_files.Maps) -> tuple[RunConfig, Measure]:
    """The run that found the maps, and what measures it."""
    content = digest(maps.voxels.tobytes() + maps.weights.tobytes())
    config = run_of(chosen, name, {"n_maps": len(maps.weights), "maps": content})
    options = config.problem_options
    # at once: what is wrong with a folder makes no record
    _check_size(maps, options["image_size"] * options["pixel_size_in_angstroms"], options["volume_size"])

    def measure(config: RunConfig, _session: Session) -> tuple[Result, Arrays]:
        return measured(instance_of(config), maps)

    return config, measure


def instance_of(config: RunConfig) -> Instance:
    """The problem and its truth, without the warning of what its volumes lose: no method works with them here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="volume_size .* leaves signal")
        return build_instance(config)


def _check_size(maps: particle_files.Maps, width: float, voxels: int) -> None:
    """Raises ValueError for maps that are not as wide as the images, within a thousandth, or have fewer voxels."""
    size = maps.voxels.shape[-1]
    if size < voxels or not np.isclose(size * maps.voxel, width, rtol=1e-3):
        raise ValueError(
            f"maps are {size * maps.voxel:g} angstroms wide, {size} voxels of {maps.voxel:g}; wanted {width:g} "
            f"angstroms as the images have, and {voxels} voxels or more"
        )


def measured(instance: Instance, maps: particle_files.Maps) -> tuple[Result, Arrays]:
    """The distances of the maps from the truth, beside what they can be.

    Where the problem gives no poses, each map is moved and mirrored to fit.

    Raises ValueError for maps that are not as wide as the images, or have fewer voxels than the problem's volumes.
    """
    offered, volume = instance.problem.volumes, instance.volume
    if offered is None or volume is None:
        raise ValueError(f"problem {instance.problem.name!r} has no volumes; wanted one that has")
    cube = Cube(offered.size, offered.voxel_size)
    _check_size(maps, cube.width, cube.size)
    found = WeightedPoints(from_voxels(cube, maps.voxels)[:, 1:], maps.weights)
    compare = _in_given_frame if instance.problem.poses is not None else _aligned
    estimate, factor, values, floors = compare(instance, cube, found)
    true = np.asarray(volume(instance.truth.theta))
    # programs lose the constant of maps, which images tell
    constant = np.full((len(maps.weights), 1), true[:, 0].mean())
    whole = WeightedPoints(np.concatenate([constant, np.asarray(estimate.theta)], axis=1), maps.weights)
    own = None if maps.labels is None else Own(maps.labels[:, 0], np.asarray(whole.theta)[maps.labels[:, 1]])
    if own is not None and own.images.max() >= len(true):
        raise ValueError(f"labels name image {own.images.max() + 1}; wanted one of {len(true)}")
    of_each, curves = of_images(instance.problem, true, whole, own)
    message = "the maps have the opposite sign of the images, and are compared with it changed" if factor < 0 else ""
    if instance.problem.poses is not None:
        told, curve = of_halves(instance.problem)
        of_each, curves = of_each | told, curves | curve
    result = Result(message=message, metrics=values | of_each | {"grey_factor": factor}, floors=floors)
    return result, curves | {"map_weights": np.asarray(maps.weights, np.float32)[:, None]}


def _in_given_frame(instance: Instance, cube: Cube, found: WeightedPoints) -> Compared:
    within, states, floors = volume_metrics.true_volumes(instance)
    estimate, factor = volume_metrics.scaled(found, within.mean)
    values = volume_metrics.of_volumes(estimate, within, states) | volume_metrics.anchors(within, len(found.weights))
    principal = volume_metrics.principal(estimate, volume_metrics.CAPTURING)
    values["volume_captured"] = volume_metrics.captured_variance(principal, within)
    return estimate, factor, values, floors


def _aligned(instance: Instance, cube: Cube, found: WeightedPoints) -> Compared:
    """Where a program has to search poses, its maps have no frame in common."""
    true, floor = volume_gauge.true_volumes(instance)
    weights = np.asarray(found.weights)
    hands = volume_gauge.aligned(cube, volume_gauge.on_background(cube, np.asarray(found.theta)), weights, true.mean(0))
    estimate, factor = volume_metrics.scaled(WeightedPoints(hands[0, :, 1:], weights), true.mean(0)[1:])
    values = volume_gauge.of_volumes(cube, factor * hands, weights, true)
    return estimate, factor, values, {"volume_w2_aligned": floor}
