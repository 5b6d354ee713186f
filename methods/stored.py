"""Observations on disk: rows of memory maps that are read when they are needed, the next batch while one is in use."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.methods import shards
from cryosip.methods.data import datum
from cryosip.methods.tiles import tile as at_a_time

BATCH = 2**22  # numbers in a batch: 16 MB in float32
MOST_ROWS = 2**14  # at a time: JAX copies longer indices in another thread, which waits for the callback itself
# what works on batches, for messages
IN_BATCHES = "flow with 'energy' or 'sliced-energy', mixture, reweighting or posterior-npmle on one device"
MEMORY = 2**28  # numbers that what is made of all rows may hold: 1 GB in float32

Tree = TypeVar("Tree")
_READERS: list[shards.Reader] = []  # by their number: programs hold that number alone, and may outlive a `Stored`


class Stored:
    """Observations (m, p) on disk: `y[rows]` reads these rows, in compiled programs too, where rows may be traced.

    The rows are data of a program, as those of an array are: programs of stores of one shape are the same. Rows that
    follow one another are read ahead. Whatever asks for all rows at once raises ValueError; `mapped` and `mean_of` go
    over all of them in batches.
    """

    ndim = 2

    def __init__(self, reader: shards.Reader, view: Callable[[Array], Array] | None = None) -> None:
        """Of a reader; `view` takes rows (n, p) as they are read to what they are seen as."""
        if reader not in _READERS:
            _READERS.append(reader)
        self.reader, self.view, self._number = reader, view, _READERS.index(reader)
        read = jax.ShapeDtypeStruct((1, reader.width), reader.dtype)
        seen = read if view is None else jax.eval_shape(view, read)
        self.shape, self.dtype = (len(reader), int(seen.shape[1])), np.dtype(seen.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """m p."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, rows: Any) -> Array:
        """Rows by a number, a slice or an array of numbers, which alone may be traced; indices are clipped to m - 1."""
        if not isinstance(rows, jax.Array):
            rows = jnp.asarray(np.arange(len(self), dtype=np.int32)[rows])
        flat = jnp.where(rows < 0, rows + len(self), rows).astype(jnp.int32).ravel()
        if flat.size <= MOST_ROWS:
            found = self._read(flat)
        else:
            n = -(-flat.size // MOST_ROWS)
            parts = jnp.minimum(jnp.arange(n * MOST_ROWS), flat.size - 1).reshape(n, MOST_ROWS)
            found = jax.lax.map(lambda part: self._read(flat[part]), parts).reshape(n * MOST_ROWS, -1)[: flat.size]
        return found.reshape(*rows.shape, self.shape[1])

    def _read(self, rows: Int[Array, " n"]) -> Float[Array, "n p"]:
        n, p, dtype = rows.size, self.reader.width, self.reader.dtype
        wide = dtype.itemsize == 8
        shape = jax.ShapeDtypeStruct((n, 2 * p), np.uint32) if wide else jax.ShapeDtypeStruct((n, p), dtype)
        found = jax.pure_callback(_rows, shape, datum(self._number, jnp.int32), rows, vmap_method="expand_dims")
        if wide:
            found = jax.lax.bitcast_convert_type(found.reshape(n, p, 2), dtype)
        return found if self.view is None else self.view(found)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        gigabytes = self.size * self.dtype.itemsize / 1e9
        raise ValueError(
            f"{len(self)} observations of {self.shape[1]} numbers are on disk, and all of them are asked for at once, "
            f"{gigabytes:.3g} GB; wanted an array in memory, or {IN_BATCHES}"
        )

    def __repr__(self) -> str:
        return f"Stored(shape={self.shape}, dtype={self.dtype})"


def _rows(number: Any, rows: Any) -> np.ndarray:
    """What compiled programs call. It may only use numpy: JAX would wait for the program that waits for this.

    Double precision is handed over by its bits: JAX rounds it where the thread that it calls from is of single.
    """
    found = _READERS[np.asarray(number).flat[0]].rows(np.asarray(rows))
    return found if found.itemsize == 4 else found.view(np.uint32)


Data = Float[Array | Stored, "m p"]


def opened(value: Any) -> Any:
    """Memory maps, one or a list of them, as a `Stored` of finite numbers; anything else as it is.

    Raises ValueError, with the number and the file of the shard, as `shards.reader` does.
    """
    found = shards.reader(value)
    return value if found is None else Stored(found)


def kept(y: Data, rows: Any) -> Any:
    """y[rows], which stays on disk where y is and the rows are known."""
    if not isinstance(y, Stored) or isinstance(rows, jax.core.Tracer):
        return y[rows]
    return Stored(y.reader.kept(np.asarray(rows)), y.view)


def rows_at_a_time(y: Data) -> int:
    """How many rows a batch has: all of an array, which is in memory."""
    return len(y) if not isinstance(y, Stored) else max(1, min(len(y), at_a_time(BATCH) // y.reader.width, MOST_ROWS))


def mapped(f: Callable[[Array], Tree], y: Data) -> Tree:
    """f(y), where f works row by row: on batches where y is on disk. The result is in memory."""
    if not isinstance(y, Stored):
        return f(y)
    m, n = len(y), rows_at_a_time(y)

    def add(i: Int[Array, ""], made: Tree) -> Tree:
        first = jnp.minimum(i * n, m - n)  # the last batch holds rows of the one before
        rows = f(y[first + jnp.arange(n)])
        return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, first, 0), made, rows)

    def all_rows() -> Tree:
        some = jax.eval_shape(f, jax.ShapeDtypeStruct((n, y.shape[1]), y.dtype))
        nothing = jax.tree.map(lambda a: jnp.zeros((m, *a.shape[1:]), a.dtype), some)
        return jax.lax.fori_loop(0, -(-m // n), add, nothing)

    return jax.jit(all_rows)()  # one program, or results would be in memory twice


def seen_as(f: Callable[[Array], Array], y: Data) -> Any:
    """f(y), where f takes images (n, p) to rows (n, r): in memory where this takes no more than 1 GB in float32."""
    if not isinstance(y, Stored):
        return f(y)
    before = y.view or (lambda read: read)
    seen = Stored(y.reader, lambda read: f(before(read)))
    return mapped(f, y) if seen.size <= MEMORY else seen


def mean_of(f: Callable[[Array], Array], y: Data) -> Array:
    """The mean over rows of f(y), where f works row by row: f(y).mean(0), in batches where y is on disk."""
    if not isinstance(y, Stored):
        return f(y).mean(0)
    m, n = len(y), rows_at_a_time(y)

    def add(i: Int[Array, ""], total: Array) -> Array:
        rows = i * n + jnp.arange(n)
        values = f(y[jnp.minimum(rows, m - 1)])
        counted = (rows < m).reshape(-1, *[1] * (values.ndim - 1))
        return total + jnp.where(counted, values, 0).sum(0)

    one = jax.eval_shape(f, jax.ShapeDtypeStruct((n, y.shape[1]), y.dtype))
    total = jax.lax.fori_loop(0, -(-m // n), add, jnp.zeros(one.shape[1:], one.dtype))
    return total / m


def spread_of(y: Data) -> tuple[Array, Array]:
    """The mean and the variance of each column."""
    if not isinstance(y, Stored):
        return y.mean(0), y.var(0)
    mean = mean_of(lambda y: y, y)
    return mean, mean_of(lambda y: (y - mean) ** 2, y)


def in_memory(y: Any, user: str) -> Any:
    """The observations, or ValueError where they are on disk and `user`, a method or a discrepancy, needs an array."""
    if isinstance(y, Stored):
        raise ValueError(
            f"{len(y)} observations are on disk, and {user} needs them in memory; wanted an array, or {IN_BATCHES}"
        )
    return y
