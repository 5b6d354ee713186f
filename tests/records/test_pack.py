"""A pack travels: what is written is read, the same bytes from the same records, and what is damaged is refused."""

import hashlib
import json

import numpy as np
import pytest
from damage import CARD, RECORD, packed

from cryosip.records.pack import Card, unpack, write_pack
from cryosip.records.select import read_records
from cryosip.records.sources import opened
from cryosip.records.table import load

ONE, TWO = "paper-1d/a.json", "paper-1d/b.json"


def written(folder, **changes):
    """A folder with two records, one with arrays."""
    (folder / "paper-1d").mkdir(parents=True)
    for replicate, run_id in enumerate("ab"):
        record = RECORD | {"run_id": run_id, "replicate": replicate} | changes
        (folder / "paper-1d" / f"{run_id}.json").write_text(json.dumps(record))
    (folder / "paper-1d" / "a.npz").write_bytes(packed(theta=np.ones((4, 1))))
    return folder


@pytest.fixture
def results(tmp_path):
    return written(tmp_path / "results")


@pytest.fixture
def mine(results, tmp_path):
    write_pack(results, tmp_path / "mine.tar.zst", Card(**CARD))
    return tmp_path / "mine.tar.zst"


def test_the_same_records_are_read_from_a_folder_and_from_its_pack(results, mine, tmp_path):
    (of_folder, _), (of_pack, skipped) = read_records(results), read_records(mine)
    assert skipped == []
    assert [record.path for record in of_pack] == [record.path for record in of_folder]
    assert [record.metrics for record in of_pack] == [record.metrics for record in of_folder]
    assert of_pack[0].arrays["theta"].shape == (4, 1)
    (tmp_path / "elsewhere").mkdir()
    card, sha256 = unpack(mine, tmp_path / "elsewhere")
    assert (card.who, set(card.files)) == ("A. Author", {ONE, TWO, "paper-1d/a.npz"})
    assert sha256 == hashlib.sha256(mine.read_bytes()).hexdigest()
    assert load(tmp_path / "elsewhere").equals(load(results))


def test_the_same_records_give_the_same_bytes(results, mine, tmp_path):
    for path in results.rglob("*.*"):
        path.touch()
    write_pack(results, tmp_path / "again.tar.zst", Card(**CARD))
    assert (tmp_path / "again.tar.zst").read_bytes() == mine.read_bytes()


def test_what_was_extracted_is_removed(mine):
    with opened(mine) as (source,):
        assert (source.folder / ONE).is_file()
    assert not source.folder.exists()


def test_several_sources_count_a_run_once_and_name_where_files_are_from(results, mine, tmp_path):
    younger = written(tmp_path / "younger", created="2025-12-01")
    (younger / "paper-1d" / "cut.json").write_text("{")
    records, skipped = read_records([mine, younger])
    assert {record.path for record in records} == {younger / ONE, younger / TWO}
    why = f"superseded: {younger / ONE} is a record of the same run"
    assert dict(skipped)[mine / ONE] == why
    assert dict(skipped)[younger / "paper-1d/cut.json"].startswith("not complete JSON")
    twice, skipped = read_records([mine, mine])
    assert ([record.path.as_posix() for record in twice], skipped) == ([ONE, TWO], [])


def test_a_source_without_records_is_an_error_whatever_the_others_hold(mine, tmp_path):
    with pytest.raises(ValueError, match=r"no results folder at .*missing"):
        read_records([tmp_path / "missing", mine])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no readable record in .*empty"):
        read_records([mine, tmp_path / "empty"])
    with pytest.raises(ValueError, match="no source of records"):
        read_records([])
