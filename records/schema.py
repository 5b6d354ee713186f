"""The record of one run, as JSON on disk: the one thing that the engine hands to the reports."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct, field
from numpy.typing import NDArray

SCHEMA = 3

Array = NDArray[np.float64]
Status = Literal["ok", "diverged", "timeout", "error"]
# no characters that an SVG or a terminal cannot hold
Text = Annotated[str, Meta(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+=-]*$", max_length=100)]  # may be a part of a path
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Numbers = dict[Text, float]  # of metrics; what is not finite or not available is left out
Scalar = str | int | float | bool | None
Options = dict[str, Any]


OPTIONS = "options"  # the axis of runs that the user gave options of the method for
UNTUNED = "untuned"  # how the variant begins of a run with settings that no sweep has found


class Labels(Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is in its study: a variant, and where it is on the axis along which the variant is studied."""

    variant: Text = ""
    axis: Text = ""
    value: float | Text | None = None

    @property
    def text(self) -> str:
        """Such as "annealed K=10"."""
        value = f"{self.value:g}" if isinstance(self.value, int | float) else self.value
        return " ".join(filter(None, [self.variant, f"{self.axis}={value}" if self.axis else ""]))


@dataclass(frozen=True)
class RunConfig:
    """A run as a study plans it, in plain values; options that are not given have the defaults of the factory."""

    study: str
    labels: Labels
    problem: str
    problem_options: Options
    method: str
    method_options: Options
    steps: int
    every: int
    replicate: int
    stop_below: dict[str, float] | None = None
    growth: float = 1.0  # of the steps between evaluations
    stop_after_seconds: float | None = None
    budgets: dict[str, list[float]] | None = None  # at which the run is compared with others, by unit


class Choice(Struct, frozen=True, forbid_unknown_fields=True):
    """A problem or a method by name: the options that were given, and the defaults of all others."""

    name: Text
    options: Options = field(default_factory=dict)
    defaults: Options = field(default_factory=dict)

    @property
    def resolved(self) -> Options:
        """All arguments."""
        return merged(self.defaults, self.options)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Options:
    """Nested tables as one; what stands in both is as above."""
    both = {name for name in above if isinstance(above[name], dict) and isinstance(below.get(name), dict)}
    return {**below, **above, **{name: merged(below[name], above[name]) for name in both}}


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The resolved configuration of a run but for its replicate."""

    problem: Choice
    method: Choice
    steps: Count
    every: Count = 1
    growth: float = 1.0
    stop_below: dict[str, float] | None = None
    stop_after_seconds: float | None = None
    budgets: dict[str, list[float]] | None = None

    @property
    def resolved(self) -> Options:
        """All of it, defaults among the options."""
        table: Options = msgspec.to_builtins(self)
        for part in ("problem", "method"):
            choice: Choice = getattr(self, part)
            table[part] = {"name": choice.name, "options": choice.resolved}
        return table


class Identity(Struct, frozen=True, forbid_unknown_fields=True):
    """Hashes of the code that decides a run, by parts; "" for a part that adds nothing to the engine."""

    engine: Text = ""
    method: Text = ""
    problem: Text = ""
    measure: Text = ""


class Floor(Struct, frozen=True, forbid_unknown_fields=True):
    """The metric of an i.i.d. sample of the truth of size n, as if n noise-free parameters were known."""

    median: float
    q05: float
    q95: float
    n: Count


class Algorithm(Struct, frozen=True, forbid_unknown_fields=True):
    """How a discrepancy was computed, and the largest error of a component of its gradient, where it is known."""

    name: Text
    gradient_error: float | None = None


class Molecule(Struct, frozen=True, forbid_unknown_fields=True):
    """The structure of a protein and its modes; of the file the name alone."""

    source: Text
    chain: Text
    n_atoms: Count
    n_beads: Count
    eigenvalues: list[float]
    collectivity: list[float]

    def __post_init__(self) -> None:
        if len(self.eigenvalues) != len(self.collectivity):
            raise ValueError("molecule: wanted as many eigenvalues as collectivities")


Floors = dict[Text, Floor]


class Result(Struct, frozen=True, kw_only=True, eq=False):
    """What came of a run: nan where a number is not known, no entry where a metric is not finite."""

    status: Status = "ok"
    message: Text = ""
    steps: Count = 0
    forward_evaluations: Count = 0
    setup_seconds: float = math.nan
    trace_seconds: float = math.nan
    compile_seconds: float = math.nan
    run_seconds: float = math.nan
    program: Literal["", "found", "compiled"] = ""
    program_memory_mb: float = math.nan
    tile_share: float = math.nan
    resumed_at: list[Count] = field(default_factory=list)
    algorithm: Algorithm | None = None
    metrics: Numbers = field(default_factory=dict)
    unsolved: list[Text] = field(default_factory=list)
    initial_metrics: Numbers = field(default_factory=dict)
    oracle_metrics: Numbers = field(default_factory=dict)
    floors: Floors = field(default_factory=dict)
    data_floors: Floors = field(default_factory=dict)
    sampled_metrics: Floors = field(default_factory=dict)
    initial_sampled_metrics: Floors = field(default_factory=dict)
    curve: dict[Text, Array] = field(default_factory=dict)
    dataset_hash: Text = ""
    molecule: Molecule | None = None
    collapsed_components: float = math.nan


class Record(Result, frozen=True, kw_only=True, eq=False, forbid_unknown_fields=True):
    """One run: what was run, by which code, where, and what came of it."""

    schema: int = SCHEMA
    run_id: Name
    study: Name
    profile: Text
    labels: Labels
    config: Config
    replicate: Count
    seed: Count
    created: Text
    identity: Identity
    environment: dict[Text, Scalar] = field(default_factory=dict)
    limits: dict[Text, float | None] = field(default_factory=dict)
    peak_memory_mb: float = math.nan
    arrays_hash: Text | None = None  # of the file of arrays beside it: "" where there is none, None where nobody knows
    path: Path = field(default_factory=Path)  # where it lies, below the results folder; no part of the file
    arrays: dict[str, Array] = field(default_factory=dict)  # those beside it; no part of the file

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.curve.values()}
        if len(lengths) > 1:
            raise ValueError("curve: its columns differ in length")

    @property
    def problem(self) -> str:
        """The name of the problem."""
        return self.config.problem.name

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.config.method.name

    @property
    def discrepancy(self) -> str:
        """The name of the discrepancy that the method minimises, "" for methods that have none."""
        return str(self.config_value("method.options.discrepancy.name") or "")

    def config_value(self, dotted: str) -> Any:
        """The resolved value at a dotted path such as "method.options.n_components", None where nothing is."""
        value: Any = self.config.resolved
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def config_number(self, dotted: str) -> float:
        """The resolved number at a dotted path, nan where there is none."""
        value = self.config_value(dotted)
        return float(value) if type(value) in (int, float) else math.nan


def printable(text: str) -> str:
    """The text with what no SVG and no terminal can hold as escapes."""
    escaped = text.encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() or c in "\t\n" else ascii(c)[1:-1] for c in escaped)


OUTSIDE = ("path", "arrays")  # fields that are not in the file


def id_of(record: Record) -> str:
    """Hash of what was run, the precision, and the code that decides the result."""
    told = [
        record.study,
        msgspec.to_builtins(record.labels),
        record.config.resolved,
        record.replicate,
        msgspec.to_builtins(record.identity),
        record.environment.get("dtype"),
        record.schema,
    ]
    return hashlib.sha256(json.dumps(_canonical(told), sort_keys=True).encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """The same for 2 and 2.0, between which JSON and types do not always tell."""
    if isinstance(value, dict):
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_json(record: Record) -> str:
    """The text of its file; numbers that are not known have no entry."""
    table = msgspec.to_builtins(msgspec.structs.replace(record, path=Path(), arrays={}), enc_hook=_plain)
    names = [name for name in (*Record.__annotations__, *table) if name not in OUTSIDE]  # what was run comes first
    kept = {name: table[name] for name in names if not _absent(table[name])}
    return json.dumps(_canonical(kept), indent=1, allow_nan=False)


def from_table(table: dict[str, Any]) -> Record:
    """A record of decoded JSON. Raises ValueError that names what is wrong and where."""
    known = {name: value for name, value in table.items() if name not in OUTSIDE}
    record: Record = msgspec.convert(known, Record, dec_hook=_column)
    return record


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file of a record."""
    table = msgspec.json.schema(Record, schema_hook=lambda _: {"type": "array", "items": {"type": ["number", "null"]}})
    properties = table["$defs"]["Record"]["properties"]
    for name in OUTSIDE:
        del properties[name]
    for described in properties.values():
        if _absent(described.get("default")):
            described.pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A run of cryosip", **table}


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _plain(value: Any) -> Any:
    """A column of a curve, in which null stands for what is not finite; nothing of a path."""
    return (
        None
        if isinstance(value, Path)
        else [number if math.isfinite(number) else None for number in np.asarray(value, np.float64).tolist()]
    )


def _column(_kind: type, values: Any) -> Array:
    if not isinstance(values, list) or not all(value is None or type(value) in (int, float) for value in values):
        raise ValueError("wanted a list of numbers or nulls")
    return np.array([math.nan if value is None else value for value in values], np.float64)
