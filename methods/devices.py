"""Rows shared between devices: each of several GPUs takes its part of the particles or of the observations.

With one device nothing changes, to the last bit; with more, results agree to rounding.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from cryosip.methods.stored import Data, in_memory

ROWS, WHOLE = PartitionSpec("rows"), PartitionSpec()
Tree = TypeVar("Tree")


@cache
def _mesh() -> Mesh:
    return Mesh(np.asarray(jax.devices()), ("rows",))


def spread(tree: Tree, n: int) -> Tree:
    """The same values; arrays of n rows are laid out in equal parts over all devices, where n can be so divided."""
    if jax.device_count() == 1:
        return tree
    shared = NamedSharding(_mesh(), ROWS if n % jax.device_count() == 0 else WHOLE)
    whole = NamedSharding(_mesh(), WHOLE)

    def laid_out(leaf: Array) -> Array:
        rows = jnp.ndim(leaf) > 0 and len(leaf) == n
        return jax.lax.with_sharding_constraint(leaf, shared if rows else whole)

    return jax.tree.map(laid_out, tree)


def gathered(rows: Tree) -> Tree:
    """The same values, all of them on every device, for what cannot be shared."""
    if jax.device_count() == 1:
        return rows
    return jax.lax.with_sharding_constraint(rows, NamedSharding(_mesh(), WHOLE))


def by_rows(f: Callable[[Array], Array], rows: Array) -> Array:
    """f(rows) where f works row by row: each device takes an equal part, the last one filled up."""
    if jax.device_count() == 1:
        return f(rows)
    return jax.shard_map(f, mesh=_mesh(), in_specs=ROWS, out_specs=ROWS, check_vma=False)(_filled(rows))[: len(rows)]


def summed(f: Callable[[Any, Int[Array, ""] | int], Tree], rows: Data) -> Tree:
    """f(rows, n), which sums over the first n rows, added up over the devices; the rows after these only fill up.

    Raises ValueError for rows on disk where there are several devices.
    """
    if jax.device_count() == 1:
        return f(rows, len(rows))
    n, filled = len(rows), _filled(in_memory(rows, f"a sum over {jax.device_count()} devices"))
    each = len(filled) // jax.device_count()

    def part(some: Array) -> Tree:
        counted = jnp.clip(n - each * jax.lax.axis_index("rows"), 0, each)
        return jax.lax.psum(f(some, counted), "rows")

    return jax.shard_map(part, mesh=_mesh(), in_specs=ROWS, out_specs=WHOLE, check_vma=False)(filled)


def _filled(rows: Array) -> Array:
    """As many rows as all devices can share equally, the last one repeated."""
    missing = -len(rows) % jax.device_count()
    return jnp.concatenate([rows, jnp.repeat(rows[-1:], missing, axis=0)]) if missing else rows
