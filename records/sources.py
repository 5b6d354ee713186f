"""Where records are read from: results folders, packs, and the records that are installed with cryosip."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from cryosip.records.pack import Card, unpack

PUBLISHED = "published"  # the word for the pack that is installed with cryosip
INSTALLED = Path(__file__).parents[1] / "reports" / "published" / "records.tar.zst"

Sources = Path | str | Sequence[Path | str]


class Opened(NamedTuple):
    """A folder of records and, where it was a pack, its card and the sha256 of the pack.

    `root` is what the paths of its records begin with, so that they differ between sources.
    """

    name: str
    root: Path
    folder: Path
    card: Card | None = None
    sha256: str = ""


@contextmanager
def opened(sources: Sources) -> Iterator[list[Opened]]:
    """The folders of one or several sources: a folder as it is, a pack verified and extracted for as long as it lasts.

    A source is a path, or the text "published" for the pack that is installed; a folder of that name is "./published".
    Raises ValueError for no source, and for a pack that is damaged.
    """
    several = [sources] if isinstance(sources, Path | str) else list(dict.fromkeys(sources))
    if not several:
        raise ValueError("no source of records: wanted a results folder, a pack or 'published'")
    with ExitStack() as stack:
        yield [_opened(source, Path(source) if len(several) > 1 else Path(), stack) for source in several]


def _opened(source: Path | str, root: Path, stack: ExitStack) -> Opened:
    path = INSTALLED if source == PUBLISHED else Path(source)
    if not path.is_file():
        return Opened(str(source), root, path)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cryosip-")))
    return Opened(str(source), root, folder, *unpack(path, folder))
