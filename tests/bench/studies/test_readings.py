"""Readings of §4.3: the published anchors, what the numbers of a record are, and chains that are not there."""

import os
from dataclasses import replace

import jax.random as jr
import numpy as np
import pytest

from cryosip.bench.build import build_instance, resolved
from cryosip.bench.studies import measured_reading, readings
from cryosip.bench.studies.registry import STUDIES

OWN_FOLDER = os.environ.get("CRYOSIP_STRUCTURES", "")


def on_adk(**options):
    """A reading on a structure that is at hand."""
    (config, *_) = readings.readings(STUDIES["hsp90-readings"].sizes["smoke"])
    return replace(config, problem="adk", problem_options=config.problem_options | options)


def test_distances_are_those_of_their_samples():
    config = on_adk(n_observations=20)
    found = measured_reading.of_parameters(build_instance(config), resolved(config).problem.resolved, jr.key(0))
    assert found["d2"] == pytest.approx(found["d2_sampled_mean"], abs=found["d2_sampled_std"])
    wide = on_adk(n_observations=20, amplitude="inverse")
    moved = measured_reading.of_parameters(build_instance(wide), resolved(wide).problem.resolved, jr.key(0))
    assert moved["d2"] > 2 * found["d2"]
    assert moved["rms_motion"] > 2 * found["rms_motion"]


def test_the_two_statistics_and_their_floor():
    """Images that differ by much: the floor is near 0 as U, and V is larger by what images are from each other."""
    instance = build_instance(on_adk(n_observations=200, snr=100.0, means=((9.0,), (9.0,), (9.0,), (9.0,))))
    found = measured_reading.of_images(instance, jr.key(1))
    assert abs(found["floor_u"]) < 0.1 * found["images_u"]
    within = np.asarray(instance.problem.observations)
    apart = np.linalg.norm(within[:100] - within[100:], axis=1).mean()
    added = found["floor_v"] - found["floor_u"]
    assert added == pytest.approx(2 * apart / measured_reading.PUBLISHED_IMAGES, rel=0.1)
    assert found["snr"] == pytest.approx(100.0 * (12 * 24 / 1.5) ** 2 / 12**2, rel=0.1)


def test_all_chains_and_cutoffs_are_planned():
    runs = readings.readings(STUDIES["hsp90-readings"].sizes["small"])
    named = {(r.problem_options["chain"], r.problem_options["cutoff_in_angstroms"]) for r in runs}
    assert {(chain, 15.0) for chain in readings.CHAINS} | {("A", 12.0), ("A", 10.2)} == named
    assert len({r.labels.text for r in runs}) == len(runs)


@pytest.mark.filterwarnings("ignore:2iop. chain A is broken between residues 493 and 500")
@pytest.mark.parametrize(("reading", "expected"), [(readings.AS_PRINTED, 13.4), (readings.AS_CONJECTURED, 100.4)])
def test_the_anchors(monkeypatch, reading, expected):
    if not OWN_FOLDER:
        pytest.skip("CRYOSIP_STRUCTURES names no folder of structures, and tests use no network")
    monkeypatch.setenv("CRYOSIP_STRUCTURES", OWN_FOLDER)
    config = replace(on_adk(n_observations=2, chain="A", **reading.options), problem="hsp90")
    found = measured_reading.of_parameters(build_instance(config), resolved(config).problem.resolved, jr.key(0))
    assert found["d2"] == pytest.approx(expected, rel=0.01)
