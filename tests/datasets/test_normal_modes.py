"""Normal modes are those of the network that is printed, whichever solver finds them; what has none is refused."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_structures import helix

from cryosip.datasets import elastic_network, structures
from cryosip.datasets.structures import Trace, normal_modes


def trace(coordinates):
    return Trace("made up", "", "A", np.asarray(coordinates, float), np.arange(len(coordinates)))


def hessian(coordinates, cutoff):
    """Springs between all pairs of atoms within the cutoff, one pair after the other."""
    n = len(coordinates)
    matrix = np.zeros((n, 3, n, 3))
    for i, j in itertools.permutations(range(n), 2):
        apart = coordinates[i] - coordinates[j]
        block = np.outer(apart, apart) / (apart @ apart) * (np.linalg.norm(apart) <= cutoff)
        matrix[i, :, i] += block
        matrix[i, :, j] -= block
    return matrix.reshape(3 * n, 3 * n)


@pytest.mark.parametrize(("n", "cutoff", "n_modes"), [(20, 10.0, 4), (20, 15.0, 1), (4, 15.0, 6), (4, 15.0, 4)])
def test_modes_are_those_of_the_network(n, cutoff, n_modes):
    found = normal_modes(trace(helix(n)), cutoff, n_modes)
    values, vectors = np.linalg.eigh(hessian(helix(n), cutoff))
    assert_allclose(found.eigenvalues, values[6 : 6 + n_modes], rtol=1e-8)
    flat = found.vectors.reshape(n_modes, 3 * n)
    assert_allclose(flat @ flat.T, np.eye(n_modes), atol=1e-10)
    assert_allclose(np.abs(flat @ vectors[:, 6 : 6 + n_modes]), np.eye(n_modes), atol=1e-6)
    share = (found.vectors**2).sum(2)
    assert_allclose(found.collectivity, np.exp(-(share * np.log(share)).sum(1)) / n, rtol=1e-6)


def test_a_sparse_factorization_gives_the_same_modes(monkeypatch):
    coordinates = np.random.default_rng(1).uniform(0, 25, (150, 3))
    dense = elastic_network.lowest_modes(coordinates, 10.0, 5)
    monkeypatch.setattr(elastic_network, "DENSE", 0)
    sparse = elastic_network.lowest_modes(coordinates, 10.0, 5)
    assert dense.zero_modes == sparse.zero_modes == 6
    assert_allclose(sparse.eigenvalues, dense.eigenvalues, rtol=1e-9)
    overlaps = sparse.vectors.reshape(5, -1) @ dense.vectors.reshape(5, -1).T
    assert_allclose(np.abs(overlaps), np.eye(5), atol=1e-6)
    assert_array_equal(elastic_network.lowest_modes(coordinates, 10.0, 5).vectors, sparse.vectors)


LARGE = """
import resource, time
import numpy as np
from cryosip.datasets.structures import Trace, normal_modes
grid = np.stack(np.meshgrid(*[np.arange(18)] * 3, indexing="ij"), -1).reshape(-1, 3)[:5000]
coordinates = 5.0 * grid + 0.5 * np.random.default_rng(0).normal(size=(5000, 3))
began = time.perf_counter()
normal_modes(Trace("large", "", "A", coordinates, np.arange(5000)))
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_the_modes_of_5000_residues_take_less_than_a_minute_and_2_gb():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    print(f"{seconds:.0f} s, {megabytes:.0f} MB")
    assert seconds < 60
    assert megabytes < 2_000


@pytest.mark.parametrize("factor", [-1.0, 1.0])
def test_signs_are_not_lapacks(monkeypatch, factor):
    before = normal_modes(trace(helix(20))).vectors
    flat = before.reshape(4, -1)
    assert (flat[np.arange(4), np.abs(flat).argmax(1)] > 0).all()
    network = structures.lowest_modes(helix(20), 15.0, 4)
    equal = np.array([[[0.1, -0.7, 0.0], [0.7 + 1e-12 * factor, 0.0, 0.0]]])
    for vectors, wanted in ((factor * network.vectors, before), (equal, -equal)):
        monkeypatch.setattr(structures, "lowest_modes", lambda *_, v=vectors: network._replace(vectors=v))
        assert_array_equal(normal_modes(trace(helix(20))).vectors, wanted)


@pytest.mark.parametrize(
    ("coordinates", "options", "says"),
    [
        (helix(), {"cutoff_in_angstroms": 0.0}, "cutoff_in_angstroms is 0.0; wanted a positive finite number"),
        (helix(), {"cutoff_in_angstroms": 3.9}, r"cutoff_in_angstroms is 3\.9; wanted at least 4: neighbours"),
        (helix(), {"n_modes": 0}, "n_modes is 0; wanted a whole number >= 1"),
        (helix(3), {"n_modes": 1}, "of made up has 3 C-alphas; wanted at least 4"),
        (helix(4), {"n_modes": 7}, "has 4 C-alphas; wanted at least 5"),
        (
            [*helix(), *(helix() + 50)],
            {},
            "is 15, which leaves at least 10 zero modes of made up; wanted 6: a larger cutoff",
        ),
        ([(0, 0, 0), (3, 0, 0), (0, 3, 0), (3, 3, 0)], {}, "leaves at least 7 zero modes"),
        ([*helix(), (np.nan, 0, 0)], {}, "infinite coordinates in 1 of 13"),
        ([*helix(), helix()[0]], {}, "has 1 C-alphas at the place of another"),
    ],
)
def test_modes_that_are_none_are_refused(coordinates, options, says):
    with pytest.raises(ValueError, match=says):
        normal_modes(trace(coordinates), **options)
