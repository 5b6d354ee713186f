"""Files of rows: numbers of any real type, read ahead in order, and errors that name the file."""

import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import mrcfile
import numpy as np
import pytest

from cryosip.methods import shards, stored
from cryosip.methods.shards import Shard, reader

Y = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
ROW = np.arange(30)[:, None]


def saved(path, y):
    np.save(path, y)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i2", "|u1"])
def test_numbers_of_any_real_type_are_converted(tmp_path, dtype):
    y = np.abs(10 * Y).astype(dtype)
    found = reader([saved(tmp_path / "a.npy", y[:11]), saved(tmp_path / "b.npy", y[11:])])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.rows(np.arange(30)), y.astype(np.float32))
    np.testing.assert_array_equal(found.rows(np.array([29, 10, 11, 10])), y[[29, 10, 11, 10]].astype(np.float32))


def test_parts_of_maps_begin_where_they_begin(tmp_path):
    """The header of the file, and the rows before; also of a file that is larger than a page."""
    y = np.arange(5_000.0, dtype=np.float32).reshape(-1, 4)
    whole = saved(tmp_path / "a.npy", y)
    y.tofile(tmp_path / "raw")
    raw = np.memmap(tmp_path / "raw", np.float32, "r", offset=4_800 * 4, shape=(50, 4))
    for part, wanted in (
        (whole[1_100:], y[1_100:]),
        (whole.reshape(-1, 8)[3:9], y.reshape(-1, 8)[3:9]),
        (raw, y[1_200:]),
    ):
        np.testing.assert_array_equal(reader(part).rows(np.arange(len(part))), wanted)


def test_a_stack_of_mrcfile_is_read(tmp_path):
    images = Y.reshape(30, 2, 3)
    with mrcfile.new(tmp_path / "a.mrcs", images):
        pass
    with mrcfile.mmap(tmp_path / "a.mrcs") as file:
        np.testing.assert_array_equal(reader(file.data.reshape(30, -1)).rows(np.arange(30)), Y)


def test_what_is_in_memory_is_none_of_this(tmp_path):
    mapped = saved(tmp_path / "a.npy", Y)
    for value in (Y, Y.tolist(), [Y, Y], mapped + 1, mapped.copy(), []):
        assert reader(value) is None


def bad(tmp_path, change):
    """Two shards, the second of which is changed."""
    return [saved(tmp_path / "a.npy", Y), change(tmp_path / "b.npy")]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: saved(p, Y[:, :5]), r"observations\[1\] .*b.npy\) has rows of 5; wanted 6"),
        (lambda p: saved(p, np.zeros((3, 6), "i2")), r"observations\[1\] .*b.npy\) has dtype int16; wanted the kind"),
        (lambda p: saved(p, Y.astype(complex)), r"observations\[1\] .*b.npy\) has dtype complex128; wanted real"),
        (lambda p: saved(p, Y > 0), r"observations\[1\] .*b.npy\) has dtype bool; wanted real"),
        (lambda p: saved(p, Y)[3:3], r"observations\[1\] .* has shape \(0, 6\); wanted"),
        (lambda p: saved(p, Y.reshape(30, 2, 3)), r"observations\[1\] .*b.npy\) has shape \(30, 2, 3\); wanted"),
        (lambda p: saved(p, Y)[::2], r"observations\[1\] .*b.npy\) has mode 'r' and strides \(48, 4\)"),
        (lambda p: np.load(saved(p, Y).filename, mmap_mode="c"), r"observations\[1\] .*b.npy\) has mode 'c'"),
        (lambda p: Y, r"observations\[1\] is a ndarray; wanted a memory map"),
        (lambda p: saved(p, np.where(ROW == 17, np.nan, Y)), r"observations\[1\] .*b.npy\) holds NaN .* in row 17"),
        (lambda p: saved(p, np.full((2, 6), 1e300)), r"observations\[1\] .*b.npy\) holds NaN or infinite .* in row 0"),
    ],
    ids=["width", "kind", "complex", "bool", "empty", "cube", "strides", "copy", "array", "nan", "overflow"],
)  # fmt: skip
def test_a_bad_shard_is_named(tmp_path, change, why):
    with pytest.raises(ValueError, match=why):
        reader(bad(tmp_path, change))


def test_batches_are_read_ahead_in_their_order(tmp_path, monkeypatch):
    """Each row once, the next batch by another thread while the one before is in use."""
    found, read, here = reader(saved(tmp_path / "a.npy", Y)), [], threading.get_ident()
    plain = Shard.read

    def watched(shard, rows, into):
        read.append((rows.tolist(), threading.get_ident() == here))
        plain(shard, rows, into)

    monkeypatch.setattr(Shard, "read", watched)
    for low in range(0, 30, 8):  # the last as methods ask for it: filled up with the last row
        index = np.minimum(np.arange(low, low + 8), 29)
        np.testing.assert_array_equal(found.rows(index), Y[index])
        if found._next:
            found._next[2].result()
        assert read[-1][0][0] == min(low + 8, 24)
    assert [rows for rows, _ in read] == [list(range(low, min(low + 8, 30))) for low in range(0, 30, 8)]
    assert [inline for _, inline in read] == [True, False, False, False]


def test_rows_here_and_there_are_read_alone(tmp_path, monkeypatch):
    found, read = reader(saved(tmp_path / "a.npy", Y)), []
    monkeypatch.setattr(shards, "ADVISED", 1)
    monkeypatch.setattr(Shard, "_fill", lambda shard, file, place, part: read.append((place - 128) // 24))
    found.rows(np.array([[25, 3], [3, 11]]))
    assert read == [3, 11, 25]


@pytest.mark.parametrize("harm", ["truncated", "gone"])
def test_a_file_that_changes_under_a_program_is_named(tmp_path, harm):
    y = stored.opened(saved(tmp_path / "a.npy", Y))
    total = jax.jit(lambda: stored.mean_of(lambda rows: rows, y))
    np.testing.assert_allclose(total(), Y.mean(0), atol=1e-6)
    if harm == "gone":
        (tmp_path / "a.npy").unlink()
        why = r"No such file or directory: .*a\.npy"
    else:
        os.truncate(tmp_path / "a.npy", 500)
        why = r"a\.npy ends at byte 500; wanted 848 bytes, 30 rows of 6 float32, as it had when it was opened"
    with pytest.raises(Exception, match=why):
        jax.block_until_ready(total())


PROGRAM = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from cryosip.methods import stored
y = np.lib.format.open_memmap(sys.argv[1], "w+", np.float32, (120_000, 2_048))
for low in range(0, 120_000, 1_000):
    y[low : low + 1_000] = low / 1_000
del y
def high():
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
Path("/proc/self/clear_refs").write_text("5")
before = high()
seen = stored.opened(np.load(sys.argv[1], mmap_mode="r"))
mean = stored.mean_of(lambda rows: rows, seen)
some = stored.mapped(lambda rows: rows[:, :1], seen)
assert float(abs(mean - 59.5).max()) < 0.01 and float(some[-1, 0]) == 119
print(high() - before)
"""


@pytest.mark.slow  # it writes a gigabyte
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of resident memory from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Four batches of 16 MB at a time, programs and threads: below a quarter of the file."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "a.npy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert int(done.stdout) / 1024 < 234


def test_stored_rows_are_clipped_as_those_of_arrays(tmp_path):
    y = stored.opened(saved(tmp_path / "a.npy", Y))
    np.testing.assert_array_equal(jax.jit(lambda i: y[i])(jnp.array([40, -1])), Y[[29, 29]])
