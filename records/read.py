"""Reads the record of one run, and the arrays beside it."""

import io
import json
import reprlib
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cryosip.records.arrays import misshapen
from cryosip.records.files import digest
from cryosip.records.schema import SCHEMA, Array, Record, from_table, id_of
from cryosip.records.upgrade import upgraded, upgraded_arrays

SPEED = "speed"  # the folder of RESULTS that holds timings and no runs
LARGEST_ARRAYS = 2**30  # bytes of the arrays of a record, not compressed


class OtherSchema(ValueError):
    """A record that another version of cryosip wrote."""


def record_files(results: Path) -> list[Path]:
    """Every RESULTS/<study>/<run_id>.json, whatever is in it; timings are no runs.

    Raises ValueError where there is no such folder.
    """
    if not results.is_dir():
        raise ValueError(f"no results folder at {results}: wanted a folder that holds <study>/<run_id>.json, or a pack")
    return sorted(path for path in results.glob("*/*.json") if path.parent.name != SPEED)


def read_record(results: Path, path: Path) -> tuple[Record, str]:
    """The record at a path relative to the results folder, and why the arrays beside it were not read, or "".

    Raises ValueError that says what is wrong with a file that is no record of schemas 1 to 3.
    """
    try:
        record = parsed(_decoded((results / path).read_bytes()))
        arrays, reason = _load_arrays((results / path).with_suffix(".npz"), record.arrays_hash)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    arrays = upgraded_arrays(record.schema, record.problem, arrays)
    return msgspec.structs.replace(record, path=path, arrays=arrays), reason


def parsed(table: dict[str, Any]) -> Record:
    """The record of a table. Raises ValueError for what is none, and for an id that is not that of its content."""
    record = from_table(upgraded(table))
    if record.schema == SCHEMA and record.run_id != id_of(record):
        raise ValueError(f"run_id is {record.run_id!r}; wanted {id_of(record)!r}, the id of its content")
    return record


def written_here(path: Path) -> Record:
    """A record that this version of cryosip wrote whole, under the id that is its file's name.

    Raises OtherSchema for one of another schema, and ValueError for anything else.
    """
    try:
        table = _decoded(path.read_bytes())
        if table["schema"] != SCHEMA:
            raise OtherSchema(f"schema {reprlib.repr(table['schema'])}: this version of cryosip writes {SCHEMA}")
        record = parsed(table)
        if record.run_id != path.stem:
            raise ValueError(f"it is the record of run {record.run_id}")
        arrays = path.with_suffix(".npz")
        if record.arrays_hash != (digest(arrays.read_bytes()) if arrays.exists() else ""):
            raise ValueError("the arrays beside it are not those that it was written with")
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from None
    return record


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        table = json.loads(content.decode("utf-8"), parse_int=_within_floats)
    except UnicodeDecodeError:
        raise ValueError("not a text file in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not complete JSON: {error}") from None
    if not isinstance(table, dict) or "schema" not in table or "run_id" not in table:
        raise ValueError("not a cryosip record: no schema and run_id")
    return table


def _within_floats(digits: str) -> int:
    """A whole number that a figure can draw. Raises ValueError for others."""
    number = int(digits)
    try:
        float(number)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return number


def _load_arrays(path: Path, known: str | None) -> tuple[dict[str, Array], str]:
    """The arrays of an .npz, never a pickle, and why there are none; `known` is the digest of the file, if any is."""
    if not path.exists():
        return {}, "arrays not read: the file is missing" if known else ""
    try:
        content = path.read_bytes()
        if known is not None and digest(content) != known:
            return {}, "arrays not read: they are not those of the record"
        with zipfile.ZipFile(io.BytesIO(content)) as members:  # a small file may announce more than memory holds
            size = sum(member.file_size for member in members.infolist())
        if size > LARGEST_ARRAYS:
            return {}, f"arrays not read: {size:,} bytes when unpacked: wanted at most {LARGEST_ARRAYS:,}"
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name], dtype=np.float64) for name in archive.files}
    except Exception as error:  # a damaged archive raises whatever numpy, zipfile and zlib come to
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        return {}, f"arrays not read: {reason}"
    wrong = misshapen(arrays)
    return ({}, f"arrays not read: {wrong}") if wrong else (arrays, "")
