"""Speed by commit: the benchmarks below this folder, run in the installed environment."""

import io
import json
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]

# what is measured without --all, in less than three minutes on two cores: regular expressions for asv
DAILY = [
    r"^discrepancies\.Gradient\.time_",
    r"^discrepancies\.Error\.",
    r"^renderers\.PullBack\.(time|track)_",
    r"^methods\.Step\..*'oned'",  # images take ten seconds to simulate and as many to compile
    r"^metrics\.",
    r"^startup\.",
]
FACTOR = 1.1  # less than this is no change
PASSES = 3  # of both commits, alternately: one that something else disturbs does not move a median


class Outcome(NamedTuple):
    failed: bool
    slower: bool


def track(everything: bool, bench: list[str], against: str | None, publish: bool) -> Outcome:
    """Runs the benchmarks, those of another commit alternately, prints what changed, and keeps all results.

    `bench` are regular expressions for the names of benchmarks, instead of those of every day. Raises ValueError where
    they are none, asv is not installed, the installed package is no checkout with a history, its settings are missing,
    the other revision is unknown or the same, and no benchmark matches.
    """
    for pattern in bench:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"--bench is {pattern!r}; wanted a regular expression: {error}") from error
    if find_spec("asv") is None:
        raise ValueError("asv is not installed; wanted it from: pip install 'cryosip[speed]'")
    if not (ROOT / "asv.conf.json").is_file():
        raise ValueError(f"no asv.conf.json in {ROOT}; wanted cryosip installed from a checkout: pip install -e .")
    told = _environment()
    if told["commit"] is None:
        raise ValueError(f"{ROOT} has no git history; wanted a clone of the repository, installed by pip install -e .")
    other = None if against is None else _commit(against)
    if other == told["commit"] and not told["dirty"]:
        raise ValueError(f"--against is {against!r}, the commit that is checked out; wanted another one")
    return _measured(told, other, bench or ([r"."] if everything else DAILY), everything, publish)


def _measured(told: dict[str, Any], other: str | None, patterns: list[str], everything: bool, publish: bool) -> Outcome:
    from cryosip.bench.speed import asv_adapter

    options: dict[str, Any] = {"record_samples": other is not None}
    if other is not None or not everything:
        options["attribute"] = {"rounds": 1}

    def measure(dirty: bool, commit: str, path: Path | None, again: bool) -> asv_adapter.Kept:
        machine = _machine(told, dirty)
        return asv_adapter.measure(settings, machine, commit, path, patterns, append_samples=again, **options)

    slower = False
    with asv_adapter.project(ROOT) as settings:
        commit, dirty = told["commit"], told["dirty"]
        if other is None:
            ours = [measure(dirty, commit, None, False)]
        else:
            theirs, ours = [], []
            with _unpacked(other) as path:
                for i in range(PASSES):
                    theirs.append(measure(False, other, path, i > 0))
                    ours.append(measure(dirty, commit, None, i > 0))
            slower = asv_adapter.compare(settings, theirs, ours, _state(dirty), patterns, FACTOR)
            print(_verdict(slower, other))
        print(f"Results of {commit[:8]}, {_state(dirty)}, are in {ROOT / settings.results_dir / ours[-1].machine}")
        if publish:
            print(asv_adapter.publish(settings))
    return Outcome(any(kept.failed for kept in ours), slower)


def _verdict(slower: bool, other: str) -> str:
    beyond = f"by more than {FACTOR - 1:.0%} beyond noise since {other[:8]}"
    return f"Something got slower, larger or less exact {beyond}." if slower else f"Nothing got slower {beyond}."


def _state(dirty: bool) -> str:
    return "with changes that are not committed" if dirty else "as committed"


def _environment() -> dict[str, Any]:
    """What records say of commit and device, from a process of its own: the device is left to the benchmarks."""
    code = "import json; from cryosip.bench.environment import environment; print(json.dumps(environment()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the installed cryosip cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _machine(told: dict[str, Any], dirty: bool) -> dict[str, str]:
    """What asv keeps with results besides what it finds out itself; those of a changed tree have their own place."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{platform.node()} {told['device']}{' dirty' if dirty else ''}")
    return {
        "machine": name,
        "device": told["device"],
        "threads": str(told["threads"]),
        "tree": _state(dirty),
    }


def _commit(revision: str) -> str:
    try:
        words = "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        return _git(*words).decode().strip()
    except subprocess.CalledProcessError as error:
        raise ValueError(f"--against is {revision!r}; wanted a commit, a branch or a tag of {ROOT}") from error


@contextmanager
def _unpacked(commit: str) -> Iterator[Path]:
    """A folder from which Python imports cryosip as of the commit ahead of any that is installed.

    The folders of a checkout are the packages below cryosip; the mark of a regular package keeps Python from looking
    for modules elsewhere. So nothing is built, and no tool to build with is needed.
    """
    with TemporaryDirectory() as folder:
        package = Path(folder) / "cryosip"
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as files:
            files.extractall(package, filter="data")
        (package / "__init__.py").touch()
        yield Path(folder)


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout
