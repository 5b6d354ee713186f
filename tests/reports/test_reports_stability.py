"""Stability on the page: how many floors each change moves a method by, and which is said to be least stable."""

import csv
from pathlib import Path

import msgspec
import pytest

from cryosip.records.schema import Choice, Config, Floor, Identity, Labels, Record, as_json, id_of
from cryosip.reports import page
from cryosip.reports.sections.stability import CHANGES, groups

MOVED = {"class3d": (3.0, 2.0, 0.2, 5.0), "autoencoder": (0.5, 1.5, 0.1, 0.7)}
VARIANTS = {"class3d": "classes", "autoencoder": "autoencoder"}


def record(method, change, floors, replicate=0, **changes):
    """A run whose two estimates are so many floors of 2 apart."""
    images = {"n_observations": 100, "image_size": 16, "snr": 0.1, "volume_size": 8}
    return Record(
        run_id=f"{method}-{change}-{replicate}",
        study="stability",
        profile="small",
        labels=Labels(VARIANTS[method], "change", change),
        config=Config(Choice("adk-volumes", images), Choice(method, {"n_components": 4}), steps=10, every=10),
        replicate=replicate,
        seed=replicate,
        created="2025-11-20T12:00:00Z",
        identity=Identity(),
        metrics={"stability_w2": 2 * floors, "stability_over_floor": floors, "volume_w2": 7.0},
        floors={"stability_w2": Floor(2.0, 1.5, 2.5, 100)},
        **changes,
    )


@pytest.fixture
def moved():
    return [
        record(method, change, factor * number, replicate)
        for method, floors in MOVED.items()
        for change, number in zip(CHANGES, floors, strict=True)
        for replicate, factor in enumerate((0.9, 1.0, 1.2))
    ]


def test_the_least_stable_method_comes_first_and_is_named(moved):
    (group,) = groups(moved)
    assert group.title == "adk-volumes, 100 images of 16² at an SNR of 0.1, 8³ voxels"
    assert [row.label for row in group.rows] == ["classes", "autoencoder"]
    first, last = group.rows
    assert [s.median for s in first.changes.values()] == pytest.approx(MOVED["class3d"])
    assert first.error.median == pytest.approx(3.5)
    assert first.largest == (pytest.approx(5.0), "components")
    assert last.largest == (pytest.approx(1.5), "half")
    assert group.sentence == (
        "Least stable: classes, which moves by 5 floors with 10 components instead of 4; it is 3.5 floors from the "
        "truth. Most stable: autoencoder, at most 1.5 floors, with the other half of the images."
    )


def test_what_failed_is_no_change_and_comes_last():
    (group,) = groups([record("class3d", "seed", 9.0, status="error"), record("autoencoder", "seed", 1.0)])
    assert [row.label for row in group.rows] == ["autoencoder", "classes"]
    assert group.rows[1].largest[1] == ""
    assert group.sentence.startswith("Least stable: autoencoder, which moves by 1 floors")
    assert "classes" not in group.sentence


def test_a_row_that_another_engine_made_in_part_is_marked(moved):
    older = [
        msgspec.structs.replace(
            one, identity=Identity(engine="older"), created="2025-11-19T12:00:00Z", path=Path(one.run_id)
        )
        if one.run_id == "class3d-noise-1"
        else msgspec.structs.replace(one, identity=Identity(engine="newer"), path=Path(one.run_id))
        for one in moved
    ]
    assert [row.label for row in groups(older)[0].rows] == ["classes †", "autoencoder"]


def test_the_page_and_the_file_have_the_same_numbers(moved, tmp_path):
    (tmp_path / "stability").mkdir()
    for one in (msgspec.structs.replace(one, run_id=id_of(one)) for one in moved):
        (tmp_path / "stability" / f"{one.run_id}.json").write_text(as_json(one), encoding="utf-8")
    text = " ".join(page.build(tmp_path, tmp_path / "out").read_text().split())
    section = text.partition('<section id="stability">')[2].partition("</section>")[0]
    assert "Least stable: classes, which moves by 5 floors" in section
    assert 'id="stability-0"' in section
    lines = list(csv.DictReader((tmp_path / "out" / "stability.csv").open()))
    (line,) = (x for x in lines if (x["method"], x["change"]) == ("classes", "seed"))
    assert [float(line[name]) for name in ("over_floor", "w2", "floor", "w2_from_truth")] == pytest.approx([3, 6, 2, 7])
    assert len(lines) == 8
