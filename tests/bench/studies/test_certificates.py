"""The study certificates: its gap is that of the certificate, and every method has one at each evaluation."""

import numpy as np
import pytest

from cryosip.bench.build import build_instance
from cryosip.bench.execute import execute
from cryosip.bench.studies.certificates import GAP, run_certified
from cryosip.bench.studies.registry import STUDIES
from cryosip.methods.certificate import duality_gap
from cryosip.methods.method import WeightedPoints

STUDY = STUDIES["certificates"]


@pytest.mark.usefixtures("few_draws")
def test_each_evaluation_has_the_gap_of_its_estimate():
    config = next(c for c in STUDY.configs(STUDY.sizes["smoke"]) if c.problem == "oned" and c.method == "mixture")
    record, arrays = execute(config, "smoke", run_certified)
    assert record.status == "ok", record.message
    assert len(record.curve[GAP]) == len(record.curve["step"])
    assert record.curve[GAP][-1] < record.curve[GAP][0]
    last = duality_gap(build_instance(config).problem, WeightedPoints(arrays["theta"], arrays["weights"])).value
    assert record.curve[GAP][-1] == pytest.approx(last, rel=1e-3)


def test_the_small_profile_has_the_line_and_the_plane():
    runs = STUDY.configs(STUDY.sizes["small"])
    sizes = {(run.problem, run.problem_options["n_observations"]) for run in runs}
    assert {("oned", 1_000), ("oned", 10_000), ("fredholm", 1_000), ("nanocluster", 300)} == sizes
    assert {run.method for run in runs} == {"weighted-flow", "reweighting", "mixture"}
    assert np.all([run.problem_options["n_observations"] <= 60 for run in STUDY.configs(STUDY.sizes["smoke"])])


def test_problems_that_are_cut_to_one_size_are_one():
    smoke, small = (STUDY.configs(STUDY.sizes[profile]) for profile in ("smoke", "small"))
    assert {run.labels.variant for run in smoke} == {"line, 60", "plane, 60", "nanocluster, 60"}
    assert {run.labels.variant for run in small} == {"line, 1000", "line, 10 000", "plane, 1000", "nanocluster, 300"}
    assert (len(smoke), len(small)) == (9, 12)
