"""Deconvolution in d dimensions: the Fredholm equation of the first kind of Crucinio et al."""

from collections.abc import Sequence

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.datasets.additive_noise import observed, with_additive_noise
from cryosip.datasets.gaussian_mixture import MultivariateMixture, gaussian_mixture
from cryosip.datasets.instance import Instance
from cryosip.datasets.outliers import contaminated
from cryosip.methods import checks

MOST_DIMENSIONS = 1_000


def fredholm(
    n_observations: int = 10_000,
    dimension: int = 1,
    noise_std: float = 0.15,
    means: Sequence[float] = (0.3, 0.7),
    stds: Sequence[float] = (0.07, 0.1),
    weights: Sequence[float] = (1 / 3, 2 / 3),
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """A mixture of isotropic Gaussians in d dimensions seen through Gaussian noise.

    y = theta + omega with theta ~ sum_k weights_k N(means_k 1_d, stds_k^2 I_d) and omega ~ N(0, noise_std^2 I_d)
    [crucinio2022]: all coordinates of a point are of the same component. The defaults are the paper's; everything is
    without unit. The initial distribution, which is also rho_p, is Gaussian with independent coordinates, of the means
    and stds of the observations (no less than noise_std): what a user knows who has seen nothing else.

    Parameters
    ----------
    n_observations
        10^4 by default.
    dimension
        d of theta and of the observations; 1 by default, 1 to 4 in the paper.
    noise_std
        Of each coordinate; 0.15 by default.
    means, stds, weights
        Of the components, as many of each, the same in all coordinates; by default N(0.3, 0.07^2) / 3 +
        2 N(0.7, 0.1^2) / 3.
    outliers, outlier_kind
        The share of the observations that is replaced, and how: "wide" makes the noise ten times as wide; none by
        default.
    seed
        Of theta* and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, d), theta (n, d); where d = 1 the truth has its exact quantiles.

    Raises
    ------
    ValueError
        A count is below 1, a std or a weight is not positive, the weights do not sum to 1, or single precision does
        not hold the data.
    """
    n = checks.positive_int("n_observations", n_observations)
    d = checks.positive_int("dimension", dimension, MOST_DIMENSIONS)
    noise_std = checks.positive("noise_std", noise_std)
    checks.non_negative_int("seed", seed)
    marginal = gaussian_mixture(means, stds, weights)
    factors = marginal.stds[:, None, None] * np.eye(d)
    distribution = MultivariateMixture(np.tile(marginal.means[:, None], d), factors, marginal.weights)
    key_theta, key_noise = jr.split(jr.key(seed))
    theta = distribution.sample(key_theta, n)
    observations = observed(theta, noise_std, key_noise)
    observations = contaminated(observations, outliers, outlier_kind, seed, lambda rows: theta[rows])
    return with_additive_noise(
        "fredholm",
        observations,
        theta,
        noise_std,
        (observations.mean(0), jnp.maximum(observations.std(0), noise_std)),
        distribution.sample,
        marginal.quantile if d == 1 else None,
    )
