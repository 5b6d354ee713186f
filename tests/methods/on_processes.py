"""Run by test_processes.py in one process or in several: prints what it found as one line of JSON."""

import json
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from cryosip.methods import hosts
from cryosip.methods.cluster import join

COORDINATOR, COUNT, PROCESS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
join(COORDINATOR, COUNT, PROCESS)

from cryosip.bench.runner import run  # noqa: E402 (first join, as a user does who is careful)
from cryosip.datasets.registry import DATASETS  # noqa: E402
from cryosip.methods.flow import particle_flow  # noqa: E402
from cryosip.methods.likelihood import e_step  # noqa: E402
from cryosip.methods.problem import checked  # noqa: E402
from cryosip.methods.registry import DISCREPANCIES, METHODS  # noqa: E402

ADAM = optax.adam(1e-2)
PROBLEM = DATASETS["nanocluster"](n_observations=64, image_size=16, tau=0.5, seed=3).problem
UNEVEN = DATASETS["nanocluster"](n_observations=61, image_size=16, tau=0.5, seed=3).problem
LINE = DATASETS["oned"](n_observations=64, seed=3).problem
energy = DISCREPANCIES["energy"]


def own(problem):
    """The problem, of whose observations this process passes its own alone."""
    rows = np.array_split(np.asarray(problem.observations), COUNT)[PROCESS]
    return problem._replace(observations=hosts.from_rows(rows))


def direct():
    """The energy's value and gradient and the E-step, without the runner; and what a process holds of the arrays."""
    seen = checked(own(PROBLEM)).observations
    images = PROBLEM.render(PROBLEM.sample_init(jr.key(1), 64), PROBLEM.sample_pose(jr.key(2), 64))
    target = energy("pairwise").bind(seen, 0.0)
    weights = jnp.full((8, 1), -jnp.log(8))
    values, parts = {}, {"observations": held(seen)}
    calls = {
        "energy": (lambda y: (target.value(y), target.gradient(y)), hosts.laid_out(images, 64)),
        "energy of 61": (lambda y: (target.value(y), target.gradient(y)), images[:61]),
        "E-step": (lambda x: tuple(e_step(seen, x, weights, 0.7)), images[:8]),
    }
    for name, (f, argument) in calls.items():
        closed = jax.make_jaxpr(f)(argument)
        program = jax.jit(lambda constants, y, closed=closed: jax.core.eval_jaxpr(closed.jaxpr, constants, y))
        compiled = program.lower(closed.consts, argument).compile()
        values |= {f"{name}: {i}": a for i, a in enumerate(compiled(closed.consts, argument))}
        parts[f"{name}: no device has them all"] = "f32[64,256]" not in compiled.as_text()
    return values, parts


def methods():
    """What the runner is to drive in several processes as in one."""
    flow = {"optimizer": ADAM, "n_particles": 64}
    mixture = METHODS["mixture"]
    return {
        "flow by pairs": lambda: particle_flow(own(PROBLEM), energy("pairwise"), **flow),
        "flow by moments": lambda: particle_flow(own(PROBLEM), energy("moments"), **flow, sampling="closed-form"),
        "flow on the line": lambda: particle_flow(own(LINE), energy(), **flow),
        "61 images, whole in each": lambda: particle_flow(UNEVEN, energy("pairwise"), ADAM, 61),
        "EM": lambda: mixture(own(PROBLEM), n_components=8, anneal=(5.0, 4)),
        "EM, whole in each": lambda: mixture(UNEVEN, n_components=8, anneal=(5.0, 4)),
        "reweighting": lambda: METHODS["reweighting"](own(PROBLEM)),
    }


def runs():
    """The estimates of each method, the rows of its state that are held here, and a run that is taken up."""
    values, parts, seconds = {}, {}, {}
    for name, make in methods().items():
        snapshots = list(run(jr.key(1), make(), steps=4, every=2))
        end = snapshots[-1]
        assert isinstance(np.asarray(end.estimate.theta), np.ndarray)
        values |= {f"{name}: theta": end.estimate.theta, f"{name}: weights": end.estimate.weights}
        values[f"{name}: objective"] = [snapshot.objective for snapshot in snapshots[1:]]
        parts[name], seconds[name] = held(jax.tree.leaves(end.state)[0]), end.seconds
    flow, kept = methods()["flow by pairs"](), []
    list(run(jr.key(1), flow, steps=4, every=2, on_part=kept.append))
    halfway = next(now for now in kept if now.step == 2)
    start = halfway._replace(state=hosts.fetched(halfway.state))
    values["taken up"] = list(run(jr.key(1), flow, steps=4, every=2, start=start))[-1].estimate.theta
    return values, parts, seconds


def refusals():
    """What is said where processes do not pass what they should."""
    said = {}
    wrong = {
        "rows": lambda: hosts.from_rows(np.ones((4 + PROCESS, 3))),
        "not the same": lambda: checked(PROBLEM._replace(observations=PROBLEM.observations[: 32 + PROCESS])),
        "not finite": lambda: checked(
            PROBLEM._replace(observations=hosts.from_rows(np.full((32, 256), np.nan if PROCESS == 0 else 1.0)))
        ),
    }
    for name, call in wrong.items():
        try:
            call()
        except ValueError as error:
            said[name] = str(error)
    return said


def held(array):
    return [len(array), *(shard.data.shape[0] for shard in array.addressable_shards)]


if __name__ == "__main__":
    values, parts = direct()
    of_runs, parts_of_runs, seconds = runs()
    found = {
        "devices": jax.device_count(),
        "values": {name: np.asarray(hosts.fetched(a), float).tolist() for name, a in (values | of_runs).items()},
        "parts": parts | parts_of_runs,
        "seconds": seconds,
        "refusals": refusals() if COUNT > 1 else {},
    }
    print(json.dumps(found))
