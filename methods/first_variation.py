"""The first variation of a discrepancy in the space of structures, for flows whose points have weights, or none."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from cryosip.methods.discrepancy import Discrepancy, Target, WeightedTarget
from cryosip.methods.flow import flow_target
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Images, Points, PRNGKey, Problem, Weights

SAMPLINGS = ("method-1", "closed-form")

Scalar = Float[Array, ""]


class Simulated(NamedTuple):
    """A discrepancy to the observations of a problem, of images that are simulated with one omega for each structure.

    With sampling "method-1" omega is drawn, (2.13); with "closed-form" the pose alone, and the noise is integrated out.
    """

    problem: Problem
    target: Target
    noisy: bool

    def at(self, key: PRNGKey) -> tuple[Target, Callable[[Points], Images]]:
        """The discrepancy with its draws, and the images of structures with theirs."""
        key_pose, key_noise, key_target = jr.split(key, 3)
        target = self.target if self.target.redrawn is None else self.target.redrawn(key_target)

        def images(theta: Points) -> Images:
            clean = self.problem.render(theta, self.problem.sample_pose(key_pose, len(theta)))
            return clean + self.problem.noise_std * jr.normal(key_noise, clean.shape) if self.noisy else clean

        return target, images

    def value(self, key: PRNGKey, law: WeightedPoints) -> Scalar:
        """D of one image for each of the points."""
        target, images = self.at(key)
        y = images(jnp.asarray(law.theta))
        return target.value(y) if target.weighted is None else target.weighted.value(y, jnp.asarray(law.weights))


def simulated(problem: Problem, discrepancy: Discrepancy, sampling: str) -> Simulated:
    """In the span where problem and discrepancy offer it."""
    reduced, target = flow_target(problem, discrepancy, sampling)
    return Simulated(reduced, target, sampling != "closed-form")


def weighted_form(target: Target) -> WeightedTarget:
    """Raises ValueError where the discrepancy has none."""
    if target.weighted is None:
        raise ValueError(
            f"the discrepancy ({target.algorithm}) has no form for weighted images; wanted one that has, such as "
            "'energy' or 'data-kl'"
        )
    return target.weighted


def at_points(of: Simulated, key: PRNGKey, theta: Points, weights: Weights) -> tuple[Scalar, Weights, Points]:
    """D, its first variation V at each point, up to a constant, and the gradient of V there."""
    target, images = of.at(key)
    form = weighted_form(target)
    y, pull_back = jax.vjp(images, theta)
    potential, slope = form.variation(y, weights)
    return form.value(y, weights), potential, pull_back(slope)[0]


def plain_gradient(of: Simulated, key: PRNGKey, theta: Points) -> tuple[Scalar, Points]:
    """D of equally weighted points, and n times its gradient in each."""
    target, images = of.at(key)
    y, pull_back = jax.vjp(images, theta)
    return target.value(y), pull_back(target.gradient(y))[0]


def count(theta: Points) -> Array:
    """Images that one evaluation renders."""
    return jnp.asarray(len(theta))
