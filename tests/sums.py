"""Sums as another machine takes them: the terms of matrix products shuffled, or added one after the other.

The results differ by rounding alone, so a test that fails in here asks for more than a sum can give. Products of numpy
are its own: its operator has no name that could be replaced.
"""

import math
import sys
from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ORDERS = "sequential", "shuffled"


def _product(original, order, a, b, dimension_numbers, *rest, **named):
    """lax.dot_general with its terms added in that order."""
    contracted, batch = dimension_numbers
    kind = jax.eval_shape(lambda a, b: original(a, b, dimension_numbers, *rest, **named), a, b)
    if not contracted[0]:
        return original(a, b, dimension_numbers, *rest, **named)
    (a, shared, free_a), (b, _, free_b) = (
        _flat(each, along, over) for each, along, over in zip((a, b), contracted, batch, strict=True)
    )
    n = a.shape[1]
    if order == "shuffled":
        terms = np.random.default_rng(n).permutation(n)
        total = original(a[:, terms], b[:, terms], (((1,), (1,)), ((0,), (0,))), *rest, **named)
    else:

        def add(total, pair):
            return total + (pair[0][:, :, None] * pair[1][:, None, :]).astype(total.dtype), None

        start = jnp.zeros((a.shape[0], a.shape[2], b.shape[2]), kind.dtype)
        total = lax.scan(add, start, (jnp.moveaxis(a, 1, 0), jnp.moveaxis(b, 1, 0)))[0]
    return total.reshape(*shared, *free_a, *free_b)


def _flat(a, along, over):
    """(batch, terms, the rest), and the shapes of the first and the last."""
    free = [axis for axis in range(a.ndim) if axis not in (*along, *over)]
    sizes = [[a.shape[axis] for axis in axes] for axes in (over, along, free)]
    return lax.transpose(a, (*over, *along, *free)).reshape(*map(math.prod, sizes)), sizes[0], sizes[2]


@contextmanager
def added(order):
    """Matrix products within the block are added in that order, those of programs that are traced there too."""
    original, einsum = lax.dot_general, jnp.einsum
    replaced = partial(_product, original, order)

    # `@`, matmul and tensordot look it up in these modules; einsum has it as a default
    places = [
        module
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "jax" and vars(module).get("dot_general") is original
    ]
    jax.clear_caches()  # what has been traced keeps its products
    for module in places:
        module.dot_general = replaced
    jnp.einsum = partial(einsum, _dot_general=replaced)
    try:
        yield
    finally:
        for module in places:
            module.dot_general = original
        jnp.einsum = einsum
        jax.clear_caches()
