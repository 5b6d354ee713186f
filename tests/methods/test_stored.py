"""Observations on disk: every method finds what it finds in memory, batch by batch, or refuses them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from examples import METHOD_OPTIONS, instance

from cryosip.bench import programs
from cryosip.bench.build import build_method
from cryosip.methods import shards, stored
from cryosip.methods.expectation import background_of
from cryosip.methods.problem import checked, halves, in_span, part
from cryosip.methods.registry import DISCREPANCIES, METHODS
from cryosip.methods.stored import Stored, mapped, mean_of

BATCH = 7 * 256  # numbers: batches of 7 images of the tiny nanocluster, of which the last is not full


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(stored, "BATCH", BATCH)


def saved(folder, y, *cuts, dtype=np.float32):
    """Memory maps of the rows between the cuts."""
    maps = []
    for i, rows in enumerate(np.split(np.asarray(y), cuts)):
        np.save(folder / f"{i}.npy", rows.astype(dtype))
        maps.append(np.load(folder / f"{i}.npy", mmap_mode="r"))
    return maps


@pytest.fixture
def nano():
    return instance("nanocluster").problem


@pytest.fixture
def disk(nano, tmp_path):
    """The same problem in three files."""
    return nano._replace(observations=saved(tmp_path, nano.observations, 5, 26))


def ran(problem, method, steps=3, **options):
    """Its estimate and the objective after some steps."""
    built = build_method(problem, method, METHOD_OPTIONS[method] | options)
    state, step = jax.jit(built.init)(jr.key(0)), jax.jit(built.step)
    for t in range(steps):
        state, info = step(jr.key(t), state)
    return *built.estimate(state), info.objective


SLICED = {"discrepancy": {"name": "sliced-energy", "options": {"n_slices": 5}}}
REFINED = {"stop_on_held_out": True, "n_refinements": 1, "refine_every": 2, "n_support": 49}
CASES = [
    ("span", "mixture", {}),
    ("pixels", "mixture", {"background": True}),
    ("pixels", "mixture", {"estimate_noise": True}),
    pytest.param("pixels", "mixture", {"n_components": [2, 3], "held_out_steps": 2}, marks=pytest.mark.slow),
    ("pixels", "reweighting", {"n_support": 49}),
    pytest.param("pixels", "reweighting", REFINED, marks=pytest.mark.slow),
    ("pixels", "flow", SLICED),
    pytest.param("span", "posterior-npmle", {"n_drawn": 8}, marks=pytest.mark.slow),
    pytest.param("pixels", "posterior-npmle", {"n_drawn": 8}, marks=pytest.mark.slow),
    pytest.param("span", "maximum-likelihood", {}, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(("space", "method", "options"), CASES)
def test_a_method_finds_what_it_finds_in_memory(x64, tmp_path, space, method, options):
    """In float64: sums of 40 rows in another order, magnified by a Gauss-Newton step, are far below 1e-9."""
    problem = instance("nanocluster").problem
    on_disk = problem._replace(observations=saved(tmp_path, problem.observations, 5, 26, dtype=np.float64))
    both = [p if space == "span" else p._replace(span=None) for p in (problem, on_disk)]
    steps = 8 if method == "posterior-npmle" else 5
    for found, wanted in zip(*(ran(p, method, steps, **options) for p in reversed(both)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_rows_are_those_of_the_array(nano, disk):
    y, seen = np.asarray(nano.observations), checked(disk).observations
    assert isinstance(seen, Stored)
    assert (seen.shape, seen.dtype, len(seen), seen.ndim) == (y.shape, y.dtype, len(y), 2)
    index = jnp.array([[5, 0, 39], [4, 4, -1]])
    for rows in (index, 3, -1, slice(2, 30, 5), slice(None, None, -1), np.array([7, 6])):
        np.testing.assert_array_equal(seen[rows], y[rows])
    np.testing.assert_array_equal(jax.jit(lambda i: seen[i])(index), y[np.asarray(index)])
    np.testing.assert_array_equal(jax.vmap(lambda i: seen[i])(index), y[np.asarray(index)])
    with pytest.raises(IndexError):
        seen[40]


def test_an_index_that_jax_would_copy_in_another_thread_is_cut(nano, disk, monkeypatch):
    monkeypatch.setattr(stored, "MOST_ROWS", 8)
    index = jnp.arange(39, -1, -2)
    np.testing.assert_array_equal(checked(disk).observations[index], np.asarray(nano.observations)[39::-2])


def test_sums_and_results_by_rows_are_those_of_the_array(x64, tmp_path):
    """Sums of 40 terms of order one, in float64."""
    y = instance("nanocluster").problem.observations
    seen = stored.opened(saved(tmp_path, y, 11, dtype=np.float64))
    np.testing.assert_allclose(mean_of(lambda y: (y**2).sum(1), seen), (y**2).sum(1).mean(), rtol=1e-13)
    for found, wanted in zip(background_of(seen), background_of(y), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)
    for found, wanted in zip(*(mapped(lambda y: (y[:, :3], y.argmax(1)), rows) for rows in (seen, y)), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_an_array_is_mapped_without_a_change():
    """The same equations: nothing is added to programs of arrays."""
    y = jnp.arange(12.0).reshape(4, 3)
    traced = [jax.make_jaxpr(lambda y, of=of: of(lambda x: x * 2, y))(y) for of in (mapped, lambda f, y: f(y))]
    assert str(traced[0]) == str(traced[1])
    assert stored.kept(y, jnp.array([1])).shape == (1, 3)


def test_coordinates_are_in_memory_where_they_are_few(nano, disk, monkeypatch):
    wanted = in_span(checked(nano)).observations
    assert isinstance(in_span(checked(disk)).observations, jax.Array)
    monkeypatch.setattr(stored, "MEMORY", wanted.size - 1)
    seen = in_span(checked(disk)).observations
    assert isinstance(seen, Stored)
    assert seen.shape == wanted.shape
    np.testing.assert_allclose(seen[jnp.arange(40)], wanted, atol=1e-5)  # of a product of 16 terms of order one
    np.testing.assert_allclose(seen[jnp.arange(4).reshape(2, 2)], np.asarray(wanted)[:4].reshape(2, 2, -1), atol=1e-5)


def test_halves_and_parts_stay_on_disk(nano, disk):
    y = np.asarray(nano.observations)
    even, odd = (half.observations for half in halves(checked(disk)))
    assert isinstance(even, Stored)
    np.testing.assert_array_equal(even[jnp.arange(20)], y[::2])
    np.testing.assert_array_equal(odd[jnp.array([3, 0])], y[[7, 1]])
    again = part(part(checked(disk), jnp.array([9, 30, 2, 2])), jnp.array([1, 3])).observations
    np.testing.assert_array_equal(again[jnp.arange(2)], y[[30, 2]])
    traced = jax.jit(lambda rows: part(checked(disk), rows).observations)(jnp.array([8]))
    np.testing.assert_array_equal(traced, y[[8]])


def of_energy(problem, **options):
    from cryosip.methods.flow import flow_target

    return flow_target(checked(problem), DISCREPANCIES["energy"](**options), "method-1")


@pytest.mark.parametrize("space", ["span", "pixels"])
def test_drawn_observations_estimate_value_and_gradient_without_bias(nano, disk, monkeypatch, space):
    """The mean over 200 draws is the full gradient within 5 standard errors, the mean of 40 particles' components."""
    from cryosip.methods import image_batches

    monkeypatch.setattr(image_batches, "ROWS", 16)
    nano, disk = (p if space == "span" else p._replace(span=None) for p in (nano, disk))
    reduced, full = of_energy(nano, algorithm="pairwise")
    _, drawn = of_energy(disk)
    y = reduced.render(nano.sample_init(jr.key(1), 6), ())
    direction = jr.normal(jr.key(2), y.shape)

    def told(target):
        return jnp.array([target.value(y), (target.gradient(y) * direction).sum()])

    some = np.asarray(
        jax.jit(lambda keys: jax.lax.map(lambda k: told(drawn.redrawn(k)), keys))(jr.split(jr.key(3), 200))
    )
    error = some.std(0, ddof=1) / np.sqrt(len(some))
    gap = np.abs(some.mean(0) - np.asarray(told(full)))
    assert (error > 0).all()
    assert (gap <= 5 * error).all(), (gap, error)
    assert float(drawn.gradient_error(y)) > 0


def test_a_flow_draws_other_observations_in_each_step(disk):
    """Two steps from the same state differ by the observations alone where nothing else is drawn."""
    method = METHODS["flow"](disk, discrepancy=DISCREPANCIES["energy"](), n_particles=5, optimizer=optax.sgd(1.0),
                             sampling="closed-form")  # fmt: skip
    state, step = method.init(jr.key(0)), jax.jit(method.step)
    one, same, other = (np.asarray(step(jr.key(t), state)[0].theta) for t in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


REFUSED = [
    ("kl", {}), ("mmd", {}), ("composite", {}), ("data-kl", {}), ("energy", {"algorithm": "moments"})
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_a_discrepancy_that_needs_all_observations_says_so(disk, name, options):
    wanted = "moments" if options else {"composite": "kl"}.get(name, name)
    with pytest.raises(ValueError, match=rf"'{wanted}'.* on disk|on disk.*'{wanted}' needs them in memory; wanted"):
        DISCREPANCIES[name](**options).bind(checked(disk).observations, 0.0)


def test_a_method_that_needs_all_observations_says_so(disk, monkeypatch):
    monkeypatch.setattr(stored, "MEMORY", 0)
    for method, options in (("maximum-likelihood", {}), ("mixture", {"refine_poses": True}), ("weighted-flow", {})):
        with pytest.raises(ValueError, match=f"on disk, and (discrepancy 'data-kl'|{method}).* needs them in memory"):
            build_method(disk, method, METHOD_OPTIONS[method] | options)
    with pytest.raises(ValueError, match=r"40 observations of 256 numbers are on disk.* wanted an array in memory"):
        np.asarray(checked(disk).observations)


@pytest.mark.parametrize("method", ["mixture", "flow"])
def test_stores_of_one_shape_share_a_program_and_no_rows(nano, tmp_path, method):
    """Which files a program reads is an argument of it."""
    told = []
    for i, y in enumerate((nano.observations, -nano.observations)):
        (tmp_path / str(i)).mkdir()
        built = build_method(nano._replace(observations=saved(tmp_path / str(i), y, 5), span=None), method,
                             METHOD_OPTIONS[method])  # fmt: skip
        state = built.init(jr.key(0))
        told.append((programs.step(built.step, jr.key(1), state).text, programs.call(built.step, jr.key(1), state)))
    assert told[0][0] == told[1][0]
    assert float(told[0][1][1].objective) != float(told[1][1][1].objective)


def test_several_devices_say_so(disk, monkeypatch):
    method = build_method(disk._replace(span=None), "mixture", METHOD_OPTIONS["mixture"])
    state = method.init(jr.key(0))
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="on disk, and a sum over 2 devices needs them in memory; wanted an array"):
        method.step(jr.key(0), state)


def test_a_problem_on_disk_is_checked_once(disk, monkeypatch):
    problem = checked(disk)
    monkeypatch.setattr(shards, "reader", lambda _: None)
    assert checked(problem).observations is problem.observations
