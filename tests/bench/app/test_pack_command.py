"""Packs at the command line."""

import json

from damage import RECORD
from test_cli import cryosip

from cryosip.records.select import read_records


def test_a_pack_is_made_and_read_wherever_a_folder_is(tmp_path):
    a = tmp_path / "a"
    (a / "paper-1d").mkdir(parents=True)
    for replicate in range(3):
        record = RECORD | {"run_id": f"{replicate}", "replicate": replicate, "dataset_hash": f"feed{replicate}"}
        (a / "paper-1d" / f"{replicate}.json").write_text(json.dumps(record))
    mine, words = tmp_path / "mine.tar.zst", ["--who", "A. Author", "--what", "Three runs."]
    code, text = cryosip("pack", a, "-o", mine, *words)
    assert (code, text.strip()) == (0, str(mine))
    code, text = cryosip("compare", a, mine, a, "--out", tmp_path / "page")
    assert (code, text.count("Nothing moved beyond its interval.")) == (0, 2)
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"compare.html", "compare-2.html"}
    assert cryosip("export", "--results", mine)[1].count("paper-1d") == 6  # two metrics each
    first = read_records(mine)[0][0]
    assert f"files {mine / first.path} no arrays" in cryosip("show", first.run_id, "--results", mine)[1]
    code, text = cryosip("report", "--results", a, "--with", mine, "--out", tmp_path / "page")
    assert (code, "not shown: 3" in text) == (0, True)
    code, text = cryosip("report", "--results", tmp_path / "missing", "--with", "published")
    assert (code, f"cryosip: no results folder at {tmp_path / 'missing'}" in text) == (1, True)
    mine.write_bytes(mine.read_bytes()[:100])
    code, text = cryosip("report", "--results", a, "--with", mine)
    assert (code, f"cryosip: {mine} is not a sound pack: it is cut short" in text) == (1, True)
    assert cryosip("pack", a, "-o", mine)[0] == 2  # neither who nor what
    assert cryosip("pack", a, "-o", mine, "--who", "", "--what", "runs")[0] == 1
