"""Whatever lies in a results folder, there is a page of the rest, and it names what it left out."""

import html
import json
import os
import re

import numpy as np
import pytest

from cryosip.reports.page import build

EVIL = '<b onload="x">'
CONFIG = {"problem": {"name": "oned"}, "method": {"name": "flow"}, "steps": 5}
MOLECULE = {"source": "a", "chain": "A", "n_atoms": 5, "n_beads": 5, "eigenvalues": [1.0], "collectivity": [0.5]}


@pytest.fixture
def damaged(write, results) -> dict[str, str]:
    """A folder of good records, failed ones, and files of every kind that cannot be read: path and reason of these."""
    cloud = {"theta": np.ones((4, 1)), "weights": np.full(4, 0.25)}
    write(cloud)
    write(discrepancy="kl")
    write(replicate=1, status="error", message=f"out of memory {EVIL}", metrics={})
    write(replicate=2, status="diverged", message="loss is nan", metrics={"w2": None})
    write(replicate=3, status="timeout", message="too slow")
    whole = write(replicate=4).read_text()
    folder = results / "paper-1d"
    texts = {
        "broken": ("{'schema': 1}", "not complete JSON"),
        "cut": (whole[: len(whole) // 2], "not complete JSON"),
        "empty": ("", "not complete JSON"),
        "foreign": ('{"name": "package", "version": "1.0"}', "not a cryosip record"),
        "list": ("[1, 2]", "not a cryosip record"),
        **{
            f"schema {n}": (json.dumps(json.loads(whole) | {"schema": n}), f"schema {n}: this version of cryosip reads")
            for n in (0, 4)
        },
        "wrong": (
            json.dumps(json.loads(whole) | {"metrics": [EVIL]}),
            "Expected `object`, got `array` - at `$.metrics`",
        ),
        EVIL: ("{", "not complete JSON"),
    }
    for name, (text, _) in texts.items():
        (folder / f"{name}.json").write_text(text)
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    (folder / "folder.json").mkdir()
    garbage, pickled = write(cloud, replicate=5), write(cloud | {"x": np.array([{}], object)}, replicate=6)
    garbage.with_suffix(".npz").write_bytes(b"garbage")
    arrays = {f"{garbage.stem}.npz": "arrays not read: ", f"{pickled.stem}.npz": "arrays not read: "}
    files = {f"{name}.json": reason for name, (_, reason) in texts.items()}
    files |= {"binary.json": "not a text file in UTF-8", "folder.json": "Is a directory"}
    return {f"paper-1d/{name}": reason for name, reason in (files | arrays).items()}


def test_a_page_counts_and_names_everything_that_was_not_read(damaged, results, tmp_path):
    page = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert f"Runs that failed: 3. Files not read: {len(damaged)}." in page
    for path, reason in damaged.items():
        row = html.unescape(page)[html.unescape(page).index(f"<code>{path}</code>") :]
        assert reason in row[: row.index("</tr>")]
    for message in ("out of memory", "loss is nan", "too slow"):
        assert f'<td class="text">{message}' in page
    assert "<b onload" not in page
    assert str(tmp_path) not in page


def test_a_folder_whose_name_no_text_can_hold_is_named(write, results, tmp_path):
    write()
    (results / os.fsdecode(b"odd\xff")).mkdir()
    (results / os.fsdecode(b"odd\xff") / "a.json").write_text("{")
    page = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert r"odd\udcff/a.json" in page


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"config": CONFIG | {"method": {"options": [1]}}},
            "at `$.config.method.options`",
        ),
        ({"config": CONFIG | {"problem": "oned"}}, "Expected `object`, got `str` - at `$.config.problem`"),
        ({"steps": 2**63}, "at `$.steps`"),
        ({"config": CONFIG | {"steps": 10**400}}, "int too large to convert to float"),
        ({"molecule": MOLECULE | {"eigenvalues": [1.0, 2.0]}}, "as many eigenvalues as collectivities"),
        (
            {"molecule": MOLECULE | {"eigenvalues": ["a"]}},
            "at `$.molecule.eigenvalues[0]`",
        ),
        ({"colour": "red"}, "Object contains unknown field `colour`"),
        ({"message": "\x1b[1m"}, "Expected `str` matching regex"),
    ],
)
def test_what_no_figure_could_be_drawn_of_is_named(write, results, tmp_path, changes, reason):
    write()
    bad = write(study="otd-vs-dto", **changes)
    page = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert "Files not read: 1." in page
    row = page[page.index(f"<code>otd-vs-dto/{bad.name}</code>") :]
    assert reason in html.unescape(row[: row.index("</tr>")])


CLOUD = {"theta": np.ones((4, 2)), "weights": np.full(4, 0.25), "theta_true": np.zeros((9, 2))}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"theta": np.full((4, 2), np.nan)}, "theta holds what is no finite number"),
        ({"theta": np.ones((0, 2)), "weights": np.ones(0)}, "theta has shape (0, 2)"),
        ({"theta_true": np.ones((9, 3))}, "theta, theta_init, theta_true differ in their numbers of columns"),
        ({"weights": np.zeros(4)}, "not all zero"),
        ({"weights": np.array([0.5, 0.5, 0.5, -0.5])}, "none below zero"),
        ({"weights": np.ones((4, 1))}, "wanted points (k, d) and weights (k,)"),
        ({"image_clean": np.ones((4, 9)), "image_noisy": np.ones((4, 16))}, "differ in their numbers of columns"),
        ({"beads": np.ones((5, 2))}, "beads has shape (5, 2)"),
        ({"beads": np.ones((5, 3)), "motions": np.ones((2, 14))}, "motions has shape (2, 14): wanted 15 columns"),
    ],
)
def test_arrays_that_no_figure_could_be_drawn_of_are_named(write, results, tmp_path, changes, reason):
    write(CLOUD | {"beads": np.ones((5, 3)), "motions": np.ones((2, 15)), "image_clean": np.ones((4, 9))})
    bad = write(CLOUD | changes, study="paper-adk", molecule=MOLECULE)
    page = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert "Files not read: 1." in page
    row = page[page.index(f"<code>paper-adk/{bad.stem}.npz</code>") :]
    assert re.search(f"arrays not read: .*{re.escape(reason)}", row[: row.index("</tr>")])


def test_numbers_that_are_missing_leave_a_page(write, results, tmp_path):
    """Runs that lack what a figure is about are left out of it."""
    short = {"step": [1, 2], "seconds": [1.0, 2.0], "w2": [0.5, 0.4], "w1": [0.5, 0.4]}
    budgets = {"config": CONFIG | {"budgets": {"seconds": [2.0], "forward_evaluations": [10.0]}}}
    write(study="otd-vs-dto", curve=short, **budgets)
    zero = {"w2": {"median": 0.0, "q05": 0.0, "q95": 0.0, "n": 5}}
    write(study="otd-vs-dto", curve=short, data_floors=zero, oracle_metrics={"w2": 0.1}, replicate=1, **budgets)
    for replicate, cutoff in enumerate((10.0, 12.0)):
        settings = CONFIG | {"problem": {"name": "hsp90", "options": {"cutoff_in_angstroms": cutoff, "snr": 1.0}}}
        write(study="hsp90-open", config=settings, replicate=replicate, metrics={"energy_distance_squared": 1.0})
    for method in ("large-data", "particle-number", "prior-weight", "gradient-descent", "another"):
        write(study="consistency", method=method, discrepancy=None, curve={"n": [1.0, 2.0]})
    holes = {"n": [1.0, 2.0], "gap": [1.0, None], "certificate": [0.0, 0.0]}
    write(study="consistency", method="large-data", setting="energy, x", discrepancy=None, curve=holes, replicate=1)
    whole = holes | {"gap": [1.0, 0.5]}
    write(study="consistency", method="large-data", setting="new, x", discrepancy=None, curve=whole, replicate=2)
    page = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert "Every file was read." in page
    assert (tmp_path / "out" / "figures" / "consistency-n-0.csv").read_text().splitlines()[1:] == [
        "new,x,2,1.0,1.0",
        "new,x,2,2.0,0.5",
    ]
