"""Several processes, one run: the same results to rounding, each with its part of the rows, and errors that all get."""

import json
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from cryosip.methods import cluster, hosts

PROGRAM = Path(__file__).with_name("on_processes.py")
GUIDE = Path(__file__).parents[2] / "docs/cluster.md"
SECTION = GUIDE.read_text().partition("## One run on several hosts")[2]
SECONDS = 400
# Sums of n = 64 terms, added up in another order, differ by at most n eps of the sum of their sizes; the sizes are of
# the order of the results or of one, and each of the four steps of a run adds as much again. Found: 3e-6 at most.
TOLERANCE = 4 * 64 * float(np.finfo(np.float32).eps)


@pytest.fixture
def place():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)


def what_each_says(place, *processes):
    """The error of each (n_processes, process), all at once; none of them reaches JAX."""

    def said(numbers):
        with pytest.raises((TimeoutError, ValueError)) as error:
            cluster.join(place, *numbers)
        return error.type, str(error.value)

    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(said, processes))


def test_a_coordinator_that_does_not_answer_is_named(place, impatient):
    ((kind, said),) = what_each_says(place, (2, 1))
    assert kind is TimeoutError
    assert f"within 0.5 s to process 1 of 2 from {place} (" in said


def test_nobody_waits_for_half_a_minute():
    assert cluster.PATIENCE + cluster.ANSWER < 30


def test_all_hear_which_processes_are_missing(place, impatient):
    for kind, said in what_each_says(place, (4, 0), (4, 2)):
        assert kind is TimeoutError
        assert said == f"2 of 4 processes came within 0.5 s to {place}; missing: 1, 3"


def test_all_hear_that_they_were_told_different_numbers(place):
    said = what_each_says(place, (2, 0), (3, 1))
    assert said == [(ValueError, "process 1 was told n_processes 3, and process 0 2; wanted the same")] * 2


def test_all_hear_that_two_have_one_number(place):
    said = what_each_says(place, (4, 0), (4, 1), (4, 1))
    assert said == [(ValueError, f"two processes came to {place} with the number 1; wanted each once")] * 3


def test_another_program_at_the_port_is_no_process(place, impatient):
    def stranger():
        for _ in range(50):
            try:
                with socket.create_connection(cluster._address(place), 0.1) as server:
                    server.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    return
            except OSError:
                cluster.time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(stranger)
        ((kind, said),) = what_each_says(place, (2, 0))
    assert (kind, "missing: 1" in said) == (TimeoutError, True)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"process 0 cannot listen at {place} .*; wanted a free port"):
            cluster.join(place, 2, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None, None), "coordinator, n_processes, process is None, and neither Slurm nor Open MPI says it"),
        (("node01", 2, 0), "coordinator is 'node01'; wanted HOST:PORT"),
        (("node01:0", 2, 0), "coordinator is 'node01:0'; wanted HOST:PORT"),
        (("node01:5000", 0, 0), "n_processes is 0; wanted a whole number >= 1"),
        (("node01:5000", 2, 2), "process is 2; wanted a whole number from 0 to 1"),
    ],
)
def test_wrong_arguments_are_named(given, said, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=re.escape(said)):
        cluster.join(*given)


SLURM = {"SLURM_JOB_ID": "70001", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}


@pytest.mark.parametrize(
    ("environment", "coordinator"),
    [
        (SLURM | {"SLURM_STEP_NODELIST": "gpu[007-010],cpu1"}, "gpu007:61809"),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu[007,012-013]"}, "gpu007:61809"),
        (SLURM | {"SLURM_STEP_NODELIST": "head-1,cpu1"}, "head-1:61809"),
        (OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}, "10.96.0.1:62624"),
        (OPEN_MPI, None),
    ],
)
def test_schedulers_say_where_a_process_is(environment, coordinator):
    wanted = {"n_processes": 4, "process": 3} | ({"coordinator": coordinator} if coordinator else {})
    assert cluster.detected(environment) == wanted


def test_one_process_is_left_as_it_is():
    rows = np.arange(6.0).reshape(3, 2)
    assert cluster.join("nowhere:1", 1, 0) == 0
    assert not hosts.several()
    assert isinstance(hosts.from_rows(rows), jax.Array)
    assert hosts.laid_out(rows, 3) is hosts.fetched(rows) is hosts.placed_as(rows, rows) is rows
    with pytest.raises(ValueError, match=r"own has shape \(3, 0\)"):
        hosts.from_rows(np.ones((3, 0)))


def processes(count, place):
    """What `on_processes.py` finds in each of so many processes."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, PROGRAM, place, str(count)]
    started = [
        subprocess.Popen([*command, str(i)], env=environment, stdout=-1, stderr=-1, text=True) for i in range(count)
    ]
    try:
        with ThreadPoolExecutor(count) as pool:  # each ends after the others: read what all of them say
            said = list(pool.map(lambda process: process.communicate(timeout=SECONDS), started))
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * count, "\n".join(err[-3000:] for _, err in said)
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.fixture(scope="module")
def outcome():
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    return processes(1, place)[0], processes(2, place)


@pytest.mark.slow  # three processes that compile the steps of seven methods
class TestTwoProcesses:
    def test_results_are_those_of_one_process_to_rounding(self, outcome):
        alone, both = outcome
        for name, wanted in alone["values"].items():
            np.testing.assert_allclose(both[0]["values"][name], wanted, TOLERANCE, TOLERANCE, err_msg=name)

    def test_both_have_the_same_results_to_the_last_bit(self, outcome):
        one, other = outcome[1]
        assert one["values"] == other["values"]
        assert one["seconds"] == other["seconds"]

    def test_each_holds_its_part_of_the_rows(self, outcome):
        """Where two can share them; nowhere do all observations or images of particles come together."""
        of_64 = ["observations", "flow by pairs", "flow by moments", "flow on the line"]
        for found in outcome[1]:
            assert found["devices"] == 2
            assert [found["parts"][name] for name in of_64] == [[64, 32]] * 4
            assert found["parts"]["61 images, whole in each"] == [61, 61]
            for name in ("energy", "energy of 61", "E-step"):
                assert found["parts"][f"{name}: no device has them all"], name
                assert not outcome[0]["parts"][f"{name}: no device has them all"], name

    def test_both_are_told_what_is_wrong_with_the_rows_of_one(self, outcome):
        for i, found in enumerate(outcome[1]):
            assert f"own has shape ({4 + i}, 3) in process {i}, of [[4, 3], [5, 3]] in all" in found["refusals"]["rows"]
            assert "observations differ between processes" in found["refusals"]["not the same"]
            assert "observations holds 8192 NaN" in found["refusals"]["not finite"]


@pytest.mark.slow  # two processes that compile
def test_the_example_of_the_guide_runs(tmp_path):
    blocks = re.findall(r"^```(python|console)\n(.*?)^```", SECTION, flags=re.DOTALL | re.MULTILINE)
    (program,) = [text for kind, text in blocks if kind == "python"]
    local = next(text for kind, text in blocks if kind == "console")
    (tmp_path / "several.py").write_text(program)
    lines = "\n".join(line.removeprefix("$ ") for line in local.splitlines())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PATH": path, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        ["bash", "-c", lines],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps = [line.split()[0] for line in done.stdout.splitlines() if re.match(r"\d+ \[", line)]
    assert steps == ["0", "10", "20"], done.stdout
