"""Files that are there whole or not at all."""

import os
import stat

import numpy as np
import pytest

from cryosip.records import files


def test_a_failing_writer_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def writer(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files._write_atomically(path, writer)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_through_a_link_and_never_over_a_device(tmp_path):
    real, link, pipe = (tmp_path / name for name in ("real", "link", "pipe"))
    real.write_text("old")
    link.symlink_to(real)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="pipe exists and is not a file"):
        files.write_text(pipe, "new")
    assert pipe.is_fifo()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_are_as_readable_as_the_user_makes_all_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        files.write_text(tmp_path / "a.json", "{}")
        files.write_arrays(tmp_path / "a.npz", {"theta": np.zeros((3, 1))})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~mask}
