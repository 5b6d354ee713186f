"""What a person sees while runs go on: a bar on a terminal, a line per run otherwise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cryosip.bench.app.callbacks import SILENT, Callbacks, Finished, Place
from cryosip.bench.app.time_left import Stopwatch, in_words
from cryosip.bench.runner import Snapshot

COUNTED = TextColumn("{task.fields[unit]} {task.completed:,.0f} of {task.total:,.0f}")
COLUMNS = TextColumn("{task.description}"), BarColumn(), COUNTED, TextColumn("{task.fields[state]}")


@contextmanager
def watching(console: Console) -> Iterator[Callbacks]:
    """Callbacks for the runs of this process, on this console."""
    if not console.is_terminal:
        try:
            yield lines(console, Stopwatch())
        except BaseException:
            console.print()  # what comes next is told on a line of its own
            raise
        return
    with Progress(*COLUMNS, console=console) as progress:
        yield bars(progress, Stopwatch())


@contextmanager
def of_workers(console: Console, workers: Callable[[], int]) -> Iterator[Callbacks]:
    """Callbacks for runs of other processes: a line for each that is over, and on a terminal a bar for all."""
    watch = Stopwatch(workers)
    if not console.is_terminal:
        yield whole_lines(console, watch)
        return
    with Progress(*COLUMNS, console=console) as progress:
        shown, everything = whole_lines(progress.console, watch), progress.add_task("all runs", unit="run", state="")

        def show(place: Place) -> None:
            progress.update(everything, advance=1, total=place.total, state=in_words(watch.seconds_left()))

        def plan(pending: list[Place]) -> None:
            watch.plan(pending)
            if pending:
                total = pending[0].total
                progress.update(everything, total=total, completed=total - len(pending))

        def finish(run: Finished) -> None:
            shown.finish(run)
            show(run.place)

        yield shown._replace(plan=plan, finish=finish)


def describe(place: Place) -> str:
    """Place in the list, study, problem, method with its discrepancy, setting and replicate."""
    config = place.config
    discrepancy = config.method_options.get("discrepancy", {}).get("name")
    method = f"{config.method} {discrepancy}" if discrepancy else config.method
    setting = f"{config.problem}, {method}, {config.labels.text}, replicate {config.replicate}"
    return f"[{place.position + 1}/{place.total}] {config.study}: {setting}"


def whole_lines(console: Console, watch: Stopwatch) -> Callbacks:
    """A line for each run that is over."""

    def finish(run: Finished) -> None:
        watch.finish(run)
        _print(console, f"{describe(run.place)}: {_result(run, watch)}")

    def died(place: Place, why: str) -> None:
        _print(console, f"{describe(place)}: {why}; it is made again")

    return SILENT._replace(finish=finish, wait=_waiting(console), skip=watch.skip, died=died, plan=watch.plan)


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _result(run: Finished, watch: Stopwatch) -> str:
    """Status, distances and seconds of a run that is over, and the time left for those to come."""
    record = run.record
    metrics = {name: record.metrics.get(name) for name in ("w1", "w2")}
    values = "".join(f", {name} {value:.3f}" for name, value in metrics.items() if value is not None)
    left = f"; {in_words(watch.seconds_left())}" if watch.waiting else ""
    why = f": {record.message}" if record.message else ""
    return f"{record.status}{values} ({run.seconds:.1f} s{left}){why}"


def _waiting(console: Console) -> Callable[[int], None]:
    text = "Other processes took {} of the runs: waiting for what they have not finished"
    return lambda runs: console.print(text.format(runs), highlight=False)


def lines(console: Console, watch: Stopwatch) -> Callbacks:
    """A line for each run, begun with it and ended by its result and the time left for all others."""

    def start(place: Place) -> None:
        watch.start(place)
        console.print(describe(place), end="", markup=False, highlight=False)

    def finish(run: Finished) -> None:
        watch.finish(run)
        console.print(f": {_result(run, watch)}", markup=False, highlight=False)

    return SILENT._replace(start=start, finish=finish, wait=_waiting(console), skip=watch.skip, plan=watch.plan)


def bars(progress: Progress, watch: Stopwatch) -> Callbacks:
    """A bar for the current run, and below it one for all runs together with the time left."""
    run = progress.add_task("", total=1, unit="step", state="")
    everything = progress.add_task("all runs", total=1, unit="run", state="")

    def start(place: Place) -> None:
        watch.start(place)
        described = describe(place).replace("[", r"\[")
        progress.reset(run, description=described, total=place.config.steps, completed=0, state="compiling")
        progress.update(everything, total=place.total, completed=place.position, state=in_words(watch.seconds_left()))

    def snapshot(now: Snapshot) -> None:
        progress.update(run, completed=now.step, state=f"{now.seconds:.1f} s, loss {now.objective:.4g}")
        progress.update(everything, state=in_words(watch.seconds_left()))

    def finish(over: Finished) -> None:
        watch.finish(over)
        progress.update(everything, advance=1, state=in_words(watch.seconds_left()) if watch.waiting else "")
        if over.record.status != "ok":
            progress.console.print(f"{over.record.status}: {over.record.message}", markup=False)

    return Callbacks(start, snapshot, finish, _waiting(progress.console), watch.skip, plan=watch.plan)
