"""A process that is told to stop: it writes a checkpoint, and its run is no failure."""

import contextlib
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
    """Metrics of few draws; Ctrl-C as in a process that a person has started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def executed(path=None, **session):
    return execute.execute(CONFIG, "smoke", execute.run_method, Session(checkpoint=path, **session))


def told_to_stop(at, number, tmp_path):
    """A run of this process gets a signal at a step."""
    path = tmp_path / ".02.checkpoint.npz"

    def on_snapshot(now):
        if now.step == at:
            os.kill(os.getpid(), number)

    raised = KeyboardInterrupt if number == signal.SIGINT else Stopped
    with pytest.raises(raised, match=None if raised is KeyboardInterrupt else number.name), stoppable():
        executed(path, on_snapshot=on_snapshot)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_at_once_and_ends_the_run(tmp_path, number):
    """It is not time for one yet."""
    record, arrays = executed(told_to_stop(30, number, tmp_path))
    assert record.resumed_at == [20]  # of the two that there could have been
    np.testing.assert_array_equal(arrays["theta"], executed()[1]["theta"])
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_a_signal_is_no_failure_of_the_run_where_a_library_makes_another_exception_of_it(tmp_path):
    def measure(_config, _session):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Stopped as stopped:
            raise RuntimeError("a callback has failed") from stopped

    with pytest.raises(Stopped, match="a callback has failed"), stoppable():
        execute.execute(CONFIG, "smoke", measure)


def test_a_signal_whose_exception_is_lost_ends_the_run_at_its_next_part(tmp_path, monkeypatch):
    """As in a destructor, which Python lets nothing leave."""
    path = tmp_path / ".02.checkpoint.npz"

    def on_snapshot(now):
        with contextlib.suppress(Stopped):
            if now.step == 20:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped), stoppable():
        executed(path, on_snapshot=on_snapshot)
    assert executed(path)[0].resumed_at == [10]


def test_what_a_process_ignores_it_goes_on_to_ignore():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stoppable():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_threads_other_than_the_main_one_get_no_signals():
    def there():
        with stoppable():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(there).result() is signal.SIG_DFL
