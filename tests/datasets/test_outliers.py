"""Outliers: as many as asked for, of their kind, and nothing else changes."""

import inspect

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench.examples import example_problem
from cryosip.datasets.oned import oned
from cryosip.datasets.outliers import KINDS, beside, contaminated
from cryosip.datasets.registry import DATASETS

IMAGES = [name for name in DATASETS if name in ("nanocluster", "adk")]  # hsp90 is the code of adk


def changed(clean, dirty):
    """Which rows differ."""
    return np.flatnonzero((np.asarray(clean.problem.observations) != np.asarray(dirty.problem.observations)).any(1))


@pytest.mark.parametrize("name", DATASETS)
def test_every_problem_has_the_options_with_a_share_of_nothing(name):
    parameters = inspect.signature(DATASETS[name]).parameters
    assert parameters["outliers"].default == 0.0
    assert parameters["outlier_kind"].default == "wide"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.125, 0.5, 0.99])
def test_their_number_is_exact_and_the_truth_stays(share):
    clean, dirty = oned(n_observations=100, seed=3), oned(n_observations=100, seed=3, outliers=share)
    assert len(changed(clean, dirty)) == round(share * 100)
    np.testing.assert_array_equal(clean.truth.theta, dirty.truth.theta)
    u = np.linspace(0.1, 0.9, 9)
    np.testing.assert_array_equal(clean.truth.quantile(u), dirty.truth.quantile(u))


def test_the_seed_decides_which():
    rows = [changed(oned(100, seed=s), oned(100, seed=s, outliers=0.1)).tolist() for s in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_without_outliers_nothing_is_drawn():
    def fails(*_):
        raise AssertionError("it was called")

    y = jnp.ones((4, 1))
    assert contaminated(y, 0.0, "neighbour", 0, fails, fails) is y


def test_wide_noise_is_ten_times_the_noise():
    """The sum of squares over sigma^2 of n normal numbers is n +- sqrt(2 n), within 5 of them."""
    n = 20_000
    clean, dirty = oned(n_observations=2 * n, seed=1), oned(n_observations=2 * n, seed=1, outliers=0.5)
    rows = changed(clean, dirty)
    noise = np.asarray(dirty.problem.observations - dirty.truth.theta, np.float64)[rows, 0] / (10 * 1.5)
    assert (noise**2).sum() == pytest.approx(n, abs=5 * np.sqrt(2 * n))
    assert noise.mean() == pytest.approx(0, abs=5 / np.sqrt(n))


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_images_hold_what_their_kind_says(name, kind):
    """y = x + omega becomes x + 10 omega, omega or y + x'; within rounding of a sum of few terms of the size of y."""
    clean, dirty = (example_problem(name, outliers=share, outlier_kind=kind) for share in (0.0, 0.25))
    rows = changed(clean, dirty)
    assert len(rows) == round(0.25 * len(clean.truth.theta))
    x = np.asarray(clean.problem.render(clean.truth.theta, clean.truth.pose))[rows]
    y, found = (np.asarray(i.problem.observations)[rows] for i in (clean, dirty))
    close = 100 * np.finfo(np.float32).eps * np.abs(y).max()
    if kind == "neighbour":
        second = found - y
        assert second.min() > -close  # a particle is nowhere negative
        assert (second.max(1) > 0.3 * x.max(1).min()).all()
    else:
        np.testing.assert_allclose(found, y - x if kind == "noise" else x + 10 * (y - x), atol=close)


@pytest.mark.parametrize("size", [6, 7])
def test_a_neighbour_stands_half_an_image_away(size):
    """A dot in the middle lands at a distance of half the side, each coordinate rounded to a pixel, or is lost."""
    n, middle = 200, size // 2
    dots = np.zeros((n, size, size), np.float32)
    dots[:, middle, middle] = 1
    moved = np.asarray(beside(jr.key(0), jnp.asarray(dots.reshape(n, -1)))).reshape(n, size, size)
    image, row, column = np.nonzero(moved)
    assert len(set(image)) == len(image) > n / 4
    distance = np.hypot(row - middle, column - middle)
    assert np.abs(distance - size / 2).max() <= np.sqrt(0.5)
    assert len({*zip(row.tolist(), column.tolist(), strict=True)}) > 4  # directions differ


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["oned", "nanocluster"])
def test_a_share_that_is_none_is_refused(name, share):
    with pytest.raises(ValueError, match=r"outliers is .*wanted a"):
        example_problem(name, outliers=share)


@pytest.mark.parametrize(("name", "kind"), [("oned", "noise"), ("oned", "neighbour"), ("nanocluster", "junk")])
def test_kinds_that_data_do_not_have_are_refused(name, kind):
    with pytest.raises(ValueError, match=rf"outlier_kind is '{kind}'; wanted one of 'wide'"):
        example_problem(name, outlier_kind=kind)
