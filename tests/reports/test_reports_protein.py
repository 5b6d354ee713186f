"""Figs. 5 to 8, the table of modes and what the paper leaves open, from records that were made up."""

from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

from cryosip.records.schema import Record
from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections import protein

MOLECULE = {
    "source": "toy<b>.pdb", "chain": "A", "n_atoms": 40, "n_beads": 20, "eigenvalues": [0.02, 0.05],
    "collectivity": [0.6, 0.1],
}  # fmt: skip


def put(write, study: str, method: str, setting: str, replicate: int, discrepancy: str = "", **problem: Any) -> None:
    rng = np.random.default_rng(replicate)
    n = 50
    clouds = {name: rng.normal(size=(n, 2)) for name in ("theta", "theta_init", "beta_true", "beta_init")}
    arrays = clouds | {
        "beta_estimated": rng.normal(size=(n, 2)),
        "theta_true": rng.normal(size=(3 * n, 2)) + 3,
        "weights": np.full(n, 1 / n),
        "beads": rng.normal(size=(20, 3)) * 20 + replicate,
        "motions": rng.normal(size=(2, 60)),
        "image_clean": rng.random((4, 64)),
        "image_noisy": rng.normal(size=(4, 64)),
    }
    options: dict[str, Any] = {"discrepancy": {"name": discrepancy}} if discrepancy else {"n_components": 5}
    config = {
        "problem": {"name": "hsp90", "options": {"n_observations": n} | problem},
        "method": {"name": method, "options": options},
        "steps": 200, "every": 50, "stop_below": None,
    }  # fmt: skip
    start = {"energy_distance_squared": 1.9, "w1_mode_1": 4.0 + replicate, "w1_mode_2": 2.0}
    floor = {"median": 0.02, "q05": 0.01, "q95": 0.04, "n": n}
    write(
        arrays, study=study, method=method, setting=setting, problem="hsp90", config=config, replicate=replicate,
        dataset_hash=f"beef{replicate}{problem}", metrics=start | {"energy_distance_squared": 0.1, "w1_mode_1": 0.5},
        initial_metrics=start, molecule=MOLECULE, collapsed_components=2 if method == "mixture" else None,
        floors={"energy_distance_squared": floor}, data_floors={"energy_distance_squared": floor},
        curve={"step": [0, 200], "seconds": [0.0, 5.0], "w1": [4.0, 1.0], "w2": [4.0, 1.0]},
    )  # fmt: skip


@pytest.fixture
def records(write, results: Path) -> list[Record]:
    for i in range(2):
        put(write, "paper-hsp90", "flow", "published", i, "energy")
        put(write, "paper-hsp90", "flow", "tuned", i, "invariant-energy")
        put(write, "paper-hsp90", "mixture", "K=5", i)
        for cutoff in (10.0, 15.0):
            fields = {"cutoff_in_angstroms": cutoff, "snr": 1.0}
            put(write, "hsp90-open", "flow", f"cutoff={cutoff:g}", i, "invariant-energy", **fields)
    return read_records(results)[0]


def own(records: list[Record]) -> list[Record]:
    return [record for record in records if record.study == "paper-hsp90"]


def test_every_figure_of_section_4_3_is_drawn_from_the_first_replicate(records):
    names = [
        plot.name
        for part in (protein.molecule, protein.marginals, protein.motions, protein.principal)
        for plot in part(own(records), "x-")
    ]
    assert names == [f"x-fig{n}" for n in ("5a", "5b", "5c", "6-1", "6-2", "7-1", "7-2", "8-1", "8-2")]
    marginal = protein.marginals(own(records), "x-")[0]
    assert marginal.columns == ["centre", "truth", "initial", "energy flow", "invariant-energy flow"]
    widths = np.diff([row[0] for row in marginal.rows])
    centres, truth, initial = np.transpose([row[:3] for row in marginal.rows])
    np.testing.assert_allclose(truth.sum() * widths[0], 1, atol=0.05)
    np.testing.assert_allclose([centres @ truth * widths[0], centres @ initial * widths[0]], [3, 0], atol=0.6)
    assert "replicate 0" in marginal.caption
    moved = protein.motions(own(records)[::-1], "x-")[0]
    assert "collectivity 0.6" in moved.caption
    first = next(record for record in own(records) if record.replicate == 0)
    np.testing.assert_allclose(np.array(moved.rows)[:, :3], first.arrays["beads"])


def test_the_table_of_modes_has_the_initial_law_once_for_each_data_set(records):
    columns, rows = protein.mode_table(own(records))
    assert columns == ["start (initial distribution)", "energy flow", "invariant-energy flow", "mixture K=5"]
    assert [(row.mode, row.eigenvalue, row.collectivity) for row in rows] == [(1, 0.02, 0.6), (2, 0.05, 0.1)]
    assert rows[0].distances[0].median == pytest.approx(4.5)
    assert rows[0].distances[1].median == pytest.approx(0.5)


def test_what_is_open_is_drawn_where_two_values_were_run(records):
    (plot,) = protein.open_fields([r for r in records if r.study == "hsp90-open"])
    assert plot.name == "hsp90-cutoff"
    assert [row[:3] for row in plot.rows] == [["invariant-energy flow", 10.0, 2], ["invariant-energy flow", 15.0, 2]]
    assert plot.rows[0][3:] == pytest.approx([1.9, 0.1, 0.02])


def test_collapsed_components_are_told(records):
    assert protein.collapsed(own(records)) == [f"K=5, replicate {i}: 2 of 5 components collapsed." for i in (0, 1)]


def test_the_page_has_the_section_and_escapes_what_comes_from_a_record(records, results, tmp_path):
    text = page.build(results, tmp_path / "out").read_text()
    assert "Fig. 5a: the structure" in text
    assert "toy&lt;b&gt;.pdb" in text
    assert "toy<b>" not in text
    assert "HSP90 was not run" not in text
    assert (tmp_path / "out/figures/paper-hsp90-fig6-1.csv").is_file()


def test_the_page_says_when_another_protein_stands_in(write, results, tmp_path):
    put(write, "paper-adk", "flow", "published", 0, "energy")
    text = page.build(results, tmp_path / "out").read_text()
    assert "HSP90 was not run" in text
    assert "Adenylate kinase stands in" in text


def test_the_two_readings_stand_apart(write, results, tmp_path):
    for i in range(3):
        put(write, "paper-hsp90", "flow", "as conjectured", i, "energy", amplitude="inverse")
        put(write, "hsp90-methods", "mixture", "K=5", i, amplitude="inverse")
        put(write, "paper-hsp90", "flow", "as printed", i, "energy")
    records = read_records(results)[0]
    kept = {name: one.records(records) for name, one in protein.PROTEINS.items()}
    assert {name: len(own) for name, own in kept.items()} == {
        "paper-hsp90-conjectured": 6, "paper-hsp90": 3, "paper-adk": 0
    }  # fmt: skip
    text = page.build(results, tmp_path / "out").read_text()
    assert text.index("HSP90 as conjectured") < text.index("HSP90 as printed")


def test_motions_are_models_that_programs_open(records, results, tmp_path):
    page.build(results, tmp_path / "out")
    structure = gemmi.read_pdb(str(tmp_path / "out/figures/paper-hsp90-fig7-1.pdb"))
    places = [np.array([atom.pos.tolist() for chain in model for res in chain for atom in res]) for model in structure]
    first = next(record for record in own(records) if record.replicate == 0)
    beads, move = first.arrays["beads"], first.arrays["motions"].reshape(-1, 20, 3)[0]
    assert len(places) == 5
    np.testing.assert_allclose(places[2], beads, atol=6e-4)
    np.testing.assert_allclose(places[4], beads + 9 * move, atol=6e-4)
