"""The truth reaches metrics alone: a truth that raises when a method is at work, and closures that do not hold it."""

import functools
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from examples import METHOD_OPTIONS, SMALL, home, instance, may_refuse

from cryosip.bench import build, execute, runner
from cryosip.bench.check.leaks import held, leaks
from cryosip.bench.check.problems import SAME_CODE
from cryosip.datasets.instance import Instance, Truth
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import METHODS
from cryosip.records.schema import Labels, RunConfig

METHODS_FOLDER = str(Path(runner.__file__).parent.parent / "methods")
# those of bench/ that ask for the truth, all after the method has been built, none while it steps
WHO_MAY = {
    ("metrics", "identified"),
    ("metrics", "reference"),
    ("metrics", "samples"),
    ("metrics", "to_data"),
    ("metrics", "floors"),
    ("measure", "describe"),
    ("measure", "_examples"),
    ("measure", "data_hash"),
    ("image_distances", "_images_behind"),
    ("fixed_view", "principal_components"),
}


class Log:
    """Whether the method has been built, and who asked for the truth."""

    def __init__(self):
        self.built, self.asked, self.leaks = False, set(), []


def callers():
    """The frames that lead to the attribute of a truth, the nearest first."""
    frame = sys._getframe(3)
    while frame is not None:
        yield frame
        frame = frame.f_back


def sealed(truth, log):
    """The same truth, which notes who touches it, and raises where a method is built or steps."""

    def touched():
        frames = list(callers())
        log.asked.add((Path(frames[0].f_code.co_filename).stem, frames[0].f_code.co_qualname.split(".")[0]))
        at_work = [
            f.f_code.co_name for f in frames if f.f_code.co_filename.startswith((METHODS_FOLDER, runner.__file__))
        ]
        if at_work or not log.built:
            log.leaks.append(at_work)
            raise AssertionError(f"the truth was touched by {at_work or 'what runs before the method is built'}")

    class Sealed(Truth):
        def __getattribute__(self, name):
            if name in Truth._fields:
                touched()
            return Truth.__getattribute__(self, name)

        def __getitem__(self, place):
            touched()
            return super().__getitem__(place)

        def __iter__(self):
            touched()
            return super().__iter__()

    return Sealed(*truth)


@pytest.fixture
def log(few_draws, monkeypatch):
    """All problems with sealed truths, and metrics that are cheap."""
    log = Log()

    def with_seal(make):
        def factory(**options):
            instance = make(**options)
            return instance._replace(truth=sealed(instance.truth, log))

        return factory

    for name, make in DATASETS.items():
        monkeypatch.setitem(DATASETS, name, with_seal(make))
    original = build.build_method

    def noted(*arguments):
        log.built = False
        method = original(*arguments)
        log.built = True
        return method

    monkeypatch.setattr(execute, "build_method", noted)
    build._instance.cache_clear()
    build._reference.cache_clear()
    yield log
    build._instance.cache_clear()


def executed(method, problem, options):
    config = RunConfig("paper-1d", Labels("sealed"), problem, SMALL[problem], method, options, 4, 2, 0)
    return execute.execute(config, "smoke", execute.run_method)[0]


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (method, name) if name == home(method) else pytest.param(method, name, marks=pytest.mark.slow)
        for method in METHODS
        for name in DATASETS
        if SAME_CODE.get(name) != "adk-volumes"
    ],
)
def test_no_method_touches_the_truth(method, problem, log):
    """From data to record: metrics ask for it, and nobody else does."""
    record = executed(method, problem, METHOD_OPTIONS[method])
    if record.message.startswith("ValueError") and may_refuse(method, problem):
        pytest.skip(record.message)
    assert record.status == "ok", record.message
    assert log.leaks == []
    assert ("metrics", "reference") in log.asked
    assert log.asked <= WHO_MAY


def instance_of_some_caller():
    """What a method that wants to cheat would look for."""
    frame = sys._getframe(1)
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, Instance):
                return value
        frame = frame.f_back
    raise LookupError("no caller holds an instance")


@pytest.mark.parametrize("when", ["built", "initialised", "stepped", "estimated"])
def test_a_method_that_peeks_is_found_out(when, log, monkeypatch):
    """The seal works: whichever function of a method looks for the truth in the frames of its callers, it raises."""

    def peek(at):
        if at == when:
            instance_of_some_caller().truth.theta.mean()

    def peeking(problem):
        peek("built")
        method = METHODS["mixture"](problem, n_components=3)

        def init(key):
            peek("initialised")
            return method.init(key)

        def step(key, state):
            peek("stepped")
            return method.step(key, state)

        def estimate(state):
            peek("estimated")
            return method.estimate(state)

        return method._replace(init=init, step=step, estimate=estimate)

    monkeypatch.setitem(METHODS, "peeking", peeking)
    record = executed("peeking", "oned", {})
    assert record.status == "error"
    assert "the truth was touched" in record.message
    assert log.leaks


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SAME_CODE else name for name in DATASETS]
)
def test_no_function_of_a_problem_holds_the_truth(name):
    problem, truth, *_ = instance(name)
    assert leaks(problem, truth) == []
    assert len(held(tuple(problem))) > 10
    theta, law = truth.theta, truth.sample
    bad = [
        {"render": lambda t, _pose: t + 0 * theta.sum()},
        {"sample_init": jax.jit(lambda key, n: law(key, 5))},
        {"log_prior": functools.partial(lambda known, t: t[:, 0], {"theta": np.asarray(theta)[::-1]})},
    ]
    for change in bad:
        assert leaks(problem._replace(**change), truth), change


def test_populations_of_given_structures_are_secret():
    problem, truth, *_ = DATASETS["ensemble"](**SMALL["ensemble"] | {"populations": (0.27, 0.73)})
    assert leaks(problem, truth) == []
    for populations in (np.array([0.27, 0.73]), np.array([0.27, 0.73], np.float32)):
        bad = problem._replace(log_prior=functools.partial(lambda known, t: known[0] + 0 * t[:, 0], populations))
        assert len(leaks(bad, truth)) == 1
