"""The anisotropic network model: springs between atoms that are near, and the lowest modes of their motion."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import scipy.spatial
import scipy.special
from jaxtyping import Float

RIGID_MODES = 6  # translations and rotations
ZERO_MODE = 1e-9  # eigenvalues below this share of the largest are zero; rounding leaves about 1e-15
DENSE = 900  # coordinates up to which a dense matrix costs less than a sparse factorization
SHIFT = 1e-6  # of the largest eigenvalue


class Network(NamedTuple):
    """The lowest modes of an elastic network that are not zero; `zero_modes` counts those that are."""

    eigenvalues: Float[np.ndarray, " k"]
    vectors: Float[np.ndarray, "k n 3"]
    zero_modes: int


def lowest_modes(coordinates: Float[np.ndarray, "n 3"], cutoff: float, n: int) -> Network:
    """The n lowest modes of the anisotropic network model with unit springs between atoms up to the cutoff apart.

    Coordinates and the cutoff are in angstroms, eigenvalues in units of the spring constant; vectors are orthonormal
    over all 3n coordinates, in any sign. `zero_modes` are counted among the n + 6 lowest modes.
    """
    matrix = hessian(coordinates, cutoff)
    scale = abs(matrix).sum(1).max()  # no eigenvalue is larger
    size, wanted = matrix.shape[0], RIGID_MODES + n
    if size <= DENSE:
        values, vectors = scipy.linalg.eigh(matrix.toarray(), subset_by_index=[0, wanted - 1])
    else:
        shift = -SHIFT * scale  # below all eigenvalues, so that the matrix can be factored: six are zero
        start = np.random.default_rng(0).normal(size=size)
        values, vectors = scipy.sparse.linalg.eigsh(
            matrix, wanted, sigma=shift, v0=start, OPinv=_inverse(matrix, shift)
        )
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    zeros = int((values < ZERO_MODE * scale).sum())
    chosen = slice(zeros, zeros + n)
    return Network(values[chosen], vectors.T[chosen].reshape(-1, len(coordinates), 3), zeros)


def collectivity(vectors: Float[np.ndarray, "k n 3"]) -> Float[np.ndarray, " k"]:
    """exp(-sum_i a_i log a_i) / n with the share a_i of atom i in the squared length of a mode [bruschweiler1995]."""
    share = (vectors**2).sum(2) / (vectors**2).sum((1, 2))[:, None]
    return np.exp(scipy.special.entr(share).sum(1)) / vectors.shape[1]


def hessian(coordinates: Float[np.ndarray, "n 3"], cutoff: float) -> scipy.sparse.csc_matrix:
    """The second derivatives of the energy of springs of unit strength between all pairs up to the cutoff apart.

    Blocks of 3 x 3: -d d^T / |d|^2 for a pair at distance d, and on the diagonal what makes rows sum to zero
    [atilgan2001]. Sparse: memory grows with the number of pairs.
    """
    n = len(coordinates)
    i, j = scipy.spatial.cKDTree(coordinates).query_pairs(cutoff, output_type="ndarray").T
    d = coordinates[j] - coordinates[i]
    pairs = -d[:, :, None] * d[:, None, :] / (d**2).sum(1)[:, None, None]
    own = np.zeros((n, 3, 3))
    np.subtract.at(own, i, pairs)
    np.subtract.at(own, j, pairs)
    atoms, axis = np.arange(n), np.arange(3)
    rows, columns = np.concatenate([i, j, atoms]), np.concatenate([j, i, atoms])
    blocks = np.concatenate([pairs, pairs, own])
    at = np.broadcast_arrays((3 * rows)[:, None, None] + axis[:, None], (3 * columns)[:, None, None] + axis)
    return scipy.sparse.csc_matrix((blocks.ravel(), (at[0].ravel(), at[1].ravel())), shape=(3 * n, 3 * n))


def _inverse(matrix: scipy.sparse.csc_matrix, shift: float) -> scipy.sparse.linalg.LinearOperator:
    """(matrix - shift)^-1 of a positive definite matrix, without pivoting, in an order that keeps factors sparse."""
    shifted = matrix - shift * scipy.sparse.eye(matrix.shape[0], format="csc")
    factors = scipy.sparse.linalg.splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return scipy.sparse.linalg.LinearOperator(matrix.shape, factors.solve, dtype=matrix.dtype)
