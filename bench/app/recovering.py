"""The command that takes particles of a microscope to a distribution of conformations and its page."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from cryosip.bench.app.messages import command_line, plain_errors
from cryosip.bench.app.options import Cache

Star = Annotated[
    Path, typer.Option("--star", metavar="FILE", help="Particles: a STAR file of RELION, or a .cs file of cryoSPARC.")
]
Structures = Annotated[
    list[Path],
    typer.Option(
        "--structure", metavar="FILE", help="PDB or mmCIF file. Of several, theta are principal components. Repeatable."
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the page and its files.")]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="One of posterior-npmle, mixture, reweighting, weighted-flow and flow; all by default. Repeatable.",
    ),
]
Chain = Annotated[str, typer.Option(metavar="NAME", help="Chain of the structure, or several as A,B.")]
Trajectory = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="DCD or XTC file of the structure: theta are principal components of its frames."
    ),
]
InMap = Annotated[
    bool,
    typer.Option(
        "--in-map/--centred",
        help="Whether the structure lies in the map that poses belong to, or its centre is that of the box.",
    ),
]
Modes = Annotated[int, typer.Option(min=1, max=3, help="How many modes: coordinates of a conformation.")]
HalfWidth = Annotated[
    float | None,
    typer.Option(
        metavar="W", help="theta is sought in [-W, W]; by default 14 along normal modes, 5 along principal components."
    ),
]
PoseError = Annotated[float, typer.Option(metavar="DEGREES", help="By how much rotations are off, at most.")]
ShiftError = Annotated[
    float, typer.Option(metavar="ANGSTROMS", help="By how much shifts are off along each axis: a std.")
]
AtomStd = Annotated[float, typer.Option(metavar="ANGSTROMS", help="Width of a residue in the images.")]
ScaleStd = Annotated[float, typer.Option(metavar="S", help="Std of the contrast of images, whose mean is 1.")]
PixelSize = Annotated[
    float | None, typer.Option(metavar="ANGSTROMS", help="Of the images, instead of what the table says.")
]
OpticsGroup = Annotated[str | None, typer.Option(metavar="NAME", help="The only group of images to take.")]
Images = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")]
Seed = Annotated[int, typer.Option(min=0, help="Of all that is drawn.")]


# what files are read with, by what users type
TYPED = {
    "n_modes": "--modes",
    "init_half_width": "--half-width",
    "pose_error_in_degrees": "--pose-error",
    "shift_error_in_angstroms": "--shift-error",
    "atom_std_in_angstroms": "--atom-std",
    "scale_std": "--scale-std",
    "pixel_size_in_angstroms": "--pixel-size",
    "optics_group": "--optics-group",
    "n_observations": "--images",
}


@contextmanager
def by_options() -> Iterator[None]:
    """Errors of options name these as users type them."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        for name, typed in TYPED.items():
            text = re.sub(rf"\b{name}\b", typed, text)
        raise ValueError(text) from error


def stopped(_signal: int, _frame: FrameType | None) -> None:
    """Ends at once: files are written whole or not at all, and an exception is lost in callbacks of JAX."""
    print("\ncryosip: stopped; the same command goes on from what is kept", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)


def recover(
    star: Star,
    structure: Structures,
    out: Out = Path("recovery"),
    method: Methods = None,
    chain: Chain = "A",
    trajectory: Trajectory = None,
    in_map: InMap = False,
    modes: Modes = 2,
    half_width: HalfWidth = None,
    pose_error: PoseError = 2.0,
    shift_error: ShiftError = 0.0,
    atom_std: AtomStd = 4.0,
    scale_std: ScaleStd = 0.0,
    pixel_size: PixelSize = None,
    optics_group: OpticsGroup = None,
    images: Images = None,
    seed: Seed = 0,
    cache: Cache = True,
) -> None:
    """Recover the distribution of conformations from particles, and say whether to believe it. Prints the page.

    Poses are those of the table, after a refinement. What is computed of the images is kept in DIR/table: when an
    interrupted command is given again, it goes on there.
    """
    from cryosip.bench import cache as compilations
    from cryosip.bench.recovery import recover as recovery
    from cryosip.bench.recovery.images import Request
    from cryosip.bench.recovery.methods import CHOICES
    from cryosip.reports import recovery_page

    given = {
        "chain": chain,
        "trajectory": None if trajectory is None else str(trajectory),
        "in_map": in_map,
        "n_modes": modes,
        "init_half_width": half_width,
        "pose_error_in_degrees": pose_error,
        "shift_error_in_angstroms": shift_error,
        "atom_std_in_angstroms": atom_std,
        "scale_std": scale_std,
        "pixel_size_in_angstroms": pixel_size,
        "optics_group": optics_group,
        "n_observations": images,
    }
    signal.signal(signal.SIGINT, stopped)
    options = {name: value for name, value in given.items() if value is not None}
    with plain_errors(), by_options():
        if cache:
            compilations.switch_on()
        request = Request(str(star), tuple(map(str, structure)), tuple(method or CHOICES), options, seed)
        recovery.recover(request, out, lambda text: typer.echo(f"cryosip: {text}", err=True), command_line())
        page = recovery_page.build(out, out)
    typer.echo(page)
