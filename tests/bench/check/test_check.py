"""`cryosip check` passes on this machine, and finds whatever is broken: exit 1, and a row that says what."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench import metrics
from cryosip.bench.app import cli
from cryosip.bench.check import discrepancies, distributions, estimates, formulas, problems, run
from cryosip.bench.check.finding import Finding
from cryosip.bench.studies.otd_dto import OF_VOLUMES
from cryosip.datasets import projection, rotations
from cryosip.datasets.gaussian_mixture import GaussianMixture, MultivariateMixture
from cryosip.datasets.registry import DATASETS
from cryosip.methods import energy, grid, images, invariant, likelihood, mixture, pairwise, ranks
from cryosip.methods.registry import DISCREPANCIES, METHODS


def check(area, names, monkeypatch, breaks_off=False):
    """Exit code of `cryosip check`, confined to one area and some names, the rows that failed, and its output."""
    titles = {title.split()[0]: title for title in run.AREAS}
    title = titles[area]
    monkeypatch.setattr(run, "AREAS", {title: (names, run.AREAS[title][1])})
    problems.build.cache_clear()
    result = CliRunner().invoke(cli.app, ["check"], env={"COLUMNS": "220", "TERM": "dumb"})
    problems.build.cache_clear()
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    rows = [line for line in result.output.splitlines() if "FAILED" in line and "│" in line]
    rows = rows[: len(rows) // 2]  # what failed is repeated at the end
    assert breaks_off or not any("Error: " in row for row in rows), rows
    return result.exit_code, rows, result.output


def test_everything_that_we_ship_is_checked():
    """What a user adds is named as not checked, until it has its formula."""
    ours = {
        "adk", "ensemble", "fredholm", "hsp90", "inverse-kinematics", "nanocluster", "oned", "slcp", "two-moons",
    }  # fmt: skip
    assert set(problems.PROBLEMS) == set(distributions.DISTRIBUTIONS) == ours <= set(DATASETS)
    assert set(problems.SMOOTH) | (set(problems.SAME_CODE) - OF_VOLUMES) == ours
    assert set(discrepancies.CASES) == set(discrepancies.FAST) == set(formulas.FORMULAS) == set(DISCREPANCIES)
    assert set(estimates.METRICS) == {"w1", "w2", "energy_distance", "energy_distance_squared"}


@pytest.mark.parametrize("area", ["Samplers", "Metrics"])
def test_a_name_without_a_formula_is_named_and_does_not_fail(area, monkeypatch):
    """As of a problem or a metric that a user has just added."""
    monkeypatch.setitem(DATASETS, "new", DATASETS["oned"])
    monkeypatch.setitem(metrics.METRICS, "new", metrics.METRICS["w1"])
    code, rows, text = check(area, ["new"], monkeypatch)
    assert (code, rows) == (0, [])
    assert re.search("new: no (reference distribution|formula) .*not checked", text)
    assert "0 checks on" in text


@pytest.mark.slow
def test_this_machine_passes():
    """The command itself, as users run it."""
    result = CliRunner().invoke(cli.app, ["check"], env={"COLUMNS": "220", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    assert re.search(r"\d\d+ checks on .* all passed", result.output)


QUICK = {
    "Samplers": ["oned"],
    "Images": ["oned"],
    "Gradients": ["data-kl"],
    "Fast": ["invariant-energy"],
    "Metrics": list(metrics.METRICS),
    "EM": ["oned"],
    "Floors": ["oned"],
}


@pytest.mark.parametrize("area", QUICK)
def test_an_area_passes(area, monkeypatch):
    assert {title.split()[0] for title in run.AREAS} == set(QUICK)
    code, rows, text = check(area, QUICK[area], monkeypatch)
    assert (code, rows) == (0, []), text
    assert "all passed" in text


def instance_with(problem, change):
    """A problem of the registry whose instances are changed."""
    make = DATASETS[problem]

    def factory(**options):
        instance = make(**options)
        changed, truth = change(instance.problem, instance.truth)
        return instance._replace(problem=changed, truth=truth)

    return lambda patch: patch.setitem(DATASETS, problem, factory)


def replaced(module, name, change):
    """A function of the code with its result changed."""
    made = getattr(module, name)
    return lambda patch: patch.setattr(module, name, lambda *a, **k: change(made(*a, **k)))


def mirrored(problem, truth):
    """Noise of the right variance that is its own image in the centre, as of a half-plane of Fourier space."""
    noise = problem.observations - problem.render(truth.theta, truth.pose)
    symmetric = (noise + noise[:, ::-1]) / np.sqrt(2)
    return problem._replace(observations=problem.observations - noise + symmetric), truth


LINE, PLANE, STEP, SAMPLES = GaussianMixture.sample, MultivariateMixture.sample, mixture.gauss_newton, metrics.samples


def wide(self, key, n):
    return LINE(self._replace(stds=1.06 * self.stds), key, n)


def transposed(self, key, n):
    return PLANE(self._replace(factors=self.factors.swapaxes(1, 2)), key, n)


def overshooting(images, owner, log_prior, theta, *parts):
    moved, renders = STEP(images, owner, log_prior, theta, *parts)
    return theta + 6 * (moved - theta), renders


def sharpened(problem, **options):
    method = REWEIGHTING(problem, **options)

    def step(key, state):
        state, info = method.step(key, state)
        sharp = state.weights**1.5
        return state._replace(weights=sharp / sharp.sum()), info

    return method._replace(step=step)


REWEIGHTING = METHODS["reweighting"]
SQUARE = rotations.from_quaternion
BASIS = invariant.steerable_basis

# what is broken: area, name, the rows that may fail, and how
BROKEN = {
    "a mixture too wide": ("Samplers", "oned", "samples|behind", lambda p: p.setattr(GaussianMixture, "sample", wide)),
    "factors transposed": (
        "Samplers", "nanocluster", "samples|behind", lambda p: p.setattr(MultivariateMixture, "sample", transposed),
    ),
    "an initial distribution elsewhere": (
        "Samplers", "oned", "initial",
        instance_with("oned", lambda p, t: (p._replace(sample_init=lambda key, n: p.sample_init(key, n) + 0.06), t)),
    ),
    "noise of another std": (
        "Samplers", "oned", "noise", instance_with("oned", lambda p, t: (p._replace(noise_std=1.05 * p.noise_std), t)),
    ),
    "noise its own mirror image": ("Samplers", "nanocluster", "noise", instance_with("nanocluster", mirrored)),
    "a truth not behind the data": (
        "Samplers", "oned", "behind|noise", instance_with("oned", lambda p, t: (p, t._replace(theta=1.1 * t.theta))),
    ),
    "quantiles off": (
        "Samplers", "oned", "quantiles",
        instance_with("oned", lambda p, t: (p, t._replace(quantile=lambda u: t.quantile(u) + 1e-6))),
    ),
    "rotations not uniform": (
        "Samplers", "hsp90", "poses",
        lambda p: p.setattr(rotations, "uniform", lambda key, n: SQUARE(jr.uniform(key, (n, 4), minval=-1.0))),
    ),
    "rotations that are improper": (
        "Samplers", "hsp90", "poses", replaced(rotations, "uniform", lambda r: r.at[:, 2].multiply(-1.0)),
    ),
    "brighter images": (
        "Images", "nanocluster", "images, relative",
        instance_with("nanocluster", lambda p, t: (p._replace(render=lambda x, pose: 1.001 * p.render(x, pose)), t)),
    ),
    "a CTF of another contrast": (
        "Images", "adk", "images, relative", lambda p: p.setattr(projection, "AMPLITUDE_CONTRAST", 0.11),
    ),
    "an adjoint off": (
        "Images", "adk", "adjoint",
        replaced(projection, "on_pixels", lambda f: f._replace(slopes=lambda x, v: 1.001 * f.slopes(x, v))),
    ),
    "a span too small": (
        "Images", "nanocluster", "span",
        instance_with("nanocluster", lambda p, t: (p._replace(span=p.span._replace(error=p.span.error / 2)), t)),
    ),
    "a distance off": ("Metrics", "w2", "w2", replaced(metrics, "_wasserstein", lambda w: 1.001 * w)),
    "an energy distance off": (
        "Metrics", "energy_distance", "in 2", replaced(metrics, "_mean_between", lambda d: 1.001 * d**1.01),
    ),
    "EM steps too long": ("EM", "oned", "mixture", lambda p: p.setattr(mixture, "gauss_newton", overshooting)),
    "weights sharpened": ("EM", "oned", "reweighting", lambda p: p.setitem(METHODS, "reweighting", sharpened)),
    "floors of half as many points": (
        "Floors", "oned", "i.i.d.",
        lambda p: p.setattr(metrics, "samples", lambda truth, n, draws=None: SAMPLES(truth, n // 2, draws)),
    ),
    "floors too narrow": (
        "Floors", "oned", "i.i.d.",
        replaced(metrics, "summary", lambda s: s | {"q05": 0.95 * s["median"], "q95": 1.05 * s["median"]}),
    ),
}  # fmt: skip


def slow_of(known, where):
    """Names, of which those of problems and discrepancies that take seconds each are slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if where(case) else name for name, case in known.items()]


@pytest.mark.parametrize("broken", slow_of(BROKEN, lambda case: case[1] in ("adk", "hsp90", "nanocluster")))
def test_what_is_broken_is_found(broken, monkeypatch):
    """Exit 1, and no row fails but those of what is broken."""
    area, name, what, do = BROKEN[broken]
    do(monkeypatch)
    code, rows, text = check(area, [name], monkeypatch)
    assert code == 1, text
    assert rows
    assert all(re.search(what, row) for row in rows), rows
    assert text.splitlines()[-1].endswith(f"{len(rows)} FAILED")


@pytest.mark.parametrize("name", DISCREPANCIES)
def test_a_gradient_that_is_off_is_found(name, monkeypatch):
    """By one in ten thousand, of any discrepancy, in the first of its cases."""
    make = DISCREPANCIES[name]

    def off(**options):
        discrepancy = make(**options)

        def bind(*data):
            target = discrepancy.bind(*data)
            return target._replace(gradient=lambda y: 1.0001 * target.gradient(y))

        return discrepancy._replace(bind=bind)

    monkeypatch.setitem(discrepancies.CASES, name, discrepancies.CASES[name][:1])
    monkeypatch.setitem(DISCREPANCIES, name, off)
    code, rows, text = check("Gradients", [name], monkeypatch)
    assert (code, len(rows)) == (1, 1), text
    assert name in rows[0]


def ten_bits(a):
    """Factors of a product as a GPU rounds them unless asked for precision (TF32)."""
    bits = jnp.asarray(a, jnp.float32).view(jnp.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(jnp.float32)


def rough(module):
    """jax.numpy for one module, its products of rounded factors."""

    class Rough:
        def __getattr__(self, name):
            return getattr(jnp, name)

        @staticmethod
        def matmul(a, b, **_):
            return jnp.matmul(ten_bits(a), ten_bits(b), precision="highest")

    return lambda patch: patch.setattr(module, "jnp", Rough())


# (discrepancy, the case of it, what is broken)
ALGORITHMS = {
    "ranks that start at 1": ("energy", 0, replaced(ranks, "ranks", lambda r: r + 1)),
    "cells that are one too far": ("energy", 1, replaced(energy, "_cell_cdf", lambda table: jnp.roll(table, 40))),
    "noise that is too wide": ("energy", 2, replaced(grid, "gaussian_transfer", lambda t: t**1.2)),
    "rounded products": ("energy", 3, rough(pairwise)),
    "moments that are off": ("energy", 4, replaced(images, "force", lambda f: 1.3 * f)),
    "a derivative that is off": ("kl", 0, replaced(grid, "derivative", lambda table: 1.1 * table)),
    "a kernel that is off": ("mmd", 0, replaced(grid, "offset_transfer", lambda transform: 1.1 * transform)),
    "masses that are off": ("data-kl", 0, replaced(likelihood, "squared_residuals", lambda s: 1.001 * s)),
    "invariants that are rounded": ("invariant-energy", 0, rough(invariant)),
    "a basis that is not orthonormal": (
        "invariant-energy", 0, replaced(invariant, "steerable_basis", lambda b: (1.01 * b[0], b[1])),
    ),
    "rings of another width": (
        "invariant-energy", 0,
        lambda p: p.setattr(invariant, "steerable_basis", lambda size, width: BASIS(size, 1.05 * width)),
    ),
    "a value that is off": ("composite", 0, replaced(pairwise, "log_kde", lambda table: table + 0.1)),
}  # fmt: skip


@pytest.mark.parametrize("broken", slow_of(ALGORITHMS, lambda case: case[0] not in ("energy", "data-kl")))
def test_an_algorithm_that_is_off_is_found(broken, monkeypatch):
    name, case, do = ALGORITHMS[broken]
    monkeypatch.setitem(discrepancies.FAST, name, discrepancies.FAST[name][case : case + 1])
    do(monkeypatch)
    code, rows, text = check("Fast", [name], monkeypatch)
    assert code == 1, text
    assert rows
    assert all(name in row for row in rows)


def test_a_check_that_breaks_off_is_a_failure_and_the_others_go_on(monkeypatch):
    def breaks(name):
        yield Finding(f"{name}: first", 1.0, most=2.0)
        if name == "two":
            raise ZeroDivisionError("of [the] machine")
        yield Finding(f"{name}: second", float("nan"), most=2.0)

    monkeypatch.setattr(run, "AREAS", {"Odd": (("two", "three"), breaks)})
    code, rows, text = check("Odd", ("two", "three"), monkeypatch, breaks_off=True)
    assert code == 1
    assert len(rows) == 2
    assert "ZeroDivisionError: of [the] machine" in rows[0]
    assert "three: second" in rows[1]
    assert "4 checks" in text
    assert jax.devices()[0].device_kind in text
