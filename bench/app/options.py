"""The options that several commands share."""

import math
from pathlib import Path
from typing import Annotated

import typer

Profile = Annotated[
    str, typer.Option(help="smoke (minutes, mostly compilation), small (minutes to hours) or paper (its sizes).")
]
Results = Annotated[Path, typer.Option(help="Folder of the records.")]
Source = Annotated[
    str,
    typer.Option("--results", metavar="PATH", help="Folder or pack of the records; 'published' is the installed one."),
]
Out = Annotated[Path, typer.Option(help="Folder of the report.")]
Replicates = Annotated[int | None, typer.Option(help="Replicates of every run, instead of the profile's own number.")]
Only = Annotated[str | None, typer.Option(metavar="PROBLEM", help="Only the studies on this problem.")]
OUTSIDE = "a name that `cryosip list` shows, FILE.py:NAME or package.module:NAME"
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="METHOD", help=f"Only runs of this method: {OUTSIDE}. Repeatable."),
]
Problems = Annotated[
    list[str] | None,
    typer.Option("--problem", "--only", metavar="PROBLEM", help="Only runs on this problem: the same. Repeatable."),
]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="METRIC", help="Measure this metric too: the same. Repeatable.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="OPTION=VALUE",
        help="An option of the method or the problem: method.n_components=20. Repeatable.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Re-run even if a record exists.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Re-run what ended by an error or a timeout, under the same limits too.")
]
X64 = Annotated[bool, typer.Option("--x64", help="Compute in float64.")]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache", help="Keep compiled programs in the user's cache folder, and take them from there."
    ),
]
Jobs = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Runs at a time, each on its share of the cores, or on a GPU of its own."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS|FILE", help="Runs on the workers of this Dask scheduler; see docs/cluster.md."),
]
Slurm = Annotated[
    str | None,
    typer.Option(metavar="OPTION=VALUE,...", help="Runs as jobs of SLURM: partition=gpu,gpus_per_node=1,time=60."),
]


def _positive(value: float | None) -> float | None:
    if value is None or 0 < value < math.inf:
        return value
    raise typer.BadParameter(f"{value!r} is not a positive finite number")


Timeout = Annotated[
    float | None,
    typer.Option(
        callback=_positive,
        metavar="SECONDS",
        help="Stop a run after SECONDS of setup and stepping (status timeout).",
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        callback=_positive,
        metavar="MB",
        help="Memory limit per process: use smaller tiles, or fail and say how much is needed.",
    ),
]

Structure = Annotated[
    Path | None, typer.Option(help="PDB or mmCIF file of the protein, instead of 2IOP or 4AKE.", metavar="FILE")
]
