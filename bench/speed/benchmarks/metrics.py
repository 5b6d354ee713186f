"""Each metric, of an estimate of thousands of points against the truth, in one dimension and in more."""

import itertools

import numpy as np

from cryosip.bench.metrics import METRICS
from cryosip.methods.method import WeightedPoints

from .common import Timed

ESTIMATE, TRUTH = 1_500, 10_000  # points


def cloud(n: int, d: int) -> WeightedPoints:
    """Equally weighted samples of a Gaussian, other ones for another n."""
    return WeightedPoints(np.random.default_rng(n).normal(size=(n, d)), np.full(n, 1 / n))


class Metric(Timed):
    params = (list(METRICS), [1, 4])
    param_names = ("metric", "dimension")

    def setup(self, metric: str, d: int) -> None:
        self.estimate, self.truth = cloud(ESTIMATE, d), cloud(TRUTH, d)
        self.shifts = itertools.count()

    def time_metric(self, metric: str, d: int) -> None:
        """Of another estimate in each call, as in a run: what is known of the last one is of no use."""
        moved = self.estimate._replace(theta=self.estimate.theta + 1e-6 * next(self.shifts))
        METRICS[metric](moved, self.truth)
