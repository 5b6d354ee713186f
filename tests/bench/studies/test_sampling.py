"""The variances of (2.13)-(2.15): formulas against exact enumeration, measurements against formulas."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from cryosip.bench.build import build_instance, build_method
from cryosip.bench.execute import ALONE
from cryosip.bench.studies import estimators
from cryosip.bench.studies.estimators import ESTIMATORS, FORMULAS, drift_table, measure_variance, moments
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.sampling import SCHEMES
from cryosip.datasets.registry import DATASETS
from cryosip.methods.flow import SAMPLINGS
from cryosip.records.schema import Labels, RunConfig

REPEATS = 6_000


def tables():
    rng = np.random.default_rng(0)
    theta, omega = rng.normal(size=(30, 1)), rng.exponential(size=40)
    return {
        "random": rng.normal(size=(30, 40)),
        "mostly theta": 3 * theta + 0.3 * omega + rng.normal(size=(30, 40)),
        "mostly omega": 0.3 * theta + 3 * omega + theta * omega,
        "drift": drift_table(DATASETS["oned"](n_observations=300).problem, 0),
    }


TABLES = tables()
CASES = [(table, scheme, n, k) for table in TABLES for scheme in ESTIMATORS for n, k in ((5, 3), (12, 1), (3, 8))]


def enumerated(phi, scheme, n, k):
    """The estimator's variance over all equally likely draws."""
    rows, columns = range(len(phi)), range(phi.shape[1])
    values = []
    for thetas in itertools.product(rows, repeat=n):
        if scheme == "method-1":
            draws = [[[omega] for omega in omegas] for omegas in itertools.product(columns, repeat=n)]
        elif scheme == "method-2":
            draws = [[list(omegas)] * n for omegas in itertools.product(columns, repeat=k)]
        else:
            draws = [np.reshape(omegas, (n, k)) for omegas in itertools.product(columns, repeat=n * k)]
        values += [np.mean([phi[t, o] for t, row in zip(thetas, draw, strict=True) for o in row]) for draw in draws]
    return np.var(values)


@pytest.mark.parametrize("scheme", FORMULAS)
def test_formulas_agree_with_exact_enumeration(scheme):
    phi = np.array([[0.0, 1.0], [5.0, -2.0]])
    for n, k in ((2, 2), (1, 2), (2, 1), (3, 2)):
        assert FORMULAS[scheme](moments(phi), n, k) == pytest.approx(enumerated(phi, scheme, n, k), rel=1e-12)


@pytest.mark.parametrize(("table", "scheme", "n", "k"), CASES)
def test_measured_variances_agree_with_formulas(table, scheme, n, k):
    """Within 5 standard errors of a variance, sqrt((m4 - m2^2) / repeats), spread over all cases by Bonferroni."""
    phi, rng = TABLES[table], np.random.default_rng([7, n, k])
    values = np.array([ESTIMATORS[scheme](rng, phi, n, k) for _ in range(REPEATS)])
    m2, m4 = values.var(), ((values - values.mean()) ** 4).mean()
    z = norm.isf(norm.sf(5) / len(CASES))
    assert m2 == pytest.approx(FORMULAS[scheme](moments(phi), n, k), abs=z * np.sqrt((m4 - m2**2) / REPEATS))
    assert values.mean() == pytest.approx(phi.mean(), abs=z * np.sqrt(m2 / REPEATS))


def test_the_drift_is_that_of_the_energy_distance():
    """2 (F_observed - F_simulated) of all images: its values lie within +-2 and rank order keeps their mean."""
    problem = DATASETS["oned"](n_observations=300, noise_std=0.5, init_mean=30.0).problem
    phi = drift_table(problem, 0)
    assert phi.shape == (estimators.SUPPORT, estimators.SUPPORT)
    # all images lie ahead of all observations: F_observed is 1 and F_simulated uniform
    assert phi.max() == pytest.approx(2.0, abs=1e-4)
    assert phi.min() == pytest.approx(0.0, abs=1e-4)
    assert phi.mean() == pytest.approx(1.0, abs=1e-4)


def test_the_record_holds_a_variance_its_interval_and_the_formula(monkeypatch):
    monkeypatch.setattr(estimators, "REPEATS", 500)
    monkeypatch.setattr(estimators, "RESAMPLES", 100)
    options = {"n": 20, "k": 2}
    config = RunConfig("sampling", Labels("N=20, K=2"), "oned", {"n_observations": 100}, "method-2", options, 1, 1, 0)
    fields, arrays = measure_variance(config, ALONE)
    found = fields.metrics
    assert arrays == {}
    assert found["variance_q05"] < found["variance"] < found["variance_q95"]
    phi = drift_table(DATASETS["oned"](n_observations=100).problem, 0)
    assert found["variance_formula"] == pytest.approx(FORMULAS["method-2"](moments(phi), 20, 2))
    assert found["variance"] == pytest.approx(found["variance_formula"], rel=0.4)


@pytest.mark.parametrize("profile", STUDIES["sampling"].sizes)
def test_flows_differ_by_their_scheme_alone(profile):
    """And see as many observations as the estimators: a study shows its largest size alone."""
    runs = STUDIES["sampling"].configs(STUDIES["sampling"].sizes[profile])
    flows = [run for run in runs if run.method == "flow"]
    assert [run.method_options["sampling"] for run in flows] == list(SCHEMES) == list(SAMPLINGS)
    shared = [
        [run.problem_options, run.steps, run.every, run.growth]
        + [run.method_options[name] for name in ("optimizer", "discrepancy", "n_particles")]
        for run in flows
    ]
    assert all(one == shared[0] for one in shared)
    assert flows[0].growth > 1
    assert {run.problem_options["n_observations"] for run in runs} == {STUDIES["sampling"].sizes[profile].n}
    for run in flows:
        few = build_instance(RunConfig("", Labels(""), "oned", {"n_observations": 20}, "flow", {}, 1, 1, 0))
        build_method(few.problem, run.method, run.method_options)


def test_the_study_measures_flows_and_estimators(monkeypatch):
    monkeypatch.setattr(estimators, "REPEATS", 50)
    monkeypatch.setattr(estimators, "RESAMPLES", 20)
    study = STUDIES["sampling"]
    runs = study.configs(study.sizes["smoke"])
    estimator, flow = runs[0], runs[-1]
    assert "variance" in study.measure(estimator, ALONE)[0].metrics
    fields, _ = study.measure(flow, ALONE)
    assert fields.steps == flow.steps
    assert np.diff(fields.curve["step"]).max() > np.diff(fields.curve["step"]).min()
    assert {"w1", "w2", "seconds", "forward_evaluations"} <= set(fields.curve)
