"""What a person sees while runs go on: a bar on a terminal, a line per run otherwise."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cryosip.bench.campaign import Watcher
from cryosip.bench.runner import Snapshot
from cryosip.bench.store import RunConfig


@contextmanager
def watching(console: Console) -> Iterator[Watcher]:
    """A watcher for this console."""
    if not console.is_terminal:
        try:
            yield _lines(console)
        except BaseException:
            console.print()  # what comes next is told on a line of its own
            raise
        return
    columns = "{task.description}", BarColumn(), TextColumn("step {task.completed:,.0f} of {task.total:,.0f}")
    with Progress(*columns, TextColumn("{task.fields[state]}"), TimeRemainingColumn(), console=console) as progress:
        yield _bar(progress)


def describe(index: int, total: int, config: RunConfig) -> str:
    """Place in the list, study, method with its discrepancy, setting and replicate."""
    discrepancy = config.method_options.get("discrepancy", {}).get("name")
    method = f"{config.method} {discrepancy}" if discrepancy else config.method
    return f"[{index + 1}/{total}] {config.study}: {method}, {config.setting}, replicate {config.replicate}"


def whole_lines(console: Console, before_each: Callable[[], None]) -> Watcher:
    """A line for each run that is over, for one of several processes that print to the same place."""
    line, began = "", 0.0

    def start(index: int, total: int, config: RunConfig) -> None:
        nonlocal line, began
        before_each()
        line, began = describe(index, total, config), time.monotonic()

    def finish(record: dict[str, Any]) -> None:
        console.print(f"{line}: {_told(record, began)}", markup=False, highlight=False, soft_wrap=True)

    return Watcher(start, lambda _snapshot: None, finish)


def _told(record: dict[str, Any], began: float) -> str:
    metrics = {name: record.get("metrics", {}).get(name) for name in ("w1", "w2")}
    values = "".join(f", {name} {value:.3f}" for name, value in metrics.items() if value is not None)
    return f"{record['status']}{values} ({time.monotonic() - began:.1f} s)"


def _waiting(console: Console) -> Callable[[int], None]:
    text = "Other processes took {} of the runs: waiting for what they have not finished"
    return lambda runs: console.print(text.format(runs), highlight=False)


def _lines(console: Console) -> Watcher:
    began = 0.0

    def start(index: int, total: int, config: RunConfig) -> None:
        nonlocal began
        began = time.monotonic()
        console.print(describe(index, total, config), end="", markup=False, highlight=False)

    def finish(record: dict[str, Any]) -> None:
        console.print(f": {_told(record, began)}", markup=False, highlight=False)

    return Watcher(start, lambda _snapshot: None, finish, _waiting(console))


def _bar(progress: Progress) -> Watcher:
    task = progress.add_task("", total=1, state="")

    def start(index: int, total: int, config: RunConfig) -> None:
        described = describe(index, total, config).replace("[", r"\[")
        progress.reset(task, description=described, total=config.steps, completed=0, state="compiling")

    def snapshot(now: Snapshot) -> None:
        progress.update(task, completed=now.step, state=f"{now.seconds:.1f} s, loss {now.objective:.4g}")

    def finish(record: dict[str, Any]) -> None:
        if record["status"] != "ok":
            progress.console.print(f"{record['status']}: {record['message']}", markup=False)

    return Watcher(start, snapshot, finish, _waiting(progress.console))
