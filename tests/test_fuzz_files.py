"""Damaged structures and records are read or named; `pytest -m slow` reads 10^5 of them, in pieces."""

import json
import random
import warnings
from typing import get_args

import numpy as np
import pytest
from damage import ARRAYS, CIF, PDB, RECORD, mutated, mutated_gzip, mutated_json
from fuzzing import answer

from cryosip.datasets import structures
from cryosip.datasets.structures import load, normal_modes
from cryosip.records.schema import Status
from cryosip.records.select import largest, observations, read_records

PIECES, PIECE = 20, 2_500  # so many pieces of so many files of either kind


def read_structures(seed, count, folder):
    """Damaged structures: each is read into a trace that is sound, or refused; how many were read."""
    rng, path, read = random.Random(seed), folder / "damaged", 0
    for i in range(count):
        damage = mutated_gzip if i % 8 == 0 else mutated
        path.write_bytes(damage(rng, rng.choice((PDB, CIF))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trace = answer(load, "fuzzed", path, rng.choice("AAAAB"), allowed=(ValueError, OSError))
            if trace is None:
                continue
            read += 1
            n = len(trace.coordinates)
            assert n >= structures.FEWEST_ATOMS
            assert trace.coordinates.shape == (n, 3)
            assert trace.residues.shape == (n,)
            assert np.isfinite(trace.coordinates).all()
            if i % 10 == 0:
                modes = answer(normal_modes, trace, rng.choice((4.0, 15.0, 1e3)), rng.choice((1, 4)))
                if modes is not None:
                    assert all(np.isfinite(a).all() for a in modes)
                    assert modes.vectors.shape == (len(modes.eigenvalues), n, 3)
    return read


def read_damaged_records(seed, count, folder):
    """A whole record beside a damaged one: the first is always read, the other too or named; how many were read."""
    rng, study, read = random.Random(seed), folder / "study", 0
    study.mkdir()
    (study / "whole.json").write_text(json.dumps(RECORD | {"replicate": 5, "run_id": "whole"}))
    text = json.dumps(RECORD, indent=1).encode()
    for i in range(count):
        damaged = mutated(rng, text) if i % 3 == 0 else mutated_json(rng, RECORD)
        (study / "damaged.json").write_bytes(damaged)
        (study / "damaged.npz").write_bytes(mutated(rng, rng.choice(ARRAYS)) if i % 2 else rng.choice(ARRAYS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records, skipped = answer(read_records, folder, allowed=())
        named = {path.name for path, reason in skipped if reason}
        assert len(named) == len({path.name for path, _ in skipped})
        assert {r.path.name for r in records} | named >= {"whole.json", "damaged.json"}
        for record in records:
            assert record.status in get_args(Status)
            assert isinstance(record.config_number("problem.options.n_observations"), float)
            assert all(array.ndim <= 2 for array in record.arrays.values())
            assert isinstance(observations(record), float)
        assert len(largest(records)) >= 1
        read += len(records) - 1
    return read


@pytest.mark.parametrize("read", [read_structures, read_damaged_records])
def test_damaged_files_are_read_or_named(read, tmp_path):
    assert 5 < read(0, 200, tmp_path) < 190


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(1, PIECES + 1))
@pytest.mark.parametrize("read", [read_structures, read_damaged_records])
def test_many_damaged_files_are_read_or_named(read, piece, tmp_path):
    assert read(piece, PIECE, tmp_path) > PIECE // 50
