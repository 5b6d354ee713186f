"""The contract check passes what keeps the contract, and finds and names each break of it."""

import itertools
import re
import sys
from types import ModuleType

import pytest
from typer.testing import CliRunner

from cryosip.bench.app import beginning, cli
from cryosip.bench.check import contract, run
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import METHODS

OURS = ["flow", "maximum-likelihood", "mixture", "posterior-npmle", "reweighting"]


def join(source, file, monkeypatch):
    """A method "mine" of such a source, in the registry as if it came from that file."""
    file.write_text(source, encoding="utf-8")
    module = ModuleType(f"mine_{next(COUNT)}")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, str(file), "exec"), module.__dict__)
    monkeypatch.setitem(METHODS, "mine", module.mine)


COUNT = itertools.count()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The method of a new package, as it is written."""
    folder = beginning.write_method("mine", tmp_path_factory.mktemp("new"))
    return (folder / "mine.py").read_text(encoding="utf-8")


def findings(areas, part):
    """Of one part of a contract."""
    return [found for title, (names, check) in areas.items() if title.endswith(f": {part}")
            for name in names for found in run._findings(name, check)]  # fmt: skip


def said(found):
    return f"{found.what}: {found.error}"


@pytest.fixture
def on_the_line(monkeypatch):
    """No problem but the smallest."""
    for name in set(DATASETS) - {"oned"}:
        monkeypatch.delitem(DATASETS, name)


@pytest.mark.parametrize("part", contract.PARTS)
def test_the_template_keeps_the_contract(part, template, tmp_path, on_the_line, monkeypatch):
    join(template, tmp_path / "mine.py", monkeypatch)
    found = findings(contract.of_method("mine"), part)
    assert found
    assert [said(f) for f in found if not f.passed] == []
    assert not any(f.unchecked for f in found)


STEP = "def step(key, state):\n"
NEXT = "return State(state.theta, expected.mass.sum(1)), info"
IMPORTS = "from typing import NamedTuple\n"
COUNTER = (IMPORTS, "from typing import NamedTuple\nimport itertools\nimport numpy as np\nCALLS = itertools.count()\n")

COUNTED = "0.01 * jax.pure_callback(lambda: np.float32(next(CALLS)), jax.ShapeDtypeStruct((), 'float32'))"
HUGE = """0 * jax.pure_callback(
            lambda x: np.ones(200 * 2**20, np.uint8)[:1] + x, jax.ShapeDtypeStruct((1,), 'float32'), state.theta[0])"""


def moved(by):
    """The last line of the step, with theta moved."""
    return NEXT, NEXT.replace("state.theta", f"state.theta + {by}")


# the part of the contract, what the finding says, and the edits of the template
BREAKS = {
    "impure": ("purity", "step, called again", [COUNTER, moved("0.01 * next(CALLS)")]),
    "another result under jit": (
        "purity",
        "step under jit",
        [moved("isinstance(state.theta, jax.core.Tracer)")],
    ),
    "the estimate counts its calls": (
        "purity",
        "estimate, called again",
        [COUNTER, ("WeightedPoints(state.theta", "WeightedPoints(state.theta + next(CALLS)")],
    ),
    "changes the state that it is given": (
        "purity",
        "state .* given is changed",
        [
            ("return State(problem", "return list((problem"),
            ("1 / k))", "1 / k)))"),
            (STEP, f"{STEP}        given, state = state, State(*state)\n"),
            (NEXT, "given[1] = expected.mass.sum(1)\n        return given, info"),
            ("state.theta, state.weights)", "*state)"),
        ],
    ),
    "numpy's random numbers": (
        "determinism",
        "global random",
        [COUNTER, moved("0.01 * np.random.normal()")],
    ),
    "random numbers of nobody's": (
        "determinism",
        "built again",
        [COUNTER, moved("0.01 * np.random.default_rng().normal()")],
    ),
    "an estimate of the wrong shape": (
        "shapes",
        "shapes of the estimate",
        [("WeightedPoints(state.theta", "WeightedPoints(state.theta.T")],
    ),
    "weights that sum to 2": (
        "shapes",
        "weights sum to 1",
        [("state.theta, state.weights)", "state.theta, 2 * state.weights)")],
    ),
    "negative weights": (
        "shapes",
        "least weight",
        [("state.theta, state.weights)", "state.theta, state.weights.at[0].add(-1).at[1].add(1))")],
    ),
    "an estimate that is not finite": (
        "shapes",
        "not finite",
        [("WeightedPoints(state.theta", "WeightedPoints(state.theta / 0")],
    ),
    "an objective that is no scalar": (
        "shapes",
        "objective is a real scalar",
        [("-expected.log_likelihood", "jnp.ones(3)")],
    ),
    "evaluations that are not whole": ("shapes", "whole number", [("jnp.asarray(len(images))", "jnp.asarray(0.5)")]),
    "a state that grows": (
        "shapes",
        "keeps the shapes",
        [(NEXT, NEXT.replace("state.theta", "jnp.concatenate([state.theta] * 2)"))],
    ),
    "a state with text": (
        "shapes",
        "pytree of arrays: it holds str",
        [("weights: jax.Array", "weights: jax.Array\n    name: str = 'mine'\n  ")],
    ),
    "a tuple for a method": (
        "shapes",
        "a Method of",
        [("return Method(init, step, estimate)", "return init, step, estimate")],
    ),
    "builds the problem": (
        "sees no truth",
        "sees no truth: builds an object of (Instance|Truth)",
        [(STEP, f"{STEP}        import cryosip\n        cryosip.DATASETS[problem.name](n_observations=60)\n")],
    ),
    "reads a truth": (
        "sees no truth",
        r"sees no truth: reads Instance\.truth",
        [
            (IMPORTS, f"{IMPORTS}import cryosip\nINSTANCE = cryosip.DATASETS['oned']()\n"),
            moved("0 * INSTANCE.truth.theta.mean()"),
        ],
    ),
    "imports the data sets": (
        "sees no truth",
        r"mine_\d+ imports cryosip\.datasets\.oned",
        [(IMPORTS, f"{IMPORTS}from cryosip.datasets import oned\n")],
    ),
    "ignores the observations": (
        "sees no truth",
        "depends on the observations",
        [("expected.mass.sum(1)), info", "state.weights), info")],
    ),
    "NaN of equal points": (
        "finite on duplicate points",
        "duplicate points: equal initial points: not finite",
        [moved("0 / jnp.ptp(state.theta)")],
    ),
    "takes what is no data": (
        "refuses bad input",
        "refuses observations with NaN",
        [("in_span(checked(problem))", "in_span(problem)")],
    ),
    "a hidden counter": (
        "resumes to the same bits",
        "resumes from a checkpoint",
        [COUNTER, moved(COUNTED)],
    ),
    "memory that nobody planned": (
        "memory as planned",
        "memory beyond the plan",
        [COUNTER, moved(HUGE)],
    ),
    "fewer evaluations than images": (
        "counts what it renders",
        "rendered images / reported",
        [("jnp.asarray(len(images))", "jnp.asarray(1)")],
    ),
}


def broken(template, edits):
    for old, new in edits:
        assert template.count(old) == 1, old
        template = template.replace(old, new)
    return template


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_of_the_contract_is_found_and_named(name, template, tmp_path, on_the_line, monkeypatch):
    part, words, edits = BREAKS[name]
    join(broken(template, edits), tmp_path / "mine.py", monkeypatch)
    failed = [said(found) for found in findings(contract.of_method("mine"), part) if not found.passed]
    assert any(re.search(words, text) for text in failed), failed


def cryosip(*words):
    result = CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_a_method_that_supports_nothing_fails_with_its_words(template, tmp_path, on_the_line, monkeypatch):
    edit = ("    k = checks", "    raise ValueError('I take nothing')\n    k = checks")
    join(broken(template, [edit]), tmp_path / "mine.py", monkeypatch)
    code, text = cryosip("check", "--method", "mine")
    assert code == 1, text
    assert re.search(r"supports a problem: refuses every problem.* FAILED", text)
    assert re.search(r"oned: refused: I take nothing.* not checked", text)
    assert "1 checks on" in text
    assert "1 FAILED" in text


def test_a_check_that_breaks_off_is_told_with_its_message(template, tmp_path, on_the_line, monkeypatch):
    """And the other parts go on; never a traceback."""
    join(
        broken(template, [(STEP, f"{STEP}        raise ZeroDivisionError('in my step')\n")]),
        tmp_path / "m.py",
        monkeypatch,
    )
    parts = ("shapes", "refuses bad input")
    monkeypatch.setattr(contract, "PARTS", {part: contract.PARTS[part] for part in parts})
    code, text = cryosip("check", "--method", "mine")
    assert code == 1, text
    assert re.search(r"oned: ZeroDivisionError: in my step.* FAILED", text)
    assert re.search(r"refuses noise_std 0.* passed", text)


@pytest.mark.parametrize("option", ["--method", "--problem"])
def test_a_name_that_nobody_has_is_one_line(option):
    code, text = cryosip("check", option, "nobody")
    assert code == 1
    assert re.match(rf"cryosip: {option[2:]} is 'nobody'; wanted one of ", text)
    assert len(text.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_all_methods_of_ours_keep_the_contract(name):
    """On every problem that they support, by the command."""
    assert set(OURS) <= set(METHODS)
    code, text = cryosip("check", "--method", name)
    assert code == 0, text
    assert "all passed" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_the_command_fails_on_each_break(name, template, tmp_path, on_the_line, monkeypatch):
    """Whatever else it breaks, the row that names it has failed, and no check ends in a traceback."""
    _, words, edits = BREAKS[name]
    join(broken(template, edits), tmp_path / "mine.py", monkeypatch)
    code, text = cryosip("check", "--method", "mine")
    assert code == 1, text
    assert re.search(words, re.sub(r"[\s│]+", " ", text)), text
    assert "Traceback" not in text
