"""The renderer of each problem: images, the pull-back through which methods follow gradients, and their error."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.random as jr

from cryosip.datasets.registry import DATASETS

from .common import PROBLEMS, Timed, compiled, in_double, relative_error

IMAGES = {"oned": 10_000, "nanocluster": 300, "adk": 50}  # of the default size, 128 x 128 but for the line


def forward(name: str) -> tuple[Callable[..., Any], Any, Any]:
    """The renderer, and parameters and poses of as many images."""
    problem = DATASETS[name](n_observations=2).problem
    n = IMAGES.get(name, 50)
    return problem.render, problem.sample_init(jr.key(0), n), problem.sample_pose(jr.key(1), n)


def with_pull_back(render: Callable[..., Any]) -> Callable[..., Any]:
    """Images, and what their sum of squares pulls back to the parameters."""

    def both(theta: Any, pose: Any) -> Any:
        images, pull_back = jax.vjp(lambda theta: render(theta, pose), theta)
        return images, pull_back(images)[0]

    return both


@cache
def program(name: str, pull_back: bool) -> Callable[[], Any]:
    render, theta, pose = forward(name)
    return compiled(with_pull_back(render) if pull_back else render, theta, pose)


class Forward(Timed):
    params = (PROBLEMS,)
    param_names = ("problem",)

    def setup(self, name: str) -> None:
        self.call = program(name, False)

    def time_images(self, name: str) -> None:
        self.call()

    def peakmem_images(self, name: str) -> None:
        self.call()


class PullBack(Timed):
    params = (PROBLEMS,)
    param_names = ("problem",)

    def setup(self, name: str) -> None:
        self.call = program(name, True)

    def time_images_and_pull_back(self, name: str) -> None:
        self.call()

    def peakmem_images_and_pull_back(self, name: str) -> None:
        self.call()

    def track_error(self, name: str) -> float:
        """Of images and pull-back, against float64."""
        render, theta, pose = forward(name)
        computed, exact = self.call(), in_double(with_pull_back(render), theta, pose)
        return max(relative_error(*both) for both in zip(computed, exact, strict=True))

    track_error.unit = "relative error"  # type: ignore[attr-defined]
