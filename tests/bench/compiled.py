"""Trace and compile seconds of replicates 0 and 1 of every method on a problem, as JSON; run by test_speed_compile.

python compiled.py PROBLEM FOLDER: programs are kept in FOLDER, and found there by the next process.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.random as jr

from cryosip.bench import cache
from cryosip.bench.build import build_instance, build_method
from cryosip.bench.runner import run
from cryosip.bench.studies.registry import STUDIES


def seconds(config):
    problem = build_instance(config).problem
    method = build_method(problem, config.method, config.method_options)
    program = next(run(jr.key(config.replicate), method, 2, 2)).program
    return program.trace_seconds + program.compile_seconds


def main(problem, folder):
    cache.switch_on(Path(folder))
    study = STUDIES["otd-vs-dto"]
    configs = [c for c in study.configs(study.sizes["small"]) if c.problem == problem]
    measured = {}
    for config in configs:
        name = f"{config.method} {config.method_options.get('discrepancy', {}).get('name', '')}".strip()
        if name in measured or (problem, config.method) == ("adk", "reweighting"):  # whose support does not cover it
            continue
        with jax.default_matmul_precision("highest"):
            measured[name] = [seconds(replace(config, replicate=i)) for i in (0, 1)]
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
