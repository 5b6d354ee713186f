"""The settings that are tried of each method on each problem: as many for every method."""

from typing import Any

from cryosip.bench.studies.study import Options


def _flow(
    discrepancy: str, n: int, rate: float, optimizer: str = "adam", steps: int = 10**6, **options: Any
) -> Options:
    """A setting of the flow; Euler steps of a given length fall to zero within all steps."""
    falling = {"cosine_steps": steps} if optimizer == "rms-sgd" else {}
    chosen = {"name": optimizer, "learning_rate": rate} | falling
    return {
        "options": {"discrepancy": {"name": discrepancy}, "optimizer": chosen, "n_particles": n} | options,
        "steps": steps,
    }


def _setting(steps: int, **options: Any) -> Options:
    return {"options": options, "steps": steps}


def _posterior(n_support: int, n_candidates: int, n_refinements: int, steps: int, **options: Any) -> Options:
    """So many EM steps on the weights after all the rest."""
    known = {"n_support": n_support, "n_candidates": n_candidates, "n_refinements": n_refinements}
    return {"options": known | options, "steps": n_support + n_refinements + 1 + steps}


def sweep(problem: str, n: int) -> dict[str, list[Options]]:
    """The settings of each method that are tried: as many for each, of what its users would try first.

    Where more EM steps only sharpen, as on the line and on grids, how soon to stop is among them.
    """
    over_poses = {"quadrature_order": 2, "refine_poses": True, "estimate_noise": True, "estimate_weights": True}
    if problem == "oned":
        return {
            "flow": [_flow(name, n, rate) for name in ("energy", "kl") for rate in (3e-2, 1e-1)],
            "mixture": [_setting(steps, n_components=min(k, n)) for k in (20, 50) for steps in (10, 30)],
            "reweighting": [_setting(steps, n_support=200) for steps in (100, 300, 1_000, 3_000)],
            "maximum-likelihood": [_setting(5, n_support=k) for k in (50, 100, 400, 1_000)],
            "posterior-npmle": [_posterior(k, 1, 2, steps) for k in (50, 200) for steps in (10, 100)],
        }
    if problem == "nanocluster":
        return {
            "flow": [
                *(_flow("energy", n, rate) for rate in (3e-3, 1e-2, 3e-2)),
                _flow("energy", n, 1e-2, sampling="closed-form"),
            ],
            "mixture": [
                _setting(steps + 50, n_components=n, estimate_weights=weighted, anneal=(10.0, steps))
                for steps in (50, 200)
                for weighted in (False, True)
            ],
            "reweighting": [_setting(steps, n_support=k) for k in (900, 1_600) for steps in (3, 30)],
            "maximum-likelihood": [_setting(50, n_support=k) for k in (100, 400, 900, 1_600)],
            "posterior-npmle": [_posterior(k, 4, 5, steps) for k in (100, 400) for steps in (3, 30)],
        }
    if problem != "adk":
        return {
            "flow": [_flow("energy", n, rate) for rate in (1e-2, 3e-2, 1e-1, 3e-1)],
            "mixture": [_setting(steps, n_components=min(k, n)) for k in (10, 50) for steps in (10, 50)],
            "reweighting": [_setting(steps, n_support=k) for k in (100, 1_000) for steps in (30, 300)],
            "maximum-likelihood": [_setting(20, n_support=k) for k in (50, 100, 400, 1_000)],
            "posterior-npmle": [_posterior(k, 4, 5, steps) for k in (50, 200) for steps in (10, 100)],
        }
    in_200 = (0.1, "rms-sgd", 200)
    return {
        "flow": [
            *(_flow("invariant-energy", n, *euler) for euler in (in_200, (0.2, "rms-sgd", 200), (0.2, "rms-sgd", 80))),
            _flow("energy", n, *in_200),
        ],
        "mixture": [_setting(20, n_components=k, **over_poses) for k in (3, 5, 10)]
        + [_setting(20, n_components=10, quadrature_order=1, estimate_noise=True, estimate_weights=True)],
        "reweighting": [_setting(100, n_support=k, quadrature_order=order) for k in (16, 64) for order in (1, 2)],
        "maximum-likelihood": [_setting(20, n_support=k, quadrature_order=1) for k in (8, 16, 32, 64)],
        "posterior-npmle": [_posterior(k, c, 10, 10, quadrature_order=2) for k in (16, 32) for c in (2, 4)],
    }  # fmt: skip
