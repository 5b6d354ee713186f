"""The studies paper-hsp90, paper-adk and hsp90-open of §4.3: Figs. 5 to 8, the modes, what the paper leaves open."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import timed
from cryosip.records.schema import Array, Molecule, Record
from cryosip.records.select import observations
from cryosip.reports import movies
from cryosip.reports.controls import START_LABEL, TRUTH_SAMPLE
from cryosip.reports.drawing import GREY, STANDS, Cloud, first_with, histograms, of_first_replicate, strip, views
from cryosip.reports.section import Context, Figures, Section, Source, of_study
from cryosip.reports.spreads import Spread, grouped, spread
from cryosip.reports.style import INK, Plot, SeriesStyle, draw, log_axes, series_style
from cryosip.reports.tables import method_rows, shared_data, with_newcomers

BINS = 45
STUDIES = ("paper-hsp90", "hsp90-methods", "hsp90-long", "paper-adk")
METRICS = ("energy_distance_squared", "w1", "w2")
DISTANCE = "energy_distance_squared"


class Protein(NamedTuple):
    """A part of the section: the records of some studies with one amplitude of the modes."""

    studies: tuple[str, ...]
    amplitude: str
    name: str

    def records(self, records: Sequence[Record]) -> list[Record]:
        """Its own, the most images first; records made before there was an amplitude have the printed one."""
        inverse = self.amplitude == "inverse"
        own = [r for r in records if r.study in self.studies and (_amplitude(r) == "inverse") == inverse]
        return sorted(own, key=lambda r: -observations(r))


HSP90 = ("paper-hsp90", "hsp90-methods", "hsp90-long")
PROTEINS = {
    "paper-hsp90-conjectured": Protein(HSP90, "inverse", "HSP90 as conjectured: θ = z / λ, scattering factors"),
    "paper-hsp90": Protein(HSP90, "root", "HSP90 as printed: θ = z / √λ"),
    "paper-adk": Protein(("paper-adk",), "root", "Adenylate kinase"),
}


def _amplitude(record: Record) -> str:
    return str(record.config_value("problem.options.amplitude"))


def molecule(records: Sequence[Record], prefix: str) -> list[Plot]:
    """Fig. 5: the structure (a), images of it without (b) and with noise (c)."""
    shown = first_with(records, {"beads", "image_clean", "image_noisy"})
    if shown is None:
        return []
    beads = shown.arrays["beads"]

    def paint(ax: Axes) -> None:
        for points, left in views(beads):
            ax.plot(points[:, 0] + left, points[:, 1], color=INK, linewidth=0.6, alpha=0.5)
            ax.scatter(points[:, 0] + left, points[:, 1], 9, c=np.arange(len(points)), cmap="viridis", zorder=2)
        ax.set_aspect(1)
        ax.set_axis_off()

    name = f"{prefix}fig5a"
    caption = (
        f"{_described(shown.molecule)}{len(beads)} beads; two views a quarter turn apart, coloured from the first "
        "residue to the last; ångströms."
    )
    drawing = draw(name, paint, (5.0, 3.4))
    structure = Plot(name, "Fig. 5a: the structure", caption, drawing, ["x", "y", "z"], beads.tolist())
    size = math.isqrt(shown.arrays["image_clean"].shape[1])
    if size**2 != shown.arrays["image_clean"].shape[1]:
        return [structure]
    pixel = shown.config_number("problem.options.pixel_size_in_angstroms")
    of = f"{size} × {size} pixels" + (f" of {pixel:g} Å" if math.isfinite(pixel) else "")
    caption = f"Four images of {of}, in one grey scale."
    strips = [
        strip(f"{prefix}{part}", title, caption, shown.arrays[array].reshape(-1, size, size))
        for part, title, array in (
            ("fig5b", "Fig. 5b: projections", "image_clean"),
            ("fig5c", "Fig. 5c: the observations made of them", "image_noisy"),
        )
    ]
    return [structure, *strips]


def _described(structure: Molecule | None) -> str:
    return f"{structure.n_atoms} Cα atoms of chain {structure.chain} of {structure.source}, as " if structure else ""


def marginals(records: Sequence[Record], prefix: str) -> list[Plot]:
    """Fig. 6: the distribution of each mode, of the first replicate: truth, initial distribution, and every method."""
    kept = _first_replicate(records, {"theta", "weights", "theta_init", "theta_true"})
    if not kept:
        return []
    modes = kept[0].arrays["theta_true"].shape[1]
    return [_marginal(kept, i, f"{prefix}fig6-{i + 1}") for i in range(modes)]


def _marginal(records: Sequence[Record], i: int, name: str) -> Plot:
    mixtures = [r for r in records if r.method == "mixture"]
    clouds = _references(*(records[0].arrays[key][:, i] for key in ("theta_true", "theta_init")))
    low, high = np.quantile(np.concatenate([cloud.points for cloud in clouds]), [0.0005, 0.9995])
    edges = np.linspace(low - 2, high + 2, BINS + 1)
    clouds += [
        Cloud(series_style(r), r.arrays["theta"][:, i], r.arrays["weights"]) for r in records if r not in mixtures
    ]

    def components(ax: Axes, top: float) -> None:
        for row, r in enumerate(mixtures):
            at, share, style = r.arrays["theta"][:, i], r.arrays["weights"], series_style(r)
            level = np.full(len(at), -0.06 * top * (row + 1))
            ax.scatter(at, level, 160 * share + 4, color=style.colour, marker=style.marker, alpha=0.75, linewidths=0,
                       label=f"{style.label} {r.labels.text}")  # fmt: skip
        ax.set(xlim=(edges[0], edges[-1]))

    caption = (
        f"Weighted histograms with {BINS} bins, each of total mass 1; components of mixtures as marks below the axis, "
        f"their area in proportion to the weight; replicate {records[0].replicate}."
    )
    xlabel = f"z{chr(0x2080 + i + 1)}, whitened"
    return histograms(name, f"Fig. 6: mode {i + 1}", caption, clouds, edges, xlabel, components)


def _references(true: Array, initial: Array) -> list[Cloud]:
    return [Cloud(SeriesStyle("truth", INK, ""), true), Cloud(SeriesStyle("initial", GREY, ""), initial, None, ":")]


def motions(records: Sequence[Record], prefix: str) -> list[Plot]:
    """Fig. 7: the molecule at five places along each mode, in two views."""
    shown = first_with(records, {"beads", "motions"})
    if shown is None:
        return []
    beads, moves = shown.arrays["beads"], shown.arrays["motions"].reshape(-1, *shown.arrays["beads"].shape)
    collectivity = shown.molecule.collectivity if shown.molecule else []
    return [
        _motion(beads, move, i, f"{prefix}fig7-{i + 1}", collectivity[i] if i < len(collectivity) else math.nan)
        for i, move in enumerate(moves)
    ]


def _motion(beads: Array, move: Array, i: int, name: str, collectivity: float) -> Plot:
    def paint(ax: Axes) -> None:
        colours = matplotlib.colormaps["coolwarm"](np.linspace(0, 1, len(STANDS)))
        for stand, colour in zip(STANDS, colours, strict=True):
            for points, left in views(beads + stand * move, beads):
                label = f"z = {stand:g}" if left == 0 else None
                ax.plot(points[:, 0] + left, points[:, 1], color=colour, linewidth=0.9, label=label)
        ax.set_aspect(1)
        ax.set_axis_off()

    size = np.sqrt((move**2).sum(1).mean())
    caption = (
        f"A step of 1 in z{chr(0x2080 + i + 1)} moves the beads by {size:.2g} Å (root mean square), the furthest by "
        f"{np.sqrt((move**2).sum(1)).max():.2g} Å; collectivity {collectivity:.2g}. Two views a quarter turn apart."
    )
    rows = np.column_stack([beads, move]).tolist()
    columns = ["x", "y", "z", "dx/dz", "dy/dz", "dz/dz"]
    drawing, pdb = draw(name, paint, (5.0, 3.6)), models([beads + stand * move for stand in STANDS])
    return Plot(name, f"Fig. 7: motion along mode {i + 1}", caption, drawing, columns, rows, pdb=pdb)


def models(shapes: Sequence[Array]) -> str:
    """A PDB file with one model for each shape (a, 3), in angstroms: beads as C-alphas of one chain."""
    line = "ATOM  {0:5d}  CA  GLY A{0:4d}    {1:8.3f}{2:8.3f}{3:8.3f}  1.00  0.00           C"
    lines = []
    for number, beads in enumerate(shapes, start=1):
        atoms = [line.format(i, *place) for i, place in enumerate(beads.tolist(), start=1)]
        lines += [f"MODEL     {number:4d}", *atoms, "TER", "ENDMDL"]
    return "\n".join([*lines, "END", ""])


def principal(records: Sequence[Record], prefix: str) -> list[Plot]:
    """Fig. 8: marginals of noisy images in one pose along the first two principal components of the truth's."""
    kept = _first_replicate(records, {"beta_true", "beta_init", "beta_estimated"})
    # principal components are those of images of one size
    alike = [r for r in kept if _size(r) == _size(kept[0])]
    return [_component(alike, i, f"{prefix}fig8-{i + 1}") for i in range(2)] if kept else []


def _size(record: Record) -> str:
    return str(record.config_value("problem.options.image_size"))


def _component(records: Sequence[Record], i: int, name: str) -> Plot:
    clouds = _references(*(records[0].arrays[key][:, i] for key in ("beta_true", "beta_init")))
    dashed = [r.labels.text for r in records if r.method == "mixture"][1:]
    clouds += [
        Cloud(_named(r), r.arrays["beta_estimated"][:, i], None, "--" if r.labels.text in dashed else "-")
        for r in records
    ]
    low, high = np.quantile(np.concatenate([cloud.points for cloud in clouds]), [0.002, 0.998])
    caption = "Noisy images in the pose behind the first observation; the axes are those of images of the truth."
    title, xlabel = f"Fig. 8: principal component {i + 1}", f"β{chr(0x2080 + i + 1)}"
    return histograms(name, title, caption, clouds, np.linspace(low, high, 30), xlabel)


def _named(record: Record) -> SeriesStyle:
    """With K, for several mixtures stand side by side."""
    own = series_style(record)
    return own._replace(label=f"{own.label} {record.labels.text}") if record.method == "mixture" else own


def open_fields(records: Sequence[Record]) -> list[Plot]:
    """What §4.3 leaves open: the distance against the cutoff of the network, and against the signal-to-noise ratio."""
    ok = [r for r in records if r.status == "ok" and DISTANCE in r.metrics and DISTANCE in r.initial_metrics]
    plots = []
    for option, fixed, name, label in (
        ("cutoff_in_angstroms", "snr", "cutoff", "cutoff of the network, Å"),
        ("snr", "cutoff_in_angstroms", "snr", "signal-to-noise ratio"),
    ):
        field, other = f"problem.options.{option}", f"problem.options.{fixed}"
        # the value of the other at which the most of this were run
        counts = {
            at: len({r.config_number(field) for r in ok if r.config_number(other) == at})
            for at in {r.config_number(other) for r in ok}
        }
        best = max(counts, key=lambda at: counts[at], default=math.nan)
        if counts.get(best, 0) > 1:
            kept = [r for r in ok if r.config_number(other) == best]
            plots.append(_against(kept, field, f"hsp90-{name}", label, name == "snr"))
    return plots


def _against(records: Sequence[Record], field: str, name: str, label: str, log: bool) -> Plot:
    rows: list[list[Any]] = []
    for (method, at), own in sorted(
        grouped(records, lambda r: (series_style(r).label, r.config_number(field))).items()
    ):
        floors = [r.data_floors[DISTANCE].median for r in own if DISTANCE in r.data_floors]
        values = [r.initial_metrics[DISTANCE] for r in own], [r.metrics[DISTANCE] for r in own], floors
        rows.append([method, at, len(own), *(spread(part).median for part in values)])
    styles = {series_style(r).label: series_style(r) for r in records}

    def paint(ax: Axes) -> None:
        for method, own in grouped(rows, lambda row: str(row[0])).items():
            style = styles[method]
            ax.plot([r[1] for r in own], [r[4] for r in own], color=style.colour, marker=style.marker, label=method)
        first = [row for row in rows if row[0] == rows[0][0]]
        for column, colour, alpha, word in ((3, GREY, 1.0, START_LABEL), (5, INK, 0.6, f"{TRUTH_SAMPLE} (floor)")):
            x, y = [row[1] for row in first], [row[column] for row in first]
            ax.plot(x, y, color=colour, linestyle=":", alpha=alpha, label=word)
        log_axes(ax, "xy" if log else "y")
        ax.set(xlabel=label, ylabel="D² in z")

    columns = ["method", label, "replicates", "initial D²", "D²", "floor D²"]
    caption = "Medians over replicates of the squared energy distance in whitened coordinates; the rest is the study's."
    return Plot(name, f"D² against the {label.split(',')[0]}", caption, draw(name, paint), columns, rows)


class ModeRow(NamedTuple):
    """A mode of the network, and how far each method's distribution of it is from the truth: W1, whitened."""

    mode: int
    eigenvalue: float
    collectivity: float
    distances: list[Spread]


def mode_table(records: Sequence[Record]) -> tuple[list[str], list[ModeRow]]:
    """The names of the methods, the initial distribution first, and a row for each mode."""
    ok = [r for r in records if r.status == "ok" and r.molecule]
    ok.sort(key=lambda r: (r.method != "flow", _named(r).label))
    structure = ok[0].molecule if ok else None
    if structure is None:
        return [], []
    data = {r.dataset_hash: r for r in ok}  # the initial distribution is the same for all methods
    columns = {START_LABEL: [r.initial_metrics for r in data.values()]}
    columns |= {name: [r.metrics for r in own] for name, own in grouped(ok, lambda r: _named(r).label).items()}
    modes = enumerate(zip(structure.eigenvalues, structure.collectivity, strict=True), start=1)
    return list(columns), [
        ModeRow(i, *pair, [spread([m.get(f"w1_mode_{i}", math.nan) for m in own]) for own in columns.values()])
        for i, pair in modes
    ]


def collapsed(records: Sequence[Record]) -> list[str]:
    """One sentence for each mixture: how many of its components stand for nothing of their own."""
    kept = [r for r in records if r.method == "mixture" and math.isfinite(r.collapsed_components)]
    kept.sort(key=lambda r: (r.config_number("method.options.n_components"), r.replicate))
    return [
        f"{r.labels.text}, replicate {r.replicate}: {r.collapsed_components:.0f} of "
        f"{r.config_number('method.options.n_components'):.0f} components collapsed."
        for r in kept
    ]


def _first_replicate(records: Sequence[Record], arrays: set[str]) -> list[Record]:
    """The flows first."""
    kept = of_first_replicate(records, arrays)
    return sorted(kept, key=lambda r: (-observations(r), r.method != "flow", r.method, r.labels.text))


def _figures(records: list[Record]) -> Figures:
    """Figs. 5 to 8 of each protein, and Fig. 7 moving."""
    parts = (molecule, marginals, motions, movies.modes, principal)
    own = {name: protein.records(records) for name, protein in PROTEINS.items()}
    figures = {name: [plot for part in parts for plot in part(its, f"{name}-")] for name, its in own.items()}
    return figures | {"hsp90-open": open_fields(of_study(records, "hsp90-open"))}


def _tables(source: Source) -> Context:
    proteins = {name: own for name, protein in PROTEINS.items() if (own := protein.records(source.records))}
    if not proteins and not source.figures["hsp90-open"]:
        return {}
    metrics = with_newcomers(METRICS, source.records)
    return {
        "proteins": proteins,
        "names": {name: protein.name for name, protein in PROTEINS.items()},
        "shared_data": {name: _shared(own) for name, own in proteins.items()},
        "methods": {name: method_rows(own, metrics) for name, own in proteins.items()},
        "machines": {name: timed(own).sentence for name, own in proteins.items()},
        "modes": {name: mode_table(own) for name, own in proteins.items()},
        "collapsed": {name: collapsed(own) for name, own in proteins.items()},
        "metrics": metrics,
    }


def _shared(records: Sequence[Record]) -> str:
    """Of each profile, for images of different sizes are different data."""
    profiles = grouped(records, lambda r: r.profile)
    if len(profiles) == 1:
        return shared_data(records)
    return " ".join(f"Profile {profile}: {shared_data(own)}" for profile, own in profiles.items())


SECTION = Section(
    "protein", "Figs. 5–8: protein", (*STUDIES, "hsp90-open"), _figures, _tables, template="protein.html",
    missing="No run on a protein: run the study paper-hsp90 with the structure 2IOP, or paper-adk without any file.",
)  # fmt: skip
