"""Whatever lies in a results folder, there is a page of the rest, and it names what it left out."""

import html
import json
import os
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cryosip.reports.page import build

EVIL = '<b onload="x">'


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
        "older": (json.dumps(json.loads(whole) | {"schema": 0}), "schema 0: this version of cryosip reads schema 1"),
        "newer": (json.dumps(json.loads(whole) | {"schema": 2}), "schema 2: this version of cryosip reads schema 1"),
        "wrong": (json.dumps(json.loads(whole) | {"metrics": [EVIL]}), f"metrics is ['{EVIL}']: wanted a table"),
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
        row = f'<code>{html.escape(path)}</code></th><td class="text">{html.escape(reason)}'
        assert row.replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page
    for message in ("out of memory", "loss is nan", "too slow"):
        assert f'<td class="text">{message}' in page
    assert "<b onload" not in page
    assert str(tmp_path) not in page


def test_an_empty_folder_makes_no_page(results, tmp_path):
    results.mkdir()
    with pytest.raises(ValueError, match=r"no readable record in .*results \(wanted .*, schema 1\)$"):
        build(results, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


def test_a_long_value_of_the_wrong_type_is_cut(write, results, tmp_path):
    write()
    write(metrics=list(range(100_000)))
    page = build(results, tmp_path / "out").read_text(encoding="utf-8")
    reason = re.search(r"metrics is [^<]*", page)
    assert reason
    assert len(reason.group()) < 200


def test_characters_that_no_file_may_hold_are_written_out(write, results, tmp_path):
    """A half of a pair comes from a path in another encoding; an escape of a terminal from a message."""
    odd = "a\ud83d\x1b[1mb"
    for replicate in (0, 1):
        write(study="scaling", setting="N=100", method=odd, discrepancy=None, options={"n_particles": 100 + replicate},
              message=odd, replicate=replicate, environment={odd: odd})  # fmt: skip
    write(status="error", message="\U0001f600\tω\b", metrics={})
    (results / os.fsdecode(b"odd\xff")).mkdir()
    (results / os.fsdecode(b"odd\xff") / "a.json").write_text("{")
    out = build(results, tmp_path / "out").parent
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count(r"a\ud83d\x1b[1mb") > 3
    assert "\U0001f600\tω\\x08" in page
    assert r"odd\udcff/a.json" in page
    texts = {
        path.stem: "".join(ElementTree.parse(path).getroot().itertext()) for path in (out / "figures").glob("*.svg")
    }
    assert r"a\ud83d\x1b[1mb" in texts["scaling-oned-n-w2"]
