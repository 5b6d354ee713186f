"""The section of the nanocluster, from synthetic records."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryosip.records.schema import Record
from cryosip.records.select import read_records
from cryosip.reports.page import build
from cryosip.reports.sections import nanocluster
from cryosip.reports.sections.paper import paper_rows

Write = Any
READINGS = [f"images_{kind}_{statistic}" for kind in ("noisy", "clean", "mixed") for statistic in "vu"]


def plane(seed: int, n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    cloud = {name: rng.normal(4, 1, (n, 2)) for name in ("theta", "theta_init")}
    cloud |= {"theta_true": rng.normal(4.5, 1, (3 * n, 2)), "weights": rng.dirichlet(np.ones(n))}
    return cloud | {"image_clean": rng.random((4, 64)), "image_noisy": rng.normal(size=(4, 64))}


def put(write: Write, study: str, method: str, setting: str, replicate: int, tau: float | None = None, **more: Any):
    n, steps = more.pop("size", (1_000, 3_000))
    options = {"discrepancy": {"name": "energy"}} if method == "flow" else more.pop("options", {})
    problem = {"n_observations": n} | ({} if tau is None else {"tau": tau})
    config = {
        "problem": {"name": "nanocluster", "options": problem}, "method": {"name": method, "options": options},
        "steps": steps, "every": 600, "stop_below": {},
    }  # fmt: skip
    far, near = (dict.fromkeys(READINGS, value) for value in (0.095, 0.001))
    metrics = {"w1": 0.2, "w2": 0.3, "energy_distance_squared": 0.0163 + 0.001 * replicate, "w2_to_data": 0.25} | near
    start = {"w1": 0.8, "w2": 1.0, "energy_distance_squared": 0.40 + 0.02 * replicate} | far
    return write(
        plane(replicate), study=study, method=method, setting=setting, problem="nanocluster", config=config,
        replicate=replicate, dataset_hash=f"beef{replicate}{tau}", metrics=metrics | more.pop("metrics", {}),
        initial_metrics=start, curve={"step": [0, 3_000], "seconds": [0.0, 5.0], "w1": [0.8, 0.2], "w2": [1.0, 0.3]},
        **more,
    )  # fmt: skip


@pytest.fixture
def records(write: Write, results: Path) -> list[Record]:
    for i in range(3):
        put(write, "paper-nanocluster", "flow", "published", i)
        for setting, k in (("K=10", 10), ("K=1000", 1_000), ("annealed K=1000", 1_000)):
            put(write, "paper-nanocluster", "mixture", setting, i, options={"n_components": k})
        put(write, "paper-nanocluster", "maximum-likelihood", "per image", i)
        for tau in (0.15, 0.5):
            put(write, "tau", "flow", f"tau={tau}", i, tau)
    return read_records(results)[0]


def test_the_section_has_every_figure(records, results, tmp_path):
    text = build(results, tmp_path / "out").read_text(encoding="utf-8")
    wanted = ["fig3a", "fig3b", "tau-parameters", "tau-images", "nanocluster-dto-w2", "nanocluster-curve-w2-step"]
    wanted += [f"fig4-{i}" for i in range(7)]  # initial, flow, three mixtures, maximum likelihood, truth
    for name in wanted:
        assert f'<figure id="{name}">' in text
        assert (tmp_path / "out" / "figures" / f"{name}.csv").is_file()
    assert '<figure id="fig4-7">' not in text
    assert "Study paper-nanocluster" not in text  # not the plain section of a study that the report does not know
    assert "maximum-likelihood, per image" in text
    assert not re.findall(r'href="(?!#|figures/|data:|paper_vs)[^"]*"', text)


def test_every_reading_is_in_the_table_and_says_what_it_fits(records):
    rows = nanocluster.interpretations(records)
    assert len(rows) == 3 * 2 * 3
    by_scale = {row.scale: row for row in rows[:3]}
    assert by_scale["D²"].initial.median == pytest.approx(0.095)
    assert by_scale["D²"].fits == "initial"
    assert by_scale["D, the root"].initial.median == pytest.approx(0.095**0.5)
    assert by_scale["D, the root"].estimated.median == pytest.approx(0.001**0.5)
    assert by_scale["D, the root"].fits == "neither"
    assert by_scale["D² / 2"].estimated.median == pytest.approx(0.0005)
    assert all(row.initial.n == 3 for row in rows)


def test_a_reading_that_fits_both_says_so(write, results):
    for i in range(3):
        put(write, "paper-nanocluster", "flow", "published", i, metrics={"images_clean_u": 0.028})
    fits = {(r.images, r.statistic, r.scale): r.fits for r in nanocluster.interpretations(read_records(results)[0])}
    assert fits[nanocluster.KINDS["clean"], nanocluster.STATISTICS["u"], "D²"] == "initial and final"


def test_negative_readings_have_no_root(write, results):
    put(write, "paper-nanocluster", "flow", "published", 0, metrics={"images_noisy_u": -0.002})
    rows = [
        r for r in nanocluster.interpretations(read_records(results)[0]) if r.statistic == nanocluster.STATISTICS["u"]
    ]
    root = next(r for r in rows if r.scale == "D, the root" and r.images == nanocluster.KINDS["noisy"])
    assert root.estimated.n == 0
    assert next(r for r in rows if r.scale == "D²").estimated.median == -0.002


def test_the_rows_of_the_paper(records):
    rows = {row.quantity: row for row in paper_rows(records) if row.part.startswith("§4.2")}
    assert rows["Energy distance of parameters, initial"].verdict == "reproduced"
    assert rows["Energy distance of parameters, estimated"].verdict == "reproduced"
    assert rows["Energy distance of images, initial"].verdict == "ambiguous"
    assert rows["Energy distance of images, estimated"].ours.median == pytest.approx(0.001)


def test_samples_widen_what_counts_as_reproduced(write, results):
    """The initial distribution is judged by its own distances to samples, the estimate by its own."""
    wide = {"energy_distance_squared": {"median": 0.4, "q05": 0.3, "q95": 0.5, "n": 1_000}}
    for i in range(3):
        put(write, "paper-nanocluster", "flow", "published", i, initial_sampled_metrics=wide, sampled_metrics={})
    rows = {row.quantity: row for row in paper_rows(read_records(results)[0]) if row.part.startswith("§4.2")}
    low, high = rows["Energy distance of parameters, initial"].accepted
    assert high - low > 0.2
    low, high = rows["Energy distance of parameters, estimated"].accepted
    assert high - low < 0.02


def test_tau_is_compared_at_one_size_only(write, results, tmp_path):
    put(write, "paper-nanocluster", "flow", "published", 0)
    put(write, "tau", "flow", "tau=0.5", 0, 0.5, size=(300, 3_000))
    text = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert '<figure id="tau-parameters">' not in text
    assert "No two values of τ in the records at one size" in text


def test_clouds_show_weights_and_tell_what_is_left_out(write, results):
    put(write, "paper-nanocluster", "reweighting", "grid of 60", 0)
    plots = nanocluster.clouds(read_records(results)[0])
    assert [plot.title for plot in plots] == [
        "Fig. 4: initial distribution (a sample of its own)",
        "Fig. 4: reweighting, grid of 60",
        "Fig. 4: truth",
    ]
    weights = [row[2] for row in plots[1].rows]
    assert sum(weights) == pytest.approx(1.0)
    assert weights == sorted(weights, reverse=True)
    assert "The 60 heaviest of 60 points, 100.0% of the mass" in plots[1].caption
    assert re.search(r"\d+\.\d% of the mass lies outside", plots[1].caption)
