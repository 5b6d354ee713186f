"""Energy distances of product laws: closed forms, samples, and scales."""

import numpy as np
import pytest
import scipy.spatial.distance

from cryosip.bench.studies.product_laws import Uniform, energy_distance_squared, scaled
from cryosip.datasets.gaussian_mixture import gaussian_mixture

TWO = gaussian_mixture([3.0, -1.0], [0.5, 1.0], [0.3, 0.7])
ONE = gaussian_mixture([0.5], [2.0], [1.0])


def test_closed_forms_on_the_line():
    # 2 int (F - G)^2 of uniform laws of half-widths 1 and 3
    assert energy_distance_squared([Uniform(1.0)], [Uniform(3.0)]) == pytest.approx(4 / 9, rel=1e-5)
    normal = [gaussian_mixture([m], [1.0], [1.0]) for m in (0.0, 1.0)]
    # E|N(m, 2)| = 2 / sqrt(pi) exp(-m^2 / 4) + m erf(m / 2)
    expected = 4 / np.sqrt(np.pi) * (np.exp(-0.25) - 1) + 2 * 0.5204998778
    assert energy_distance_squared(normal[:1], normal[1:]) == pytest.approx(expected, rel=1e-5)


def test_equal_laws_have_none():
    assert energy_distance_squared([TWO, Uniform(2.0)], [TWO, Uniform(2.0)]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 50.0])
def test_samples_have_the_same(factor):
    """In three dimensions, and in any unit."""
    rng, n = np.random.default_rng(0), 3_000
    first, second = [Uniform(2.0), TWO, ONE], [TWO, Uniform(1.0), Uniform(4.0)]

    def drawn(law):
        if isinstance(law, Uniform):
            return rng.uniform(-law.half_width, law.half_width, n)
        which = rng.choice(len(law.weights), n, p=law.weights)
        return rng.normal(law.means[which], law.stds[which])

    def estimate():
        x, x2, y, y2 = (np.stack([drawn(law) for law in laws], axis=1) for laws in (first, first, second, second))
        mean = [scipy.spatial.distance.cdist(a, b).mean() for a, b in ((x, y), (x, x2), (y, y2))]
        return factor * (2 * mean[0] - mean[1] - mean[2])

    found = energy_distance_squared([scaled(law, factor) for law in first], [scaled(law, factor) for law in second])
    estimates = [estimate() for _ in range(4)]
    assert found == pytest.approx(np.mean(estimates), abs=4 * np.std(estimates, ddof=1))
    assert found == pytest.approx(np.mean(estimates), rel=0.1)
