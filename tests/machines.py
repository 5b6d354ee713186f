"""The fast tests on machines that differ from this one: `.venv/bin/python tests/machines.py [name ...] [-- words]`.

Without a name all of them, one after the other; words go to pytest, such as a folder or -n 2. Exits with 1 where
some fail.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
ONE_THREAD = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# what precise numbers by default change: the contracts of methods, not what is said of single precision
CONTRACTS = [
    f"tests/methods/test_{name}.py" for name in ("flow", "mixture", "reweighting", "maximum_likelihood", "lines")
]
MACHINES = {
    "one-thread": ONE_THREAD,
    "four-threads": {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"},
    "x64": {"JAX_ENABLE_X64": "1"},
    "german": {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Pacific/Kiritimati"},
    "plain": {"LC_ALL": "C", "TZ": "America/St_Johns", "PYTHONHASHSEED": "7"},
    "no-home": {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/proc/none", "XDG_CONFIG_HOME": "/proc/none"},
    "no-tools": {},
}
TOOLS = "chromium", "chromedriver", "google-chrome", "git"


def without_tools(folder):
    """A PATH with all that is on this one but the tools."""
    for place in map(Path, reversed(os.environ["PATH"].split(os.pathsep))):
        for program in place.iterdir() if place.is_dir() else ():
            link = folder / program.name
            if program.name not in TOOLS:
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    assert not any(shutil.which(tool, path=str(folder)) for tool in TOOLS)
    return str(folder)


def tested(name, words):
    """The exit code of pytest on that machine."""
    command = [sys.executable, "-m", "pytest", *words, *(CONTRACTS if name == "x64" and not words else [])]
    if name == "one-thread" and shutil.which("taskset"):
        command = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    with tempfile.TemporaryDirectory() as folder:
        path = {"PATH": without_tools(Path(folder))} if name == "no-tools" else {}
        return subprocess.run(command, cwd=ROOT, env=os.environ | MACHINES[name] | path, check=False).returncode


def main(words):
    names, rest = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    failed = []
    for name in names or MACHINES:
        print(f"{name}: {MACHINES[name] or 'no ' + ', '.join(TOOLS)}", flush=True)
        if tested(name, rest):
            failed.append(name)
    print(f"failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
