"""The cache of programs on disk: whatever becomes of its folder, results are right and a warning tells of it once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cryosip.bench import cache

# in processes of their own, because a process has one cache: sums of whole numbers, which no order rounds
PROGRAM = """
import json, sys
from pathlib import Path
import jax, jax.numpy as jnp
from cryosip.bench import cache

cache.LEAST_SECONDS = 0.0
x = jnp.asarray(range(5), jnp.float32)
cache.switch_on(Path(sys.argv[1]))
before = cache.compilations()
results = [float(jax.jit(lambda x, n=n: (x + n).sum())(x)) for n in range(int(sys.argv[2]))]
print(json.dumps({
    "results": results, "compiled": cache.compilations() - before, "folder": jax.config.jax_compilation_cache_dir,
    "size": jax.config.jax_compilation_cache_max_size,
}))
"""
N = 3


def started(folder, n=N, **variables):
    env = {name: value for name, value in os.environ.items() if name not in cache.OURS_TO_SET} | variables
    command = [sys.executable, "-c", PROGRAM, str(folder), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def ended(process, n=N):
    """What it found, and the warnings; its results are right."""
    out, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    found = json.loads(out.splitlines()[-1])
    assert found["results"] == [10.0 + 5 * i for i in range(n)]
    return found, told


def ran(folder, **variables):
    return ended(started(folder, **variables))


def programs(folder):
    return sorted(folder.glob("*-cache"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The folder that a process has filled. A process takes two seconds to start: this file has seven."""
    folder = tmp_path_factory.mktemp("cache") / "below" / "programs"
    found, told = ran(folder)
    assert (found["compiled"], found["folder"], told) == (N, str(folder), "")
    assert found["size"] == cache.MAX_MB * 2**20
    assert len(programs(folder)) == N
    return folder


def test_another_process_finds_the_programs(filled):
    found, told = ran(filled)
    assert (found["compiled"], told) == (0, "")


def test_a_damaged_program_is_told_once_and_compiled(filled):
    """Then it is gone: the next process has nothing to tell, and finds what this one compiled."""
    for path in programs(filled):
        path.write_bytes(path.read_bytes()[:20])
    found, told = ran(filled)
    assert found["compiled"] == N
    assert told.count("cannot be used") == told.count("Error reading") == 1, told
    assert f"the cache of programs, {filled}" in told
    found, told = ran(filled)
    assert (found["compiled"], told) == (0, "")


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path):
    """A file stands in its way; what an administrator may write anywhere, he may not write there either."""
    (tmp_path / "file").write_text("")
    found, told = ran(tmp_path / "file" / "programs")
    assert (found["compiled"], found["folder"]) == (N, None)
    assert told.count("programs are compiled and not kept: cannot write") == 1, told
    assert told.count("Warning") == 1


def test_what_a_killed_writer_left_is_removed(tmp_path):
    """A program beside which no time of use is may be half of one."""
    for name in ("half-cache", "whole-cache", "whole-atime", ".lockfile"):
        (tmp_path / name).write_bytes(b"x")
    cache._mend(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lockfile", "whole-atime", "whole-cache"]


def test_two_processes_fill_one_cache_at_once(tmp_path):
    processes = [started(tmp_path, 12) for _ in range(2)]
    for process in processes:
        found, told = ended(process, 12)
        assert told == ""
        assert found["compiled"] <= 12
    assert len(programs(tmp_path)) == 12
    assert all(path.with_name(path.name.replace("-cache", "-atime")).exists() for path in programs(tmp_path))


@pytest.mark.parametrize("name", cache.OURS_TO_SET)
def test_jaxs_own_variables_win(name, tmp_path, monkeypatch):
    monkeypatch.setenv(name, str(tmp_path / "theirs") if name.endswith("DIR") else "0")
    changed = []
    monkeypatch.setattr(jax.config, "update", lambda *words: changed.append(words))
    cache.switch_on(tmp_path / "ours")
    assert changed == []
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_the_users_and_the_processors(monkeypatch, tmp_path):
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    assert cache.folder().parent == tmp_path / "cryosip" / "programs"
    here = cache.folder()
    monkeypatch.setattr(cache.platform, "machine", lambda: "another")
    assert cache.folder() != here


def test_compilations_are_counted():
    """Each program once, and none that is there already; what the cache on disk had, the first test counts."""
    new = time.time_ns() % 2**31  # of which no cache has a program; single precision would round it for minutes
    f, x = jax.jit(lambda x: x * new), jnp.ones(7, jnp.int32)
    before = cache.compilations()
    f(x)
    assert cache.compilations() == before + 1
    f(x)
    assert cache.compilations() == before + 1


def test_the_lock_of_the_cache_is_a_dependency():
    """JAX bounds the size of its cache by a package that it does not ask for."""
    assert "filelock" in (Path(__file__).parents[2] / "pyproject.toml").read_text()


def test_the_folder_in_use_is_known(tmp_path):
    """Processes of --jobs keep their programs where the first does."""
    before = jax.config.jax_compilation_cache_dir
    try:
        for path in (tmp_path, None):
            jax.config.update("jax_compilation_cache_dir", path and str(path))
            assert cache.in_use() == path
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
