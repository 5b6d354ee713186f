"""Same seed, same machine, same bits: within a process and across two, in any order, whatever runs beside it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import msgspec
import numpy as np
import pytest
from examples import METHOD_OPTIONS, SMALL, home

from cryosip.bench import build, execute, sharing
from cryosip.bench.app import campaign
from cryosip.bench.app.callbacks import SILENT
from cryosip.bench.app.executors import Here
from cryosip.bench.app.work import Order, RunSettings
from cryosip.bench.runner import run
from cryosip.datasets import projection
from cryosip.datasets.registry import DATASETS
from cryosip.methods import likelihood, mixture, pairwise, posterior_npmle
from cryosip.methods.registry import DISCREPANCIES, METHODS, VOLUME_METHODS, on_any_problem
from cryosip.records.read import written_here
from cryosip.records.schema import Labels, RunConfig, as_json

pytestmark = pytest.mark.usefixtures("few_draws")

TIMES = {
    "setup_seconds",
    "trace_seconds",
    "compile_seconds",
    "program",
    "run_seconds",
    "peak_memory_mb",
    "created",
    "environment",
}
PROCESS = """
import json, sys
from cryosip.bench import metrics
from pathlib import Path
from cryosip.bench.app import callbacks, campaign, executors, work
from cryosip.records.schema import Labels, RunConfig
vars(metrics).update(json.loads(sys.argv[3]))
configs = [RunConfig(**config | {"labels": Labels(**config["labels"])}) for config in json.loads(sys.argv[1])]
order = work.Order(Path(sys.argv[2]), work.RunSettings("smoke"))
campaign.run_all(configs, order, executors.Here(callbacks.SILENT), callbacks.SILENT)
"""


def config(method, problem="oned", replicate=0, **changes):
    own = RunConfig(
        "paper-1d", Labels("same"), problem, SMALL[problem], method, METHOD_OPTIONS[method], 9, 4, replicate
    )
    return replace(own, **changes)


def executed(one):
    """Arrays and record of a run that shares nothing with those before."""
    build._instance.cache_clear()
    sharing.PROCESS.values.clear()
    record, arrays = execute.execute(one, "smoke", execute.run_method)
    assert record.status == "ok", record.message
    return record, arrays


def told(record):
    """All of a record but its times."""
    table = json.loads(as_json(record))
    table["curve"].pop("seconds")
    return {name: value for name, value in table.items() if name not in TIMES | {"run_id", "program_memory_mb"}}


def assert_same(one, other):
    assert set(one) == set(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def stored(results):
    """Of each record its arrays and what it tells, by setting, method, problem and replicate."""
    found = {}
    for path in results.glob("*/*.json"):
        record = written_here(path)
        assert record.status == "ok", record.message
        with np.load(path.with_suffix(".npz")) as arrays:
            key = record.labels.text, record.problem, record.method, record.replicate
            found[key] = {name: np.array(array) for name, array in arrays.items()}, told(record)
    return found


def campaigned(configs, results):
    build._instance.cache_clear()
    sharing.PROCESS.values.clear()
    order, here = Order(results, RunSettings("smoke")), Here(SILENT)
    assert campaign.run_all(configs, order, here, SILENT).failed == []
    return stored(results)


def in_a_process(configs, results, few_draws):
    words = (
        json.dumps([vars(one) | {"labels": msgspec.structs.asdict(one.labels)} for one in configs]),
        str(results),
        json.dumps(few_draws),
    )
    plain = jax.config.read("jax_disable_most_optimizations")  # programs of two kinds differ in rounding
    env = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(plain))}
    return subprocess.Popen([sys.executable, "-c", PROCESS, *words], stderr=subprocess.PIPE, text=True, env=env)


EVERY = [
    (method, problem)
    for method in METHODS
    for problem in ((home(method),) if method in VOLUME_METHODS else ("oned", "nanocluster"))
]


@pytest.mark.slow
@pytest.mark.parametrize("runs", [[("flow", "oned")], pytest.param(EVERY, marks=pytest.mark.slow)])
def test_the_same_bits_twice_in_one_process_and_in_two(runs, few_draws, tmp_path):
    """From data to record; every method on the line and on images is slow. The other process starts for seconds."""
    configs = [config(*run) for run in runs]
    other = in_a_process(configs, tmp_path / "other", few_draws)
    here = campaigned(configs, tmp_path / "here")
    again = campaigned(configs, tmp_path / "again")
    assert other.wait(timeout=300) == 0, other.stderr.read()
    there = stored(tmp_path / "other")
    assert len(here) == len(configs)
    assert set(here) == set(again) == set(there)
    for key, (arrays, record) in here.items():
        for same_arrays, same_record in (again[key], there[key]):
            assert_same(arrays, same_arrays)
            assert record == same_record, key


@pytest.mark.slow
def test_replicates_do_not_depend_on_the_order_or_the_number_of_runs(tmp_path):
    """Forwards with two methods, backwards with one of them, and one run alone."""
    configs = [config(method, replicate=r) for r in (0, 1) for method in ("reweighting", "flow")]
    all_of_them = campaigned(configs, tmp_path / "all")
    some = [one for one in reversed(configs) if one.method == "flow"]
    for runs in (some, [configs[0]]):
        found = campaigned(runs, tmp_path / f"{len(runs)}")
        assert len(found) == len(runs)
        for key, (arrays, record) in found.items():
            assert_same(arrays, all_of_them[key][0])
            assert record == all_of_them[key][1], key
    data = {r: {record.dataset_hash for key, (_, record) in all_of_them.items() if key[3] == r} for r in (0, 1)}
    assert len(data[0]) == len(data[1]) == 1
    assert data[0] != data[1]


def slow_but_for(fast, cases):
    each = ((case, case if isinstance(case, tuple) else (case,)) for case in cases)
    return [case if case in fast else pytest.param(*values, marks=pytest.mark.slow) for case, values in each]


# constants that bound what is held at a time: (module, name, what the result must not feel)
BLOCKS = [
    (likelihood, "TILE"),
    (pairwise, "TILE"),
    (mixture, "BLOCK"),
    (posterior_npmle, "BLOCK"),
    (projection, "CACHED"),
]


TILED = [(method, problem) for problem in ("nanocluster", "adk") for method in on_any_problem()]


@pytest.mark.parametrize(
    ("method", "problem"), slow_but_for([("flow", "nanocluster"), ("reweighting", "nanocluster")], TILED)
)
def test_the_size_of_a_tile_changes_nothing_but_rounding(method, problem, monkeypatch, x64):
    """In float64, where an algorithm that is another one would show: no sum is another sum, only its order."""
    options = METHOD_OPTIONS[method] | ({"refine_poses": True} if (method, problem) == ("mixture", "adk") else {})
    instance = DATASETS[problem](**SMALL[problem])

    def final():
        built = build.build_method(instance.problem, method, options)
        *_, last = run(jr.key(0), built, steps=8, every=8)
        return last.estimate

    whole = final()
    for module, name in BLOCKS:
        monkeypatch.setattr(module, name, 37)
    tiled = final()
    for one, other in zip(whole, tiled, strict=True):
        # sums of less than 1000 terms of float64, 8 steps of which each makes an error less than three times as large
        bound = 1_000 * np.finfo(np.float64).eps * 3**8
        np.testing.assert_allclose(other, one, rtol=0, atol=bound * np.abs(one).max())


@pytest.mark.parametrize("name", ["energy", "invariant-energy"])
def test_the_tile_that_is_asked_for_changes_nothing_but_rounding(name):
    """The option `tile`, in float32."""
    rng = np.random.default_rng(0)
    y, seen = (jnp.asarray(rng.normal(0, scale, (60, 49)), jnp.float32) for scale in (1.0, 1.5))
    targets = [DISCREPANCIES[name](tile=tile).bind(seen, 0.0) for tile in (None, 7, 61, 10_000)]
    whole, *others = (np.asarray(jax.jit(target.gradient)(y)) for target in targets)
    for other in others:
        # two sums of 60 terms, whose roundings are of all terms and not of what is left of them, about a half
        bound = 2 * 60 * np.finfo(np.float32).eps
        np.testing.assert_allclose(other, whole, rtol=0, atol=bound * np.abs(whole).max())
