"""Speed by commit: the benchmarks below this folder, run by asv's command line in the installed environment."""

import io
import json
import os
import platform
import re
import shutil
import site
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGES = Path(".asv/results"), Path(".asv/html")  # as asv.conf.json says

# what is measured without --all, in less than three minutes on two cores: regular expressions for asv
DAILY = [
    r"^discrepancies\.Gradient\.time_",
    r"^discrepancies\.Error\.",
    r"^renderers\.PullBack\.(time|track)_",
    r"^methods\.Step\..*'oned'",  # images take ten seconds to simulate and as many to compile
    r"^metrics\.",
    r"^startup\.",
]
FACTOR = 1.1  # a smaller change does not count
PASSES = 3  # of both commits, alternately, so that a disturbance of one pass does not decide
BENCHMARK_FAILED = 2  # exit status of `asv run`


class Outcome(NamedTuple):
    failed: bool
    slower: bool


class Commit(NamedTuple):
    """What is measured: a commit, the folder it is imported from (None: as installed), and asv's name of the device."""

    hash: str
    path: Path | None
    machine: dict[str, str]


Pass = dict[str, float | None]  # by "module.Class.function(parameters)": None for a failure, nan if skipped


def track(everything: bool, bench: list[str], against: str | None, publish: bool) -> Outcome:
    """Run the benchmarks, alternately with those of another commit, print what changed, and keep all results.

    Parameters
    ----------
    everything
        All benchmarks instead of those of every day.
    bench
        Regular expressions for the names of benchmarks, instead of both.
    against
        A revision to compare with; None for none.
    publish
        Whether asv's pages of all results are written.

    Returns
    -------
    Whether a benchmark failed in the installed version, and whether one got worse.

    Raises
    ------
    ValueError
        Where `bench` holds no regular expression, asv is not installed, the installed package is not a checkout with a
        history, its settings are missing, the other revision is unknown or the same, or no benchmark matches.
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
    installed = _environment()
    commit, changed = installed["commit"], installed["dirty"]
    if commit is None:
        raise ValueError(f"{ROOT} has no git history; wanted a clone of the repository, installed by pip install -e .")
    other = None if against is None else _commit(against)
    if other == commit and not changed:
        raise ValueError(f"--against is {against!r}, the commit that is checked out; wanted another one")
    patterns = bench or ([r"."] if everything else DAILY)
    options = [] if everything and other is None else ["--attribute", "rounds=1"]
    ours = Commit(commit, None, _machine(installed, changed))
    if other is None:
        outcome = Outcome(_measure(ours, patterns, options)[0], False)
    else:
        with _unpacked(other) as path:
            outcome = _compared(Commit(other, path, _machine(installed, False)), ours, patterns, options)
    print(f"Results of {commit[:8]}, {_state(changed)}, are in {ROOT / RESULTS / ours.machine['machine']}")
    if publish:
        _asv(["publish", "--no-pull"], ours)
        print(ROOT / PAGES / "index.html")
    return outcome


def _compared(theirs: Commit, ours: Commit, patterns: list[str], options: list[str]) -> Outcome:
    """Measure both commits alternately and print what changed.

    The lowest value of the passes counts, since whatever else a machine does only adds to time and memory.
    """
    passes: tuple[list[Pass], list[Pass]] = [], []
    failed = slower = False
    for i in range(PASSES):
        for commit, of_commit in zip((theirs, ours), passes, strict=True):
            print(f"Pass {i + 1} of {PASSES}: {commit.hash[:8]}, {commit.machine['tree']}")
            failed_now, values = _measure(commit, patterns, options)
            of_commit.append(values)
            failed |= failed_now and commit is ours
    before, after = map(_lowest, passes)
    for name in sorted(before.keys() & after.keys()):
        worse, text = _change(before[name], after[name])
        slower |= worse
        if text:
            print(f"{text}  {name}")
    verdict = "Something got" if slower else "Nothing got"
    print(f"{verdict} slower, larger or less exact by more than {FACTOR - 1:.0%} since {theirs.hash[:8]}.")
    return Outcome(failed, slower)


def _lowest(passes: list[Pass]) -> Pass:
    """Of each benchmark; None where it failed in a pass."""
    values = {name: [of_pass.get(name) for of_pass in passes] for name in passes[-1]}
    numbers = {name: [value for value in of_name if value is not None] for name, of_name in values.items()}
    return {name: min(found) if len(found) == len(passes) else None for name, found in numbers.items()}


def _change(before: float | None, after: float | None) -> tuple[bool, str]:
    """Whether a benchmark got worse, and what to print; "" where it stayed the same, fails as before or is skipped."""
    if before is None or after is None:
        return (True, "! fails") if before is not None else (False, "")
    if after > FACTOR * before or before > FACTOR * after:
        return after > before, f"{'+' if after > before else '-'} {before:10.4g} -> {after:10.4g}"
    return False, ""


def _measure(commit: Commit, patterns: list[str], options: list[str]) -> tuple[bool, Pass]:
    """Whether a benchmark failed, and the values of all that match."""
    environment = ["--environment", f"existing:{sys.executable}", "--machine", commit.machine["machine"]]
    chosen = [f"--bench={pattern}" for pattern in patterns]
    status, output = _asv(
        ["run", "--set-commit-hash", commit.hash, *environment, *chosen, "--show-stderr", "--no-pull", *options], commit
    )
    if "No benchmarks selected" in output:
        raise ValueError(f"no benchmark matches {' or '.join(patterns)}")
    if status not in (0, BENCHMARK_FAILED):
        raise ValueError(f"asv: {[f'exit status {status}', *output.split('· ')][-1].strip()}")
    files = (ROOT / RESULTS / commit.machine["machine"]).glob(f"{commit.hash[:8]}-*.json")
    stored = json.loads(max(files, key=lambda file: file.stat().st_mtime).read_text())
    values = dict(_values(stored["result_columns"], stored["results"]))
    # what does not match may be of another day
    chosen_now = {name: value for name, value in values.items() if any(re.search(p, name) for p in patterns)}
    return status == BENCHMARK_FAILED, chosen_now


def _values(columns: list[str], results: dict[str, list[Any]]) -> Iterator[tuple[str, float | None]]:
    """From a file of asv's results, for each benchmark and choice of parameters."""
    for name, row in results.items():
        fields = dict(zip(columns, row, strict=False))  # rows end with the last field that is not empty
        choices = [", ".join(choice) for choice in product(*fields["params"])]
        values = fields["result"] or [None] * len(choices)  # null where all failed
        yield from ((f"{name}({choice})" if choice else name, x) for choice, x in zip(choices, values, strict=True))


def _asv(words: list[str], commit: Commit) -> tuple[int, str]:
    """Exit status and output of a command of asv, which is printed as it comes."""
    with TemporaryDirectory() as folder:
        home = Path(folder)  # asv reads what it knows of the machine there, and would ask for it in the user's own
        known = {commit.machine["machine"]: commit.machine, "version": 1}
        (home / ".asv-machine.json").write_text(json.dumps(known))
        (home / ".gitconfig").symlink_to(Path.home() / ".gitconfig")
        environment = os.environ | {"HOME": str(home), "PYTHONUSERBASE": site.getuserbase(), "PYTHONUNBUFFERED": "1"}
        paths = [str(commit.path)] * (commit.path is not None) + [os.environ.get("PYTHONPATH", "")]
        if any(paths):  # the one is heeded by asv's processes, the other by those that they start
            environment["ASV_PYTHONPATH"] = environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        command = [sys.executable, "-m", "asv", *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                if not re.search(r"For \w+ commit", line):  # asv names the branch, whatever is measured
                    print(line, end="")
                lines.append(line)
    return process.returncode, "".join(lines)


def _state(dirty: bool) -> str:
    return "with changes that are not committed" if dirty else "as committed"


def _environment() -> dict[str, Any]:
    """What records say of commit and device, from another process, since the device is left to the benchmarks."""
    code = "import json; from cryosip.bench.environment import environment; print(json.dumps(environment()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the installed cryosip cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    environment: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return environment


def _machine(installed: dict[str, Any], dirty: bool) -> dict[str, str]:
    """What asv stores with results; those of a changed tree have a place of their own."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{platform.node()} {installed['device']}{' dirty' if dirty else ''}")
    return {
        "machine": name,
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "cpu": str(installed.get("cpu", "")),
        "num_cpu": str(os.cpu_count()),
        "ram": "",
        "device": installed["device"],
        "threads": str(installed["threads"]),
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

    The folders of a checkout are the packages below cryosip, and the files of its folder cryosip, where it has one,
    those of the package itself. So nothing is built, and no tool to build with is needed.
    """
    with TemporaryDirectory() as folder:
        package = Path(folder) / "cryosip"
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as files:
            files.extractall(package, filter="data")
        if (package / "cryosip").is_dir():
            shutil.copytree(package / "cryosip", package, dirs_exist_ok=True)
        (package / "__init__.py").touch()  # of a regular package Python looks for modules nowhere else
        yield Path(folder)


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout
