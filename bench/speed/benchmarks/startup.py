"""What a user waits for first: --help, the import, the first compilation of a step; each in a new process."""

import subprocess
import sys
import time
from collections.abc import Callable

STARTS = 2  # the fastest counts, since whatever else a machine does only adds to a start
HELP = "import sys; from cryosip.bench.app.cli import main; sys.argv = ['cryosip', '--help']; main()"
IMPORT = "import cryosip.datasets.registry, cryosip.methods.registry"
FIRST_COMPILE = """
import time, jax, optax
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import DISCREPANCIES, METHODS
problem = DATASETS["oned"](n_observations=1_000).problem
flow = METHODS["flow"](problem, discrepancy=DISCREPANCIES["energy"](), optimizer=optax.adam(1e-2), n_particles=1_000)
state = flow.init(jax.random.key(0))
began = time.perf_counter()
jax.jit(flow.step).lower(jax.random.key(1), state).compile()
print(time.perf_counter() - began)
"""


def output(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def seconds(code: str) -> float:
    began = time.perf_counter()
    output(code)
    return time.perf_counter() - began


def fastest(start: Callable[[], float]) -> float:
    return min(start() for _ in range(STARTS))


class Startup:
    unit = "seconds"

    def track_help(self) -> float:
        return fastest(lambda: seconds(HELP))

    def track_import(self) -> float:
        return fastest(lambda: seconds(IMPORT))

    def track_first_compile(self) -> float:
        return fastest(lambda: float(output(FIRST_COMPILE)))
