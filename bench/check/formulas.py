"""What fast algorithms are checked against: their formulas written out in numpy, in float64, nothing shared with them.

Clouds are (n, p); constants that no derivative sees are left out of first variations, as the paper does.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp, ndtr
from scipy.stats import norm

from cryosip.methods.invariant import steerable_basis

Cloud = np.ndarray
Line = np.ndarray
Kernel = Callable[[np.ndarray], np.ndarray]  # of distances

STEP = 1e-5  # of central differences, in units of y
NODES = 201  # of the trapezoidal rule over noise, within 9 stds


class WrittenOut(NamedTuple):
    """A discrepancy to fixed observations: its value, and dD/drho at places for the law of a cloud."""

    value: Callable[[Cloud], float]
    variation: Callable[[Cloud, Cloud], Line]  # at these places, of this cloud


def slopes(form: WrittenOut, y: Cloud, axis: np.ndarray) -> Line:
    """Component axis_i of the gradient of the first variation at y_i, by central differences."""
    step = STEP * np.eye(y.shape[1])[axis]
    return (form.variation(y + step, y) - form.variation(y - step, y)) / (2 * STEP)


def _kernels(seen: Cloud, between: Kernel, within: Kernel, plain: Kernel) -> WrittenOut:
    """Half the squared distance in the space of a kernel, which noise of the simulated images has widened twice."""
    own = plain(cdist(seen, seen)).mean()
    return WrittenOut(
        lambda y: (within(cdist(y, y)).mean() + own) / 2 - between(cdist(y, seen)).mean(),
        lambda at, y: within(cdist(at, y)).mean(1) - between(cdist(at, seen)).mean(1),
    )


def energy(seen: Cloud, noise_std: float) -> WrittenOut:
    """(2.9), squared and halved."""
    p = seen.shape[1]
    between, within, plain = (
        lambda r, s=factor * noise_std: -noisy_distance(r, s, p) for factor in (1.0, np.sqrt(2), 0.0)
    )
    return _kernels(seen, between, within, plain)


def noisy_distance(r: np.ndarray, s: float, p: int) -> np.ndarray:
    """E|u + s xi| of |u| = r in p dimensions, by int_0^inf (1 - E exp(-t |u + s xi|^2)) t^(-3/2) dt / (2 sqrt(pi))."""
    if s == 0:
        return r
    if p == 1:
        return s * (2 * norm.pdf(r / s) + r / s * (2 * ndtr(r / s) - 1))
    total, step = np.zeros_like(r), 0.2
    for t in np.exp(np.arange(-50, 50, step)):  # the trapezoidal rule in log t converges exponentially
        damping = 1 + 2 * s**2 * t
        total -= np.expm1(-p / 2 * np.log(damping) - t / damping * r**2) / np.sqrt(t)
    return total * step / (2 * np.sqrt(np.pi))


def mmd(seen: Cloud, noise_std: float, kernel: str = "gaussian", bandwidth: float | None = None) -> WrittenOut:
    """(2.8), squared and halved, with the median distance as bandwidth where none is given."""
    h = float(np.median(pdist(seen))) if bandwidth is None else bandwidth
    of_std = partial({"gaussian": _gaussian, "laplace": _laplace}[kernel], h, seen.shape[1])
    return _kernels(seen, of_std(noise_std), of_std(np.sqrt(2) * noise_std), of_std(0.0))


def _gaussian(h: float, p: int, s: float) -> Kernel:
    wide = np.hypot(h, s)
    return lambda r: (h / wide) ** p * np.exp(-0.5 * (r / wide) ** 2)


def _laplace(h: float, p: int, s: float) -> Kernel:
    """On the line, where noise is integrated out."""
    if s == 0:
        return lambda r: np.exp(-r / h)
    a = s / h
    return lambda r: np.exp(a**2 / 2) * (np.exp(-r / h) * ndtr(r / s - a) + np.exp(r / h) * ndtr(-r / s - a))


def silverman(seen: Cloud) -> float:
    """Silverman's rule with the mean variance over the components."""
    m, p = seen.shape
    return float(np.sqrt(seen.var(0).mean()) * (4 / ((p + 2) * m)) ** (1 / (p + 4)))


def _log_density(at: Cloud, cloud: Cloud, std: float) -> Line:
    """Of the kernel density estimate."""
    logs = logsumexp(-0.5 * (cdist(at, cloud) / std) ** 2, axis=1)
    return logs - np.log(len(cloud)) - 0.5 * cloud.shape[1] * np.log(2 * np.pi * std**2)


def kl(seen: Cloud, noise_std: float) -> WrittenOut:
    """(2.7) between kernel density estimates; on the line averaged over the noise of the image that moves."""
    h = silverman(seen)

    def log_ratio(at: Cloud, y: Cloud) -> Line:
        return _log_density(at, y, np.hypot(h, noise_std)) - _log_density(at, seen, h)

    def averaged(at: Cloud, y: Cloud) -> Line:
        if noise_std == 0:
            return log_ratio(at, y)
        omega = noise_std * np.linspace(-9, 9, NODES)
        weights = np.exp(-0.5 * (omega / noise_std) ** 2)
        values = log_ratio((at + omega).reshape(-1, 1), y).reshape(len(at), -1)
        return values @ (weights / weights.sum())

    return WrittenOut(lambda y: averaged(y, y).mean(), averaged)


def composite(seen: Cloud, noise_std: float) -> WrittenOut:
    """The sum of both."""
    first, second = kl(seen, noise_std), mmd(seen, noise_std)
    return WrittenOut(
        lambda y: first.value(y) + second.value(y),
        lambda at, y: first.variation(at, y) + second.variation(at, y),
    )


def data_kl(seen: Cloud, noise_std: float) -> WrittenOut:
    """(3.1) with (3.3): the negative mean log-likelihood of the observations."""
    std = noise_std or silverman(seen)

    def likelihood(x: Cloud) -> np.ndarray:
        return np.exp(-0.5 * (cdist(seen, x) / std) ** 2)

    return WrittenOut(
        lambda x: -np.log(likelihood(x).mean(1)).mean(),
        lambda at, x: -(likelihood(at) / likelihood(x).mean(1)[:, None]).mean(0),
    )


def invariant_energy(seen: Cloud, _noise_std: float) -> WrittenOut:
    """The energy distance of moduli of the inner products with steerable functions."""
    real, imaginary = steerable_basis(round(np.sqrt(seen.shape[1])), 1.6)

    def features(y: Cloud) -> Cloud:
        return np.hypot(y @ real, y @ imaginary)

    form = energy(features(seen), 0.0)
    return WrittenOut(lambda y: form.value(features(y)), lambda at, y: form.variation(features(at), features(y)))


FORMS: dict[str, Callable[..., WrittenOut]] = {
    "energy": energy,
    "kl": kl,
    "mmd": mmd,
    "composite": composite,
    "data-kl": data_kl,
    "invariant-energy": invariant_energy,
}


def wasserstein(x: Cloud, y: Cloud, p: int) -> float:
    """W_p of as many points on either side, equally weighted: the best of all one-to-one assignments."""
    cost = cdist(x, y) ** p
    return float(cost[scipy.optimize.linear_sum_assignment(cost)].mean() ** (1 / p))


def energy_distance(x: Cloud, y: Cloud) -> float:
    """D_E of (2.9), the root."""
    return float(np.sqrt(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()))


def nanocluster_images(theta: Cloud, size: int, tau: float) -> Cloud:
    """Section 4.2: the four atoms of each image, one after the other, at its pixels."""
    grid = -4 + 8 * np.arange(size) / size
    images = np.zeros((len(theta), size, size))
    for across, down in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        x, y = across * theta[:, :1] / 2, down * theta[:, 1:] / 2
        squares = (grid - y)[:, :, None] ** 2 + (grid - x)[:, None, :] ** 2
        images += np.exp(-squares / (2 * tau**2))
    return images.reshape(len(theta), -1)


def protein_images(
    molecule: Any, theta: Cloud, pose: Any, size: int, pixel: float, std: float, atoms_per_bead: int
) -> Cloud:
    """Section 4.3, but for the one factor of all images: every bead at every pixel, then the CTF by Fourier transforms.

    `size` is odd, so that no frequency is its own negative.
    """
    atoms = np.full(len(molecule.rest), atoms_per_bead)
    atoms[-1] = molecule.n_atoms - atoms[:-1].sum()
    grid = pixel * (np.arange(size) - size // 2)
    q = np.fft.fftfreq(size, pixel)
    frequency = np.hypot(q[:, None], q)
    images = []
    for z, rotation, shift, defocus in zip(theta, *(np.asarray(a, np.float64) for a in pose), strict=True):
        place = (molecule.rest + np.tensordot(z, molecule.motions, 1)) @ rotation.T
        x, y = place[:, 0] + shift[0], place[:, 1] + shift[1]
        squares = (grid[None, None] - x[:, None, None]) ** 2 + (grid[None, :, None] - y[:, None, None]) ** 2
        image = np.tensordot(atoms, np.exp(-squares / (2 * std**2)), 1)
        images.append(np.fft.ifft2(np.fft.fft2(image) * _contrast(frequency, defocus)).real.ravel())
    return np.stack(images)


def _contrast(q: np.ndarray, defocus: float) -> np.ndarray:
    """The CTF at 300 kV, spherical aberration 2.7 mm, amplitude contrast 0.1; lengths in angstroms."""
    wavelength = 0.019687
    chi = np.pi * wavelength * q**2 * (defocus - 0.5 * wavelength**2 * q**2 * 2.7e7)
    return -np.sqrt(1 - 0.1**2) * np.sin(chi) - 0.1 * np.cos(chi)
