"""The contract of a discrepancy D(rho_y, rho_y^delta) between simulated and observed images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from cryosip.methods.problem import Images, Observations, PRNGKey, Span, Weights
from cryosip.methods.stored import Data

Scalar = Float[Array, ""]


class WeightedTarget(NamedTuple):
    """The same D of weighted images, rho_y = sum_k w_k delta_{y_k}.

    `value(y, w)` is D, and `variation(y, w)` the first variation dD/drho_y at each y_k (n,), up to a constant that they
    share, and its gradient there (n, p): d value / d w_k and d value / d y_k / w_k. With equal weights they are those
    of the target, to its error.
    """

    value: Callable[[Images, Weights], Scalar]
    variation: Callable[[Images, Weights], tuple[Weights, Images]]


class Target(NamedTuple):
    """A discrepancy to fixed observations, whatever depends on them alone computed once.

    `gradient` has as row i the gradient of the first variation dD/drho_y at y_i (section 2.5.1). `algorithm` names
    what computes it, and `gradient_error(y)` bounds |component of gradient - its exact value| (0: exact to rounding).
    Optional: `weighted`, where weighted images have a form; and `redrawn(key)`, where the target is an unbiased
    estimate that draws, the same with new draws, which methods take in each step.
    """

    value: Callable[[Images], Scalar]
    gradient: Callable[[Images], Images]
    algorithm: str
    gradient_error: Callable[[Images], Scalar]
    weighted: WeightedTarget | None = None
    redrawn: "Callable[[PRNGKey], Target] | None" = None


class Discrepancy(NamedTuple):
    """D(rho_y, rho_y^delta) of (2.6) with rho_y, rho_y^delta given as samples [sanchez2025].

    `bind(observations, noise_std)` fixes the observations. With noise_std > 0 the simulated images are taken as clean
    and the distribution of the noise N(0, noise_std^2 I) is integrated out in closed form, in rho_y and in (2.11)
    alike; a discrepancy that has no closed form raises ValueError, as does one that needs all observations at once and
    is given them on disk.

    `bind_span(observations, noise_std, span, integrate)`, where a discrepancy offers it, is the same between
    distributions of images, for simulated images that are given by their coordinates in the span. Noise outside of the
    span is integrated out; that in it too if `integrate`, else the coordinates carry it. `likelihood` says that D with
    the noise integrated out is the negative log-likelihood of (3.4), up to a constant.
    """

    bind: Callable[[Data, float], Target]
    bind_span: Callable[[Data, float, Span, bool], Target] | None = None
    likelihood: bool = False

    def value(self, y: Images, y_obs: Observations) -> Scalar:
        """D of two samples; y may be traced, y_obs may not."""
        return self.bind(_same_pixels(y, y_obs), 0.0).value(y)

    def gradient(self, y: Images, y_obs: Observations) -> Images:
        """Row i is the gradient of the first variation at y_i."""
        return self.bind(_same_pixels(y, y_obs), 0.0).gradient(y)


def _same_pixels(y: Images, y_obs: Observations) -> Observations:
    if y.ndim != 2 or y_obs.ndim != 2 or y.shape[1] != y_obs.shape[1]:
        raise ValueError(f"y has shape {y.shape} and y_obs {y_obs.shape}; wanted (n, p) and (m, p)")
    return y_obs


def one_dimensional(name: str, algorithm: str, observed: np.ndarray, noise_std: float) -> bool:
    """Whether the algorithms of one dimension apply.

    Parameters
    ----------
    name
        Of the discrepancy, for the message.
    algorithm
        What is asked for.
    observed
        Observations (m, p).
    noise_std
        Of the noise to integrate out; 0 where there is none.

    Returns
    -------
    bool
        Whether p is 1.

    Raises
    ------
    ValueError
        p is above 1, and the algorithm or the noise needs one dimension.
    """
    p = observed.shape[1]
    if p > 1 and algorithm not in ("auto", "pairwise"):
        raise ValueError(f"algorithm is {algorithm!r} for observations of dimension {p}; wanted 'pairwise' or 'auto'")
    if p > 1 and noise_std > 0:
        raise ValueError(f"{name} cannot integrate out noise in dimension {p}; wanted dimension 1, or sampled noise")
    return p == 1
