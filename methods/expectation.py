"""The expectation of the mixture: which component and pose has made which observation."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from cryosip.methods.likelihood import e_step, log_likelihoods, render_all
from cryosip.methods.pose_search import two_pass
from cryosip.methods.problem import Observations, Points, Pose, Problem, Weights
from cryosip.methods.stored import Data, spread_of

SURVIVORS = 8  # nodes for each image that the second pass of refine_poses refines
BLOCK = 2**25  # pixels that its images may hold at a time

Scalar = Float[Array, ""]
Images = Float[Array, "e p"]


class MixtureState(NamedTuple):
    theta: Points
    weights: Weights
    variance: Scalar  # of the noise, as far as the fit knows
    background: Scalar  # the share of the observations that no component made
    n_steps: Int[Array, ""]
    optimizer: optax.OptState


class Model(NamedTuple):
    """The options of `mixture`, checked, and what no step changes.

    `prior_weight` is that of one component; `optimizer` is there for "em" too. `finer_pose` are the nodes of the next
    order where poses are refined. `push_std` (d,) is that of the pushes while annealing, `mean_square` the mean of
    |y_i|^2.
    """

    problem: Problem
    n_components: int
    solver: str
    optimizer: optax.GradientTransformation
    prior_weight: float
    estimate_weights: bool
    annealed: bool
    anneal_factor: Scalar | float
    anneal_steps: Int[Array, ""] | int
    order: int
    pose: Pose
    pose_weights: Weights
    finer_pose: Pose
    refine_poses: bool
    estimate_noise: bool
    push_std: Float[Array, " d"]
    mean_square: Scalar
    background: "Background | None"


class Expected(NamedTuple):
    """What the M-step needs: images as functions of all theta, whose each is, and what the observations are seen as.

    `sigma` is the std of the noise at which the expectation was taken, annealed or not.
    """

    images: Callable[[Points], Images]
    owner: Int[Array, " e"]
    mass: Float[Array, " e"]
    total: Images
    log_likelihood: Scalar
    sigma: Scalar
    renders: Int[Array, ""]


class ExpectedPairs(NamedTuple):
    """What the M-step needs where the likelihood is given: pairs (image_e, theta of owner_e), each with its mass.

    `share` (k,) is that of the observations that each component explains.
    """

    image: Int[Array, " e"]
    owner: Int[Array, " e"]
    mass: Float[Array, " e"]
    share: Weights
    log_likelihood: Scalar
    renders: Int[Array, ""]


class Background(NamedTuple):
    """A Gaussian with independent coordinates, of observations that are none of any structure."""

    mean: Float[Array, " p"]
    variance: Float[Array, " p"]


def annealed_sigma(model: Model, state: MixtureState) -> Scalar:
    """sigma * factor at first, sigma after `anneal_steps`, and equal ratios between."""
    return jnp.sqrt(state.variance) * annealing(model, state)


def annealing(model: Model, state: MixtureState) -> Scalar:
    """What sigma is multiplied with."""
    progress = state.n_steps.astype(state.theta.dtype) / jnp.maximum(model.anneal_steps, 1)
    return model.anneal_factor ** jnp.maximum(0.0, 1 - progress)


def expectation_on_all_nodes(model: Model, state: MixtureState, sigma: Scalar) -> Expected:
    """The E-step over all components and nodes for all images; row k * n_poses + q is component k at node q."""
    k, n_poses = model.n_components, len(model.pose_weights)

    def images(theta: Points) -> Images:
        return render_all(model.problem, theta, model.pose, n_poses)

    log_weights = jnp.log(state.weights)[:, None] + jnp.log(model.pose_weights)
    background = None
    if model.background is not None:
        log_weights += jnp.log1p(-state.background)
        background = partial(log_background, model, state, sigma)
    moments = e_step(model.problem.observations, images(state.theta), log_weights, sigma, background)
    mass, total = moments.mass.ravel(), moments.total.reshape(k * n_poses, -1)
    owner = jnp.repeat(jnp.arange(k), n_poses)
    return Expected(images, owner, mass, total, moments.log_likelihood, sigma, jnp.asarray(k * n_poses))


def expectation_in_two_passes(model: Model, state: MixtureState, sigma: Scalar) -> Expected:
    """The E-step over the nodes first, then over finer ones where an image has its mass; a row for each of these."""
    problem = model.problem
    m, p = problem.observations.shape
    block = max(1, BLOCK // p)
    explained = two_pass(problem, model.order, state.theta, state.weights, sigma, SURVIVORS, block)

    def images(theta: Points) -> Images:
        return problem.render(theta[explained.owner], jax.tree.map(lambda a: a[explained.node], model.finer_pose))

    mass = explained.share / m
    total = mass[:, None] * problem.observations[explained.image]
    renders = jnp.asarray(model.n_components * len(model.pose_weights) + explained.n_fine)
    return Expected(images, explained.owner, mass, total, explained.log_likelihood, sigma, renders)


def expectation_on_pairs(model: Model, state: MixtureState, sigma: Scalar) -> ExpectedPairs:
    """The E-step from the likelihood that the problem gives of each pair, to the power of (noise_std / sigma)^2."""
    m, k = len(model.problem.observations), model.n_components
    known = log_likelihoods(model.problem, state.theta, model.order)
    power = annealing(model, state) ** -2.0
    logits = jnp.log(state.weights) + power * known.values
    mass = power * jax.nn.softmax(logits, axis=1).T.ravel() / m
    share = jax.nn.softmax(logits, axis=1).mean(0)
    owner, image = jnp.repeat(jnp.arange(k), m), jnp.tile(jnp.arange(m), k)
    log_likelihood = jax.nn.logsumexp(logits, axis=1).mean()
    return ExpectedPairs(image, owner, mass, share, log_likelihood, jnp.asarray(known.evaluations))


def expectation(model: Model, state: MixtureState, sigma: Scalar) -> Expected | ExpectedPairs:
    """That of the problem and of the options."""
    if model.problem.log_likelihood is not None:
        return expectation_on_pairs(model, state, sigma)
    return (expectation_in_two_passes if model.refine_poses else expectation_on_all_nodes)(model, state, sigma)


def background_of(y: Data) -> Background:
    """The mean and the variances of the observations, of a std that is a factor 1 + 2 / sqrt(p) larger.

    |y|^2 / p of noise has a relative std of sqrt(2 / p): in few dimensions the background is broad, so that no mode is
    taken for it, and in many it is as wide as the observations, or it would never have made one of them.
    """
    p = y.shape[1]
    mean, variance = spread_of(y)
    square = (variance + mean**2).mean()
    floor = jnp.finfo(y.dtype).eps * square + jnp.finfo(y.dtype).tiny  # where all observations are equal
    return Background(mean, (1 + 2 / p**0.5) ** 2 * jnp.maximum(variance, floor))


def log_background(model: Model, state: MixtureState, sigma: Scalar, y: Observations) -> Float[Array, " m"]:
    """log of its weight and of its density, over (2 pi sigma^2)^(-p / 2) as images have it; wider while annealed."""
    assert model.background is not None
    variance = jnp.maximum(model.background.variance + sigma**2 - model.problem.noise_std**2, sigma**2)
    squares = ((y - model.background.mean) ** 2 / variance).sum(1)
    return jnp.log(state.background) - 0.5 * (squares + jnp.log(variance / sigma**2).sum())
