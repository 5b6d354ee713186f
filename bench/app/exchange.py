"""The commands that take our problems to other programs, and their results to our table."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryosip.bench.app.messages import plain_errors
from cryosip.bench.app.options import Results, Settings, Source, Structure

if TYPE_CHECKING:
    from cryosip.bench.execute import Measure
    from cryosip.records.schema import RunConfig

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")]


def stack(
    folder: Folder,
    problem: Annotated[
        str, typer.Option(metavar="PROBLEM", help="adk, hsp90, or another of a molecule in space.")
    ] = "adk",
    set_: Settings = None,
    replicate: Annotated[int, typer.Option(min=0, help="Seed of the images.")] = 0,
    structure: Structure = None,
) -> None:
    """Write the images of a problem as RELION, cryoSPARC, cryoDRGN and RECOVAR read them. Prints the folder.

    Poses are written where the problem offers them: --set problem.pose_error_in_degrees=2, or 0.
    """
    from cryosip.bench.app import outside, settings
    from cryosip.bench.studies import external
    from cryosip.records.schema import Labels, RunConfig

    with plain_errors():
        if folder.exists():
            raise ValueError(f"{folder} exists; wanted a folder that is not there yet")
        problem = outside.find("problem", problem)
        given = [f"problem.structure={structure.resolve()}"] if structure else []
        run = RunConfig(external.STUDY, Labels(), problem, {}, "", {}, 0, 1, replicate)
        for setting in map(settings.parsed, [*given, *(set_ or [])]):
            if setting.which != "problem":
                raise ValueError(f"--set is {setting.name}; wanted an option of the problem")
            run = settings.with_settings(run, [setting])
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            external.write_stack(part, external.StackProblem(problem, run.problem_options, replicate))
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    if run.problem_options.get("pose_error_in_degrees") is None:
        typer.echo("no poses are written: set problem.pose_error_in_degrees for those of a refinement", err=True)
    typer.echo(folder)


def score(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Maps with weights.csv (columns map, weight), or classes of RELION.")
    ],
    stack: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder of `cryosip stack` that they were found from.")
    ],
    name: Annotated[str, typer.Option(metavar="TEXT", help="What found them, such as relion-class3d.")],
    results: Results = Path("results"),
) -> None:
    """Measure the maps that another program found, and keep a record. Prints the record.

    Maps are as wide as the images. One factor is fitted to their grey values, for all of them together.
    """
    from cryosip.bench.studies import external
    from cryosip.datasets.particle_files import read_maps

    with plain_errors():
        _keep(*external.scored(external.read_problem(stack), name, read_maps(folder)), results)


def external(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help="relion, cryodrgn, recovar or aspire.")],
    stack: Annotated[Path, typer.Option(metavar="DIR", help="A folder of `cryosip stack`; relion needs no poses.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the program writes; not there yet.")],
    n_components: Annotated[
        int | None, typer.Option(min=1, help="Classes, or dimensions of the latent space; 4 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the program.")] = 1,
    results: Results = Path("results"),
) -> None:
    """Run a program of others on the images of a folder, as its users do, and keep a record. Prints the record.

    It is not installed with this package: its executable is the one on the path, or that which the environment variable
    CRYOSIP_RELION, CRYOSIP_CRYODRGN, CRYOSIP_RECOVAR or CRYOSIP_ASPIRE (a Python that has ASPIRE) names. It has a
    licence of its own.
    """
    from cryosip.bench.studies import programs
    from cryosip.methods import checks

    with plain_errors():
        checks.one_of("program", program, programs.PROGRAMS)
        if out.exists():
            raise ValueError(f"{out} exists; wanted a folder that is not there yet")
        typer.echo(f"{program}: licence {programs.PROGRAMS[program].licence}", err=True)
        _keep(*programs.run_of_program(program, stack, out, n_components, seed), results)


def _keep(config: "RunConfig", measure: "Measure", results: Path) -> None:
    """Executes a run and shows its record, written whatever becomes of it. Raises ValueError where it fails."""
    from rich.console import Console

    from cryosip.bench.execute import execute
    from cryosip.bench.studies.external import PROFILE
    from cryosip.records import write
    from cryosip.reports import card

    record, arrays = execute(config, PROFILE, measure)
    write.write(write.record_path(results, record.study, record.run_id), record, arrays)
    if record.status != "ok":
        raise ValueError(record.message)
    card.show(str(results), record.run_id, Console())


def maps(
    run_id: Annotated[str, typer.Argument(help="A run id of the study volumes, or a unique prefix.")],
    folder: Folder,
    results: Source = "results",
) -> None:
    """Write the mean volume of a run, and both ends along its first principal component, as MRC. Prints the files.

    Beside them are those of the truth. ChimeraX opens them; the ends are two standard deviations away.
    """
    from cryosip.datasets.particle_files import write_maps
    from cryosip.records.read import read_record
    from cryosip.records.sources import opened
    from cryosip.reports import card

    with plain_errors():
        if folder.exists():
            raise ValueError(f"{folder} exists; wanted a folder that is not there yet")
        with opened(results) as (source,):
            record, _ = read_record(source.folder, card.find(source.folder, run_id, source.name))
        found = {name: record.arrays.get(f"volumes_{name}") for name in ("true", "estimated")}
        if any(cubes is None for cubes in found.values()):
            raise ValueError(f"run {record.run_id} holds no volumes; wanted one of the study volumes")
        width = [record.config_number(f"problem.options.{n}") for n in ("image_size", "pixel_size_in_angstroms")]
        files = write_maps(
            folder, {name: cubes for name, cubes in found.items() if cubes is not None}, width[0] * width[1]
        )
    for file in files:
        typer.echo(file)
