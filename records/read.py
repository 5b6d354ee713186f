"""Read a results folder: every run record that can be trusted, and the name of every file that cannot."""

import hashlib
import io
import json
import math
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryosip.records.shapes import misshapen

SCHEMA = 2  # of 1, too, records are read
UNWRITABLE = {code: f"\\x{code:02x}" for code in range(32) if chr(code) not in "\t\n\r"}
SUPERSEDED = "superseded: "  # how the reason begins where nothing is wrong with a record
STATUSES = ("ok", "diverged", "timeout", "error")
SPEED = "speed"  # the folder of RESULTS that holds timings and no runs

Array = NDArray[np.float64]
Skipped = tuple[Path, str]


class Floor(NamedTuple):
    """The metric of an i.i.d. sample of the truth of size n, as if n noise-free parameters were known."""

    median: float
    q05: float
    q95: float
    n: int


@dataclass(frozen=True, eq=False)
class Record:
    """One run, as the record file states it; metrics that are not finite or not available are absent."""

    path: Path
    run_id: str
    study: str
    profile: str
    setting: str
    problem: str
    method: str
    config: dict[str, Any]
    replicate: int
    seed: int
    status: str
    message: str
    steps: int
    forward_calls: int
    setup_seconds: float
    compile_seconds: float
    run_seconds: float
    program_memory_mb: float
    peak_memory_mb: float
    dataset_hash: str
    created: str
    algorithm: dict[str, Any]
    identity: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, float]
    initial_metrics: dict[str, float]
    oracle_metrics: dict[str, float]
    floors: dict[str, Floor]
    data_floors: dict[str, Floor]
    sampled: dict[str, Floor]
    initial_sampled: dict[str, Floor]
    curve: dict[str, Array]
    molecule: dict[str, Any]
    collapsed_components: float
    arrays: dict[str, Array] = field(repr=False)

    def asked(self, dotted: str) -> Any:
        """The configured value at a dotted path such as "method.options.n_components", None where nothing is."""
        value: Any = self.config
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def number(self, dotted: str) -> float:
        """The configured number at a dotted path, nan where there is none."""
        return _number(self.asked(dotted))

    @property
    def engine(self) -> str:
        """What made the record, but for its method, its problem and its measure: only within one are runs alike."""
        return str(self.identity.get("engine", ""))

    @property
    def discrepancy(self) -> str:
        """The name of the discrepancy that the method minimises, "" for methods that have none."""
        return str(self.asked("method.options.discrepancy.name") or "")


def read_records(results: Path, one_engine: bool = False) -> tuple[list[Record], list[Skipped]]:
    """Read RESULTS/<study>/<run_id>.json with the .npz beside it; return the records and (path, reason) of the rest.

    Versions are never pooled, and no draw counts twice: of each configuration only what the code of its youngest record
    made is kept, of each study only the precision of its youngest record, and of two records of one replicate the
    younger. With `one_engine`, of each study only what the engine of its youngest record made. Paths are relative to
    the results folder. Raises ValueError where no record can be read.
    """
    records: list[Record] = []
    skipped: list[Skipped] = []
    for path in record_files(results):
        relative = path.relative_to(results)
        try:
            record, reason = read_record(results, relative)
        except ValueError as error:
            skipped.append((relative, str(error)))
            continue
        records.append(record)
        if reason:
            skipped.append((relative.with_suffix(".npz"), reason))
    older: list[Skipped] = []
    study_wide = [_precision, lambda record: record.engine] if one_engine else [_precision]
    for group, version in ((_configuration, _code), *((lambda record: record.study, of) for of in study_wide)):
        records, others = _of_one_version(records, group, version)
        older += others
    records, superseded = _youngest(records)
    if not records:
        wanted = f"no readable record in {results} (wanted <study>/<run_id>.json, schema 1 or {SCHEMA})"
        raise ValueError("; ".join([wanted, *(f"{path}: {reason}" for path, reason in skipped[:3])]))
    return records, sorted(skipped + older + superseded)


def record_files(results: Path) -> list[Path]:
    """Every RESULTS/<study>/<run_id>.json, whatever is in it; timings are no runs.

    Raises ValueError where there is no such folder.
    """
    if not results.is_dir():
        raise ValueError(f"no results folder at {results}: wanted a folder that holds <study>/<run_id>.json")
    return sorted(path for path in results.glob("*/*.json") if path.parent.name != SPEED)


def read_record(results: Path, path: Path) -> tuple[Record, str]:
    """The record at a path relative to the results folder, and why the arrays beside it were not read, or "".

    Raises ValueError that says what is wrong with a file that is no record of this schema.
    """
    try:
        data = _load_json(results / path)
        arrays, reason = _load_arrays((results / path).with_suffix(".npz"), data["arrays_hash"])
        return _parse(data, path, arrays), reason
    except (OSError, OverflowError, RecursionError) as error:
        raise ValueError(_why(error)) from error


def observations(record: Record) -> float:
    """The number of observations, as asked or as the floors of that size state it."""
    asked = record.number("problem.options.n_observations")
    known = [floor.n for floor in record.data_floors.values()]
    return asked if math.isfinite(asked) or not known else float(known[0])


def largest(records: Iterable[Record]) -> list[Record]:
    """In each study the profiles with the most observations, whatever their names: sizes are never pooled."""
    records = list(records)
    size: dict[tuple[str, str], float] = {}
    for record in records:
        profile = (record.study, record.profile)
        size[profile] = max(size.get(profile, -math.inf), _rank(record))
    best = {study: max(n for (s, _), n in size.items() if s == study) for study, _ in size}
    return [record for record in records if size[record.study, record.profile] == best[record.study]]


def of_other_engines(records: Iterable[Record]) -> set[Path]:
    """The paths of records that another engine made than the youngest record of their study."""
    records = sorted(records, key=_age)
    newest = {record.study: record.engine for record in records}
    return {record.path for record in records if record.engine != newest[record.study]}


def _rank(record: Record) -> float:
    size = observations(record)
    return size if math.isfinite(size) else -1.0


def _of_one_version(
    records: list[Record], group: Callable[[Record], Any], version: Callable[[Record], Any]
) -> tuple[list[Record], list[Skipped]]:
    """In each group what is of the version of its youngest record."""
    newest = {group(r): version(r) for r in sorted(records, key=_age)}
    kept = [record for record in records if version(record) == newest[group(record)]]
    reason = f"{SUPERSEDED}a younger record was made by other code or in other precision"
    return kept, [(record.path, reason) for record in records if version(record) != newest[group(record)]]


def _configuration(record: Record) -> tuple[str, ...]:
    """All that replicates share."""
    config = json.dumps(record.config, sort_keys=True)
    return record.study, record.setting, record.problem, record.method, config


def _code(record: Record) -> str:
    return json.dumps(record.identity, sort_keys=True)


def _precision(record: Record) -> Any:
    return record.environment.get("dtype")


def _age(record: Record) -> tuple[str, str]:
    return record.created, str(record.path)


def _youngest(records: list[Record]) -> tuple[list[Record], list[Skipped]]:
    kept = {(_configuration(record), record.replicate): record for record in sorted(records, key=_age)}
    chosen = {record.path for record in kept.values()}
    gone = [(r.path, f"{SUPERSEDED}there is a younger record of the same run") for r in records if r.path not in chosen]
    return [r for r in records if r.path in chosen], gone


def _load_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_int=_within_floats)
    except json.JSONDecodeError as error:
        raise ValueError(f"not complete JSON: {error}") from None
    except UnicodeDecodeError:
        raise ValueError("not a text file in UTF-8") from None
    if not isinstance(data, dict) or "schema" not in data or "run_id" not in data:
        raise ValueError("not a cryosip record: no schema and run_id")
    data = _upgraded(data)
    return _written_out(data) if "\\" in text else data  # only an escape brings such characters


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1 as one of schema 2, which has to tell the hash of its arrays: null where nobody knows it."""
    if data["schema"] == 1:
        return {"arrays_hash": None} | data | {"schema": SCHEMA}
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {reprlib.repr(data['schema'])}: this version of cryosip reads schema 1 and {SCHEMA}")
    if not isinstance(data.get("arrays_hash"), str):
        raise ValueError(f"arrays_hash is {reprlib.repr(data.get('arrays_hash'))}: wanted text")
    return data


def _within_floats(digits: str) -> int:
    """A whole number that a figure can draw. Raises OverflowError for others."""
    float(number := int(digits))
    return number


def _written_out(value: Any) -> Any:
    """The same, with characters that no SVG may hold, such as half of a pair, as escapes in all texts and keys."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode().translate(UNWRITABLE)
    if isinstance(value, dict):
        return {_written_out(key): _written_out(inner) for key, inner in value.items()}
    return [_written_out(inner) for inner in value] if isinstance(value, list) else value


def _why(error: Exception) -> str:
    """The reason without the place: a page does not tell where on a disk it was made."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def digest(content: bytes) -> str:
    """Of the file of its arrays a record of schema 2 tells this."""
    return hashlib.sha256(content).hexdigest()[:16]


def _load_arrays(path: Path, known: str | None) -> tuple[dict[str, Array], str]:
    """The arrays of an .npz, never a pickle, and why there are none; `known` is the digest of the file, if any is."""
    if not path.exists():
        return {}, "arrays not read: the file is missing" if known else ""
    try:
        content = path.read_bytes()
        if known is not None and digest(content) != known:
            return {}, "arrays not read: they are not those of the record"
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name], dtype=np.float64) for name in archive.files}
    except Exception as error:  # a damaged archive raises whatever numpy, zipfile and zlib come to
        return {}, f"arrays not read: {_why(error)}"
    wrong = misshapen(arrays)
    return ({}, f"arrays not read: {wrong}") if wrong else (arrays, "")


def _parse(data: dict[str, Any], path: Path, arrays: dict[str, Array]) -> Record:
    status = _text(data, "status")
    if status not in STATUSES:
        raise ValueError(f"status {reprlib.repr(status)}: wanted one of {', '.join(STATUSES)}")
    return Record(
        path=path,
        run_id=_name(data, "run_id"),
        study=_name(data, "study"),
        profile=_text(data, "profile"),
        setting=_text(data, "setting"),
        problem=_text(data, "problem"),
        method=_text(data, "method"),
        config=_config(data),
        replicate=_whole(data, "replicate"),
        seed=_whole(data, "seed"),
        status=status,
        message=_text(data, "message", ""),
        steps=_whole(data, "steps"),
        forward_calls=_whole(data, "forward_calls"),
        setup_seconds=_number(data.get("setup_seconds")),
        compile_seconds=_number(data.get("compile_seconds")),
        run_seconds=_number(data.get("run_seconds")),
        program_memory_mb=_number(data.get("program_memory_mb")),
        peak_memory_mb=_number(data.get("peak_memory_mb")),
        dataset_hash=_text(data, "dataset_hash", ""),
        created=_text(data, "created", ""),
        algorithm=_table(data, "algorithm"),
        identity=_identity(data),
        environment=_table(data, "environment"),
        metrics=_numbers(_table(data, "metrics")),
        initial_metrics=_numbers(_table(data, "initial_metrics")),
        oracle_metrics=_numbers(_table(data, "oracle_metrics")),
        floors=_floors(_table(data, "floors")),
        data_floors=_floors(_table(data, "data_floors")),
        sampled=_floors(_table(data, "sampled_metrics")),
        initial_sampled=_floors(_table(data, "initial_sampled_metrics")),
        curve=_curve(_table(data, "curve")),
        molecule=_molecule(data),
        collapsed_components=_number(data.get("collapsed_components")),
        arrays=arrays,
    )


def _text(data: dict[str, Any], key: str, default: str | None = None) -> str:
    value = data.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ValueError(f"{key} is {reprlib.repr(value)}: wanted text")
    return value


def _name(data: dict[str, Any], key: str) -> str:
    """Text that may become a part of a path, and stays one part of it."""
    value = _text(data, key)
    if value in ("", ".", "..") or any(mark in value for mark in "/\\\0"):
        raise ValueError(f"{key} is {reprlib.repr(value)}: wanted a plain name")
    return value


def _whole(data: dict[str, Any], key: str) -> int:
    value = data.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{key} is {reprlib.repr(value)}: wanted a whole number of 64 bits")
    return value


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{key} is {reprlib.repr(value)}: wanted a table")
    return value or {}


def _identity(data: dict[str, Any]) -> dict[str, Any]:
    """The hashes of what decided the result; older records have one, of all code."""
    return _table(data, "identity") or {"engine": _table(data, "environment").get("code")}


def _config(data: dict[str, Any]) -> dict[str, Any]:
    """The configuration, in which problem and method have tables of options."""
    config = _table(data, "config")
    for part in ("problem", "method"):
        _table(_table(config, part), "options")
    return config


def _molecule(data: dict[str, Any]) -> dict[str, Any]:
    """The molecule; of each mode, if it has any, an eigenvalue and a collectivity."""
    molecule = _table(data, "molecule")
    modes = [molecule.get(name, []) for name in ("eigenvalues", "collectivity")] if molecule else [[], []]
    numbers = all(isinstance(values, list) and all(map(math.isfinite, map(_number, values))) for values in modes)
    if not numbers or len(modes[0]) != len(modes[1]):
        raise ValueError("molecule: wanted as many numbers in eigenvalues as in collectivity")
    return molecule


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) else math.nan


def _numbers(table: dict[str, Any]) -> dict[str, float]:
    for key, value in table.items():
        if value is not None and type(value) not in (int, float):
            raise ValueError(f"{key} is {reprlib.repr(value)}: wanted a number, or null")
    numbers = {key: _number(value) for key, value in table.items()}
    return {key: value for key, value in numbers.items() if math.isfinite(value)}


def _floors(table: dict[str, Any]) -> dict[str, Floor]:
    floors = {key: _numbers(value) for key, value in table.items() if isinstance(value, dict)}
    wanted = set(Floor._fields)
    return {key: Floor(v["median"], v["q05"], v["q95"], int(v["n"])) for key, v in floors.items() if wanted <= set(v)}


def _curve(table: dict[str, Any]) -> dict[str, Array]:
    if not all(isinstance(values, list) for values in table.values()):
        raise ValueError("curve: wanted a list for each name")
    if len({len(values) for values in table.values()}) > 1:
        raise ValueError("curve: its lists differ in length")
    along = {"k"} if "k" in table else {"step", "seconds"}  # Lemma 3.2 has its distances against K
    if {"w1", "w2"} & set(table) and not along <= set(table):
        raise ValueError("curve: wanted step and seconds beside the distances")
    return {name: np.array([_number(value) for value in values]) for name, values in table.items()}
