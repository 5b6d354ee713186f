"""What a machine must get right before its numbers are trusted: all checks, and the tables that say what passed.

Each check compares what runs use with reference implementations that share no code with it: `distributions`,
`formulas` and `images`.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cryosip.bench import metrics
from cryosip.bench.check.discrepancies import algorithms, gradients
from cryosip.bench.check.estimates import distances, em, floors
from cryosip.bench.check.finding import Area, Finding, Unknown
from cryosip.bench.check.problems import SAME_CODE, renderers, samplers
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import DISCREPANCIES

_WITHOUT_TWINS = [name for name in DATASETS if name not in SAME_CODE]
AREAS: dict[str, Area] = {
    "Samplers against their distributions": (DATASETS, samplers),
    "Images against their formulas": (_WITHOUT_TWINS, renderers),
    "Gradients against finite differences, float64": (DISCREPANCIES, gradients),
    "Fast algorithms against sums over all pairs": (DISCREPANCIES, algorithms),
    "Metrics against assignments": (metrics.METRICS, distances),
    "EM never raises its objective": (_WITHOUT_TWINS, em),
    "Floors against fresh samples": (_WITHOUT_TWINS, floors),
}


def report(console: Console, areas: Mapping[str, Area]) -> bool:
    """Run the checks of some areas, print a table of each when it is done, and return whether all passed."""
    began, failed, total = time.perf_counter(), list[Finding](), 0
    for area, (names, check) in areas.items():
        with console.status(area), jax.default_matmul_precision("highest"):  # as runs do
            findings = [finding for name in names for finding in _findings(name, check)]
        console.print(_table(area, inspect.getdoc(check) or "", findings))
        failed += [finding for finding in findings if not finding.passed]
        total += sum(not finding.unchecked for finding in findings)
    seconds, device = time.perf_counter() - began, jax.devices()[0]
    if failed:
        console.print(_table("What failed", "", failed))
    console.print(
        f"{total} checks on {device.platform} ({device.device_kind}) in {seconds:.0f} s: "
        + (f"{len(failed)} FAILED" if failed else "all passed"),
        markup=False,
        highlight=False,
    )
    return not failed


def _findings(name: str, check: Callable[[str], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; an exception is a finding that failed."""
    try:
        yield from check(name)
    except Unknown as unknown:
        yield Finding(f"{name}: no {unknown}", math.nan, unchecked=True)
    except Exception as error:  # the other checks go on
        yield Finding(name, math.nan, error=f"{type(error).__name__}: {error}")


def _table(area: str, caption: str, findings: list[Finding]) -> Table:
    table = Table(title=area, title_justify="left", title_style="bold", expand=True)
    table.caption, table.caption_justify = escape(" ".join(caption.split())), "left"
    table.add_column("check", ratio=1)
    for column, width in (("number", 9), ("limit", 13)):  # so that tables are aligned
        table.add_column(column, justify="right", no_wrap=True, min_width=width)
    table.add_column("verdict", no_wrap=True)
    for found in findings:
        verdict = "not checked" if found.unchecked else "[green]passed[/]" if found.passed else "[red]FAILED[/]"
        what = f"{found.what}: {found.error}" if found.error else found.what
        number = "" if found.unchecked else f"{found.number:.3g}"
        table.add_row(escape(what), number, _limit(found), verdict)
    return table


def _limit(found: Finding) -> str:
    if math.isinf(found.most):
        return "" if math.isinf(found.least) else f">= {found.least:.3g}"
    return f"<= {found.most:.3g}" if math.isinf(found.least) else f"{found.least:.3g} to {found.most:.3g}"
