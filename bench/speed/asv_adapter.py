"""asv by its Python interface: its command line would ask for a file about the machine in the user's home."""

import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from copy import copy
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from asv import util
from asv.benchmarks import Benchmarks
from asv.commands.compare import Compare
from asv.commands.publish import Publish
from asv.commands.run import Run
from asv.config import Config
from asv.console import log
from asv.machine import Machine, MachineCollection
from asv.plugin_manager import plugin_manager  # noqa: F401  importing it makes git known to asv
from asv.results import iter_results_for_machine_and_hash

FAILED = 2  # what Run returns where a benchmark failed


class Kept(NamedTuple):
    """Results of a commit: the names of the machine and of the environment under which asv keeps them, and values."""

    commit: str
    machine: str
    environment: str
    failed: bool
    values: dict[str, list[Any]]  # as of this pass; asv keeps those of the last, and samples of all


@contextmanager
def project(root: Path) -> Iterator[Any]:
    """asv's settings for a checkout, from which their folders are told; what asv has to say becomes ValueError."""
    logger = logging.getLogger()  # asv's log is the root's, to which each `enable` adds a handler
    handlers, level = logger.handlers.copy(), logger.level
    log.enable()
    with chdir(root), _without_forks():
        try:
            yield Config.load()
        except util.UserError as error:
            raise ValueError(f"asv: {error}") from error
        finally:
            log.flush()
            logger.handlers[:] = handlers
            logger.setLevel(level)


class _Popen(subprocess.Popen[Any]):
    """A process in a group of its own by the system's call, where asv would fork to say so."""

    def __init__(self, *arguments: Any, preexec_fn: Any = None, **options: Any) -> None:
        super().__init__(*arguments, process_group=0 if preexec_fn else None, **options)


@contextmanager
def _without_forks() -> Iterator[None]:
    """asv starts processes and threads without a fork of this one, which JAX, once it computes, may not survive."""
    before = util.get_multiprocessing_pool, util.subprocess
    util.get_multiprocessing_pool = ThreadPool
    util.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": _Popen})
    try:
        yield
    finally:
        util.get_multiprocessing_pool, util.subprocess = before


def measure(
    settings: Any, machine: dict[str, str], commit: str, path: Path | None, patterns: list[str], **options: Any
) -> Kept:
    """Runs the benchmarks that match in this Python, cryosip taken from `path` if given, and keeps their results.

    Raises ValueError where no benchmark matches.
    """
    told: dict[str, Any] = {}
    name = machine["machine"]
    of_commit = copy(settings)
    of_commit.branches = [commit]  # the one that asv says it measures
    with tempfile.TemporaryDirectory() as folder, _imported_from(path):
        known = str(Path(folder) / "machines.json")
        MachineCollection.save(name, Machine.get_defaults() | machine, _path=known)
        status = Run.run(
            of_commit,
            bench=patterns,
            env_spec=[f"existing:{sys.executable}"],
            set_commit_hash=commit,
            machine=name,
            show_stderr=True,
            pull=False,
            _machine_file=known,
            _returns=told,
            **options,
        )
        log.flush()
    if "benchmarks" not in told:
        raise ValueError(f"no benchmark matches {' or '.join(patterns)}")
    kept = Kept(commit, name, told["environments"][0].name, status == FAILED, {})
    for results, benchmark, params in _results(settings, kept):
        kept.values[benchmark] = list(results.get_result_value(benchmark, params))
    return kept


@contextmanager
def _imported_from(path: Path | None) -> Iterator[None]:
    """The folder ahead of all others for asv's processes, which heed ASV_PYTHONPATH alone, and for those they start."""
    before = os.environ.copy()
    folders = [str(path)] if path else []
    folders += filter(None, [before.get("PYTHONPATH")])
    if folders:
        os.environ["PYTHONPATH"] = os.environ["ASV_PYTHONPATH"] = os.pathsep.join(folders)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def compare(
    settings: Any, before: list[Kept], after: list[Kept], label: str, patterns: list[str], factor: float
) -> bool:
    """Prints what changed beyond noise by more than a factor, as asv judges it; whether something got worse.

    Where samples of time were kept, asv asks that they differ (Mann-Whitney, p < 0.002); else the factor alone counts,
    of the lowest values of the passes, as what else a machine does only adds to seconds and memory.
    """
    shown = f"{after[-1].commit[:8]}+"  # the two may be one commit, with changes and without
    worse, _ = Compare.print_table(
        settings,
        before[-1].commit,
        shown,
        factor,
        split=False,
        resultset_1=_measured(settings, before, patterns),
        resultset_2=_measured(settings, after, patterns),
        only_changed=True,
        sort="ratio",
        commit_names={shown: label},
    )
    return bool(worse)


def _results(settings: Any, kept: Kept) -> Iterator[tuple[Any, str, Any]]:
    """asv's results, the name of each benchmark in them and its parameters."""
    for results in iter_results_for_machine_and_hash(settings.results_dir, kept.machine, kept.commit):
        if results.env_name == kept.environment:
            for name in results.get_all_result_keys():
                yield results, name, results.get_result_params(name)


def _measured(settings: Any, passes: list[Kept], patterns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Results in the form that asv compares; what the patterns leave out may be of another day, and is left out."""
    for results, name, params in _results(settings, passes[-1]):
        chosen = Benchmarks(settings, [{"name": name, "params": params}], patterns)
        if name not in chosen:
            continue
        indices = chosen.benchmark_selection[name]
        stats, samples = results.get_result_stats(name, params), results.get_result_samples(name, params)
        values = [
            math.nan if indices is not None and i not in indices else value if stats[i] else _lowest(in_passes)
            for i, (value, *in_passes) in enumerate(
                zip(results.get_result_value(name, params), *(kept.values[name] for kept in passes), strict=True)
            )
        ]
        yield name, params, values, stats, samples, results.benchmark_version.get(name), "", ""


def _lowest(values: list[Any]) -> Any:
    numbers = [value for value in values if value is not None]
    return min(numbers) if len(numbers) == len(values) else None  # which is asv's for a failure


def publish(settings: Any) -> Path:
    """Writes the pages of all results; where they are."""
    Publish.run(settings, pull=False)
    log.flush()
    return Path(settings.html_dir).resolve() / "index.html"
