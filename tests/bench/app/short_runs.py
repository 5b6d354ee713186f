"""A study of short runs with many checkpoints, for tests that kill it or have several processes make it."""

import os

from cryosip.bench import checkpoint, metrics, runner
from cryosip.bench.studies.study import Size, Study
from cryosip.records.schema import Labels, RunConfig

LENGTH = int(os.environ.get("KILLABLE_LENGTH", "1"))
METHODS = {
    "flow": (
        2_500,
        {
            "discrepancy": {"name": "energy", "options": {"algorithm": "sorted"}},
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
            "n_particles": 40,
        },
    ),
    "reweighting": (10_000, {"n_support": 30}),
}


if LENGTH > 1:  # it compiles for long
    METHODS["mixture"] = (2_500, {"n_components": 3, "anneal": [3.0, 2_500]})


def configs(size):
    """Each method once, with few looks."""
    problem = {"n_observations": size.n}
    return [
        RunConfig("killable", Labels(method), "oned", problem, method, options, LENGTH * steps, LENGTH * steps // 2, 0)
        for method, (steps, options) in METHODS.items()
    ]


killable = Study("short runs", {"smoke": Size(1, 40, 1.0)}, configs)
# most of the time of so few steps
metrics.REFERENCE_POINTS, metrics.FLOOR_DRAWS, metrics.SAMPLES = 100, 2, 2
runner.PART_SECONDS, checkpoint.INTERVAL_SECONDS, checkpoint.SHARE = 0.02, 0.05, 1.0
