"""Which runs a command asks for."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cryosip.bench.app import outside, settings
from cryosip.bench.studies import tuning
from cryosip.bench.studies.otd_dto import OF_VOLUMES, BudgetedProblems
from cryosip.bench.studies.registry import STUDIES
from cryosip.methods import checks
from cryosip.records.schema import RunConfig

PROTEINS = {"hsp90", "adk"} | OF_VOLUMES


class Selection(NamedTuple):
    """Which runs of its studies a command asks for; by default all of the profile.

    Problems, methods and metrics are names, FILE.py:NAME or package.module:NAME; of `settings` each is as in `--set`.
    Proteins are taken from the file `structure`, if one is given, and settings of otd-vs-dto from the file `tuned` too.
    """

    profile: str = "small"
    replicates: int | None = None
    problems: Sequence[str] = ()
    methods: Sequence[str] = ()
    metrics: Sequence[str] = ()
    settings: Sequence[str] = ()
    structure: Path | None = None
    tuned: Path | None = None


def plan(studies: Sequence[str], asked: Selection) -> list[RunConfig]:
    """All runs of the studies, replicate by replicate, so that an early stop leaves whole replicates.

    At most as many replicates as there are before those that settings are tuned on, which no study may report. Raises
    ValueError for names and options that are not known, and where nothing is left.
    """
    problems = [outside.find("problem", text) for text in asked.problems]
    methods = [outside.find("method", text) for text in asked.methods]
    for text in asked.metrics:
        outside.find("metric", text)
    configs = []
    for name in (outside.find("study", text) for text in studies):
        study = STUDIES[name]
        size = study.sizes[checks.one_of("profile", asked.profile, study.sizes)]
        if asked.tuned is not None and isinstance(size, BudgetedProblems):
            size = size._replace(tuned=asked.tuned)
        count = size.replicates
        if asked.replicates is not None:
            count = checks.positive_int("replicates", asked.replicates, tuning.FIRST_REPLICATE)
        runs = [run for run in study.configs(size) if run.problem in (problems or [run.problem])]
        runs = [_found(run, name) for run in runs if run.method in (methods or [run.method])]
        runs = _with_settings(runs, asked.settings)
        if asked.structure is not None:
            runs = [_with_structure(run, asked.structure) for run in runs]
        configs += [replace(run, replicate=study.first_replicate + r) for r in range(count) for run in runs]
    if not configs:
        raise ValueError(_nothing(studies, asked))
    if asked.structure is not None and not any(run.problem in PROTEINS for run in configs):
        raise ValueError(f"structure is {str(asked.structure)!r}, and no run is on a protein; wanted none")
    return configs


def _found(run: RunConfig, study: str) -> RunConfig:
    """The run; what it names is taken from installed packages where no registry has it."""
    if run.study != study:
        raise ValueError(f"study {study!r} plans a run of study {run.study!r}; wanted its own name")
    for kind, name in (("problem", run.problem), ("method", run.method)):
        if name not in outside.REGISTRIES[kind] and name in outside.installed(kind):
            outside.find(kind, name)
    return run


def _with_settings(runs: list[RunConfig], texts: Sequence[str]) -> list[RunConfig]:
    """Each run with the settings; a sweep tries an option with each of its values, and numbers what it tries."""
    combinations = settings.combinations(texts)
    for setting in combinations[0]:
        _check_not_varied(runs, setting)
    if len(combinations) == 1:
        return [settings.with_settings(run, combinations[0]) for run in runs]
    if any(run.study != "tuning" for run in runs):
        raise ValueError(f"--set gives an option twice: {', '.join(texts)}; only `cryosip tune` tries several values")
    return [
        tuning.numbered(settings.with_settings(run, chosen), len(combinations), i)
        for run in runs
        for i, chosen in enumerate(combinations)
    ]


def _check_not_varied(runs: list[RunConfig], setting: settings.Setting) -> None:
    """Raises ValueError for an option of the problem that a study varies: runs would become the same."""
    if setting.which != "problem":
        return
    option, values = setting.path[0], dict[str, list[str]]()
    for run in runs:
        value = json.dumps(run.problem_options[option]) if option in run.problem_options else "its default"
        values.setdefault(run.problem, []).append(value)
    for problem, own in values.items():
        if len(set(own)) > 1:
            raise ValueError(
                f"--set {setting.name}: study {runs[0].study} varies {option} of {problem} itself "
                f"({', '.join(dict.fromkeys(own))}); wanted an option that it leaves alone"
            )


def _nothing(studies: Sequence[str], asked: Selection) -> str:
    """That no run is left, and what could be asked for instead."""
    of = "".join(
        f" {word} {' or '.join(names)}" for word, names in (("on", asked.problems), ("of", asked.methods)) if names
    )
    return (
        f"{' and '.join(studies)} has no run{of} in profile {asked.profile}; "
        "studies of any method and any problem are otd-vs-dto and tuning"
    )


def _with_structure(run: RunConfig, structure: Path) -> RunConfig:
    if run.problem not in PROTEINS:
        return run
    try:
        path = structure.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a link to itself, or the home of nobody
        raise ValueError(f"structure is {str(structure)!r}: {error}") from error
    return replace(run, problem_options=run.problem_options | {"structure": str(path)})
