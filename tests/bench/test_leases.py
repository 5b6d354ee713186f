"""Leases: one owner at a time, on file systems without locks, whatever becomes of processes, hosts and their clocks."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from cryosip.bench import leases
from cryosip.bench.app import locks

ELSEWHERE = leases.Process("another-host", "boot", 4711, "17")


@pytest.fixture
def record(tmp_path):
    return tmp_path / "0123.json"


@pytest.fixture
def quick(monkeypatch):
    """Heartbeats in hundredths of a second."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(leases, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.01)


def left_by(record, owner, number=0):
    file = record.with_name(f".{record.stem}.lease-{number:06d}")
    file.write_text(json.dumps(owner))
    return file


def test_a_lease_has_one_owner_and_ends_with_it(record):
    with leases.lease(record, False) as mine, leases.lease(record, False) as other:
        assert mine()
        assert other is None
    with leases.lease(record, False) as mine:
        assert mine()
    assert list(record.parent.iterdir()) == []


def test_who_waits_gets_it_when_its_owner_is_done(record, quick):
    order, taken = [], threading.Event()

    def owner():
        with leases.lease(record, False):
            taken.set()
            time.sleep(0.2)
            order.append("first")

    thread = threading.Thread(target=owner)
    thread.start()
    assert taken.wait(10)
    with leases.lease(record, True) as mine:
        order.append("second")
        assert mine()
    thread.join()
    assert order == ["first", "second"]


def test_of_many_that_want_it_at_once_one_has_it(record, quick):
    """Also where all of them see that its owner is silent."""
    left_by(record, ELSEWHERE)
    at_once, owners, most = [], [], []
    lock = threading.Lock()

    def want():
        with leases.lease(record, True):
            with lock:
                at_once.append(1)
                most.append(len(at_once))
            time.sleep(0.01)
            with lock:
                at_once.pop()
                owners.append(1)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(owners), max(most)) == (8, 1)
    assert list(record.parent.iterdir()) == []


def test_who_is_a_moment_later_gets_none(record):
    """Both have seen that there is no file."""
    with pytest.raises(FileExistsError):
        leases._create(left_by(record, ELSEWHERE))


def test_the_lease_of_a_dead_process_of_this_host_is_free_at_once(record):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    owner = leases._process(process.pid)
    left_by(record, owner)
    with leases.lease(record, False) as mine:
        assert mine is None
    process.kill()
    for wait in (False, True):  # as a process that nobody has asked for, and when it is gone
        if wait:
            process.wait()
            left_by(record, owner)
        time.sleep(0.1)
        with leases.lease(record, False) as mine:
            assert mine()
    assert list(record.parent.iterdir()) == []


@pytest.mark.parametrize("skew", [-7200, 0, 7200])
def test_the_lease_of_another_host_is_free_when_it_was_silent_by_our_clock(record, quick, skew):
    """Its clock is hours off, and its file system's."""
    file = left_by(record, ELSEWHERE)
    os.utime(file, (time.time() + skew, time.time() + skew))
    with leases.lease(record, False) as mine:
        assert mine is None
    began = time.monotonic()
    with leases.lease(record, True) as mine:
        assert mine()
    assert time.monotonic() - began >= 0.4


def test_a_host_that_touches_its_lease_keeps_it(record, quick):
    """However long the run."""
    file, over, waited = left_by(record, ELSEWHERE), threading.Event(), threading.Event()
    beat = threading.Thread(target=leases._touch, args=(file, over))
    beat.start()

    def want():
        with leases.lease(record, True):
            waited.set()

    thread = threading.Thread(target=want)
    thread.start()
    assert not waited.wait(1.2)
    over.set()
    assert waited.wait(10)
    beat.join()
    thread.join()


def test_who_was_silent_for_too_long_sees_that_the_run_is_no_longer_its_own(record, monkeypatch):
    """And leaves the lease of the other alone."""
    with leases.lease(record, False) as mine:
        assert mine()
        other = left_by(record, ELSEWHERE, 1)
        assert not mine()
    assert other.exists()


def test_a_lease_that_is_being_written_is_respected(record, quick):
    left_by(record, ELSEWHERE).write_text("")
    with leases.lease(record, False) as mine:
        assert mine is None


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_there_are_leases(record, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locks.lock(record) as mine, locks.lock(record) as other:
        assert mine()
        assert other is None
        assert [path.name for path in record.parent.iterdir()] == [".0123.lease-000000"]
        locks.sweep(record.parent, {"0123"})
        locks.remove_stale_files(record)
        assert mine()
    assert list(record.parent.iterdir()) == []


def test_other_errors_of_locks_are_told(record, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="the disk is broken"), locks.lock(record):
        pass
