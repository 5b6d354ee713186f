"""Rows shared between devices: each of several GPUs takes its part of the particles or of the observations.

With one device nothing changes, to the last bit; with more, results agree to rounding. The devices may be those of
several processes, on one host or on several: all processes then run the same program on arrays that they share, of
which each holds the rows of its own devices alone (`hosts`).
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from cryosip.methods.stored import Data, in_memory

ROWS, WHOLE = PartitionSpec("rows"), PartitionSpec()
Tree = TypeVar("Tree")


@cache
def _mesh() -> Mesh:
    return Mesh(np.asarray(jax.devices()), ("rows",))


def in_parts() -> NamedSharding:
    """Rows in equal parts over all devices, in the order of the processes."""
    return NamedSharding(_mesh(), ROWS)


def on_all() -> NamedSharding:
    """The whole of an array on each device."""
    return NamedSharding(_mesh(), WHOLE)


def spread(tree: Tree, n: int) -> Tree:
    """The same values; arrays of n rows are laid out in equal parts over all devices, where n can be so divided."""
    if jax.device_count() == 1:
        return tree
    shared = in_parts() if n % jax.device_count() == 0 else on_all()
    whole = on_all()

    def laid_out(leaf: Array) -> Array:
        rows = jnp.ndim(leaf) > 0 and len(leaf) == n
        return jax.lax.with_sharding_constraint(leaf, shared if rows else whole)

    return jax.tree.map(laid_out, tree)


def gathered(rows: Tree) -> Tree:
    """The same values, all of them on every device, for what cannot be shared."""
    if jax.device_count() == 1:
        return rows
    return jax.lax.with_sharding_constraint(rows, on_all())


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


def met(f: Callable[..., Array], rows: Array, *clouds: list[Array]) -> Array:
    """f(rows, *clouds) where f gives each row a sum over the rows of the clouds, and no device holds all of either.

    The parts of `rows`, with their sums, go from device to device until each has met all parts of the clouds, which
    stay where they are. `shares` says how little the rows count that only fill up.
    """
    count = jax.device_count()
    onward = [(i, (i + 1) % count) for i in range(count)]

    def part(rows: Array, *own: list[Array]) -> Array:
        def meet(_: Array, passed: tuple[Array, Array]) -> tuple[Array, Array]:
            rows, sums = passed
            return jax.lax.ppermute((rows, sums + f(rows, *own)), "rows", onward)

        blank = jax.eval_shape(f, rows, *own)
        return jax.lax.fori_loop(0, count, meet, (rows, jnp.zeros(blank.shape, blank.dtype)))[1]

    shared = jax.shard_map(part, mesh=_mesh(), in_specs=ROWS, out_specs=ROWS, check_vma=False)
    return shared(*jax.tree.map(_filled, (rows, *clouds)))[: len(rows)]


def shares(n: int, dtype: Any) -> Float[Array, " filled"]:
    """1 / n for each of n rows in a mean, and 0 for those that `met` adds to fill up."""
    filled = n + -n % jax.device_count()
    return jnp.where(jnp.arange(filled) < n, jnp.full((), 1 / n, dtype), 0.0)


def _filled(rows: Array) -> Array:
    """As many rows as all devices can share equally, the last one repeated."""
    missing = -len(rows) % jax.device_count()
    return jnp.concatenate([rows, jnp.repeat(rows[-1:], missing, axis=0)]) if missing else rows
