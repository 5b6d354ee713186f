"""Which machine a run was made on: seconds of different machines are never in one number, and no host is named."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cryosip.records.files import digest
from cryosip.records.schema import Record, Scalar


class Timed(NamedTuple):
    """The machine whose seconds count, None where all count; how many runs that leaves out, "" where it is none."""

    machine: str | None
    sentence: str

    def runs(self, records: Iterable[Record]) -> list[Record]:
        """Of these the runs whose seconds count."""
        return [record for record in records if self.machine in (None, machine_of(record))]


def timed(records: Iterable[Record], unit: str = "seconds") -> Timed:
    """Whose seconds count where those of all these runs would be in one table or figure.

    One rule for all of a report: those on the machine that made the most of the runs, of equals the first by name.
    Other units than seconds do not depend on the machine, and all runs count.
    """
    found = Counter(map(machine_of, records))
    if unit != "seconds" or not found:
        return Timed(None, "")
    most = max(sorted(found), key=lambda name: found[name])
    if len(found) == 1:
        return Timed(most, "")
    others = f"{_counted(found.total() - found[most], 'run')} on {_counted(len(found) - 1, 'other machine')}"
    used = f"the {_counted(found[most], 'run')} on one machine ({most})"
    return Timed(most, f"Seconds are of {used}; those of {others} are left out.")


def _counted(count: Scalar, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def across(records: Iterable[Record]) -> str:
    """What is to be said beside errors within a budget of seconds, which are of all runs; "" on one machine."""
    count = len(set(map(machine_of, records)))
    return (
        f"The runs are of {count} machines: what is reached within so many seconds does not compare across them; what "
        "is reached within so many forward evaluations does."
        if count > 1
        else ""
    )


def machine_of(record: Record) -> str:
    """What decides the seconds of a record besides its code, as text: two runs are of one machine where it is equal.

    That is the short name of the host, device and processor, threads, and how many processes shared them. Records that
    were made before a part of it was recorded are told apart by the rest.
    """
    known = without_host(record.environment)
    host, threads, jobs = (known.get(name) for name in ("machine", "threads", "jobs"))
    parts = [_one_line(host), processor(record), _counted(threads, "thread") if threads else ""]
    parts.append(f"{jobs} jobs at once" if jobs not in (None, 1) else "")
    return ", ".join(filter(None, parts))


def processor(record: Record) -> str:
    """The device and processor of a record, such as "cuda NVIDIA A100, AMD EPYC"."""
    device, cpu = (_one_line(record.environment.get(name)) for name in ("device", "cpu"))
    named = [cpu] if cpu and device in ("cpu", "cpu cpu") else [device, cpu]
    return ", ".join(filter(None, named)) or "not known"


def short_name(host: str, secret: str = "") -> str:
    """A name for a host such as "machine 3fa2c1", the same each time; with a secret nobody finds the host by trying."""
    return f"machine {digest(f'{secret} {host}'.encode())[:6]}"


def without_host(environment: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The table without the name of the host, for what travels: pages, tables and packs.

    Its short name stands for it. A record that has none gets that of the host alone, without a secret.
    """
    table = {name: value for name, value in environment.items() if name != "host"}
    host = environment.get("host")
    return table if host is None or table.get("machine") else table | {"machine": short_name(str(host))}


def _one_line(value: Scalar) -> str:
    return " ".join(str(value or "").split())
