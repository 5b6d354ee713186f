"""Arrays that several processes share, and what all of them have to agree on; a run of one process is left as it is.

In a run of several processes (`cluster.join`) all of them execute the same program. Observations, particles and what
the optimizer keeps of each lie in equal parts on the devices of all processes, where their number can be so divided,
else whole on each device. Everything else is whole in each process: weights, components, supports, the constants of a
problem. Each function here that says so is to be called by all processes, at the same place of the program.
"""

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from cryosip.methods import devices

Tree = TypeVar("Tree")


def several() -> bool:
    """Whether the run has several processes."""
    return jax.process_count() > 1


def from_rows(own: Float[np.ndarray, "m_own p"]) -> Float[Array, "m p"]:
    """The observations of all processes as one array, from those of each, in the order of the processes.

    Each process passes its own rows and never holds another's: `problem._replace(observations=from_rows(own))`. Called
    by all processes. In a run of one process it makes an array of the rows, which are then all there are.

    Raises ValueError, in all processes, where their rows are not as many, a multiple of the devices of a process, and
    as long in each: leave out the last ones.
    """
    own = np.asarray(own)
    own = own if np.issubdtype(own.dtype, np.floating) else own.astype(np.float64)
    shapes = everywhere(np.asarray(own.shape if own.ndim == 2 else (0, 0)))
    each = jax.local_device_count()
    if (shapes != shapes[0]).any() or 0 in shapes or len(own) % each:
        raise ValueError(
            f"own has shape {own.shape} in process {jax.process_index()}, of {shapes.tolist()} in all; wanted (m, p), "
            f"equal in all processes, with m a multiple of {each}, the devices of each"
        )
    own = own.astype(jax.dtypes.canonicalize_dtype(own.dtype), copy=False)
    return jax.make_array_from_process_local_data(devices.in_parts(), own) if several() else jnp.asarray(own)


def is_apart(value: Any) -> bool:
    """Whether it is an array of which this process holds a part alone."""
    return _is_shared(value) and not value.is_fully_replicated


def laid_out(tree: Tree, n: int) -> Tree:
    """The same values; where there are several processes, arrays of n rows lie in parts on the devices of all."""
    return devices.spread(tree, n) if several() else tree


def by_rows(f: Callable[[Array], Array], rows: Array) -> Array:
    """f(rows) where f works row by row: each process takes its own."""
    return laid_out(devices.by_rows(f, rows), len(rows)) if several() else f(rows)


def placed(tree: Tree) -> Tree:
    """The same values on devices; where there are several processes, what each holds for itself is on those of all."""
    if not several():
        return jax.device_put(tree)
    whole = jax.jit(lambda leaf: leaf, out_shardings=devices.on_all())
    return jax.tree.map(lambda leaf: leaf if _is_shared(leaf) else whole(leaf), tree)


def placed_as(tree: Tree, like: Tree) -> Tree:
    """The same values, which each process holds in whole, on the devices that hold those of `like`."""
    if not several():
        return tree
    return jax.tree.map(lambda leaf, other: jax.jit(lambda a: a, out_shardings=other.sharding)(leaf), tree, like)


def fetched(tree: Tree) -> Tree:
    """The same values; what the processes share as arrays of numpy, in each of them. Called by all processes."""

    def here(leaf: Any) -> Any:
        if not _is_shared(leaf):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(here(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(here, tree)


def _is_shared(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not (isinstance(leaf, jax.core.Tracer) or leaf.is_fully_addressable)


def everywhere(own: np.ndarray) -> np.ndarray:
    """Those of all processes, one after the other along a new first axis. Called by all processes."""
    return multihost_utils.process_allgather(own) if several() else own[None]


def largest(number: float) -> float:
    """The largest that a process has: a time or a memory that all of them act on alike. Called by all processes."""
    return float(everywhere(np.asarray(number)).max()) if several() else number


def all_finite(tree: Any) -> bool:
    """Whether all floating-point numbers are finite, those in other processes too. Called by all processes."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    parts = [[part.data for part in leaf.addressable_shards] if _is_shared(leaf) else [leaf] for leaf in leaves]
    finite = all(np.isfinite(part).all() for of_leaf in parts for part in of_leaf)  # numpy compiles nothing
    return largest(float(not finite)) == 0


def check_alike(name: str, value: Any) -> None:
    """ValueError, in all processes, where they do not hold the same array. Called by all processes."""
    if not several():
        return
    array = np.asarray(value)
    says = f"{array.shape} {array.dtype}".encode() + np.ascontiguousarray(array).tobytes()
    seen = everywhere(np.asarray(zlib.crc32(says), np.uint32))
    if (seen != seen[0]).any():
        raise ValueError(
            f"{name} differ between processes (shape {array.shape} in process {jax.process_index()}); wanted the same "
            f"in each, or an array that hosts.from_rows makes of the rows of each"
        )


def in_double() -> AbstractContextManager[Any]:
    """Where numpy computes in double precision in a run of one process, JAX does so in one of several."""
    return jax.enable_x64(True) if several() else nullcontext()
