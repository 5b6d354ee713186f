"""Runs studies: which runs there are, which are done already, and what became of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cryosip.bench import store
from cryosip.bench.environment import code_version
from cryosip.bench.execute import execute
from cryosip.bench.runner import Snapshot
from cryosip.bench.studies import STUDIES
from cryosip.methods import checks

PROTEINS = ("hsp90", "adk")


class Watcher(NamedTuple):
    """What is told while runs go on."""

    start: Callable[[int, int, store.RunConfig], None]
    snapshot: Callable[[Snapshot], None]
    finish: Callable[[dict[str, Any]], None]


class Outcome(NamedTuple):
    done: int
    skipped: int
    failed: list[str]


def plan(
    studies: list[str], profile: str, replicates: int | None, only: str | None, structure: Path | None = None
) -> list[store.RunConfig]:
    """All runs of the studies, replicate by replicate, so that an early stop leaves whole replicates.

    Proteins are taken from the file `structure`, if one is given.
    """
    configs = []
    for name in studies:
        checks.one_of("study", name, STUDIES)
        study = STUDIES[name]
        size = study.sizes[checks.one_of("profile", profile, study.sizes)]
        count = size.replicates if replicates is None else checks.positive_int("replicates", replicates)
        first = study.first_replicate
        runs = [run for run in study.configs(size) if only in (None, run.problem)]
        if structure is not None:
            runs = [_with_structure(run, structure) for run in runs]
        configs += [replace(run, replicate=r) for r in range(first, first + count) for run in runs]
    return configs


def _with_structure(run: store.RunConfig, structure: Path) -> store.RunConfig:
    if run.problem not in PROTEINS:
        return run
    return replace(run, problem_options=run.problem_options | {"structure": str(structure.resolve())})


def run_all(configs: list[store.RunConfig], profile: str, results: Path, fresh: bool, watcher: Watcher) -> Outcome:
    """Runs what has no record yet, each into its record; `fresh` runs everything again."""
    done, skipped, failed = 0, 0, []
    for index, config in enumerate(configs):
        identity = store.run_id(config, code_version())
        path = store.record_path(results, config, identity)
        if path.exists() and not fresh:
            skipped += 1
            failed += _failure(path, store.read(path))
            continue
        watcher.start(index, len(configs), config)
        record, arrays = execute(config, profile, STUDIES[config.study].measure, watcher.snapshot)
        store.write(path, record | {"run_id": identity}, arrays)
        watcher.finish(record)
        done += 1
        failed += _failure(path, record)
    return Outcome(done, skipped, failed)


def _failure(path: Path, record: dict[str, Any]) -> list[str]:
    return [] if record["status"] == "ok" else [f"{path}: {record['status']}: {record['message']}"]
