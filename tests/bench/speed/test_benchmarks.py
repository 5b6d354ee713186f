"""The asv suite: every entry of the registries is in it, every benchmark runs, and an error would be seen."""

import contextlib
import io
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from asv.benchmarks import Benchmarks
from asv_runner._aux import update_sys_path
from asv_runner.discovery import disc_benchmarks

from cryosip.bench import examples
from cryosip.bench.check.problems import SAME_CODE
from cryosip.bench.metrics import METRICS
from cryosip.bench.speed.tracking import DAILY
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import DISCREPANCIES, METHODS

SUITE = Path(__file__).parents[3] / "bench" / "speed" / "benchmarks"
OF = {"discrepancies": DISCREPANCIES, "renderers": DATASETS, "methods": METHODS, "metrics": METRICS}
TINY = {
    "discrepancies": ("energy", (20, 30, 1)),
    "renderers": ("oned",),
    "methods": ("flow", "oned"),
    "metrics": ("w2", 2),
    "startup": (),
}


@cache
def suite():
    """As asv finds it."""
    update_sys_path(str(SUITE))
    return {benchmark.name: benchmark for benchmark in disc_benchmarks(str(SUITE))}


def entries(registry):
    return set(registry) - set(SAME_CODE)


def test_every_entry_of_the_registries_has_its_benchmarks():
    for name, benchmark in suite().items():
        module = name.split(".")[0]
        if module in OF:
            assert set(benchmark._params[0]) == entries(OF[module]), name
        if module == "methods":
            assert set(benchmark._params[1]) == entries(DATASETS), name
    assert {name.split(".")[0] for name in suite()} == set(TINY)
    kinds = {(name.split(".")[0], benchmark.type) for name, benchmark in suite().items()}
    assert {(module, kind) for module in list(OF)[:3] for kind in ("time", "peakmemory", "track")} <= kinds


@pytest.mark.parametrize("module", OF)
def test_some_of_each_entry_is_measured_every_day(module):
    of_the_day = set()
    for name, benchmark in suite().items():
        chosen = Benchmarks(SimpleNamespace(benchmark_dir=""), [vars(benchmark)], DAILY)
        if name.split(".")[0] == module:
            indices = chosen.benchmark_selection[name] if name in chosen else []
            of_the_day |= {list(np.ndindex(*map(len, benchmark._params)))[i][0] for i in indices}
            names = list(benchmark._params[0])
    assert {names[i] for i in of_the_day} == entries(OF[module])


def printed(code):
    """What a start prints, here: in processes of their own they take seconds."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        exec(code.replace("1_000", "20"), {})
    assert out.getvalue() or code.startswith("import cryosip")
    return out.getvalue()


@pytest.fixture
def small(monkeypatch):
    """The suite at tiny sizes; the four benchmarks of a run share one."""
    startup, methods, metrics, renderers = (
        sys.modules[f"benchmarks.{name}"] for name in ("startup", "methods", "metrics", "renderers")
    )
    monkeypatch.setattr(startup, "output", printed)
    monkeypatch.setattr(startup, "STARTS", 1)
    monkeypatch.setattr(sys, "argv", sys.argv)  # which a start sets
    monkeypatch.setattr(methods, "STEPS", 2)
    monkeypatch.setitem(examples.PROBLEMS["small"], "oned", {"n_observations": 30})
    monkeypatch.setitem(examples.METHODS["small"]["flow"], "n_particles", 20)
    monkeypatch.setattr(methods, "small_run", once(methods.small_run))
    monkeypatch.setattr(metrics, "ESTIMATE", 10)
    monkeypatch.setattr(metrics, "TRUTH", 20)
    monkeypatch.setattr(renderers, "IMAGES", {"oned": 2})


@cache
def once(f):
    return cache(f)


@pytest.mark.parametrize("name", suite())
def test_each_benchmark_runs(name, small):
    """Once; a figure is finite, has a unit, and is positive."""
    benchmark = suite()[name]
    benchmark._current_params = TINY[name.split(".")[0]]
    assert not benchmark.do_setup()
    result = benchmark.func(*benchmark._current_params)
    if benchmark.type == "track":
        assert np.isfinite(result)
        assert result > 0
        assert benchmark.unit != "unit"
    else:
        assert result is None


def test_setup_compiles_once():
    """asv calls it before each sample."""
    discrepancies = sys.modules["benchmarks.discrepancies"]
    first, second = (discrepancies.program("gradient", "kl", (20, 20, 1)) for _ in range(2))
    assert first is second


def test_what_is_refused_is_skipped(monkeypatch):
    """Features of images on the line, and a problem that a method does not support."""

    def refuses(_problem):
        raise ValueError("not this one")

    monkeypatch.setitem(METHODS, "another", refuses)
    for name, arguments, skipped in (
        ("discrepancies.Gradient.time_gradient", ("invariant-energy", (20, 20, 1)), True),
        ("discrepancies.Gradient.time_gradient", ("invariant-energy", (20, 20, 64)), False),
        ("methods.Step.time_step", ("another", "oned"), True),
    ):
        benchmark = suite()[name]
        benchmark._current_params = arguments
        assert bool(benchmark.do_setup()) == skipped


def test_a_wrong_gradient_is_an_error(monkeypatch):
    error = suite()["discrepancies.Error.track_gradient_error"]
    module = sys.modules["benchmarks.discrepancies"]
    size = (50, 40, 16)
    exact = module.Error()
    exact.setup("energy", size)
    right = error.func.__func__(exact, "energy", size)
    gradient = exact.call()
    exact.call = lambda: gradient.at[3, 2].add(0.01 * jnp.abs(gradient).max())
    assert right < 1e-4
    assert error.func.__func__(exact, "energy", size) == pytest.approx(0.01, rel=0.02)


@pytest.mark.slow
def test_the_exact_gradient_is_of_all_pairs_in_double():
    common, discrepancies = sys.modules["benchmarks.common"], sys.modules["benchmarks.discrepancies"]
    assert common.in_double(lambda a, b: (a + b).dtype, np.float32([1]), jnp.float32(2)) == "float64"

    def algorithm(name, size, options):
        return discrepancies.bound(name, jnp.asarray(discrepancies.samples(size)[1]), options).algorithm

    asked = {name: options for name in DISCREPANCIES if (options := discrepancies.all_pairs(name))}
    assert set(asked) >= {"kl", "mmd", "composite"}
    for name, options in asked.items():  # in more than one dimension there is no other
        assert algorithm(name, (9, 9, 16), options) == algorithm(name, (9, 9, 16), {})
    assert discrepancies.all_pairs("composite") == {
        "kl_options": {"algorithm": "pairwise"},
        "mmd_options": {"algorithm": "pairwise"},
    }
    assert "pairs" in algorithm("mmd", (9, 9, 1), asked["mmd"])
    assert algorithm("mmd", (9, 9, 1), asked["mmd"]) != algorithm("mmd", (9, 9, 1), {})


def test_errors_are_relative_and_not_below_rounding():
    relative_error = sys.modules["benchmarks.common"].relative_error
    a = np.array([1.0, 2.0])
    assert relative_error([a], [a]) == relative_error([a * (1 + 1e-7)], [a]) == 1e-5
    assert relative_error((a, a[:1]), (a, a[:1] + 1)) == pytest.approx(0.5)
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"the error is {wrong}; wanted a finite one"):
            relative_error([np.array([1.0, wrong])], [np.ones(2)])


def test_a_call_has_the_precision_of_runs_and_waits(monkeypatch):
    common = sys.modules["benchmarks.common"]
    waited, block = [], jax.block_until_ready
    monkeypatch.setattr(jax, "block_until_ready", lambda a: waited.append(a) or block(a))

    def product(a):
        assert jax.config.jax_default_matmul_precision == "highest"
        return a @ a

    call = common.compiled(product, jnp.ones((8, 8)))
    assert not waited
    np.testing.assert_array_equal(call(), np.full((8, 8), 8.0))
    assert len(waited) == 1
    assert jax.config.jax_default_matmul_precision != "highest"


def test_nothing_computes_while_the_suite_is_imported():
    """asv forks the process that has imported it, and a device that computes does not survive a fork."""
    code = (
        f"import sys; sys.path.insert(0, {str(SUITE.parent)!r})\n"
        f"import jax, {', '.join(f'benchmarks.{module}' for module in TINY)}\n"
        "jax.config.update('jax_num_cpu_devices', 2)\n"  # refused once there are devices
        "assert jax.device_count('cpu') == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
