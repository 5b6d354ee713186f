"""Machines: what tells two of them apart, whose seconds count, and that no name of a host leaves its folder."""

import msgspec
import pytest

from cryosip.records import machines
from cryosip.records.schema import Choice, Config, Identity, Labels, Record

HERE = {"host": "left.example.org", "machine": "machine 0a1b2c", "device": "cuda A100", "cpu": "EPYC", "threads": 4}
RECORD = Record(
    run_id="a", study="s", profile="p", labels=Labels(), config=Config(Choice("oned"), Choice("flow"), 1), replicate=0,
    seed=0, created="", identity=Identity(),
)  # fmt: skip


def on(**environment):
    return msgspec.structs.replace(RECORD, environment=environment)


def test_a_machine_is_its_host_device_processor_threads_and_jobs():
    assert machines.machine_of(on(**HERE)) == "machine 0a1b2c, cuda A100, EPYC, 4 threads"
    changed = [{"machine": "machine 3d4e5f"}, {"device": "cuda A100 × 2"}, {"cpu": "Xeon"}, {"threads": 1}, {"jobs": 3}]
    names = {machines.machine_of(on(**HERE | change)) for change in [{}, *changed]}
    assert len(names) == 1 + len(changed)
    assert "machine 0a1b2c, cuda A100, EPYC, 4 threads, 3 jobs at once" in names
    assert machines.machine_of(on(**HERE | {"driver": "another", "jobs": 1})) in names


def test_what_an_older_record_does_not_say_does_not_tell_it_apart():
    old = {"device": "cpu cpu", "cpu": "EPYC"}
    assert machines.machine_of(on(**old)) == machines.machine_of(on(**old, jobs=1, driver=None)) == "EPYC"
    assert machines.machine_of(on(**old)) != machines.machine_of(on(**old, host="left"))
    assert machines.machine_of(on()) == "not known"


def test_seconds_are_those_of_the_machine_with_the_most_runs():
    left, right, third = (on(**HERE | {"machine": name}) for name in ("left", "right", "third"))
    chosen = machines.timed([left, right, right, third])
    assert chosen.runs([left, right, third]) == [right]
    assert chosen.sentence == (
        "Seconds are of the 2 runs on one machine (right, cuda A100, EPYC, 4 threads); those of 2 runs on 2 other "
        "machines are left out."
    )
    assert machines.timed([right, left]).runs([right, left]) == [left]  # of as many runs the first by name
    assert machines.timed([right, right]) == (machines.machine_of(right), "")
    assert machines.timed([left, right, right], "step").runs([left, right]) == [left, right]
    assert machines.timed([]).runs([left]) == [left]


@pytest.mark.parametrize("known", [HERE, {"host": "left.example.org", "device": "cpu"}])
def test_a_short_name_stands_for_the_host(known):
    shown = machines.without_host(known)
    assert "left" not in str(shown)
    assert shown["machine"] == known.get("machine", machines.short_name("left.example.org"))
    assert {name: shown[name] for name in known if name != "host"} == {n: v for n, v in known.items() if n != "host"}
    assert machines.without_host(shown) == shown


def test_a_secret_keeps_a_host_from_being_found_by_trying_names():
    plain, salted, other = (machines.short_name("left", secret) for secret in ("", "known here alone", "another"))
    assert len({plain, salted, other}) == 3
    assert machines.short_name("left", "known here alone") == salted
    assert [len(name) for name in (plain, salted)] == [len("machine 0a1b2c")] * 2
