"""Several devices: the same results to rounding, each with its part of the rows; one device: nothing changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # two processes, one of them with eight devices

COUNTS = (1, 8)
PROGRAM = Path(__file__).with_name("on_devices.py")


@pytest.fixture(scope="module", params=["quick", "thorough"])
def outcome(request):
    """What `on_devices.py` finds on so many devices of the host."""
    found = {}
    for count in COUNTS:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        command = [sys.executable, PROGRAM, request.param]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found[count] = json.loads(done.stdout.splitlines()[-1])
        assert found[count]["devices"] == count
    return found


@pytest.mark.parametrize("count", COUNTS[1:])
def test_results_are_the_same_to_rounding(outcome, count):
    for name, alone in outcome[1]["values"].items():
        np.testing.assert_allclose(outcome[count]["values"][name], alone, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("count", COUNTS)
def test_each_device_holds_its_part_of_the_rows(outcome, count):
    """Where the rows can be divided; the rest is on all of them."""
    assert outcome[count]["parts"]
    for name, (rows, held) in outcome[count]["parts"].items():
        assert held == [rows // count] * count, name
    for name, (rows, held) in outcome[count]["wholes"].items():
        assert held == [rows] * count, name


@pytest.mark.parametrize("count", COUNTS[1:])
def test_the_work_of_each_device_shrinks(outcome, count):
    """The compiled program of one device, its flops and what it allocates."""
    for name, alone in outcome[1]["work"].items():
        shared = outcome[count]["work"][name]
        assert shared["flops"] < 1.3 * alone["flops"] / count, name
        assert shared["temporary"] < 1.3 * alone["temporary"] / count + outcome[1]["slack"], name
