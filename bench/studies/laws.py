"""The law behind likelihoods on a support: without a family (NPMLE), and of the family that the truth is of."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float
from scipy.cluster.vq import kmeans2

from cryosip.bench.studies.exact_likelihood import Likelihoods, Matrix

LIGHT = 1e-7  # weights that EM has brought below this take no further part
FAMILY_STEPS, FAMILY_TOLERANCE = 200, 1e-6  # of EM on a family, and the gain in mean log-likelihood at which it ends
NODE_STEPS, NODES_BASE_2 = 100, 10  # of EM on nodes of the family, and 2^10 nodes of each of its components
NARROWEST = 0.3  # a fitted std over that of the start: a component must not collapse on one point of the support
EDGES = 1.0 + np.linspace(-0.2, 0.2, 21)  # of a box, tried around the current ones

Vector = Float[np.ndarray, " k"]


class Iterate(NamedTuple):
    """Weights after so many steps, the mean log-likelihood, and by how much it can rise at most."""

    step: int
    weights: Vector
    objective: float
    gap: float


def npmle(known: Likelihoods, steps: list[int]) -> Iterator[Iterate]:
    """EM on the weights from the flat law, w_k <- w_k mean_i L_ik / sum_l w_l L_il, as it is after these many steps.

    The gap is max_k mean_i L_ik / sum_l w_l L_il - 1, which bounds how far the likelihood is below its maximum over all
    laws on the support [kiefer1956].
    """
    top = known.log_likelihood.max(1)
    every = np.exp((known.log_likelihood - top[:, None]).astype(np.float32))
    table, at = every, np.arange(len(known.flat))
    weights, done = known.flat.astype(np.float32), 0
    for step in steps:
        for _ in range(step - done):
            weights = weights * (table.T @ (1 / (table @ weights)))
            weights /= weights.sum()  # or else roundings of thousands of steps add up
        done = step
        density = np.maximum(table @ weights, np.finfo(np.float32).tiny)
        rise = float((every.T @ (1 / density)).max() / len(top) - 1)
        whole = np.zeros(len(known.flat))
        whole[at] = weights
        yield Iterate(step, whole / whole.sum(), float((np.log(density) + top).mean()), rise)
        heavy = weights > LIGHT / len(known.flat)
        if step and not heavy.all():
            table, at, weights = np.ascontiguousarray(table[:, heavy]), at[heavy], weights[heavy]


class Mixtures(NamedTuple):
    """A product of Gaussian mixtures, one for each coordinate, or one mixture of all coordinates, `joint`."""

    weights: list[np.ndarray]
    means: list[np.ndarray]
    covariances: list[np.ndarray]
    joint: bool

    def blocks(self, theta: np.ndarray) -> list[np.ndarray]:
        return [theta] if self.joint else [theta[:, j : j + 1] for j in range(theta.shape[1])]

    def log_components(self, theta: np.ndarray) -> list[np.ndarray]:
        """log weight + log density of each component (k, c), block by block."""
        found = []
        for x, w, mean, cov in zip(self.blocks(theta), self.weights, self.means, self.covariances, strict=True):
            away = x[:, None] - mean
            squares = np.einsum("kcd,cde,kce->kc", away, np.linalg.inv(cov), away)
            found.append(np.log(w) - 0.5 * (squares + np.linalg.slogdet(2 * np.pi * cov)[1]))
        return found

    def log_density(self, theta: np.ndarray) -> Vector:
        return sum((scipy.special.logsumexp(logs, axis=1) for logs in self.log_components(theta)), np.zeros(len(theta)))

    def fitted(self, theta: np.ndarray, weights: Vector, least: list[np.ndarray]) -> "Mixtures":
        """One step of EM on weighted points, no variance below `least`."""
        shares, means, covariances = [], [], []
        for x, logs, floor in zip(self.blocks(theta), self.log_components(theta), least, strict=True):
            mass = weights[:, None] * scipy.special.softmax(logs, axis=1)
            total = mass.sum(0) + 1e-12
            mean = (mass.T @ x) / total[:, None]
            away = x[:, None] - mean
            covariance = np.einsum("kc,kcd,kce->cde", mass, away, away) / total[:, None, None]
            covariances.append(covariance + np.maximum(floor - covariance, 0.0) * np.eye(x.shape[1]))
            shares.append(total / total.sum())
            means.append(mean)
        return Mixtures(shares, means, covariances, self.joint)

    def nodes(self) -> tuple[np.ndarray, Vector]:
        """Quasi-random points of every combination of components, and the logarithms of their weights."""
        d = sum(mean.shape[1] for mean in self.means)
        normal = scipy.stats.norm.ppf(scipy.stats.qmc.Sobol(d, rng=0).random_base2(NODES_BASE_2))
        roots = [np.linalg.cholesky(cov) for cov in self.covariances]
        sides = np.cumsum([0, *(mean.shape[1] for mean in self.means)])
        found, logs = [], []
        for components in itertools.product(*(range(len(w)) for w in self.weights)):
            columns = [
                mean[c] + normal[:, low:high] @ root[c].T
                for c, mean, root, low, high in zip(components, self.means, roots, sides[:-1], sides[1:], strict=True)
            ]
            found.append(np.concatenate(columns, axis=1))
            log_weight = sum(np.log(w[c]) for c, w in zip(components, self.weights, strict=True))
            logs.append(np.full(len(normal), log_weight - np.log(len(normal))))
        return np.concatenate(found), np.concatenate(logs)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        columns = []
        for w, mean, cov in zip(self.weights, self.means, self.covariances, strict=True):
            c = rng.choice(len(w), size=n, p=w)
            columns.append(
                mean[c] + np.einsum("nde,ne->nd", np.linalg.cholesky(cov)[c], rng.normal(size=(n, mean.shape[1])))
            )
        return np.concatenate(columns, axis=1)


def mixtures_of(theta: np.ndarray, counts: list[int]) -> Mixtures:
    """Fitted to points, as many components as `counts` say, for each coordinate; one number for all is joint."""
    joint = len(counts) == 1 and theta.shape[1] > 1
    blocks = [theta] if joint else [theta[:, j : j + 1] for j in range(theta.shape[1])]
    means = [kmeans2(x, n, seed=0, minit="++")[0] for x, n in zip(blocks, counts, strict=True)]
    wide = [np.stack([np.diag(x.var(0)) / n**2 for _ in range(n)]) for x, n in zip(blocks, counts, strict=True)]
    law = Mixtures([np.full(n, 1 / n) for n in counts], means, wide, joint)
    equal, nothing = np.full(len(theta), 1 / len(theta)), [1e-6 * cov for cov in wide]
    for _ in range(FAMILY_STEPS):
        law = law.fitted(theta, equal, nothing)
    return law


def best_mixtures(known: Likelihoods, start: Mixtures) -> Mixtures:
    """Maximum likelihood from a start, by EM: sum_i log integral p(theta) L_i(theta) dtheta on the support."""
    table = np.exp((known.log_likelihood - known.log_likelihood.max(1)[:, None]).astype(np.float32))
    least, law, before = least_covariances(start), start, -np.inf
    for _ in range(FAMILY_STEPS):
        weights = scipy.special.softmax(np.log(known.flat) + law.log_density(known.support))
        density = np.maximum(table @ weights.astype(np.float32), np.finfo(np.float32).tiny)
        posterior = weights * (table.T @ (1 / density)) / len(table)
        law = law.fitted(known.support, posterior / posterior.sum(), least)
        value = np.log(density).mean()
        if abs(value - before) < FAMILY_TOLERANCE:
            break
        before = value
    return law


def mixtures_from_nodes(log_likelihood: Callable[[np.ndarray], Matrix], start: Mixtures) -> Mixtures:
    """The same where likelihoods are cheap: each step of EM on quasi-random nodes of the law so far.

    No support for all laws is as dense as that where a component is narrow; errors of random draws would add up.
    """
    least, law = least_covariances(start), start
    for _ in range(NODE_STEPS):
        theta, log_weights = law.nodes()
        posterior = scipy.special.softmax(log_likelihood(theta) + log_weights, axis=1).mean(0)
        law = law.fitted(theta, posterior, least)
    return law


def least_covariances(start: Mixtures) -> list[np.ndarray]:
    """Below which no component of a fit from there gets."""
    return [NARROWEST**2 * np.stack([np.diag(np.diag(c)) for c in cov]) for cov in start.covariances]


def best_box(known: Likelihoods, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The uniform law of largest likelihood, one edge of its box after the other, from a start."""
    table = np.exp((known.log_likelihood - known.log_likelihood.max(1)[:, None]).astype(np.float32))
    edges = np.stack([lower, upper]).astype(float)

    def value(edges: np.ndarray) -> float:
        inside = ((known.support >= edges[0]) & (known.support <= edges[1])).all(1) * known.flat
        return float(np.log(table @ (inside / max(inside.sum(), 1e-30)).astype(np.float32) + 1e-30).mean())

    for _ in range(2):
        for side in (0, 1):
            for j in range(edges.shape[1]):
                middle, half = edges.mean(0)[j], (edges[1] - edges[0])[j] / 2
                tried = [edges.copy() for _ in EDGES]
                for trial, factor in zip(tried, EDGES, strict=True):
                    trial[side, j] = middle + (2 * side - 1) * half * factor
                edges = max(tried, key=value)
    return edges[0], edges[1]
