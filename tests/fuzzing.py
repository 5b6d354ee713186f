"""Nonsense for the fuzz tests: values that no option wants, and calls that must answer or refuse."""

import decimal
import inspect
import signal
from contextlib import contextmanager

import jax.numpy as jnp
import jaxtyping
import numpy as np
from hypothesis import strategies as st

from cryosip.datasets.conformations import MEANS
from cryosip.datasets.protein import protein
from cryosip.datasets.registry import DATASETS

PATIENCE = 60  # seconds of work, not of waiting, after which a call counts as hung

BOUNDARY_INTS = (-(2**63), -1, 0, 1, 2, 3, 5, 2**31, 2**63, 10**30)
BOUNDARY_FLOATS = (
    float("nan"), float("inf"), -float("inf"), -1.0, -0.0, 0.0, 5e-324, 1e-300, 1e-45, 1e-38, 1e-20, 0.3, 1.0, 2.5,
    1e20, 3e38, 1e39, 1e300,
)  # fmt: skip
TEXTS = ("", " ", "auto", "median", "paper", "0", "nan", "energy", "method-2", "em", "\0", "é", "[red]", "x" * 300)
OBJECTS = (
    None, True, False, b"bytes", 1j, object(), int, len, decimal.Decimal(1), np.float32(0.5), np.int64(2),
    np.bool_(True), np.array(2), np.array([1.0, 2.0]), np.zeros((2, 2)), np.zeros((0, 2)), np.array("text"),
    np.array([None, 1], object), jnp.ones(()), jnp.ones((3, 1)), {}, {"name": "energy"}, set(), range(3), slice(1),
)  # fmt: skip


def nonsense():
    """Anything: numbers at the ends of what can be said, words, objects, and lists of them."""
    leaves = st.one_of(
        st.sampled_from(BOUNDARY_INTS),
        st.sampled_from(BOUNDARY_FLOATS),
        st.sampled_from(TEXTS),
        st.sampled_from(range(len(OBJECTS))).map(OBJECTS.__getitem__),
        st.integers(-3, 12),
        st.floats(-5, 5),
    )
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple), max_leaves=6
    )


def options(sane, own):
    """Some of the options, each sane or nonsense or from the strategies that are its `own`."""

    def one(name):
        return st.one_of(*([own[name]] * 2 if name in own else []), nonsense(), st.just(sane[name]))

    chosen = st.lists(st.sampled_from(sorted(sane)), unique=True, max_size=3)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: one(name) for name in names}))


class Hung(BaseException):
    """A call that did not come back; no `except Exception` takes it."""


@contextmanager
def patience(seconds=PATIENCE):
    """Raises Hung in a call that takes longer."""

    def rise(*_):
        raise Hung(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGPROF, rise)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def unchecked():
    """As users run it: the tests' check of all types would refuse nonsense before our code sees it."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def answer(call, *arguments, allowed=ValueError, **keywords):
    """What a call returns, or None where it refuses with a message; any other way to end is a failure."""
    try:
        with patience(), unchecked():
            return call(*arguments, **keywords)
    except allowed as error:
        refusal = error
    assert str(refusal).strip(), f"{type(refusal).__name__} without a message"
    return None


def defaults(factory):
    """What a factory takes where it is told nothing."""
    known = {name: p.default for name, p in inspect.signature(factory).parameters.items()}
    return {name: value for name, value in known.items() if value is not inspect.Parameter.empty}


NUMBERS = st.sampled_from(BOUNDARY_FLOATS) | st.floats(-3, 8)
ROW, ROWS = st.lists(NUMBERS, max_size=3), st.lists(st.lists(NUMBERS, max_size=3), max_size=3)
PROTEIN = defaults(protein) | {
    "n_observations": 2, "image_size": 5, "pixel_size_in_angstroms": 12.0, "atom_std_in_angstroms": 8.0,
    "atoms_per_bead": 4, "means": ((1.0, -1.0), (0.0,)),
}  # fmt: skip
STATES = ("states", "populations", "view_concentration", "view_axes")
SANE_DATASETS = {name: defaults(factory) | {"n_observations": 5} for name, factory in DATASETS.items()} | {
    "ensemble": defaults(DATASETS["ensemble"])
    | {
        "n_observations": 3,
        "image_size": 8,
        "pixel_size_in_angstroms": 12.0,
        "atom_std_in_angstroms": 12.0,
        "pose_spacing_in_degrees": 8.0,
    },
    "nanocluster": defaults(DATASETS["nanocluster"]) | {"n_observations": 3, "image_size": 6, "tau": 0.9},
    "adk": PROTEIN,
    **{
        name: PROTEIN
        | {"volume_size": 4, "means": MEANS}
        | {option: defaults(DATASETS[name])[option] for option in STATES}
        for name in ("adk-states", "adk-entangled")
    },
    "adk-volumes": PROTEIN | {"volume_size": 4},
    "hsp90": PROTEIN,
}
OWN_DATASETS = {
    "means": ROW | ROWS, "stds": ROW, "weights": ROW, "init_mean": ROW, "covariances": st.lists(ROWS, max_size=3),
    "init_covariance": ROWS, "defocus_range_in_angstroms": ROW, "cropped_size": st.integers(1, 7),
    "max_shift_in_angstroms": NUMBERS, "source_stds": ROW, "states": ROWS, "populations": ROW,
    "view_concentration": NUMBERS, "view_axes": ROWS,
}  # fmt: skip
