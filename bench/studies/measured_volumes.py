"""A run of the study volumes, measured as distributions of volumes and image by image."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryosip.bench import sharing, volume_metrics
from cryosip.bench.build import build_instance, build_method
from cryosip.bench.execute import Session, run_instance
from cryosip.bench.measure import Arrays, data_hash, finite
from cryosip.bench.runner import Snapshot
from cryosip.bench.volume_images import Own, of_halves, of_images
from cryosip.bench.volume_metrics import Principal, TrueVolumes
from cryosip.datasets.instance import Instance
from cryosip.datasets.volume_frame import Frame
from cryosip.datasets.volumes import Cube, voxels
from cryosip.methods.method import WeightedPoints
from cryosip.records.schema import Result, RunConfig

FEW_POINTS = 50  # up to here the best points that many can be are told
EXTREME = 2.0  # stds along the first principal component
MOST_SHOWN = 2_000  # images, in figures of their volumes


def measure_volumes(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """A run, with the distances of its volumes from the true ones, and of each image's from its own."""
    last: list[Snapshot] = []

    def keep(snapshot: Snapshot) -> None:
        session.on_snapshot(snapshot)
        if snapshot.finite:
            last[:] = [snapshot]

    def described(
        config: RunConfig, instance: Instance, _points: WeightedPoints, estimate: WeightedPoints,
        _known: dict[str, float], shared: sharing.Shared,
    ) -> tuple[Result, Arrays]:  # fmt: skip
        problem, data = instance.problem, data_hash(instance.problem, instance.truth)
        true = shared.once(("true volumes", data), lambda: volume_metrics.true_volumes(instance))
        told, curve = shared.once(("halves", data), lambda: of_halves(problem))
        per_image, own = build_method(problem, config.method, config.method_options).per_image, None
        if per_image is not None:
            own = Own(np.arange(len(problem.observations)), jax.jit(per_image)(last[0].state))
        values, arrays = of_distribution(instance, true, estimate, own)
        kept = {name: np.asarray(array, np.float32) for name, array in (arrays | curve).items()}
        return Result(metrics=finite(values | told), floors=true.floors, dataset_hash=data), kept

    # not the metrics of all methods: the same in more coordinates, with floors that take minutes
    return run_instance(build_instance(config), config, session._replace(on_snapshot=keep), (), described=described)


def of_distribution(
    instance: Instance, true: TrueVolumes, estimate: WeightedPoints, own: Own | None
) -> tuple[dict[str, float], Arrays]:
    """All metrics of an estimate as a distribution of volumes, the curves of its images, and volumes to look at."""
    volume = instance.volume
    assert volume is not None
    theta = np.asarray(volume(jnp.asarray(estimate.theta)), float)
    whole = WeightedPoints(theta, np.asarray(estimate.weights, float))
    seen = whole._replace(theta=theta[:, 1:])
    found = volume_metrics.principal(seen, volume_metrics.CAPTURING)
    values = volume_metrics.of_volumes(seen, true.within, true.states)
    values["volume_captured"] = volume_metrics.captured_variance(found, true.within)
    anchors = volume_metrics.anchors(true.within, min(len(theta), FEW_POINTS))
    if len(theta) > FEW_POINTS:
        del anchors["volume_w2_best_points"]
    behind = np.asarray(volume(instance.truth.theta))
    images, curves = of_images(instance.problem, behind, whole, own)
    principal = pointing_as_the_truth(found, true.within)
    if own is not None:
        curves["along_own"] = along_own(own, behind, principal, true.within)
    return values | anchors | images, curves | _to_look_at(instance, true.within, whole, principal)


def pointing_as_the_truth(found: Principal, within: Frame) -> Principal:
    """The first two components; the first points to the side of the truth's first."""
    mean, components, stds = found.mean, found.components[:2].copy(), found.stds[:2]
    if len(components) and components[0] @ within.components[0] < 0:
        components[0] *= -1
    return Principal(mean, components, stds)


def along_own(
    own: Own, true: Float[np.ndarray, "m v"], principal: Principal, within: Frame
) -> Float[np.ndarray, "n 3"]:
    """Of at most 2000 images: their own volumes in the first two components of the estimate, the true in the truth's
    first.
    """
    some = np.unique(np.linspace(0, len(own.images) - 1, min(len(own.images), MOST_SHOWN)).astype(int))
    found = (np.asarray(own.volumes)[some, 1:] - principal.mean) @ principal.components.T
    behind = (true[own.images[some], 1:] - within.mean) @ within.components[0]
    return np.column_stack([found, np.zeros((len(some), 2 - found.shape[1])), behind])


def _to_look_at(instance: Instance, within: Frame, found: WeightedPoints, principal: Principal) -> Arrays:
    """Voxels (3, l, l, l) of the mean and of both ends along the first component of the truth and of the estimate, and
    the coordinates of both in the truth's first two components."""
    offered = instance.problem.volumes
    assert offered is not None
    cube = Cube(offered.size, offered.voxel_size)
    mean = principal.mean
    end = EXTREME * principal.stds[0] * principal.components[0] if len(principal.stds) else np.zeros_like(mean)
    true_end = EXTREME * within.points[:, 0].std() * within.components[0]
    # with the mean grey value of the estimate, in which no two of them differ
    grey = np.average(np.asarray(found.theta)[:, 0], weights=np.asarray(found.weights))
    estimated, true = (
        np.pad(np.stack([middle - away, middle, middle + away]), [(0, 0), (1, 0)], constant_values=grey)
        for middle, away in ((mean, end), (within.mean, true_end))
    )
    along = (np.asarray(found.theta)[:, 1:] - within.mean) @ within.components[:2].T
    return {
        "volumes_true": voxels(cube, true).reshape(3, -1),
        "volumes_estimated": voxels(cube, estimated).reshape(3, -1),
        "along_true": within.points[:, :2],
        "along_estimated": np.column_stack([along, np.asarray(found.weights) / np.sum(found.weights)]),
    }
