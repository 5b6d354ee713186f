"""Packs that are damaged or want harm: each is refused with its name and the reason, and nothing leaves its folder."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import zstandard
from damage import CARD, RECORD, packed

from cryosip.records import pack, read
from cryosip.records.select import read_records

ONE, TWO = "paper-1d/a.json", "paper-1d/b.json"
TEXT = json.dumps(RECORD).encode()
GOOD = {ONE: TEXT}
SIZE, SHA256 = len(TEXT), hashlib.sha256(TEXT).hexdigest()
FITS = {"size": SIZE, "sha256": SHA256}


def described(files):
    return {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}


def card(files, **changes):
    return json.dumps({"format": 1, **CARD, "files": files} | changes).encode()


def compressed(*members, end=b""):
    """A pack of (name, content) and of whatever else a tar file may hold."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.fileobj.write(member.tobuf(tarfile.USTAR_FORMAT))
            else:
                entry = tarfile.TarInfo(member[0])
                entry.size = len(member[1])
                archive.addfile(entry, io.BytesIO(member[1]))
    return zstandard.ZstdCompressor(1).compress(data.getvalue() + end)


def forged(files, on_card=None, *more, **changes):
    """A pack of files, under a card that names them or others."""
    text = card(described(files) if on_card is None else on_card, **changes)
    return compressed((pack.CARD, text), *files.items(), *more)


def member(name, kind=tarfile.REGTYPE, size=0):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, size, "/etc/passwd"
    return entry


HUGE = {f"s/{i}.json": {"size": pack.LARGEST_FILE, "sha256": ""} for i in range(17)}
MANY = {f"s/{i}.json": {"size": 0, "sha256": ""} for i in range(pack.MOST_FILES + 1)}
WIDE = bytes.fromhex("28b52ffd00a8010000")  # a frame that wants 2 GiB of memory
HOSTILE = {
    "empty": (lambda: b"", "it is cut short"),
    "not zstd": (lambda: b"not a pack", "Unknown frame descriptor"),
    "no tar": (lambda: zstandard.compress(b"no tar" * 1000), "invalid header|bad checksum"),
    "cut tar": (lambda: zstandard.compress(zstandard.decompress(forged(GOOD))[:2000]), "it is cut short"),
    "wide window": (lambda: WIDE, "too much memory"),
    "card missing": (lambda: compressed(*GOOD.items()), "it begins with 'paper-1d/a.json': wanted 'card.json'"),
    "card not first": (lambda: compressed(*GOOD.items(), (pack.CARD, card(described(GOOD)))), "wanted 'card.json'"),
    "nothing": (lambda: compressed(), "wanted 'card.json'"),
    "card not JSON": (lambda: compressed((pack.CARD, b"{")), "'card.json': Input data was truncated"),
    "card too deep": (lambda: compressed((pack.CARD, b"[" * 10**6)), "'card.json': "),
    "card too large": (lambda: compressed(member(pack.CARD, size=2**30)), "'card.json' has 1,073,741,824 bytes"),
    "card of tomorrow": (lambda: forged(GOOD, format=2), "format 2: this version of cryosip reads format 1"),
    "card says more": (lambda: forged(GOOD, nonsense=1), "unknown field `nonsense`"),
    "card without a licence": (lambda: forged(GOOD, licence=""), r"matching regex.*\$\.licence"),
    "card for a terminal": (lambda: forged(GOOD, who="\x1b[2J"), r"matching regex.*\$\.who"),
    "wrong sha256": (lambda: forged(GOOD, {ONE: FITS | {"sha256": "0" * 64}}), f"'{ONE}' has the sha256 {SHA256}"),
    "wrong size": (lambda: forged(GOOD, {ONE: FITS | {"size": 1}}), f"'{ONE}' has {SIZE:,} bytes: its card says 1"),
    "missing file": (lambda: forged(GOOD, {ONE: FITS, TWO: FITS}), f"1 files .* are missing, such as '{TWO}'"),
    "extra file": (lambda: forged(GOOD, {}), f"'{ONE}' is not on its card"),
    "twice": (lambda: forged(GOOD, None, (ONE, TEXT)), f"'{ONE}' is in it twice"),
    "second card": (lambda: forged(GOOD, None, (pack.CARD, b"{}")), "'card.json' is not on its card"),
    "way out": (lambda: forged({"../evil.json": b""}), "it names '../evil.json': wanted <study>/<file>.json or .npz"),
    "way out, not on the card": (lambda: forged({"a/../../evil.json": b""}, {}), "'a/../../evil.json' is not on"),
    "absolute path": (lambda: forged({"/tmp/evil.json": b""}), "it names '/tmp/evil.json'"),
    "Windows path": (lambda: forged({"a\\..\\b/evil.json": b""}), "it names 'a.*evil.json'"),
    "line break": (lambda: forged({"a/evil.json\n": b""}), r"it names 'a/evil.json\\n'"),
    "deeper folder": (lambda: forged({"a/b/evil.json": b""}), "it names 'a/b/evil.json'"),
    "program": (lambda: forged({"a/evil.py": b""}), "it names 'a/evil.py'"),
    "symlink": (lambda: forged({}, {ONE: FITS}, member(ONE, tarfile.SYMTYPE)), f"'{ONE}' is of tar type '2'"),
    "hard link": (lambda: forged({}, {ONE: FITS}, member(ONE, tarfile.LNKTYPE)), f"'{ONE}' is of tar type '1'"),
    "device": (lambda: forged({}, {ONE: FITS}, member(ONE, tarfile.CHRTYPE)), f"'{ONE}' is of tar type '3'"),
    "pipe": (lambda: forged({}, {ONE: FITS}, member(ONE, tarfile.FIFOTYPE)), f"'{ONE}' is of tar type '6'"),
    "folder": (lambda: forged({}, {}, member("paper-1d", tarfile.DIRTYPE)), "'paper-1d' is of tar type '5'"),
    "long header": (lambda: forged({}, {}, member("x", tarfile.XHDTYPE, 2**32)), "'x' is of tar type 'x'"),
    "too many files": (lambda: forged({}, MANY), "100,001 files: wanted at most 100,000"),
    "file too large": (lambda: forged({}, {ONE: FITS | {"size": 2**40}}), "1,099,511,627,776 bytes: wanted at most"),
    "negative size": (lambda: forged({}, {ONE: FITS | {"size": -1}}), "has -1 bytes"),
    "pack too large": (lambda: forged({}, HUGE), "4,563,402,752 bytes: wanted at most 4,294,967,296"),
    "bomb": (lambda: forged({}, {ONE: FITS}, member(ONE, size=2**32)), f"'{ONE}' has 4,294,967,296 bytes"),
    "bomb at the end": (lambda: compressed((pack.CARD, card({})), end=bytes(10**8)), "it goes on after its last file"),
    "something at the end": (lambda: compressed((pack.CARD, card({})), end=b"x"), "it goes on after its last file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pack_that_is_not_sound_is_refused_by_name(name, tmp_path, monkeypatch):
    make, why = HOSTILE[name]
    path = tmp_path / "in" / "hostile.tar.zst"
    path.parent.mkdir()
    path.write_bytes(make())
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(read, "parsed", lambda _: pytest.fail("a record was read"))
    with pytest.raises(ValueError, match=rf"hostile\.tar\.zst is not a sound pack: .*{why}"):
        read_records(path)
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()} == {
        "in/hostile.tar.zst"}  # fmt: skip


def test_what_the_hostile_packs_are_made_from_is_sound(tmp_path):
    (tmp_path / "good").write_bytes(forged(GOOD))
    assert len(read_records(tmp_path / "good")[0]) == 1


def test_no_flipped_bit_and_no_lost_part_goes_unseen(tmp_path):
    """A few bits of zstd decide nothing, such as those of the window: what is read is the same then."""
    folder, path, refused = tmp_path / "results", tmp_path / "mine.tar.zst", 0
    (folder / "paper-1d").mkdir(parents=True)
    (folder / ONE).write_bytes(TEXT)
    pack.write_pack(folder, path, pack.Card(**CARD))
    data = path.read_bytes()
    flipped = [data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :] for at in range(0, len(data), 7)]
    for i, damaged in enumerate([*flipped, *(data[:kept] for kept in (1, 10, len(data) // 4, len(data) // 2))]):
        path.write_bytes(damaged)
        out = tmp_path / str(i)
        out.mkdir()
        try:
            pack.unpack(path, out)
        except ValueError as error:
            refused += "is not a sound pack" in str(error)
        else:
            assert (out / ONE).read_bytes() == TEXT
            assert i < len(flipped)
    assert refused > 0.9 * len(flipped)


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_among_the_arrays_is_named_and_never_loaded(tmp_path):
    arrays = packed(theta=np.array([Trap(tmp_path / "sprung")], dtype=object))
    (tmp_path / "mine").write_bytes(forged(GOOD | {"paper-1d/a.npz": arrays}))
    (record,), ((path, why),) = read_records(tmp_path / "mine")
    assert (record.arrays, path) == ({}, Path("paper-1d/a.npz"))
    assert "pickle" in why
    assert not (tmp_path / "sprung").exists()


def test_arrays_that_a_small_file_blows_up_to_are_named_and_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "LARGEST_ARRAYS", 10_000)
    data = io.BytesIO()
    np.savez_compressed(data, theta=np.zeros((10_000, 1)))
    (tmp_path / "mine").write_bytes(forged(GOOD | {"paper-1d/a.npz": data.getvalue()}))
    (record,), ((_, why),) = read_records(tmp_path / "mine")
    assert record.arrays == {}
    assert why == "arrays not read: 80,128 bytes when unpacked: wanted at most 10,000"


@pytest.mark.parametrize("changes", [{"who": ""}, {"what": "a\nb"}, {"licence": "mine & yours"}])
def test_a_card_that_nobody_could_read_is_not_written(tmp_path, changes):
    (tmp_path / "results/paper-1d").mkdir(parents=True)
    (tmp_path / "results" / ONE).write_bytes(TEXT)
    with pytest.raises(ValueError, match=r"card\.json"):
        pack.write_pack(tmp_path / "results", tmp_path / "mine.tar.zst", pack.Card(**CARD | changes))
    assert not (tmp_path / "mine.tar.zst").exists()
