"""A pack: records, the arrays beside them, and a card that says whose they are, as one .tar.zst that is only data."""

import hashlib
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import msgspec
import zstandard
from msgspec import Meta, Struct, field

from cryosip.records.files import write_through

FORMAT = 1
CARD = "card.json"  # the first file of a pack; all others are on it
SUFFIX = ".tar.zst"
MOST_FILES = 100_000
LARGEST_CARD, LARGEST_FILE, LARGEST_PACK = 2**25, 2**28, 2**32  # bytes, not compressed
LARGEST_WINDOW = 2**27  # bytes of memory that reading it may take
LEVEL, WINDOW_LOG = 19, 26  # records resemble each other: the window spans many of them
CHUNK = 2**20

PART = "[A-Za-z0-9][A-Za-z0-9_.+=-]*"
NAME = re.compile(rf"{PART}/{PART}\.(json|npz)")
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]+\Z", max_length=4000)]
Licence = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.+() -]+\Z", max_length=200)]  # an SPDX expression


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of a pack must be."""

    size: int
    sha256: str


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose records a pack holds, and which files it consists of.

    `created` is the time of the youngest record and no other, so that the same records give the same bytes.
    """

    format: int = FORMAT
    title: Line
    who: Line
    what: Line
    licence: Licence
    hardware: list[Line]
    command: Line
    cryosip: Line
    created: Line
    files: dict[str, File] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, file in self.files.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"it names {name!r}: wanted <study>/<file>.json or .npz")
            if not 0 <= file.size <= LARGEST_FILE:
                raise ValueError(f"{name!r} has {file.size:,} bytes: wanted at most {LARGEST_FILE:,}")
        if len(self.files) > MOST_FILES:
            raise ValueError(f"{len(self.files):,} files: wanted at most {MOST_FILES:,}")
        if (total := sum(file.size for file in self.files.values())) > LARGEST_PACK:
            raise ValueError(f"{total:,} bytes: wanted at most {LARGEST_PACK:,}")


class _Format(Struct):
    format: int


def write_pack(folder: Path, out: Path, card: Card) -> Card:
    """Write <study>/<file> of a folder as a pack, whole or not at all; returns the card with its files.

    Raises ValueError for what `unpack` would refuse, and OSError where `out` cannot be written.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("*/*.*"))}
    card = msgspec.structs.replace(card, files={name: _described(path) for name, path in paths.items()})
    text = msgspec.json.format(msgspec.json.encode(card), indent=1)
    _parsed(text)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW_LOG, enable_ldm=True, write_checksum=True
    )

    def write_to(file: IO[bytes]) -> None:
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        with compressor.stream_writer(file, closefd=False) as stream:
            stream.write(_header_of(CARD, len(text)) + text + _padding(len(text)))
            for name, path in paths.items():
                stream.write(_header_of(name, card.files[name].size))
                with path.open("rb") as content:
                    shutil.copyfileobj(content, stream, CHUNK)
                stream.write(_padding(card.files[name].size))
            stream.write(bytes(2 * tarfile.BLOCKSIZE))

    write_through(out, write_to)
    return card


def unpack(pack: Path, folder: Path) -> tuple[Card, str]:
    """Verify a pack while its files are written into an empty folder; its card, and the sha256 of the pack.

    The card comes first and bounds all that follows, so that no byte is written which it does not announce. Raises
    ValueError that names the pack and what is wrong with it; nothing in the folder may be read then.
    """
    with pack.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        try:
            with decompressor.stream_reader(file, read_across_frames=True, closefd=False) as stream:
                return _extracted(stream, folder), sha256
        except (ValueError, zstandard.ZstdError, tarfile.TarError) as error:
            raise ValueError(f"{pack} is not a sound pack: {error}") from error


def _extracted(stream: IO[bytes], folder: Path) -> Card:
    first = _header(stream)
    if first is None or first[0] != CARD:
        raise ValueError(f"it begins with {first and first[0]!r}: wanted {CARD!r}")
    if not 0 <= first[1] <= LARGEST_CARD:
        raise ValueError(f"{CARD!r} has {first[1]:,} bytes: wanted at most {LARGEST_CARD:,}")
    card = _parsed(b"".join(_content(stream, first[1])))
    missing = dict.fromkeys(card.files)
    while (header := _header(stream)) is not None:
        name, size = header
        wanted = card.files.get(name)
        if wanted is None:
            raise ValueError(f"{name!r} is not on its card")
        if size != wanted.size:
            raise ValueError(f"{name!r} has {size:,} bytes: its card says {wanted.size:,}")
        _write(stream, folder / name, name, wanted)
        missing.pop(name)
    if missing:
        raise ValueError(f"{len(missing)} files of its card are missing, such as {next(iter(missing))!r}")
    if any(rest := _at_most(stream, tarfile.RECORDSIZE + 1)) or len(rest) > tarfile.RECORDSIZE:
        raise ValueError("it goes on after its last file")
    return card


def _parsed(text: bytes) -> Card:
    try:
        if (found := msgspec.json.decode(text, type=_Format).format) != FORMAT:
            raise ValueError(f"format {found}: this version of cryosip reads format {FORMAT}")
        return msgspec.json.decode(text, type=Card)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CARD!r}: {error}") from None


def _header(stream: IO[bytes]) -> tuple[str, int] | None:
    """Name and size of the next file, None at the end. Raises ValueError for what is no regular file."""
    block = _exactly(stream, tarfile.BLOCKSIZE)
    if not any(block):
        return None
    member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = member.type.decode("latin-1")
        raise ValueError(f"{member.name!r} is of tar type {kind!r}: wanted regular files alone")
    return member.name, member.size


def _header_of(name: str, size: int) -> bytes:
    """Without times and owners."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _described(path: Path) -> File:
    with path.open("rb") as file:
        return File(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _write(stream: IO[bytes], path: Path, name: str, wanted: File) -> None:
    digest = hashlib.sha256()
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("xb") as file:
            for chunk in _content(stream, wanted.size):
                digest.update(chunk)
                file.write(chunk)
    except FileExistsError:
        raise ValueError(f"{name!r} is in it twice") from None
    if digest.hexdigest() != wanted.sha256:
        raise ValueError(f"{name!r} has the sha256 {digest.hexdigest()}: its card says {wanted.sha256!r}")


def _content(stream: IO[bytes], size: int) -> Iterator[bytes]:
    for start in range(0, size, CHUNK):
        yield _exactly(stream, min(CHUNK, size - start))
    _exactly(stream, len(_padding(size)))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = _at_most(stream, size)
    if len(data) < size:
        raise ValueError("it is cut short")
    return data


def _at_most(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data
