"""The Kullback-Leibler divergence (3.1) of the observations from the simulated distribution: the likelihood of
(3.4)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cryosip.methods import checks
from cryosip.methods.data import datum, known
from cryosip.methods.discrepancy import Discrepancy, Target, WeightedTarget
from cryosip.methods.kl import silverman
from cryosip.methods.likelihood import Moments, e_step
from cryosip.methods.problem import Images, Observations, Span, Weights
from cryosip.methods.stored import Data, in_memory, seen_as


def data_kl(bandwidth: str | float = "silverman-y") -> Discrepancy:
    """The Kullback-Leibler divergence D_KL(rho_y^delta || rho_y) of (3.1), which (3.5) discretizes.

    The value is -(1/M) sum_i log (1/N) sum_k exp(-|y_i - x_k|^2 / (2 s^2)), without the constants that (3.3) drops, so
    it is not zero where both distributions agree; n * d value / d x_k = gradient_k = n (mass_k x_k - total_k) / s^2
    with the sums of the E-step. Where the noise is integrated out, x_k are clean images and s is its std: the value is
    L_{N,K} + log K of (3.5) without a prior, exactly. Where simulated images carry their noise, rho_y is a kernel
    density estimate of std s = `bandwidth`: "silverman-y" for Silverman's rule on the observations, or a number.

    Exact to rounding in any dimension, all pairs, tiled; in a span too, where a likelihood changes only by a constant.
    Raises ValueError for unknown names and a bandwidth that is not positive, and on binding for observations that are
    all equal where Silverman's rule is asked for one. [sanchez2025], [kimanius2021], [silverman1986].
    """
    if isinstance(bandwidth, str):
        checks.one_of("bandwidth", bandwidth, ("silverman-y",))
    else:
        bandwidth = checks.positive("bandwidth", bandwidth)

    @known
    def bind(observations: Data, noise_std: float = 0.0) -> Target:
        observed = checks.finite_matrix("observations", in_memory(observations, "discrepancy 'data-kl'"))
        if checks.non_negative("noise_std", noise_std) > 0:
            return _target(jnp.asarray(observed), float(noise_std), "noise integrated out, all pairs, tiled")
        std = silverman(observed) if bandwidth == "silverman-y" else float(bandwidth)
        return _target(jnp.asarray(observed), std, f"all pairs, tiled; bandwidth {std:.4g}")

    @known
    def bind_span(observations: Data, noise_std: float, span: Span, integrate: bool) -> Target:
        return bind(seen_as(span.project, observations), checks.positive("noise_std", noise_std) if integrate else 0.0)

    return Discrepancy(bind, bind_span, likelihood=True)


def _target(observed: Observations, std: float, algorithm: str) -> Target:
    centre = observed.mean(0)  # mass * x - total cancels where images are far from the origin
    seen = observed - centre

    def moments(x: Images) -> Moments:
        log_weights = jnp.full((len(x), 1), -jnp.log(len(x)), seen.dtype)
        return e_step(seen, x - centre, log_weights, datum(std, x.dtype))

    def value(x: Images) -> Float[Array, ""]:
        return -moments(x).log_likelihood

    def gradient(x: Images) -> Images:
        found = moments(x)
        return len(x) * (found.mass * (x - centre) - found.total[:, 0]) * datum(1 / std**2, x.dtype)

    def of_weights(x: Images, w: Weights) -> Moments:
        return e_step(seen, x - centre, jnp.log(w)[:, None], datum(std, x.dtype))

    def variation(x: Images, w: Weights) -> tuple[Weights, Images]:
        found = of_weights(x, w)
        share = found.mass[:, 0] / w
        pull = share[:, None] * (x - centre) - found.total[:, 0] / w[:, None]
        return -share, pull * datum(1 / std**2, x.dtype)

    weighted = WeightedTarget(lambda x, w: -of_weights(x, w).log_likelihood, variation)
    return Target(value, gradient, algorithm, lambda x: jnp.zeros(()), weighted)
