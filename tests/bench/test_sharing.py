"""What depends on a distribution or a data set alone is computed once for a results folder."""

import numpy as np
import pytest

from cryosip.bench import sharing


def never():
    raise AssertionError("it was computed again")


@pytest.fixture
def first(tmp_path):
    """A process that has computed both kinds."""
    shared = sharing.Shared(tmp_path / ".shared")
    shared.numbers(("floors", "a", 10), lambda: {"w1": {"median": 0.1}})
    shared.array(("samples", "a", 10), lambda: np.arange(6.0).reshape(2, 3))
    return shared


def test_another_process_finds_what_one_has_computed(first):
    other = sharing.Shared(first.folder)
    assert other.numbers(("floors", "a", 10), never) == {"w1": {"median": 0.1}}
    np.testing.assert_array_equal(other.array(("samples", "a", 10), never), np.arange(6.0).reshape(2, 3))


def test_other_keys_and_other_code_are_computed(first, monkeypatch):
    other = sharing.Shared(first.folder)
    assert other.numbers(("floors", "a", 11), lambda: {"w1": 2}) == {"w1": 2}
    monkeypatch.setattr(sharing, "engine", lambda: "another")
    assert sharing.Shared(first.folder).numbers(("floors", "a", 10), lambda: {"w1": 3}) == {"w1": 3}


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda _: b"", lambda data: data[:40] + b"7" + data[41:]])
def test_a_damaged_file_is_computed_again(first, damage):
    for file in first.folder.iterdir():
        file.write_bytes(damage(file.read_bytes()))
    other = sharing.Shared(first.folder)
    assert other.numbers(("floors", "a", 10), lambda: {"w1": 5}) == {"w1": 5}
    assert other.array(("samples", "a", 10), lambda: np.ones(1)) == np.ones(1)
    assert sharing.Shared(first.folder).numbers(("floors", "a", 10), never) == {"w1": 5}


def test_within_a_process_it_is_computed_once_without_a_folder():
    shared = sharing.Shared()
    assert shared.numbers(("floors",), lambda: {"w1": 1}) == shared.numbers(("floors",), never)
    assert shared.once(("totals",), lambda: (1, 2)) == shared.once(("totals",), never)
