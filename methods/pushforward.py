"""The push-forward of a Gaussian by a small map, fitted to the observations: populational deconvolution."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from cryosip.methods import checks
from cryosip.methods.discrepancy import Discrepancy
from cryosip.methods.first_variation import SAMPLINGS, count, plain_gradient, simulated
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, checked, halves
from cryosip.methods.stopping import EVERY, STOPS, best_on_held_out

LATENT_KEY = 0  # of the sample that is the estimate
MOMENTS_FROM = 1_000  # draws of the initial distribution

Layers = list[tuple[Float[Array, "i o"], Float[Array, " o"]]]


class PushforwardState(NamedTuple):
    """The parameters of the map, in one vector, so that an optimizer knows one array."""

    parameters: Float[Array, " q"]
    optimizer: optax.OptState


def pushforward(
    problem: Problem,
    discrepancy: Discrepancy,
    optimizer: optax.GradientTransformation,
    n_particles: int = 1_000,
    width: int = 64,
    depth: int = 2,
    sampling: str = "method-1",
    stop: str | None = None,
) -> Method:
    """The distribution of structures as the push-forward of N(0, I) by a small map, fitted by a discrepancy.

    Minimises D(T_# (f_# N(0, I)), rho_y^delta) over the parameters of f(z) = mean + std (z + g(z)), with mean and std
    of the initial distribution and g a multilayer perceptron that is zero at first [vadeboncoeur2025]. Latents, poses
    and noise are drawn anew in each step.

    Parameters
    ----------
    problem
        The problem.
    discrepancy
        D, such as "energy" or "sliced-energy"; with "data-kl" and sampling "closed-form", the likelihood.
    optimizer
        An optax transformation of the parameters, such as Adam at 1e-3.
    n_particles
        Latents in a step, and points of the estimate; 1000 by default.
    width, depth
        Of the hidden layers, 64 units in each of 2 by default: gaps between modes need no more in few dimensions.
    sampling
        "method-1", the default, draws omega for each structure, (2.13); "closed-form" the pose alone, where the
        discrepancy integrates the noise out.
    stop
        "held-out" fits every other observation alone, and takes of all estimates that with the lowest D to the others;
        None, the default, takes the last.

    Returns
    -------
    Method
        Its estimate is theta (n_particles, d) with equal weights, the images of one sample of latents.

    Raises
    ------
    ValueError
        A count is below 1, a name is unknown, or the discrepancy cannot integrate the noise out.
    """
    problem = checked(problem)
    checks.instance_of("discrepancy", discrepancy, Discrepancy)
    checks.instance_of("optimizer", optimizer, optax.GradientTransformation)
    n = checks.positive_int("n_particles", n_particles)
    checks.one_of("sampling", sampling, SAMPLINGS)
    fit, held_out = (problem, problem) if stop is None else halves(problem)
    if stop is not None:
        checks.one_of("stop", stop, STOPS)
    of = simulated(fit, discrepancy, sampling)
    initial = problem.sample_init(jr.key(LATENT_KEY), MOMENTS_FROM)
    mean, std, d = initial.mean(0), initial.std(0), initial.shape[1]
    sizes = [d, *[checks.positive_int("width", width)] * checks.positive_int("depth", depth), d]
    _, unravel = ravel_pytree(first_layers(jr.key(0), sizes))
    latents = jr.normal(jr.key(LATENT_KEY), (n, d))

    def pushed(parameters: Float[Array, " q"], z: Points) -> Points:
        return mean + std * (z + perceptron(unravel(parameters), z))

    def init(key: PRNGKey) -> PushforwardState:
        parameters = ravel_pytree(first_layers(key, sizes))[0]
        return PushforwardState(parameters, optimizer.init(parameters))

    def step(key: PRNGKey, state: PushforwardState) -> tuple[PushforwardState, Info]:
        key_latent, key_images = jr.split(key)
        z = jr.normal(key_latent, (n, d))
        theta, pull_back = jax.vjp(lambda p: pushed(p, z), state.parameters)
        value, drift = plain_gradient(of, key_images, theta)
        (slope,) = pull_back(drift / n)
        update, optimizer_state = optimizer.update(slope, state.optimizer, state.parameters)
        return PushforwardState(state.parameters + update, optimizer_state), Info(value, count(theta))

    def estimate(state: PushforwardState) -> WeightedPoints:
        return WeightedPoints(pushed(state.parameters, latents), jnp.full(n, 1 / n))

    method = Method(init, step, estimate)
    if stop is None:
        return method
    return best_on_held_out(method, simulated(held_out, discrepancy, sampling).value, EVERY, n)


def first_layers(key: PRNGKey, sizes: list[int]) -> Layers:
    """Weights of variance 1 / inputs without biases; those of the last layer are zero."""
    keys = jr.split(key, len(sizes) - 1)
    layers = [
        (jr.normal(k, (i, o)) / jnp.sqrt(i), jnp.zeros(o)) for k, (i, o) in zip(keys, pairwise(sizes), strict=True)
    ]
    return [*layers[:-1], (jnp.zeros_like(layers[-1][0]), layers[-1][1])]


def perceptron(layers: Any, z: Points) -> Points:
    """Hidden layers of smooth rectifiers x sigmoid(x), and a linear one."""
    for matrix, offset in layers[:-1]:
        z = jax.nn.silu(z @ matrix + offset)
    matrix, offset = layers[-1]
    return z @ matrix + offset
