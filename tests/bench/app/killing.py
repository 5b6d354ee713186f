"""A study of short runs in processes of their own, which tests kill; and what is there of it afterwards."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from cryosip.records.read import written_here

KILLABLE = Path(__file__).with_name("killable.py")
RUNS = 2


STUDY = f"{Path(__file__).with_name('short_runs.py')}:killable"  # for processes that do not import killable.py


def environment(fast=True, length=20):
    """Of the processes of a test; the fast tests compile as quickly there as here."""
    return os.environ | ({"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} if fast else {"KILLABLE_LENGTH": str(length)})


def started(results, *words, study="killable", **options):
    """The command at the study of killable.py, or at another."""
    env = environment(**options)
    program = [str(KILLABLE)] if study == "killable" else ["-c", "from cryosip.bench.app.cli import main; main()"]
    command = [
        sys.executable,
        *program,
        "run",
        study,
        "--profile",
        "smoke",
        "--results",
        str(results),
        *words,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def ended(process):
    try:
        text, _ = process.communicate(timeout=900)
    finally:
        process.kill()
    return process.returncode, text


def clouds(results):
    """The arrays of every run; every record is whole."""
    told = {}
    for path in (results / "killable").glob("*.json"):
        record = written_here(path)
        assert record.status == "ok", record.message
        assert hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest().startswith(record.arrays_hash)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            told[record.method] = {name: arrays[name] for name in arrays.files}
    return told


def same(a, b):
    assert a.keys() == b.keys()
    for method in a:
        assert a[method].keys() == b[method].keys()
        for name in a[method]:
            np.testing.assert_array_equal(a[method][name], b[method][name], err_msg=f"{method} {name}")


def same_records(results, others):
    """All that a run decides is the same, to the last bit; what the clock decides goes forward."""
    same(clouds(results), clouds(others))
    for path in (results / "killable").glob("*.json"):
        record, other = written_here(path), written_here(others / "killable" / path.name)
        for name in ("steps", "forward_evaluations", "metrics", "status", "config", "identity", "floors"):
            assert getattr(record, name, None) == getattr(other, name, None), name
        assert record.curve.keys() == other.curve.keys()
        for name in set(record.curve) - {"seconds"}:
            np.testing.assert_array_equal(record.curve[name], other.curve[name], name)
        assert (np.diff(record.curve["seconds"]) >= 0).all()


def hidden(results):
    return sorted(path.name for path in (results / "killable").glob(".*"))


def wait_for(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            kill(process)
            raise AssertionError("it did not come so far")
        time.sleep(0.01)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def made(text):
    return sorted(re.findall(r"killable: oned, (\w+)[^:]*: ok", text))
