"""The section of volumes: a table for each problem, with populations where there are discrete states."""

import csv

import numpy as np
import pytest

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections.volumes import SECTION, groups


def put(write, problem, variant, w2, arrays=True, **metrics):
    options = {"n_observations": 100, "image_size": 16, "snr": 0.1, "volume_size": 16}
    known = {"volume_w2": w2, "volume_spread": 10.0} | metrics
    floors = {name: {"median": 0.1, "q05": 0.05, "q95": 0.2, "n": 100} for name in ("volume_w2", *metrics)}
    kept = {
        "volumes_true": np.arange(192.0).reshape(3, 64), "volumes_estimated": np.ones((3, 64)),
        "along_true": np.arange(8.0).reshape(4, 2), "along_estimated": np.arange(12.0).reshape(4, 3),
    }  # fmt: skip
    config = {"problem": {"name": problem, "options": options}, "method": {"name": "class3d", "options": {}},
              "steps": 10, "every": 10, "stop_below": None}  # fmt: skip
    write(study="volumes", method="class3d", setting=variant, problem=problem, config=config, metrics=known,
          floors=floors, arrays=kept if arrays else {})  # fmt: skip


@pytest.fixture
def volumes(write, results):
    put(write, "adk-volumes", "classes, K = 4", 5.0)
    put(write, "adk-states", "classes, K = 10", 7.0, population_total_variation=0.3, population_error_in_kT=1.5)
    put(write, "adk-states", "classes, K = 4", 6.0, population_total_variation=0.02, population_error_in_kT=0.125)
    return results


def test_populations_are_columns_where_there_are_states(volumes):
    states, whole = sorted(groups(read_records(volumes)[0]), key=lambda group: len(group.rows), reverse=True)
    assert [row.label for row in states.rows] == ["classes, K = 4", "classes, K = 10"]
    assert set(states.metrics) - set(whole.metrics) == {"population_total_variation", "population_error_in_kT"}
    assert states.floors["population_error_in_kT"].median == pytest.approx(0.1)
    assert states.rows[0].metrics["population_error_in_kT"].median == pytest.approx(0.125)


def test_the_page_and_the_file_have_the_populations_and_every_figure_its_name(volumes, tmp_path):
    text = page.build(volumes, tmp_path / "out").read_text()
    section = text.partition('<section id="volumes">')[2].partition("</section>")[0]
    assert section.count("populations, kT</th>") == 1
    assert "0.125" in section
    lines = list(csv.DictReader((tmp_path / "out" / "volumes.csv").open()))
    found = {line["method"]: float(line["median"]) for line in lines if line["metric"] == "population_total_variation"}
    assert found == pytest.approx({"classes, K = 4": 0.02, "classes, K = 10": 0.3})
    names = [plot.name for plot in SECTION.figures(read_records(volumes)[0])["volumes"]]
    assert len(set(names)) == len(names) == 1 + 2 + 2 + 1  # densities, planes, maps, and those of the truth


def test_a_distribution_from_noise_is_called_undetermined(write, results):
    put(write, "adk-volumes", "classes, K = 4", 5.0, halves_shells=0.0, halves_area=0.03)
    put(write, "adk-states", "classes, K = 4", 6.0, halves_shells=5.0, halves_area=0.8)
    noise, states = sorted((group.halves for group in groups(read_records(results)[0])), reverse=True)
    assert noise.startswith("Undetermined: consensus volumes of two halves of these images agree in no shell")
    assert "0.03" in noise
    assert "agree in the first 5 of 7 shells (mean correlation 0.80)" in states


def test_records_without_arrays_have_a_table_and_no_figures(write, results, tmp_path):
    put(write, "adk-volumes", "classes, K = 4", 5.0, arrays=None)
    section = page.build(results, tmp_path / "out").read_text().partition('<section id="volumes">')[2]
    assert "classes, K = 4" in section.partition("</section>")[0]
