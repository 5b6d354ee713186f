"""A process that is told to stop: it writes a checkpoint, and its run is no failure."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cryosip.bench import execute
from cryosip.bench.execute import Session
from cryosip.bench.stopping import Stopped, stoppable
from cryosip.records.schema import Labels, RunConfig

PROBLEM = "oned", {"n_observations": 20}
CONFIG = RunConfig("paper-1d", Labels("-"), *PROBLEM, "reweighting", {"n_support": 10}, 40, 10, 0)


@pytest.fixture(autouse=True)
def quick(few_draws):
    """Metrics of few draws."""


def executed(path=None, **session):
    return execute.execute(CONFIG, "smoke", execute.run_method, Session(checkpoint=path, **session))


def told_to_stop(at, number, tmp_path):
    """A run of this process gets a signal at a step."""
    path = tmp_path / ".02.checkpoint.npz"

    def on_snapshot(now):
        if now.step == at:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=f"told to stop by {number.name}"), stoppable():
        executed(path, on_snapshot=on_snapshot)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_writes_a_checkpoint_at_once_and_ends_the_run(tmp_path, number):
    """It is not time for one yet."""
    record, arrays = executed(told_to_stop(20, number, tmp_path))
    assert record.resumed_at == [10]
    np.testing.assert_array_equal(arrays["theta"], executed()[1]["theta"])
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_is_no_failure_of_the_run_where_a_library_makes_another_exception_of_it(tmp_path):
    def measure(_config, _session):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Stopped as stopped:
            raise RuntimeError("a callback has failed") from stopped

    with pytest.raises(Stopped, match="a callback has failed"), stoppable():
        execute.execute(CONFIG, "smoke", measure)


def test_threads_other_than_the_main_one_get_no_signals():
    def there():
        with stoppable():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(there).result() is signal.SIG_DFL
