"""The settings that are tried of each method on each problem: as many for every method."""

from collections.abc import Callable
from typing import Any

from cryosip.bench.studies.study import Options
from cryosip.methods.posterior_npmle import EM_STEPS

Sweep = dict[str, list[Options]]

ENERGY: Options = {"name": "energy"}
SLICED: Options = {"name": "sliced-energy"}
LIKELIHOOD: Options = {"name": "data-kl"}
STOPS: Options = {"stop": "held-out"}
DRAWN: Options = {"n_drawn": 1_000, "n_redraws": 1}  # support of per-image posteriors
MANY = 10**6  # steps: the budget ends the run


def sweep(problem: str, n: int) -> Sweep:
    """The settings of each method that are tried: as many for each, of what its users would try first.

    Where more EM steps only sharpen, how soon to stop is among them.

    Parameters
    ----------
    problem
        The name of a problem of the comparison; any other has the settings of low-dimensional ones.
    n
        Its observations: flows have as many particles, mixtures no more components.

    Returns
    -------
    Sweep
        By method; a method that is not there has its defaults alone.
    """
    return SWEEPS.get(problem.partition(" ")[0], _low_dimensional)(n)


def _adam(rate: float) -> Options:
    return {"name": "adam", "learning_rate": rate}


def _falling(rate: float, steps: int) -> Options:
    """Euler steps of a given length, which fall to zero along a cosine."""
    return {"name": "rms-sgd", "learning_rate": rate, "cosine_steps": steps}


def _setting(steps: int, **options: Any) -> Options:
    return {"options": options, "steps": steps}


def _flow(discrepancy: Options, optimizer: Options, n: int, steps: int = MANY, **options: Any) -> Options:
    return _setting(steps, discrepancy=discrepancy, optimizer=optimizer, n_particles=n, **options)


def _newton(n_particles: int, steps: int, **options: Any) -> Options:
    """The weighted flow of the likelihood by implicit steps."""
    return _setting(steps, discrepancy=LIKELIHOOD, n_particles=n_particles, **options)


def _posterior(n_support: int, n_candidates: int, n_refinements: int, steps: int, **options: Any) -> Options:
    """So many EM steps on the weights after all the rest."""
    known = {"n_support": n_support, "n_candidates": n_candidates, "n_refinements": n_refinements}
    before = n_support + n_refinements + 1 + EM_STEPS * options.get("n_redraws", 0)
    return {"options": known | options, "steps": before + steps}


def _oned(n: int) -> Sweep:
    return {
        "flow": [_flow({"name": name}, _adam(rate), n) for name in ("energy", "kl") for rate in (3e-2, 1e-1)],
        "weighted-flow": [
            _newton(200, 5),
            _newton(50, 30, **STOPS),
            *(_flow(ENERGY, _adam(rate), n, sampling="method-1", weight_rate=0.1) for rate in (3e-2, 1e-1)),
        ],
        "pushforward": [_flow(ENERGY, _adam(rate), n) for rate in (1e-3, 3e-3, 1e-2)]
        + [_flow(ENERGY, _adam(3e-3), n, **STOPS)],
        "mixture": [
            _setting(10, n_components=min(20, n)),
            _setting(30, n_components=min(50, n)),
            _setting(300, n_components=[2, 4, 8, 20], estimate_weights=True),
            _setting(100, n_components=min(20, n), estimate_weights=True, background=True),
        ],
        "reweighting": [
            *(_setting(steps, n_support=200) for steps in (100, 300)),
            _setting(1_000, n_support=200, stop_on_held_out=True),
            _setting(1_000, n_support=200, stop_on_held_out=True, n_refinements=3),
        ],
        "maximum-likelihood": [_setting(5, n_support=k) for k in (50, 100, 400, 1_000)],
        "posterior-npmle": [_posterior(k, 1, 2, steps) for k, steps in ((50, 10), (200, 100))]
        + [_posterior(50, 1, 2, steps, **DRAWN) for steps in (10, 100)],
    }


def _nanocluster(n: int) -> Sweep:
    return {
        "flow": [
            *(_flow(ENERGY, _adam(rate), n) for rate in (1e-2, 3e-2)),
            _flow(SLICED, _adam(1e-2), n),
            _flow(ENERGY, _adam(1e-2), n, sampling="closed-form"),
        ],
        "weighted-flow": [
            *(_newton(k, 100, anneal=(10.0, 40)) for k in (100, 300)),
            _newton(100, 100, anneal=(10.0, 40), **STOPS),
            _flow(ENERGY, _adam(1e-2), n, weight_rate=0.1),
        ],
        "pushforward": [
            *(_flow(SLICED, _adam(rate), n) for rate in (1e-3, 3e-3, 1e-2)),
            _flow(ENERGY, _adam(3e-3), n),
        ],
        "mixture": [
            *(
                _setting(steps + 50, n_components=n, estimate_weights=weighted, anneal=(10.0, steps))
                for steps, weighted in ((50, False), (200, False), (200, True))
            ),
            _setting(230, n_components=n, anneal=[(10.0, 50), (30.0, 100)]),
        ],
        "reweighting": [
            _setting(3, n_support=1_600),
            *(_setting(100, n_support=k, stop_on_held_out=True) for k in (900, 1_600)),
            _setting(50, n_support=900, stop_on_held_out=True, n_refinements=2, refine_every=3),
        ],
        "maximum-likelihood": [_setting(50, n_support=k) for k in (100, 400, 900, 1_600)],
        "posterior-npmle": [_posterior(k, 4, 5, steps) for k, steps in ((100, 3), (400, 3), (400, 30))]
        + [_posterior(400, 4, 5, 30, **DRAWN)],
    }


def _fredholm(n: int) -> Sweep:
    return {
        "flow": [
            *(_flow(ENERGY, _adam(rate), n) for rate in (3e-3, 1e-2)),
            _flow({"name": "kl"}, _adam(1e-2), n),
            _flow(ENERGY, _adam(1e-2), n, **STOPS),
        ],
        "weighted-flow": [
            *(_newton(k, 100, **STOPS) for k in (50, 100)),
            _newton(100, 10),
            _flow(ENERGY, _adam(1e-2), n, sampling="method-1", weight_rate=0.1),
        ],
        "pushforward": [
            *(_flow(ENERGY, _adam(rate), n) for rate in (1e-3, 3e-3, 1e-2)),
            _flow(LIKELIHOOD, _adam(1e-3), 300, sampling="closed-form", **STOPS),
        ],
        "mixture": [
            *(_setting(15, n_components=min(k, n)) for k in (50, 200)),
            _setting(200, n_components=[5, 20, 50], estimate_weights=True),
            _setting(30, n_components=min(200, n), estimate_weights=True),
        ],
        "reweighting": [
            _setting(300, n_support=1_000, stop_on_held_out=True),
            *(
                _setting(300, n_support=k, stop_on_held_out=True, n_refinements=refinements, refine_every=every)
                for k, refinements, every in ((1_000, 3, 5), (3_000, 3, 5), (1_000, 5, 10))
            ),
        ],
        "maximum-likelihood": [_setting(5, n_support=k) for k in (50, 100, 400, 1_000)],
        "posterior-npmle": [_posterior(10, 1, 2, steps) for steps in (10, 100)]
        + [_posterior(10, 1, 2, steps, **DRAWN) for steps in (10, 100)],
    }


def _low_dimensional(n: int) -> Sweep:
    return {
        "flow": [
            *(_flow(ENERGY, _adam(rate), n) for rate in (1e-2, 3e-2, 1e-1)),
            _flow(ENERGY, _adam(3e-2), n, **STOPS),
        ],
        "weighted-flow": [
            *(_newton(k, 100, **STOPS) for k in (50, 200)),
            _newton(100, 20),
            _flow(ENERGY, _adam(3e-2), n, sampling="method-1", weight_rate=0.1),
        ],
        "pushforward": [
            *(_flow(ENERGY, _adam(rate), n) for rate in (1e-3, 3e-3, 1e-2)),
            _flow(ENERGY, _adam(3e-3), n, **STOPS),
        ],
        "mixture": [
            *(_setting(50, n_components=min(k, n)) for k in (5, 20)),
            _setting(50, n_components=min(20, n), estimate_weights=True),
            _setting(100, n_components=[3, 10, 30], estimate_weights=True, held_out_steps=10),
        ],
        "reweighting": [
            _setting(100, n_support=1_000, stop_on_held_out=True),
            *(
                _setting(100, n_support=k, stop_on_held_out=True, n_refinements=3, refine_every=5)
                for k in (500, 1_000, 2_000)
            ),
        ],
        "maximum-likelihood": [_setting(20, n_support=k) for k in (100, 400, 1_000, 4_000)],
        "posterior-npmle": [_posterior(k, 1, 5, steps) for k in (64, 256) for steps in (10, 100)],
    }


def _adk(n: int) -> Sweep:
    over_poses = {"quadrature_order": 2, "refine_poses": True, "estimate_noise": True, "estimate_weights": True}
    invariant = {"name": "invariant-energy"}
    return {
        "flow": [
            *(_flow(invariant, _falling(rate, steps), n, steps) for rate, steps in ((0.1, 200), (0.2, 200), (0.2, 80))),
            _flow(ENERGY, _falling(0.1, 200), n, 200),
        ],
        "weighted-flow": [
            *(
                _flow(invariant, _falling(rate, 200), n, 200, sampling="method-1", weight_rate=0.1)
                for rate in (0.1, 0.2)
            ),
            *(_newton(16, 20, quadrature_order=order) for order in (1, 2)),
        ],
        "pushforward": [_flow(invariant, _adam(rate), n) for rate in (1e-3, 3e-3, 1e-2)]
        + [_flow(ENERGY, _adam(3e-3), n)],
        "mixture": [_setting(20, n_components=k, **over_poses) for k in (3, 5, 10)]
        + [_setting(20, n_components=10, quadrature_order=1, estimate_noise=True, estimate_weights=True)],
        "reweighting": [_setting(100, n_support=64, quadrature_order=order) for order in (1, 2)]
        + [_setting(30, n_support=k, stop_on_held_out=True, n_refinements=1, refine_every=5) for k in (16, 32)],
        "maximum-likelihood": [_setting(20, n_support=k, quadrature_order=1) for k in (8, 16, 32, 64)],
        "posterior-npmle": [
            _posterior(32, 4, 10, 10, quadrature_order=2),
            *(_posterior(32, k, 10, 10, quadrature_order=2, **DRAWN) for k in (2, 4)),
            _posterior(32, 2, 10, 10, quadrature_order=2, n_integrated=100, **DRAWN),
        ],
    }


def _ensemble(n: int) -> Sweep:
    return {
        "flow": [_flow(ENERGY, _falling(rate, steps), n, steps) for rate, steps in ((0.05, 200), (0.1, 200))]
        + [_flow({"name": "invariant-energy"}, _falling(rate, 200), n, 200) for rate in (0.1, 0.3)],
        "weighted-flow": [_newton(k, 30) for k in (5, 20)] + [_newton(k, 30, **STOPS) for k in (5, 20)],
        "pushforward": [_flow({"name": "invariant-energy"}, _adam(rate), n) for rate in (1e-3, 3e-3, 1e-2)]
        + [_flow(ENERGY, _adam(3e-3), n)],
        "mixture": [_setting(20, n_components=k, estimate_weights=True) for k in (2, 5, 10)]
        + [_setting(60, n_components=[2, 5], estimate_weights=True, held_out_steps=10)],
        "reweighting": [_setting(steps) for steps in (10, 100, 1_000)] + [_setting(100, concentration=2.0)],
        "maximum-likelihood": [_setting(steps, n_support=20) for steps in (2, 5, 10, 20)],
        "posterior-npmle": [_posterior(k, 2, 5, steps) for k in (8, 16) for steps in (10, 100)],
    }


SWEEPS: dict[str, Callable[[int], Sweep]] = {
    "adk": _adk,
    "ensemble": _ensemble,
    "fredholm": _fredholm,
    "nanocluster": _nanocluster,
    "oned": _oned,
}
