"""A method run twice, on two problems or in two ways that should give the same distribution of volumes."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import msgspec
import numpy as np

from cryosip.bench import metrics, runner, sharing, volume_metrics
from cryosip.bench.build import build_instance, build_method
from cryosip.bench.execute import RUN_KEY, Session
from cryosip.bench.limits import ending_after
from cryosip.bench.measure import Arrays, finite
from cryosip.bench.runner import Snapshot
from cryosip.bench.studies.study import Options
from cryosip.datasets.instance import Instance
from cryosip.datasets.volume_frame import Frame, frame
from cryosip.methods import checks
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import PRNGKey, Problem, halves
from cryosip.records.schema import Floor, Result, RunConfig

NOISE_SHARE = 0.002  # of the mean square of the images, as where users of RECOVAR saw another distribution
MORE_COMPONENTS = 10
FLOOR_PAIRS = 10
STABILITY_KEY = 1010  # fold_in number of a replicate's key
PAIRS_KEY = 1011


class Run(NamedTuple):
    """What a method is run with."""

    problem: Problem
    options: Options
    key: PRNGKey


def other_seed(run: Run, key: PRNGKey) -> tuple[Run, Run]:
    """Other random numbers of the method, on the same images."""
    return run, run._replace(key=key)


def other_half(run: Run, _key: PRNGKey) -> tuple[Run, Run]:
    """Every other image, and the rest."""
    even, odd = halves(run.problem)
    return run._replace(problem=even), run._replace(problem=odd)


def more_noise(run: Run, key: PRNGKey) -> tuple[Run, Run]:
    """White noise on all images, with a share of 0.002 of their mean square."""
    y = run.problem.observations
    noisy = y + jnp.sqrt(NOISE_SHARE * (y**2).mean()) * jr.normal(key, y.shape, y.dtype)
    return run, run._replace(problem=run.problem._replace(observations=noisy))


def more_components(run: Run, _key: PRNGKey) -> tuple[Run, Run]:
    """10 components instead of those of the configuration."""
    return run, run._replace(options=run.options | {"n_components": MORE_COMPONENTS})


CHANGES: dict[str, Callable[[Run, PRNGKey], tuple[Run, Run]]] = {
    "seed": other_seed,
    "half": other_half,
    "noise": more_noise,
    "components": more_components,
}


def measure_stability(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """W2 between the estimates of two runs, beside that of each from the truth.

    `stability_over_floor` is `stability_w2` over its floor: the median of W2 between two samples of the truth, each of
    as many volumes as a run had images. `volume_w2` is that of the first run from the truth, `volume_w2_changed` that
    of the second.
    """
    options = dict(config.method_options)
    change = CHANGES[checks.one_of("change", options.pop("change", None), CHANGES)]
    root = jr.key(config.replicate)
    instance = build_instance(config)
    first = Run(instance.problem, options, jr.fold_in(root, RUN_KEY))
    with ending_after(session.limits.seconds):
        pair = change(first, jr.fold_in(root, STABILITY_KEY))
        last = [last_snapshot(run, config, session) for run in pair]
    result = Result(
        steps=last[-1].step,
        forward_evaluations=sum(snapshot.forward_evaluations for snapshot in last),
        compile_seconds=sum(snapshot.program.compile_seconds for snapshot in last),
        run_seconds=sum(snapshot.seconds for snapshot in last),
    )
    if not all(snapshot.finite for snapshot in last):
        message = "the state is not finite; no distributions are compared"
        return msgspec.structs.replace(result, status="diverged", message=message), {}
    n = len(pair[0].problem.observations)
    shared, key = session.shared or sharing.PROCESS, (config.problem, json.dumps(config.problem_options), n)
    within, floor = shared.once(("pairs of true volumes", *key), lambda: true_pairs(instance, n))
    values = compared([volumes(instance, snapshot.estimate) for snapshot in last], within)
    values["stability_over_floor"] = values["stability_w2"] / floor.median
    return msgspec.structs.replace(result, metrics=finite(values), floors={"stability_w2": floor}), {}


def last_snapshot(run: Run, config: RunConfig, session: Session) -> Snapshot:
    """After the last step, or the first whose state is not finite."""
    method = build_method(run.problem, config.method, run.options)
    memory = session.limits._replace(seconds=float("inf"))
    for snapshot in runner.run(run.key, method, config.steps, config.every, limits=memory):
        session.on_snapshot(snapshot)
    return snapshot


def volumes(instance: Instance, estimate: WeightedPoints) -> WeightedPoints:
    """Their coefficients without the first, the mean of a map."""
    assert instance.volume is not None
    theta = np.asarray(instance.volume(jnp.asarray(estimate.theta)), float)[:, 1:]
    return WeightedPoints(theta, np.asarray(estimate.weights, float))


def compared(pair: Sequence[WeightedPoints], within: Frame) -> dict[str, float]:
    """W2 between two distributions of volumes, in all their coefficients, and of each from draws of the truth."""
    true = volume_metrics.drawn(within)
    first, second = (metrics.w2(volume_metrics.embedded(within, one), true) for one in pair)
    return {"stability_w2": metrics.w2(*pair), "volume_w2": first, "volume_w2_changed": second}


def true_pairs(instance: Instance, n: int) -> tuple[Frame, Floor]:
    """Draws of the true volumes, and W2 between two others of n each, pair by pair: median and 5-95 %."""
    first, *others = jr.split(jr.key(PAIRS_KEY), 1 + 2 * FLOOR_PAIRS)

    def drawn(key: PRNGKey, k: int) -> WeightedPoints:
        return volumes(instance, WeightedPoints(instance.truth.sample(key, k), np.full(k, 1 / k)))

    pairs = zip(others[::2], others[1::2], strict=True)
    found = metrics.summary([metrics.w2(drawn(one, n), drawn(other, n)) for one, other in pairs])
    within = frame(drawn(first, volume_metrics.DRAWS).theta)
    return within, Floor(found["median"], found["q05"], found["q95"], n)
