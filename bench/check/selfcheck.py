"""What a machine must get right before its numbers are trusted: laws, gradients, algorithms, EM and floors.

Each check compares what runs use with formulas that are written out a second time, in `laws` and in `written_out`.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cryosip.bench import metrics
from cryosip.bench.check import distributions, formulas
from cryosip.datasets import prody_adapter
from cryosip.datasets.instance import Instance
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.method import Method, WeightedPoints
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES, METHODS

LEAST_PROBABLE = 1e-6  # of draws from the right law
DRAWS = 20_000
ROUNDING, ROUNDING_64 = 1e-4, 1e-6  # of the largest component; the wider one leaves room for differences of float32
COARSEST = 0.02  # of the largest component, whatever error an algorithm states
VALUE_ERROR = 2e-3  # of binned values, which state no error of their own

_PROTEIN = {
    "image_size": 13,
    "pixel_size_in_angstroms": 9.0,
    "atom_std_in_angstroms": 8.0,
    "atoms_per_bead": 4,
}
_VIEWED = {"max_shift_in_angstroms": 6.0, "defocus_range_in_angstroms": (6_000.0, 20_000.0)}
PROBLEMS: dict[str, dict[str, Any]] = {
    "adk": _PROTEIN | _VIEWED | {"n_observations": 400},
    "hsp90": _PROTEIN | {"n_observations": 100},
    "nanocluster": {"n_observations": 1_000, "image_size": 16, "tau": 0.5},
    "oned": {"n_observations": DRAWS},
}
# where derivatives and likelihoods are looked at, in float64; a protein's images are so noisy that a few structures in
# a few poses explain each
SMOOTH: dict[str, dict[str, Any]] = {
    "adk": _PROTEIN | {"n_observations": 20, "snr": 0.002, "cropped_size": 7},
    "nanocluster": {"n_observations": 60, "image_size": 16, "tau": 0.5},
    "oned": {"n_observations": 300},
}
SAME_CODE = {"hsp90": "adk"}  # with another file, to save a minute


class Finding(NamedTuple):
    """A number, and what it must be: `least` <= number <= `most`; `error` where there is none."""

    what: str
    number: float
    least: float = -math.inf
    most: float = math.inf
    error: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.least <= self.number <= self.most)  # never of NaN


@lru_cache
def build(name: str, smooth: bool = False) -> Instance:
    """A small problem; hsp90 from the bundled structure, since the check needs no network."""
    own = {"structure": prody_adapter.adenylate_kinase()} if name == "hsp90" else {}
    known = SMOOTH if smooth else PROBLEMS
    return DATASETS[name](**known[checks.one_of("problem that is checked", name, known)], **own)


def samplers(name: str) -> Iterator[Finding]:
    """How probable draws are that differ from their law as much; hsp90 stands on the structure of adk."""
    instance = build(name)
    problem, truth = instance.problem, instance.truth
    law, initial = distributions.LAWS[name]

    def probable(what: str, p_value: float) -> Finding:
        return Finding(f"{name}: {what}, probability", p_value, least=LEAST_PROBABLE)

    drawn, first = jax.jit(lambda key: (truth.sample(key, DRAWS), problem.sample_init(key, DRAWS)))(jr.key(1))
    yield probable("draws of the truth", distributions.p_value(np.asarray(drawn), law))
    yield probable("parameters behind the observations", distributions.p_value(np.asarray(truth.theta), law))
    yield probable("initial law", distributions.p_value(np.asarray(first), initial))
    noise = np.asarray(problem.observations, np.float64) - np.asarray(problem.render(truth.theta, truth.pose))
    yield probable("noise", distributions.noise_p_value(noise / problem.noise_std))
    if jax.tree.leaves(truth.pose):
        for what, pose in (("poses", problem.sample_pose(jr.key(3), DRAWS)), ("poses of the observations", truth.pose)):
            yield probable(what, _pose_p_value(pose, PROBLEMS[name]))
    if truth.quantile is not None:
        u = (np.arange(1_000) + 0.5) / 1_000
        error = np.abs(law.marginals[0](truth.quantile(u)) - u).max()
        yield Finding(f"{name}: quantiles, error of their probability", float(error), most=1e-9)


def _pose_p_value(pose: Any, options: dict[str, Any]) -> float:
    """Of uniform rotations, shifts and defocus."""
    rotation = distributions.rotations_p_value(np.asarray(pose.rotation))
    if "max_shift_in_angstroms" not in options:
        return rotation
    low, high = options["defocus_range_in_angstroms"]
    shift = distributions.p_value(np.asarray(pose.shift), distributions.uniform(options["max_shift_in_angstroms"], 2))
    focus = np.asarray(pose.defocus)[:, None] - (low + high) / 2
    return distributions.smallest(
        [rotation, shift, distributions.p_value(focus, distributions.uniform((high - low) / 2, 1))]
    )


def renderers(name: str) -> Iterator[Finding]:
    """Images against the printed formulas, their adjoint against differences; the few coordinates that methods work on
    against all pixels, beside the distance that they state."""
    instance = build(name)
    problem, truth = instance.problem, instance.truth
    images = np.asarray(problem.render(truth.theta, truth.pose), np.float64)
    expected = IMAGES[name](PROBLEMS[name], instance)
    size = np.abs(expected).max()
    yield Finding(f"{name}: images, relative error", float(np.abs(images - expected).max() / size), most=ROUNDING)
    with jax.enable_x64(True):
        problem = build(name, smooth=True).problem
        outside, adjoint = _outside(problem), _adjoint_error(problem)
    if problem.span is not None:
        ratio = outside / problem.span.error
        yield Finding(f"{name}: distance of images from their span / stated", ratio, most=1.5)
    yield Finding(f"{name}: adjoint of images, relative error", adjoint, most=ROUNDING_64)


def _protein_images(options: dict[str, Any], instance: Instance) -> np.ndarray:
    problem, truth = instance.problem, instance.truth
    size, pixel, std = (options[key] for key in ("image_size", "pixel_size_in_angstroms", "atom_std_in_angstroms"))
    theta = np.asarray(truth.theta, np.float64)
    images = formulas.protein_images(instance.molecule, theta, truth.pose, size, pixel, std, options["atoms_per_bead"])
    power = problem.noise_std**2 * (size * pixel / 1.5) ** 2  # the mean square norm at SNR 1
    return images * np.sqrt(power / (images**2).sum(1).mean())


# the images behind the observations, in float64
IMAGES: dict[str, Callable[[dict[str, Any], Instance], np.ndarray]] = {
    "adk": _protein_images,
    "nanocluster": lambda options, instance: formulas.nanocluster_images(
        np.asarray(instance.truth.theta, np.float64), options["image_size"], options["tau"]
    ),
    "oned": lambda _options, instance: np.asarray(instance.truth.theta, np.float64),
}


def _outside(problem: Problem, n: int = 200) -> float:
    """The largest distance of an image from where its coordinates put it, over draws of the initial law."""
    span = problem.span
    if span is None:
        return 0.0

    @jax.jit
    def seen() -> tuple[jax.Array, ...]:
        drawn = problem.sample_init(jr.key(4), n), problem.sample_pose(jr.key(5), n)
        images = problem.render(*drawn)
        return images, span.project(images), span.coordinates(*drawn)

    images, projected, coordinates = map(np.asarray, seen())
    squares = (images**2).sum(1) - 2 * (projected * coordinates).sum(1) + (coordinates**2).sum(1)
    return float(np.sqrt(np.maximum(squares, 0.0).max()))


def _adjoint_error(problem: Problem, n: int = 20, step: float = 1e-5) -> float:
    """<J u, v> by differences of images against <u, J^T v>."""

    @jax.jit
    def both() -> tuple[jax.Array, jax.Array]:
        theta, pose = problem.sample_init(jr.key(4), n), problem.sample_pose(jr.key(5), n)
        clean, pull_back = jax.vjp(lambda t: problem.render(t, pose), theta)
        u, v = jr.normal(jr.key(6), theta.shape), jr.normal(jr.key(7), clean.shape)
        difference = problem.render(theta + step * u, pose) - problem.render(theta - step * u, pose)
        return (u * pull_back(v)[0]).sum(1), (v * difference).sum(1) / (2 * step)

    pulled, pushed = both()
    return float(jnp.abs(pulled - pushed).max() / jnp.abs(pushed).max())


EXACT: dict[str, dict[str, Any]] = {
    "composite": {"kl_options": {"algorithm": "pairwise"}, "mmd_options": {"algorithm": "pairwise"}},
    "energy": {"algorithm": "pairwise"},
    "kl": {"algorithm": "pairwise"},
    "mmd": {"algorithm": "pairwise"},
}
PIXELS = 49
# (pixels, std of the noise that is integrated out) that each discrepancy takes
CASES: dict[str, list[tuple[int, float]]] = {
    "composite": [(1, 0.0), (1, 1.5), (PIXELS, 0.0)],
    "data-kl": [(1, 0.0), (1, 1.5), (PIXELS, 0.0), (PIXELS, 1.5)],
    "energy": [(1, 0.0), (1, 1.5), (PIXELS, 0.0), (PIXELS, 1.5)],
    "invariant-energy": [(PIXELS, 0.0)],
    "kl": [(1, 0.0), (1, 1.5), (PIXELS, 0.0)],
    "mmd": [(1, 0.0), (1, 1.5), (PIXELS, 0.0), (PIXELS, 1.5)],
}


def gradients(name: str) -> Iterator[Finding]:
    """Gradients of sums over all pairs against differences of the first variation, written out."""
    for p, noise_std in CASES[checks.one_of("discrepancy that is checked", name, CASES)]:
        with jax.enable_x64(True):
            found, _ = _gradient(name, EXACT.get(name, {}), p, noise_std, 60, ROUNDING_64)
        yield found


# algorithms that are no plain sum over pairs in float64: (options, options of the formula, pixels, noise)
FAST: dict[str, list[tuple[dict[str, Any], dict[str, Any], int, float]]] = {
    "composite": [({}, {}, 1, 0.0)],
    "data-kl": [({}, {}, PIXELS, 1.5)],
    "energy": [
        ({"algorithm": "sorted"}, {}, 1, 0.0),
        ({"algorithm": "binned"}, {}, 1, 0.0),
        ({}, {}, 1, 1.5),
        ({}, {}, PIXELS, 0.0),
        ({"algorithm": "moments"}, {}, 256, 30.0),
    ],
    "invariant-energy": [({}, {}, PIXELS, 0.0)],
    "kl": [({}, {}, 1, 0.0), ({}, {}, 1, 1.5), ({}, {}, PIXELS, 0.0)],
    "mmd": [
        ({}, {}, 1, 0.0),
        ({}, {}, 1, 1.5),
        ({"kernel": "laplace"}, {"kernel": "laplace"}, 1, 1.5),
        ({}, {}, PIXELS, 0.0),
    ],
}


def algorithms(name: str) -> Iterator[Finding]:
    """What runs use, in their precision; the limit is twice the error that an algorithm states, and rounding."""
    for options, of_formula, p, noise_std in FAST[checks.one_of("discrepancy that is checked", name, FAST)]:
        n = 60 if p > 1 else 300 if noise_std else 2_000
        yield from _gradient(name, options, p, noise_std, n, ROUNDING, of_formula)


def _gradient(
    name: str, options: dict[str, Any], p: int, noise_std: float, n: int, rounding: float, of_formula: Any = None
) -> tuple[Finding, Finding]:
    """The error of one component of each gradient beside the largest, and that of the value."""
    rng = np.random.default_rng([p, n])
    dtype = jnp.zeros(()).dtype
    y, seen = rng.normal(0, 1.5, (n, p)), rng.normal(0.5, 1.0, (n + 20, p)) * rng.choice([1, 3], (n + 20, 1))
    # on a lattice: points on the line tie, or are further apart than the differences reach
    y, seen = (np.round(cloud * 4096) / 4096 for cloud in (y, seen))
    axis = rng.integers(p, size=n)
    form = formulas.FORMS[name](seen, noise_std, **(of_formula or {}))
    expected = formulas.slopes(form, y, axis)
    target = DISCREPANCIES[name](**options).bind(jnp.asarray(seen, dtype), noise_std)
    run = jax.jit(lambda y: (target.gradient(y), target.gradient_error(y), target.value(y)))
    gradient, error, value = run(y.astype(dtype))
    found, size = np.asarray(gradient)[np.arange(n), axis], np.abs(expected).max()
    limit, exact = min(2 * float(error) / size, COARSEST) + rounding, form.value(y)
    noise = f", noise {noise_std:g} integrated out" if noise_std else ""
    chosen = "".join(f" {value}" for value in options.values() if isinstance(value, str))
    what = f"{name}{chosen}, {p} pixel{'s' * (p > 1)}{noise}"
    return (
        Finding(f"{what}: gradient, relative error", float(np.abs(found - expected).max() / size), most=limit),
        Finding(f"{what}: value, error", abs(float(value) - exact), most=VALUE_ERROR * abs(exact) + ROUNDING),
    )


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "w1": lambda x, y: formulas.wasserstein(x, y, 1),
    "w2": lambda x, y: formulas.wasserstein(x, y, 2),
    "energy_distance": formulas.energy_distance,
    "energy_distance_squared": lambda x, y: formulas.energy_distance(x, y) ** 2,
}


def distances(name: str) -> Iterator[Finding]:
    """Distances of weighted points against the best assignment of as many equal ones."""
    for d in (1, 2):
        rng = np.random.default_rng(d)
        counts = rng.multinomial(60, np.full(20, 1 / 20))
        x, y = rng.normal(size=(20, d)), rng.normal(0.5, 2.0, (60, d))
        found = metrics.METRICS[name](WeightedPoints(x, counts / 60), WeightedPoints(y, np.full(60, 1 / 60)))
        expected = METRICS[checks.one_of("metric that is checked", name, METRICS)](np.repeat(x, counts, axis=0), y)
        yield Finding(f"{name} in {d}D, relative error", abs(found / expected - 1), most=1e-9)


# of EM alone, the objective of which can only fall; both methods take the defaults of their other options
EM: dict[str, dict[str, Any]] = {"mixture": {"n_components": 3, "prior_weight": 0.1}, "reweighting": {"n_support": 64}}
EM_STEPS = 30


def em(name: str) -> Iterator[Finding]:
    """The objective of EM in float64 before each step: it never rises."""
    for method, options in EM.items():
        with jax.enable_x64(True):
            objective = _objectives(METHODS[method](build(name, smooth=True).problem, **options))
        rise, fall = np.diff(objective).max() / np.abs(objective).max(), objective[0] - objective[-1]
        yield Finding(f"{name}: {method}, largest relative rise of the objective", float(rise), most=1e-12)
        yield Finding(f"{name}: {method}, fall of the objective", float(fall), least=1e-6)


def _objectives(method: Method) -> np.ndarray:
    def step(state: Any, _: Any) -> tuple[Any, jax.Array]:
        after, info = method.step(jr.key(0), state)
        return after, info.objective

    return np.asarray(jax.lax.scan(step, method.init(jr.key(0)), length=EM_STEPS)[1])


FLOOR_POINTS, TRUTH_POINTS = 64, 1_500
FLOOR_DRAWS, FLOOR_DRAWS_BEYOND_1D = 400, 100  # transport plans take time


def floors(name: str) -> Iterator[Finding]:
    """Fresh samples of the law written out score what their floor says, within its own 5-95 %."""
    truth, n = build(name).truth, TRUTH_POINTS
    draws = FLOOR_DRAWS_BEYOND_1D if truth.quantile is None else FLOOR_DRAWS
    theta = truth.sample(jr.key(8), n) if truth.quantile is None else truth.quantile((np.arange(n) + 0.5) / n)[:, None]
    points = WeightedPoints(np.asarray(theta), np.full(n, 1 / n))
    floor = metrics.floors(truth, points, FLOOR_POINTS, draws)["w2"]
    rng, weights = np.random.default_rng(0), np.full(FLOOR_POINTS, 1 / FLOOR_POINTS)
    fresh = [WeightedPoints(distributions.LAWS[name][0].sample(rng, FLOOR_POINTS), weights) for _ in range(draws)]
    scored = np.array(metrics.each(lambda sample: metrics.w2(sample, points), fresh, points.theta.shape[1]))
    # of a median of so many draws, the std of which follows from the interval
    spread = (floor["q95"] - floor["q05"]) / 3.29 / floor["median"]
    margin = 4 * 1.2533 * spread * np.sqrt(2 / draws)
    ratio = float(np.median(scored)) / floor["median"]
    yield Finding(f"{name}: W2 of i.i.d. samples / floor", ratio, 1 - margin, 1 + margin)
    share = float(((scored >= floor["q05"]) & (scored <= floor["q95"])).mean())
    margin = 4 * np.sqrt(0.9 * 0.1 * 2 / draws)
    yield Finding(f"{name}: share of i.i.d. samples within the floor's 5-95 %", share, 0.9 - margin, 1.0)


# what each area goes over, and its check
_ONCE = [name for name in DATASETS if name not in SAME_CODE]
AREAS: dict[str, tuple[Iterable[str], Callable[[str], Iterator[Finding]]]] = {
    "Samplers against their laws": (DATASETS, samplers),
    "Images against their formulas": (_ONCE, renderers),
    "Gradients against finite differences, float64": (DISCREPANCIES, gradients),
    "Fast algorithms against sums over all pairs": (DISCREPANCIES, algorithms),
    "Metrics against assignments": (metrics.METRICS, distances),
    "EM never raises its objective": (_ONCE, em),
    "Floors against fresh samples": (_ONCE, floors),
}


def report(console: Console) -> bool:
    """Makes all checks, prints a table of each area when it is done, and says whether all passed."""
    began, failed, total = time.perf_counter(), 0, 0
    for area, (names, check) in AREAS.items():
        with console.status(area), jax.default_matmul_precision("highest"):  # as runs do
            findings = [finding for name in names for finding in _findings(name, check)]
        console.print(_table(area, inspect.getdoc(check) or "", findings))
        failed += sum(not finding.passed for finding in findings)
        total += len(findings)
    seconds, device = time.perf_counter() - began, jax.devices()[0]
    console.print(
        f"{total} checks on {device.platform} ({device.device_kind}) in {seconds:.0f} s: "
        + (f"{failed} FAILED" if failed else "all passed"),
        markup=False,
        highlight=False,
    )
    return not failed


def _findings(name: str, check: Callable[[str], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; where it breaks off, that is what it found."""
    try:
        yield from check(name)
    except Exception as error:  # the other checks go on
        yield Finding(name, math.nan, error=f"{type(error).__name__}: {error}")


def _table(area: str, caption: str, findings: list[Finding]) -> Table:
    table = Table(title=area, title_justify="left", title_style="bold", expand=True)
    table.caption, table.caption_justify = escape(" ".join(caption.split())), "left"
    table.add_column("check", ratio=1)
    for column, width in (("number", 9), ("limit", 13)):  # so that tables are aligned
        table.add_column(column, justify="right", no_wrap=True, min_width=width)
    table.add_column("verdict", no_wrap=True)
    for found in findings:
        verdict = "[green]passed[/]" if found.passed else "[red]FAILED[/]"
        what = f"{found.what}: {found.error}" if found.error else found.what
        table.add_row(escape(what), f"{found.number:.3g}", _limit(found), verdict)
    return table


def _limit(found: Finding) -> str:
    if math.isinf(found.most):
        return "" if math.isinf(found.least) else f">= {found.least:.3g}"
    return f"<= {found.most:.3g}" if math.isinf(found.least) else f"{found.least:.3g} to {found.most:.3g}"
