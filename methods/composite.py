"""The composite discrepancy: a weighted sum of the KL divergence and the MMD."""

import inspect
from typing import Any

from jaxtyping import Array

from cryosip.methods import checks
from cryosip.methods.data import known
from cryosip.methods.discrepancy import Discrepancy, Target
from cryosip.methods.kl import kl
from cryosip.methods.mmd import mmd
from cryosip.methods.stored import Data


def composite(
    kl_weight: float = 1.0,
    mmd_weight: float = 1.0,
    kl_options: dict[str, Any] | None = None,
    mmd_options: dict[str, Any] | None = None,
) -> Discrepancy:
    """A weighted sum of the Kullback-Leibler divergence and half the squared maximum mean discrepancy.

    D = kl_weight * D_KL(rho_y || rho_y^delta) + mmd_weight * MMD^2(rho_y, rho_y^delta) / 2, (2.7) and (2.8)
    [sanchez2025].

    Parameters
    ----------
    kl_weight, mmd_weight
        Zero or more, not both zero; both 1 by default, the plain sum.
    kl_options, mmd_options
        Those of `kl` and of `mmd`; None, the default, leaves them theirs.

    Returns
    -------
    Discrepancy
        Bound where both parts can be.

    Raises
    ------
    ValueError
        A weight is negative, both are 0, or an option is unknown.
    """
    weights = checks.non_negative("kl_weight", kl_weight), checks.non_negative("mmd_weight", mmd_weight)
    if sum(weights) == 0:
        raise ValueError("kl_weight and mmd_weight are both 0; wanted at least one positive")
    for name, options, factory in (("kl_options", kl_options, kl), ("mmd_options", mmd_options, mmd)):
        for option in {} if options is None else checks.instance_of(name, options, dict):
            checks.one_of(f"a name in {name}", option, inspect.signature(factory).parameters)
    parts = kl(**(kl_options or {})), mmd(**(mmd_options or {}))

    @known
    def bind(observations: Data, noise_std: float = 0.0) -> Target:
        first, second = (part.bind(observations, noise_std) for part in parts)

        def weighted(first: Array, second: Array) -> Array:
            return weights[0] * first + weights[1] * second

        return Target(
            lambda y: weighted(first.value(y), second.value(y)),
            lambda y: weighted(first.gradient(y), second.gradient(y)),
            f"{weights[0]:g} * ({first.algorithm}) + {weights[1]:g} * ({second.algorithm})",
            lambda y: weighted(first.gradient_error(y), second.gradient_error(y)),
        )

    return Discrepancy(bind)
