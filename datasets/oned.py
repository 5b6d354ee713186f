"""The one-dimensional test system of section 4.1: y = theta + omega."""

from collections.abc import Sequence

import jax.random as jr

from cryosip.datasets.additive_noise import observed, with_additive_noise
from cryosip.datasets.gaussian_mixture import gaussian_mixture
from cryosip.datasets.instance import Instance
from cryosip.datasets.outliers import contaminated
from cryosip.methods import checks


def oned(
    n_observations: int = 10_000,
    noise_std: float = 1.5,
    means: Sequence[float] = (-2.0, 2.0),
    stds: Sequence[float] = (0.75, 0.3),
    weights: Sequence[float] = (0.5, 0.5),
    init_mean: float = 0.0,
    init_std: float = 1.0,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """The 1D test system of section 4.1: a Gaussian mixture seen through Gaussian noise.

    y = theta + omega with omega ~ N(0, noise_std^2) [sanchez2025]. The defaults are the paper's; everything is without
    unit.

    Parameters
    ----------
    n_observations
        10^4 by default.
    noise_std
        1.5 by default.
    means, stds, weights
        Of the Gaussians of theta, as many of each; N(-2, 0.75^2) / 2 + N(2, 0.3^2) / 2 by default.
    init_mean, init_std
        Of the initial distribution, which is also rho_p; N(0, 1) by default.
    outliers, outlier_kind
        A share of the observations that is contaminated, 0 by default, and how, as `contaminated` says; "wide", the
        default, has ten times the noise, and is the one kind here.
    seed
        Of theta* and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, 1), theta (n, 1); the truth has its exact quantiles.

    Raises
    ------
    ValueError
        A count is below 1, a std or a weight is not positive, the weights do not sum to 1,
        or the share of outliers is outside [0, 1).
    """
    n = checks.positive_int("n_observations", n_observations)
    noise_std = checks.positive("noise_std", noise_std)
    init_std = checks.positive("init_std", init_std)
    init_mean = checks.finite("init_mean", init_mean)
    checks.non_negative_int("seed", seed)
    distribution = gaussian_mixture(means, stds, weights)
    key_theta, key_noise = jr.split(jr.key(seed))
    theta = distribution.sample(key_theta, n)[:, None]
    observations = observed(theta, noise_std, key_noise)
    return with_additive_noise(
        "oned",
        contaminated(observations, outliers, outlier_kind, seed, lambda rows: theta[rows]),
        theta,
        noise_std,
        (init_mean, init_std),
        lambda key, n: distribution.sample(key, n)[:, None],
        distribution.quantile,
    )
