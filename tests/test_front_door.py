"""`import cryosip` is a door: it names what users need, and opens at once."""

import subprocess
import sys

import cryosip


def test_every_name_is_there_and_is_the_one_of_its_room():
    from cryosip.bench.runner import run
    from cryosip.methods.registry import METHODS
    from cryosip.records.table import load

    assert dir(cryosip) == sorted(cryosip.__all__)
    for name in cryosip.__all__:
        assert getattr(cryosip, name) is not None
    assert (cryosip.run, cryosip.METHODS, cryosip.load) == (run, METHODS, load)
    assert not hasattr(cryosip, "nothing")


def test_the_door_opens_without_jax():
    code = "import sys, cryosip; print(cryosip.__version__, 'jax' in sys.modules, 'pandas' in sys.modules)"
    words = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert words == [cryosip.__version__, "False", "False"]
