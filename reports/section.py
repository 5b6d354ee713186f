"""What a section of the page consists of; sections/registry.py lists them all."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cryosip.records.schema import Record
from cryosip.records.select import Skipped
from cryosip.records.sources import Opened
from cryosip.reports.style import Plot

Figures = dict[str, list[Plot]]  # by group; one that has the name of a study shows that study
Context = dict[str, Any]  # the values of a template
Table = Sequence[Sequence[Any]]  # a header, and rows


class Everything(NamedTuple):
    """All that a page is made from: the records, those of each study's largest profile, and what is said beside them.

    `baselines` and `out_of_core` are the timings of `cryosip speed`, None where there are none, and `sources` where the
    records are from.
    """

    records: list[Record]
    shown: list[Record]
    skipped: list[Skipped]
    command: str = ""
    baselines: Any = None
    sources: Sequence[Opened] = ()
    out_of_core: Any = None


class Source(NamedTuple):
    """What a section is made from: the records of its studies in their largest profiles, and its figures of them."""

    records: list[Record]
    figures: Figures
    everything: Everything


class Section(NamedTuple):
    """A section of the page.

    It is shown where it has a figure or a context; where it has neither, the page says `missing` instead. A section
    with a `title` and nothing `missing` is always shown, one with no `title` is not in the contents.

    Parameters
    ----------
    name
        Its id on the page.
    title
        Its entry in the contents.
    studies
        The studies whose records it takes. A group of figures is of the study of its name, others are of the first.
    figures
        The figures of the records of its studies, by group.
    context
        The values of its template, empty where there is nothing to say.
    tables
        Of a context, the tables that are files too, by the name of the file.
    template
        Its file in reports/sections; the default is a heading and all figures.
    missing
        What the page says where it has nothing to show.
    heading
        What the default template has as its heading, where that is not `title`.
    drawn
        Of a context, its figures beside those of records.
    """

    name: str
    title: str
    studies: tuple[str, ...] = ()
    figures: Callable[[list[Record]], Figures] = lambda records: {}
    context: Callable[[Source], Context] = lambda source: {}
    tables: Callable[[Context], dict[str, Table]] = lambda context: {}
    template: str = "figures.html"
    missing: str = ""
    heading: str = ""
    drawn: Callable[[Context], Figures] = lambda context: {}


def of_study(records: Sequence[Record], study: str) -> list[Record]:
    """The records of one study."""
    return [record for record in records if record.study == study]
