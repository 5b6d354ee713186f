"""Run by test_sharding.py with several devices of the host: prints what it found as one line of JSON."""

import json
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from cryosip.methods import devices, pairwise
from cryosip.methods.flow import particle_flow
from cryosip.methods.likelihood import e_step
from cryosip.methods.problem import Problem, one_node
from cryosip.methods.registry import DISCREPANCIES, METHODS

N, M, P = 96, 77, 12  # 77 is no multiple of 2 or 8
rng = np.random.default_rng(0)
Y, OBSERVED = (jnp.asarray(rng.normal(size=(n, P)), jnp.float32) for n in (N, M))
LOG_WEIGHTS = jnp.full((N, 1), -jnp.log(N))
ROWS = jnp.asarray(rng.normal(size=(2, P)), jnp.float32)
ADAM = optax.adam(1e-2)
TOY = Problem(
    name="scaled",
    observations=OBSERVED,
    noise_std=0.7,
    render=lambda theta, pose: pose[:, None] * jnp.matmul(theta, ROWS, precision="highest"),
    sample_pose=lambda key, n: jr.uniform(key, (n,), minval=0.5),
    pose_quadrature=one_node,
    sample_init=lambda key, n: jr.normal(key, (n, 2)),
    log_prior=lambda theta: -0.5 * (theta**2).sum(1),
)


def quick():
    """The energy gradient, a flow of it and the E-step; who holds what, and the work of one device."""
    gradient = jax.jit(DISCREPANCIES["energy"]().bind(OBSERVED, 0.0).gradient)
    values = {"energy": gradient(Y), "energy of 77": gradient(Y[:77])}
    flow = particle_flow(TOY, DISCREPANCIES["energy"](), ADAM, N)
    state, step = flow.init(jr.key(0)), jax.jit(flow.step)
    for t in range(3):
        state, info = step(jr.key(t), state)
    values |= {"flow": state.theta, "flow's value": info.objective}
    moments = jax.jit(lambda y, x: e_step(y, x, LOG_WEIGHTS, 0.7))(OBSERVED, Y)
    slope = jax.jit(jax.grad(lambda x: e_step(OBSERVED, x, LOG_WEIGHTS, 0.7).log_likelihood))(Y)
    values |= {"e-step": moments.log_likelihood, "mass": moments.mass, "total": moments.total, "slope": slope}
    parts = {"flow": state.theta, "adam": state.optimizer[0].mu, "gradient": gradient(Y)}
    wholes = {"flow of 77": particle_flow(TOY, DISCREPANCIES["energy"](), ADAM, 77).init(jr.key(0)).theta}
    return values, parts, wholes, work()


def thorough():
    """Every discrepancy that sums over pairs, with its derivative, and whole runs by the runner."""
    values = {}
    for name in ("energy", "kl", "data-kl"):
        target = DISCREPANCIES[name]().bind(OBSERVED, 0.0)
        values[name] = jax.jit(target.gradient)(Y)
        values[f"{name} of 77"] = jax.jit(target.gradient)(Y[:77])
        values[f"{name} derivative"] = jax.jit(jax.grad(target.value))(Y)
    line = DISCREPANCIES["energy"]("sorted").bind(OBSERVED[:, :1], 0.0)
    values["sorted"] = jax.jit(line.gradient)(Y[:, :1])
    noisy = DISCREPANCIES["energy"]("pairwise").bind(OBSERVED[:, :1], 0.5)
    values["noise integrated out"] = jax.jit(noisy.gradient)(Y[:, :1])
    ends = runs()
    values |= {f"{name} theta": end.estimate.theta for name, end in ends.items()}
    values["em weights"] = ends["em"].estimate.weights
    parts = {name: end.state.theta for name, end in ends.items() if name.startswith("flow 64")}
    parts["map_rows"] = jax.jit(lambda y: pairwise.log_kde(y, OBSERVED, 0.7))(Y)
    return values, parts, {"flow 77": ends["flow 77"].state.theta}, {}


def runs():
    """Flows on the line, in a span and on pixels, and EM."""
    from cryosip.bench.runner import run
    from cryosip.datasets.registry import DATASETS

    oned = DATASETS["oned"](n_observations=77, seed=3).problem
    nanocluster = DATASETS["nanocluster"](n_observations=61, image_size=16, tau=0.5, seed=3).problem
    energy = DISCREPANCIES["energy"]()
    methods = {
        "flow 64": particle_flow(oned, energy, ADAM, 64),
        "flow 77": particle_flow(oned, energy, ADAM, 77),
        "flow 64 in a span": particle_flow(nanocluster, energy, ADAM, 64),
        "flow 64 without noise": particle_flow(nanocluster, energy, ADAM, 64, sampling="closed-form"),
        "flow 64 on pixels": particle_flow(nanocluster._replace(span=None), energy, ADAM, 64, "method-3", 2),
        "em": METHODS["mixture"](nanocluster, n_components=8, anneal=(5.0, 4)),
    }
    return {name: list(run(jr.key(1), method, steps=4, every=2))[-1] for name, method in methods.items()}


def work():
    """Of one device, where the tile is large enough to hold all pairs at once: the loops run once."""
    n, p = 512, 64
    y, observed = (jnp.asarray(rng.normal(size=(n, p)), jnp.float32) for _ in range(2))
    programs = {
        "energy gradient": DISCREPANCIES["energy"]("pairwise", tile=n * n).bind(observed, 0.0).gradient,
        "e-step": lambda y: e_step(y, observed, jnp.full((n, 1), -jnp.log(n)), 0.7),
    }
    plans = {name: jax.jit(f).lower(devices.spread(y, n)).compile() for name, f in programs.items()}
    return {
        name: {"flops": plan.cost_analysis()["flops"], "temporary": plan.memory_analysis().temp_size_in_bytes}
        for name, plan in plans.items()
    }


def held(array):
    return len(array), [shard.data.shape[0] for shard in array.addressable_shards]


if __name__ == "__main__":
    values, parts, wholes, work_ = {"quick": quick, "thorough": thorough}[sys.argv[1]]()
    found = {
        "devices": jax.device_count(),
        "values": {name: np.asarray(a, np.float64).tolist() for name, a in values.items()},
        "parts": {name: held(a) for name, a in parts.items()},
        "wholes": {name: held(a) for name, a in wholes.items()},
        "work": work_,
        "slack": 4 * 512 * 64 * 3,  # all devices hold both clouds
    }
    print(json.dumps(found))
