"""What a person sees while runs go on: a bar on a terminal, a line per run otherwise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cryosip.bench.app.callbacks import Callbacks
from cryosip.bench.app.time_left import Stopwatch, in_words
from cryosip.bench.runner import Snapshot
from cryosip.records.schema import Record, RunConfig


@contextmanager
def watching(console: Console) -> Iterator[Callbacks]:
    """Callbacks for this console."""
    if not console.is_terminal:
        try:
            yield lines(console, Stopwatch())
        except BaseException:
            console.print()  # what comes next is told on a line of its own
            raise
        return
    counted = TextColumn("{task.fields[unit]} {task.completed:,.0f} of {task.total:,.0f}")
    columns = TextColumn("{task.description}"), BarColumn(), counted, TextColumn("{task.fields[state]}")
    with Progress(*columns, console=console) as progress:
        yield bars(progress, Stopwatch())


def describe(index: int, total: int, config: RunConfig) -> str:
    """Place in the list, study, problem, method with its discrepancy, setting and replicate."""
    discrepancy = config.method_options.get("discrepancy", {}).get("name")
    method = f"{config.method} {discrepancy}" if discrepancy else config.method
    setting = f"{config.problem}, {method}, {config.labels.text}, replicate {config.replicate}"
    return f"[{index + 1}/{total}] {config.study}: {setting}"


def whole_lines(console: Console, before_each: Callable[[], None], processes: int) -> Callbacks:
    """A line for each run that is over, for one of several processes that print to the same place."""
    line, watch = "", Stopwatch(processes)

    def start(index: int, total: int, config: RunConfig) -> None:
        nonlocal line
        before_each()
        line = describe(index, total, config)
        watch.start(index, config)

    def finish(record: Record) -> None:
        console.print(f"{line}: {_result(record, watch)}", markup=False, highlight=False, soft_wrap=True)

    return Callbacks(start, lambda _snapshot: None, finish, plan=watch.plan)


def _result(record: Record, watch: Stopwatch) -> str:
    """Status, distances and seconds of a run that is over, and the time left for those to come."""
    took = watch.elapsed()
    watch.finish()
    metrics = {name: record.metrics.get(name) for name in ("w1", "w2")}
    values = "".join(f", {name} {value:.3f}" for name, value in metrics.items() if value is not None)
    left = f"; {in_words(watch.seconds_left())}" if watch.waiting else ""
    why = f": {record.message}" if record.message else ""
    return f"{record.status}{values} ({took:.1f} s{left}){why}"


def _waiting(console: Console) -> Callable[[int], None]:
    text = "Other processes took {} of the runs: waiting for what they have not finished"
    return lambda runs: console.print(text.format(runs), highlight=False)


def lines(console: Console, watch: Stopwatch) -> Callbacks:
    """A line for each run, begun with it and ended by its result and the time left for all others."""

    def start(index: int, total: int, config: RunConfig) -> None:
        watch.start(index, config)
        console.print(describe(index, total, config), end="", markup=False, highlight=False)

    def finish(record: Record) -> None:
        console.print(f": {_result(record, watch)}", markup=False, highlight=False)

    return Callbacks(start, lambda _snapshot: None, finish, _waiting(console), watch.plan)


def bars(progress: Progress, watch: Stopwatch) -> Callbacks:
    """A bar for the current run, and below it one for all runs together with the time left."""
    run = progress.add_task("", total=1, unit="step", state="")
    everything = progress.add_task("all runs", total=1, unit="run", state="")

    def start(index: int, total: int, config: RunConfig) -> None:
        watch.start(index, config)
        described = describe(index, total, config).replace("[", r"\[")
        progress.reset(run, description=described, total=config.steps, completed=0, state="compiling")
        progress.update(everything, total=total, completed=index, state=in_words(watch.seconds_left()))

    def snapshot(now: Snapshot) -> None:
        progress.update(run, completed=now.step, state=f"{now.seconds:.1f} s, loss {now.objective:.4g}")
        progress.update(everything, state=in_words(watch.seconds_left()))

    def finish(record: Record) -> None:
        watch.finish()
        progress.update(everything, advance=1, state=in_words(watch.seconds_left()) if watch.waiting else "")
        if record.status != "ok":
            progress.console.print(f"{record.status}: {record.message}", markup=False)

    return Callbacks(start, snapshot, finish, _waiting(progress.console), watch.plan)
