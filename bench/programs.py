"""Programs that replicates share: the data of traced functions are arguments of what is compiled, not constants."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from cryosip.methods import hosts

# of functions with derivatives of their own; where a step is compiled, all derivatives have been taken
DERIVATIVES = {"jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "transpose_thunk"}


class Text:
    """Jaxprs, equal to others of the same operations on the same shapes: `jax.jit` then takes the same program."""

    def __init__(self, *jaxprs: core.Jaxpr) -> None:
        self.jaxprs = jaxprs
        self.key = tuple(map(_key, jaxprs))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Step(NamedTuple):
    """A step, cut in two: `text` holds `update` (constants, key, state) -> (state, calls, what the report needs), and
    `report` (constants, what it needs) -> objective, which costs nothing where nobody asks for it.
    """

    text: Text
    constants: list[jax.Array]


def call(f: Callable[..., Any], *arguments: Any) -> Any:
    """f(*arguments), compiled once for all functions of the same text, whatever data they hold."""
    closed, shape = jax.make_jaxpr(f, return_shape=True)(*arguments)
    flat = _CALL(Text(closed.jaxpr), hosts.placed(closed.consts), *jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shape), flat)


def _call(text: Text, constants: Sequence[jax.Array], *arguments: jax.Array) -> list[Any]:
    return jax.core.eval_jaxpr(text.jaxprs[0], constants, *arguments)


_CALL = jax.jit(_call, static_argnums=0)


def step(f: Callable[[jax.Array, Any], tuple[Any, Any]], key: jax.Array, state: Any) -> Step:
    """The step f(key, state) -> (state, info) of a method; TypeError where it makes another kind of state."""
    # a function of its own: JAX would else hand out what it has traced for other tiles
    closed, (after, _info) = jax.make_jaxpr(lambda *given: f(*given), return_shape=True)(key, state)
    before, after = (jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), tree) for tree in (state, after))
    if before != after:
        raise TypeError(f"a step of a method makes a state of {after}; wanted {before}, as `init` makes it")
    return Step(Text(*_cut(closed.jaxpr)), hosts.placed(closed.consts))


def _cut(jaxpr: core.Jaxpr) -> tuple[core.Jaxpr, core.Jaxpr]:
    """What makes the state and the count, the last output; and what makes the objective, the last but one, of that."""
    *state, objective, count = jaxpr.outvars
    first = _needed(jaxpr.eqns, [*state, count], keep_effects=True)
    made = {v for eqn in first for v in eqn.outvars} | set(jaxpr.invars)
    taken = {id(eqn) for eqn in first}
    second = _needed([eqn for eqn in jaxpr.eqns if id(eqn) not in taken], [objective])
    read = [v for eqn in second for v in eqn.invars if isinstance(v, core.Var)]
    handed = [v for v in dict.fromkeys([*read, *_variables([objective])]) if v in made]
    update = jaxpr.replace(eqns=first, outvars=[*state, count, *handed])
    return update, jaxpr.replace(eqns=second, invars=handed, outvars=[objective], effects=set())


def _needed(eqns: Sequence[Any], results: Iterable[Any], keep_effects: bool = False) -> list[Any]:
    """The equations that the results depend on, in their order."""
    wanted, kept = set(_variables(results)), []
    for eqn in reversed(eqns):
        if wanted.intersection(eqn.outvars) or (keep_effects and eqn.effects):
            kept.append(eqn)
            wanted.update(_variables(eqn.invars))
    return kept[::-1]


def _variables(atoms: Iterable[Any]) -> list[core.Var]:
    return [atom for atom in atoms if isinstance(atom, core.Var)]


def _key(jaxpr: core.Jaxpr) -> Hashable:
    """All that a jaxpr says but the names of its variables; literals and arrays by their bytes."""
    numbers: dict[core.Var, int] = {}

    def named(atoms: Iterable[Any]) -> Hashable:
        return tuple(
            (numbers.setdefault(a, len(numbers)), a.aval) if isinstance(a, core.Var) else (a.aval, _value(a.val))
            for a in atoms
        )

    inputs = named([*jaxpr.constvars, *jaxpr.invars]), len(jaxpr.invars)
    lines = tuple((eqn.primitive, named(eqn.invars), _parameters(eqn.params), named(eqn.outvars)) for eqn in jaxpr.eqns)
    return inputs, lines, named(jaxpr.outvars)


def _parameters(parameters: dict[str, Any]) -> Hashable:
    return tuple((name, _value(value)) for name, value in sorted(parameters.items()) if name not in DERIVATIVES)


def _value(value: Any) -> Hashable:
    """Something that is equal for equal values alone; functions are equal to themselves only."""
    if isinstance(value, core.ClosedJaxpr):
        return _key(value.jaxpr), tuple(map(_value, value.consts))
    if isinstance(value, core.Jaxpr):
        return _key(value)
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_value, value))
    if isinstance(value, dict):
        return _parameters(value)
    if _is_key(value):
        return type(value), value.dtype, _value(jax.random.key_data(value))
    if isinstance(value, jax.Array | np.ndarray | np.generic | float):  # 0.0 and -0.0 are equal, their bytes are not
        array = np.asarray(value)
        return type(value), array.shape, array.dtype, array.tobytes()
    return (type(value), value) if isinstance(value, Hashable) else object()


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
