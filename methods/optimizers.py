"""Optimizers that optax does not have."""

from typing import Any

import jax.numpy as jnp
import optax


def rms_sgd(learning_rate: Any) -> optax.GradientTransformation:
    """Euler steps of a given length: `learning_rate` is the root mean square of what the parameters move by.

    The rate is a number or an optax schedule. A gradient of zero moves nothing.
    """

    def scaled(updates: Any, state: Any, _params: Any = None) -> tuple[Any, Any]:
        size = jnp.sqrt((updates**2).mean())
        return updates / jnp.maximum(size, jnp.finfo(updates.dtype).tiny), state

    unit = optax.GradientTransformation(lambda _params: optax.EmptyState(), scaled)
    return optax.chain(unit, optax.scale_by_learning_rate(learning_rate))
