"""Baselines by other libraries; the only file that knows these libraries.

Each baseline takes two samples and returns a function that gives n d value / d y of the energy distance, or the
difference of the scores of two density estimates, as our gradients do; or the value itself. A library is imported where
it is used; where it is missing that raises ImportError.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryosip.bench.speed.baselines import Exact, Implementation, Unavailable, from_numpy

Sample = np.ndarray  # (n, p), float32
Prepared = Callable[[], Any]
Prepare = Callable[[Sample, Sample], Prepared]
Distances = Callable[[Sample, Sample], np.ndarray]
PrepareKde = Callable[[Sample, Sample, float], Prepared]

OTT_ENTROPY = 1e3  # in units of the samples
MOST_PIXELS = 2_048  # beyond, some libraries take minutes


def from_distances(distances: Callable[[], Distances]) -> Prepare:
    """A gradient by hand around another library's matrix of distances: means of (y - x) / |y - x|."""

    def prepare(y: Sample, observed: Sample) -> Prepared:
        matrix = distances()

        def slope(x: Sample) -> np.ndarray:
            weights = matrix(y, x)
            np.divide(1, weights, out=weights, where=weights > 0)
            return (weights.sum(1)[:, None] * y - weights @ x) / len(x)

        return lambda: slope(observed) - slope(y)

    return prepare


def value_from_distances(distances: Callable[[], Distances]) -> Prepare:
    """The value from another library's matrix of distances."""

    def prepare(y: Sample, observed: Sample) -> Prepared:
        matrix = distances()
        within = matrix(observed, observed).mean()
        return lambda: matrix(y, observed).mean() - 0.5 * matrix(y, y).mean() - 0.5 * within

    return prepare


def scipy_cdist() -> Distances:
    """Differences, in float64."""
    from scipy.spatial.distance import cdist

    return lambda y, x: cdist(y, x)


def sklearn_distances() -> Distances:
    """A Gram product."""
    from sklearn.metrics.pairwise import euclidean_distances

    return lambda y, x: euclidean_distances(y, x)


def pot_distances() -> Distances:
    """A Gram product."""
    import ot

    return lambda y, x: ot.dist(y, x, metric="euclidean")


def scipy_value(y: Sample, observed: Sample) -> Prepared:
    """scipy.stats.energy_distance gives the root of twice our value, on the line."""
    from scipy.stats import energy_distance

    return lambda: energy_distance(y[:, 0], observed[:, 0]) ** 2 / 2


def jax_autodiff(y: Sample, observed: Sample) -> Prepared:
    """Autodiff of the sum over all pairs, from a Gram product beyond the line."""

    def squares(y: Any, x: Any) -> Any:
        if y.shape[1] == 1:
            return (y - x.T) ** 2
        gram = jnp.matmul(y, x.T, precision="highest")
        return (y**2).sum(1)[:, None] + (x**2).sum(1) - 2 * gram

    def mean_distance(y: Any, x: Any, same: bool) -> Any:
        s = squares(y, x)
        apart = (s > 0) & ~jnp.eye(len(y), dtype=bool) if same else s > 0
        return jnp.where(apart, jnp.sqrt(jnp.where(apart, s, 1.0)), 0.0).mean()

    def value(y: Any, x: Any) -> Any:
        return mean_distance(y, x, False) - 0.5 * mean_distance(y, y, True)

    simulated, other = jnp.asarray(y), jnp.asarray(observed)
    gradient = jax.jit(lambda y, x: len(y) * jax.grad(value)(y, x)).lower(simulated, other).compile()
    return lambda: jax.block_until_ready(gradient(simulated, other))


def _on_torch(samples: tuple[Sample, Sample]) -> Any:
    """As torch tensors on the device that JAX uses, the first to be differentiated by."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    simulated, other = (torch.from_numpy(np.array(sample)).to(device) for sample in samples)
    return simulated.requires_grad_(), other


def _autograd(value: Callable[[Any, Any], Any], y: Sample, observed: Sample) -> Prepared:
    """n d value / d y by torch."""
    from torch.autograd import grad

    simulated, other = _on_torch((y, observed))
    return lambda: len(y) * grad(value(simulated, other), simulated)[0].cpu().numpy()


def torch_cdist(y: Sample, observed: Sample) -> Prepared:
    """torch.cdist and autograd."""
    from torch import cdist

    return _autograd(lambda y, x: cdist(y, x).mean() - 0.5 * cdist(y, y).mean(), y, observed)


def geomloss_energy(backend: str) -> Prepare:
    """geomloss.SamplesLoss("energy"): all pairs in memory, or reduced by KeOps."""

    def prepare(y: Sample, observed: Sample) -> Prepared:
        from geomloss import SamplesLoss

        if backend == "online":
            import pykeops  # noqa: F401  (geomloss asks for it only when it is called)

            _few_pixels(y)
        return _autograd(SamplesLoss("energy", backend=backend), y, observed)

    return prepare


def _few_pixels(y: Sample) -> None:
    if y.shape[1] > MOST_PIXELS:
        raise Unavailable(f"not run: it takes minutes for more than {MOST_PIXELS} pixels")


def keops(y: Sample, observed: Sample) -> Prepared:
    """A KeOps LazyTensor of distances and autograd."""
    from pykeops.torch import LazyTensor

    _few_pixels(y)

    def mean_distance(y: Any, x: Any) -> Any:
        distances = ((LazyTensor(y[:, None]) - LazyTensor(x[None])) ** 2).sum(-1).sqrt()
        return distances.sum(1).mean() / len(x)

    return _autograd(lambda y, x: mean_distance(y, x) - 0.5 * mean_distance(y, y), y, observed)


def ott_divergence(y: Sample, observed: Sample) -> Prepared:
    """OTT-JAX: the Sinkhorn divergence of the distance, which tends to our value as the entropy grows."""
    from ott.geometry import costs, pointcloud
    from ott.tools import sinkhorn_divergence

    _few_pixels(y)

    def value(y: Any, x: Any) -> Any:
        return sinkhorn_divergence.sinkhorn_divergence(
            pointcloud.PointCloud, x=y, y=x, cost_fn=costs.Euclidean(), epsilon=OTT_ENTROPY
        )[0]

    simulated, other = jnp.asarray(y), jnp.asarray(observed)
    gradient = jax.jit(lambda y, x: len(y) * jax.grad(value)(y, x)).lower(simulated, other).compile()
    return lambda: jax.block_until_ready(gradient(simulated, other))


def jax_score_difference(y: Sample, observed: Sample, std: float) -> Prepared:
    """Autodiff of the log of both density estimates, all pairs on the line in memory."""

    def log_ratio(at: Any, y: Any, x: Any) -> Any:
        def log_kde(cloud: Any) -> Any:
            return jax.nn.logsumexp(-0.5 * ((at - cloud.T) / std) ** 2, axis=1)

        return (log_kde(y) - log_kde(x)).sum()

    simulated, other = jnp.asarray(y), jnp.asarray(observed)
    gradient = jax.jit(lambda y, x: jax.grad(log_ratio)(y, y, x)).lower(simulated, other).compile()
    return lambda: jax.block_until_ready(gradient(simulated, other))


def torch_score_difference(y: Sample, observed: Sample, std: float) -> Prepared:
    """torch.logsumexp of all pairs and autograd."""

    def log_kde(at: Any, cloud: Any) -> Any:
        return (-0.5 * ((at - cloud.T) / std) ** 2).logsumexp(1)

    return _autograd(lambda y, x: (log_kde(y, y.detach()) - log_kde(y, x)).mean(), y, observed)


def keops_score_difference(y: Sample, observed: Sample, std: float) -> Prepared:
    """A KeOps LazyTensor, logsumexp and autograd."""
    from pykeops.torch import LazyTensor

    def log_kde(at: Any, cloud: Any) -> Any:
        squares = ((LazyTensor(at[:, None]) - LazyTensor(cloud[None])) ** 2).sum(-1)
        return (-0.5 / std**2 * squares).logsumexp(1)

    return _autograd(lambda y, x: (log_kde(y, y.detach()) - log_kde(y, x)).mean(), y, observed)


def scipy_log_ratio(y: Sample, observed: Sample, std: float) -> Prepared:
    """scipy.stats.gaussian_kde, whose bandwidth is in units of the sample's standard deviation."""
    from scipy.stats import gaussian_kde

    estimates = [gaussian_kde(x[:, 0], bw_method=std / x[:, 0].std(ddof=1)) for x in (y, observed)]
    return lambda: (estimates[0].logpdf(y[:, 0]) - estimates[1].logpdf(y[:, 0])).mean()


def sklearn_log_ratio(y: Sample, observed: Sample, std: float) -> Prepared:
    """sklearn.neighbors.KernelDensity."""
    from sklearn.neighbors import KernelDensity

    estimates = [KernelDensity(bandwidth=std).fit(x) for x in (y, observed)]
    return lambda: (estimates[0].score_samples(y) - estimates[1].score_samples(y)).mean()


LINE: dict[str, Prepare] = {
    "JAX, autodiff of all pairs": jax_autodiff,
    "scipy cdist, gradient by hand": from_distances(scipy_cdist),
    "scikit-learn euclidean_distances, gradient by hand": from_distances(sklearn_distances),
    "POT ot.dist, gradient by hand": from_distances(pot_distances),
    "torch cdist, autograd": torch_cdist,
    "geomloss energy, tensorized": geomloss_energy("tensorized"),
    "geomloss energy, online": geomloss_energy("online"),
    "KeOps LazyTensor, autograd": keops,
    "OTT-JAX, Sinkhorn divergence of large entropy": ott_divergence,
}
IMAGES = {("JAX, autodiff of a Gram product" if f is jax_autodiff else name): f for name, f in LINE.items()}
VALUES: dict[str, Prepare] = {
    "scipy.stats.energy_distance": scipy_value,
    "scipy cdist": value_from_distances(scipy_cdist),
    "scikit-learn euclidean_distances": value_from_distances(sklearn_distances),
    "POT ot.dist": value_from_distances(pot_distances),
}
KDE: dict[str, PrepareKde] = {
    "JAX, autodiff of all pairs": jax_score_difference,
    "torch logsumexp, autograd": torch_score_difference,
    "KeOps LazyTensor, autograd": keops_score_difference,
}
KDE_VALUES: dict[str, PrepareKde] = {
    "scipy.stats.gaussian_kde": scipy_log_ratio,
    "scikit-learn KernelDensity": sklearn_log_ratio,
}


def implementations(
    baselines: Mapping[str, Prepare], exact: Exact, y: Sample, observed: Sample
) -> dict[str, Callable[[], Implementation]]:
    """Baselines ready to be measured.

    Parameters
    ----------
    baselines
        By name, such as `LINE`.
    exact
        The answer by a formula.
    y, observed
        (n, p) and (m, p), simulated and observed images.

    Returns
    -------
    By the same names, what prepares an implementation when it is called.
    """

    def make(prepare: Prepare) -> Implementation:
        return from_numpy(prepare(y, observed), exact)

    return {name: partial(make, prepare) for name, prepare in baselines.items()}
