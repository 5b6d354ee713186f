"""A variational autoencoder of images, whose decoder makes volumes, as cryoDRGN with poses given."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float

from cryosip.methods import checks
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Coordinates, PRNGKey, Problem
from cryosip.methods.volumes import filtered_consensus, power, views

Layers = list[tuple[Array, Array]]  # weights (i, o) and biases (o,), one layer after the other
HIDDEN_LAYERS = 3
IMAGES_AT_A_TIME = 500  # whose volumes are made at the end
LEAST_AMPLITUDE = 1e-3  # of the largest shell's


class AutoencoderState(NamedTuple):
    """Layers of the encoder and of the decoder, and what the optimizer remembers."""

    networks: tuple[Layers, Layers]
    optimizer: optax.OptState


def autoencoder(
    problem: Problem,
    n_components: int = 4,
    width: int = 128,
    n_batch: int = 64,
    learning_rate: float = 1e-3,
    kl_weight: float = 1.0,
) -> Method:
    """Volumes V(z) of a network, with z of each image from another, as cryoDRGN with poses given.

    The encoder takes an image to the mean and the log variance of z, the decoder takes z to V_0 + a * f(z), V_0 the
    consensus and a_s the root mean square of its coefficients in each shell. Both are residual networks. Each step is
    one of Adam on a batch: sum_i |y_i - P_i V(z_i)|^2 / (2 sigma^2) + kl_weight KL(q(z | y_i) | N(0, I)), z_i drawn
    from q: with a weight of 1 the negative ELBO [kingma2014], [zhong2021].

    As in cryoDRGN: the encoder sees the image alone, widths and layers, the objective, and that the distribution is
    that of the posterior means. Not: the decoder makes the coefficients of whole volumes where theirs makes each
    Fourier component from its place; images are not normalised, and batches are larger. Its weight of the KL term,
    1 / n_components on data of variance 1, is s^2 / (2 sigma^2 n_components) here, s^2 the mean variance of pixels.

    Parameters
    ----------
    problem
        The problem; its theta are volumes, and it gives poses.
    n_components
        Dimensions of z; 4 by default.
    width
        Of each hidden layer; 128 by default.
    n_batch
        Images of a step; 64 by default, at most all.
    learning_rate
        Of Adam; 1e-3 by default.
    kl_weight
        1 by default, the ELBO's.

    Returns
    -------
    Method
        Its estimate is theta (m, v), the decoded mean of each image, with equal weights.

    Raises
    ------
    ValueError
        A count is below 1, a rate or a weight is not positive, or the problem has no volumes or no poses.
    """
    d, width = checks.positive_int("n_components", n_components), checks.positive_int("width", width)
    optimizer = optax.adam(checks.positive("learning_rate", learning_rate))
    weight = checks.non_negative("kl_weight", kl_weight)
    seen = views(problem, "autoencoder")
    m, r = seen.y.shape
    b = min(m, checks.positive_int("n_batch", n_batch))
    mean = filtered_consensus(seen)
    height = jnp.sqrt(power(seen, mean[None])[0])
    amplitude = jnp.maximum(height, LEAST_AMPLITUDE * height.max())[seen.volumes.shells]
    spread = seen.y.std()

    def decode(decoder: Layers, z: Float[Array, "n d"]) -> Float[Array, "n v"]:
        return seen.volumes.in_ball(mean + amplitude * network(decoder, z))

    def encode(encoder: Layers, y: Coordinates) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        found = network(encoder, y / spread)
        return found[:, :d], found[:, d:]

    def loss(networks: tuple[Layers, Layers], key: PRNGKey, rows: Array) -> Float[Array, ""]:
        y, pose = jax.tree.map(lambda a: a[rows], (seen.y, seen.pose))
        center, log_variance = encode(networks[0], y)
        z = center + jnp.exp(0.5 * log_variance) * jr.normal(key, center.shape, center.dtype)
        residual = seen.inside * (y - seen.project_pairs(decode(networks[1], z), pose))
        divergence = 0.5 * (center**2 + jnp.exp(log_variance) - log_variance - 1).sum(1)
        return ((residual**2).sum(1) / (2 * seen.noise_std**2) + weight * divergence).mean()

    def init(key: PRNGKey) -> AutoencoderState:
        first, second = jr.split(key)
        encoder = random_layers(first, r, width, 2 * d, seen.y.dtype)
        networks = encoder, random_layers(second, d, width, len(mean), seen.y.dtype)
        return AutoencoderState(networks, optimizer.init(networks))

    def step(key: PRNGKey, state: AutoencoderState) -> tuple[AutoencoderState, Info]:
        key_rows, key_z = jr.split(key)
        rows = jr.choice(key_rows, m, (b,), replace=False)
        value, slope = jax.value_and_grad(loss)(state.networks, key_z, rows)
        change, memory = optimizer.update(slope, state.optimizer, state.networks)
        return AutoencoderState(optax.apply_updates(state.networks, change), memory), Info(value, jnp.asarray(2 * b))

    def per_image(state: AutoencoderState) -> Float[Array, "m v"]:
        def one(y: Float[Array, " r"]) -> Float[Array, " v"]:
            return decode(state.networks[1], encode(state.networks[0], y[None])[0])[0]

        return jax.lax.map(one, seen.y, batch_size=min(m, IMAGES_AT_A_TIME))

    def estimate(state: AutoencoderState) -> WeightedPoints:
        return WeightedPoints(per_image(state), jnp.full(m, 1 / m, seen.y.dtype))

    return Method(init, step, estimate, per_image)


def random_layers(key: PRNGKey, n_in: int, width: int, n_out: int, dtype: jnp.dtype) -> Layers:
    """Variance 1 / n of n inputs; the last layer begins at a tenth of that std."""
    sizes = [n_in, *[width] * HIDDEN_LAYERS, n_out]
    scales = [1.0] * HIDDEN_LAYERS + [0.1]
    keys = jr.split(key, len(scales))
    return [
        (scale * jr.normal(k, (i, o), dtype) / jnp.sqrt(i), jnp.zeros(o, dtype))
        for k, i, o, scale in zip(keys, sizes, sizes[1:], scales, strict=False)
    ]


def network(layers: Layers, x: Float[Array, "n i"]) -> Float[Array, "n o"]:
    """Layers with rectifiers between them; those of equal width are added to what they take."""
    for w, b in layers[:-1]:
        found = jax.nn.relu(x @ w + b)
        x = x + found if w.shape[0] == w.shape[1] else found
    w, b = layers[-1]
    return x @ w + b
