"""Every discrepancy: its gradient is that of its value, its fast forms agree with all pairs, its error bound holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import measured

from cryosip.methods import pairwise
from cryosip.methods.kl import PAPER_VARIANCE, kl, silverman
from cryosip.methods.registry import DISCREPANCIES

N, M = 60, 80
PAIRS = {
    "energy": {"algorithm": "pairwise"},
    "kl": {"algorithm": "pairwise"},
    "mmd": {"algorithm": "pairwise"},
    "invariant-energy": {},
    "data-kl": {},
    "sliced-energy": {},
    "composite": {"kl_options": {"algorithm": "pairwise"}, "mmd_options": {"algorithm": "pairwise"}},
}
FAST = [
    ("energy", {"algorithm": "sorted"}),
    ("energy", {"algorithm": "binned"}),
    ("kl", {}),
    ("kl", {"bandwidth": "paper"}),
    ("mmd", {"kernel": "gaussian"}),
    ("mmd", {"kernel": "laplace"}),
    ("mmd", {"kernel": "inverse-multiquadric", "bandwidth": 0.7}),
    ("composite", {"kl_weight": 0.5, "mmd_weight": 2.0}),
]

FAST_AND_NOISE = [
    (name, options, noise_std)
    for name, options in FAST
    for noise_std in (0.0, 1.5)
    if not (noise_std and options.get("kernel") == "inverse-multiquadric")
]


def each_on(*pixels):
    """Every discrepancy on points of so many coordinates; what needs square images gets 7 x 7 pixels."""
    return [(name, p) for name in DISCREPANCIES for p in ((49,) if name == "invariant-energy" else pixels)]


def slow(cases: list[tuple]) -> list:
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


SOME = [case if i % 3 == 0 else slow([case])[0] for i, case in enumerate(FAST_AND_NOISE)]


def clouds(p: int = 1, n: int = N, m: int = M, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(0, 1.5, (n, p))), jnp.asarray(
        rng.normal(0.5, 1.0, (m, p)) * rng.choice([1, 3], (m, 1))
    )


def gradient(discrepancy, y, observed) -> np.ndarray:
    return np.asarray(jax.jit(discrepancy.bind(jnp.asarray(observed), 0.0).gradient)(jnp.asarray(y)))


def pairs_options(name: str, options: dict) -> dict:
    """The same discrepancy from all pairs."""
    if name == "composite":
        return options | PAIRS[name]
    return options | {"algorithm": "pairwise"}


@pytest.mark.parametrize(("name", "p"), [*each_on(1, 12), *slow(each_on(3))])
def test_gradient_is_that_of_the_first_variation(x64, name, p):
    """n d value / d y_i = gradient_i. The densities of the KL move with the particles: one known term is extra."""
    y, observed = clouds(p)
    target = DISCREPANCIES[name](**PAIRS[name]).bind(observed, 0.0)
    difference = jax.jit(lambda y: N * jax.grad(target.value)(y) - target.gradient(y))(y)
    expected = _moving_centres(y, silverman(np.asarray(observed))) if name in ("kl", "composite") else 0.0
    np.testing.assert_allclose(difference, expected * np.ones_like(y), atol=1e-10)


def _moving_centres(y: jax.Array, h: float) -> np.ndarray:
    """(1/N) sum_j grad phi(y_i - y_j) / rho_N(y_j), written out."""
    y = np.asarray(y)
    p = y.shape[1]
    gap = y[:, None] - y[None]
    phi = np.exp(-0.5 * (gap**2).sum(-1) / h**2) / (2 * np.pi * h**2) ** (p / 2)
    density = phi.mean(1)
    return (-gap / h**2 * (phi / density[None])[..., None]).mean(1)


@pytest.mark.parametrize(("name", "p"), each_on(2))
def test_gradient_agrees_with_finite_differences(x64, name, p):
    """The frozen densities of the KL make its value no potential, so there the frozen functional is differenced."""
    y, observed = clouds(p)
    target = DISCREPANCIES[name](**PAIRS[name]).bind(observed, 0.0)
    direction = jnp.asarray(np.random.default_rng(5).normal(size=y.shape))
    step = 1e-5
    if name in ("kl", "composite"):
        h = silverman(np.asarray(observed))

        def value(at):
            log_ratio = (pairwise.log_kde(at, y, h) - pairwise.log_kde(at, observed, h)).sum()
            if name == "kl":
                return log_ratio
            return log_ratio + N * DISCREPANCIES["mmd"](algorithm="pairwise").value(at, observed)
    else:

        def value(at):
            return N * target.value(at)

    @jax.jit
    def slopes(y):
        difference = value(y + step * direction) - value(y - step * direction)
        return difference / (2 * step), (target.gradient(y) * direction).sum()

    slope, found = slopes(y)
    assert float(found) == pytest.approx(float(slope), rel=1e-6)


def from_all_pairs(name: str, options: dict, y: jax.Array, observed: jax.Array, noise_std: float) -> tuple:
    """Gradient and value of the same discrepancy from all pairs."""
    if name == "energy":
        return _noisy_energy(y, observed, noise_std)
    exact = measured(DISCREPANCIES[name](**pairs_options(name, options)).bind(observed, noise_std), y)
    return exact.gradient, exact.value


@pytest.mark.parametrize(("name", "options", "noise_std"), SOME)
def test_fast_form_agrees_with_all_pairs_within_its_bound(x64, name, options, noise_std):
    y, observed = clouds(n=400, m=500)
    fast = measured(DISCREPANCIES[name](**options).bind(observed, noise_std), y)
    exact_gradient, exact_value = from_all_pairs(name, options, y, observed, noise_std)
    error, size = np.abs(fast.gradient - exact_gradient).max(), np.abs(exact_gradient).max()
    assert error <= fast.error + 1e-10 * size
    assert fast.error < 0.6 * size
    assert fast.value == pytest.approx(exact_value, abs=2e-3 * exact_value + 1e-4)


def _noisy_energy(y: jax.Array, observed: jax.Array, s: float) -> tuple[np.ndarray, float]:
    """Gradient and half the squared distance with the noise integrated out, by sums over all pairs in numpy."""
    from scipy.stats import norm

    def mean_distance(gap: np.ndarray, std: float) -> float:
        if std == 0:
            return float(np.abs(gap).mean())
        u = gap / std
        return float((std * (2 * norm.pdf(u) + u * (2 * norm.cdf(u) - 1))).mean())

    def below(gap: np.ndarray, std: float) -> np.ndarray:
        return (norm.cdf(gap / std) if std > 0 else (np.sign(gap) + 1) / 2).mean(1)

    x, z = np.asarray(y)[:, 0], np.asarray(observed)[:, 0]
    to_z, to_x, within_z = x[:, None] - z, x[:, None] - x, z[:, None] - z
    root = np.sqrt(2) * s
    value = mean_distance(to_z, s) - mean_distance(to_x, root) / 2 - mean_distance(within_z, 0.0) / 2
    return 2 * (below(to_z, s) - below(to_x, root))[:, None], value


@pytest.mark.parametrize(("name", "options", "noise_std"), SOME)
def test_particles_outside_the_grid_are_not_extrapolated(x64, name, options, noise_std):
    y, observed = clouds(n=100, m=120)
    y = y.at[0].set(80.0).at[1].set(-300.0)
    fast = measured(DISCREPANCIES[name](**options).bind(observed, noise_std), y)
    exact_gradient, exact_value = from_all_pairs(name, options, y, observed, noise_std)
    np.testing.assert_allclose(fast.gradient, exact_gradient, rtol=1e-9, atol=1e-9)
    assert fast.value == pytest.approx(exact_value, rel=1e-9)


@pytest.mark.parametrize(("name", "p"), [case for case in each_on(1, 2) if case[0] != "data-kl"])
def test_gradient_vanishes_where_both_laws_agree(x64, name, p):
    """The KL of (3.1) has no such place: it sets a kernel density estimate against the sample itself."""
    _, observed = clouds(p)
    found = measured(DISCREPANCIES[name]().bind(observed, 0.0), observed)
    assert np.abs(found.gradient).max() <= found.error + 1e-6
    assert found.value == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in DISCREPANCIES if name != "invariant-energy"])
def test_equal_samples_in_float32_far_from_the_origin(name):
    """Centred data keep the Gram product from cancelling. A constant added to an image changes its invariants."""
    y, observed = clouds(12)
    near, moved = (
        gradient(DISCREPANCIES[name](**PAIRS[name]), np.float32(y + by), np.float32(observed + by)) for by in (0, 256)
    )
    np.testing.assert_allclose(near, moved, atol=3e-3 * float(jnp.abs(near).max()))


@pytest.mark.slow
def test_one_particle_is_pulled_to_one_observation():
    for name in ("energy", "mmd"):
        discrepancy = DISCREPANCIES[name](**({"bandwidth": 1.0} if name == "mmd" else {}))
        assert gradient(discrepancy, [[1.0]], [[0.2]])[0, 0] > 0


def test_kl_bandwidths():
    _, observed = clouds(m=1_000)
    sd = float(np.asarray(observed).std())
    assert silverman(np.asarray(observed)) == pytest.approx(1.0592 * sd * 1_000**-0.2, rel=1e-3)
    y = jnp.asarray(observed[:50])
    paper, number = kl("paper"), kl(float(np.sqrt(PAPER_VARIANCE)))
    np.testing.assert_array_equal(gradient(paper, y, observed), gradient(number, y, observed))


@pytest.mark.parametrize(("name", "p"), [*each_on(12)[:2], *slow(each_on(12)[2:])])
def test_more_particles_than_a_tile(name, p, monkeypatch):
    y, observed = clouds(p)
    whole = gradient(DISCREPANCIES[name](**PAIRS[name]), y, observed)
    monkeypatch.setattr(pairwise, "TILE", 7 * M)
    tiled = gradient(DISCREPANCIES[name](**PAIRS[name]), y, observed)
    np.testing.assert_allclose(whole, tiled, atol=2e-5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DISCREPANCIES["energy"]("binnd"), "'binnd'.*did you mean 'binned'"),
        (lambda: DISCREPANCIES["energy"](n_cells=0), "n_cells is 0; wanted a whole number >= 1"),
        (lambda: DISCREPANCIES["kl"]("silverman"), "did you mean 'silverman-y'"),
        (lambda: DISCREPANCIES["kl"](-1.0), "bandwidth is -1.0; wanted a positive"),
        (lambda: DISCREPANCIES["data-kl"]("silverman"), "did you mean 'silverman-y'"),
        (lambda: DISCREPANCIES["data-kl"](0.0), "bandwidth is 0.0; wanted a positive"),
        (lambda: DISCREPANCIES["data-kl"]().bind(jnp.ones((3, 1)), 0.0), "all 3 observations are equal"),
        (lambda: DISCREPANCIES["data-kl"]().bind(jnp.ones((3, 1)), -1.0), "noise_std is -1.0"),
        (lambda: DISCREPANCIES["mmd"]("gauss"), "did you mean 'gaussian'"),
        (lambda: DISCREPANCIES["mmd"](bandwidth=float("nan")), "bandwidth is nan"),
        (lambda: DISCREPANCIES["composite"](kl_weight=-1.0), "kl_weight is -1.0"),
        (lambda: DISCREPANCIES["composite"](0.0, 0.0), "both 0"),
        (lambda: DISCREPANCIES["energy"]().bind(jnp.array([[jnp.nan], [1.0]]), 0.0), "1 NaN or infinite values of 2"),
        (lambda: DISCREPANCIES["energy"]().bind(jnp.ones((0, 1)), 0.0), r"shape \(0, 1\)"),
        (lambda: DISCREPANCIES["energy"]("sorted").bind(jnp.ones((3, 2)), 0.0), "dimension 2; wanted 'auto'"),
        (lambda: DISCREPANCIES["kl"]().bind(jnp.ones((3, 2)), 1.0), "cannot integrate out noise in dimension 2"),
        (lambda: DISCREPANCIES["energy"]().bind(jnp.ones((3, 1)), -1.0), "noise_std is -1.0"),
        (lambda: DISCREPANCIES["mmd"]("inverse-multiquadric").bind(jnp.ones((3, 1)), 1.0), "no closed form"),
        (lambda: DISCREPANCIES["kl"]().bind(jnp.ones((3, 1)), 0.0), "all 3 observations are equal"),
        (lambda: DISCREPANCIES["mmd"]().bind(jnp.ones((3, 1)), 0.0), "median distance between observations is 0"),
    ],
)
def test_bad_input_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_traced_observations_are_refused():
    with pytest.raises(ValueError, match="traced array; wanted concrete"):
        jax.jit(lambda y: DISCREPANCIES["energy"]().value(y, y))(jnp.ones((3, 1)))


@pytest.mark.slow
def test_mirrored_clouds_get_mirrored_gradients(x64):
    """A cusp of the kernel must not push a point that sits on another."""
    half = np.abs(np.random.default_rng(3).normal(1, 1, (200, 1)))
    cloud = jnp.asarray(np.concatenate([half, -half]))
    for name, options in FAST:
        gradient = DISCREPANCIES[name](**options).gradient(cloud, 1.3 * cloud)
        assert float(jnp.abs(gradient.mean())) < 1e-4 * float(jnp.abs(gradient).max()), (name, options)


def test_noise_that_is_wide_beside_the_bandwidth_is_integrated_to_the_error_that_is_told(x64):
    y, observed = clouds(n=30, m=40)
    target = kl(0.15, "pairwise").bind(observed, 1.5)
    omega, weights = np.linspace(-9, 9, 2_001), np.exp(-0.5 * (np.linspace(-9, 9, 2_001) / 1.5) ** 2)
    wide = float(np.hypot(0.15, 1.5))

    def score(at: np.ndarray, cloud: np.ndarray, std: float) -> np.ndarray:
        gap = cloud[:, 0] - at[..., None]
        exponent = -0.5 * (gap / std) ** 2
        kernel = np.exp(exponent - exponent.max(-1, keepdims=True))
        return (kernel * gap).sum(-1) / kernel.sum(-1) / std**2

    at = np.asarray(y) + omega
    gaps = score(at, np.asarray(y), wide) - score(at, np.asarray(observed), 0.15)
    averaged = np.average(gaps, axis=1, weights=weights)[:, None]
    found = measured(target, y)
    error = np.abs(found.gradient - averaged).max()
    assert error < 0.02 * np.abs(averaged).max()
    assert found.error == pytest.approx(error, rel=0.1)
    with pytest.raises(ValueError, match=r"bandwidth is 0\.01 with noise 1\.5"):
        kl(0.01).bind(observed, 1.5)


def test_noise_far_narrower_than_the_data_is_integrated_out_over_all_pairs():
    """A grid as fine as the noise would have millions of cells."""
    observed = jnp.linspace(-1e4, 1e4, 30)[:, None]
    target = DISCREPANCIES["energy"]().bind(observed, 0.1)
    assert "all pairs" in target.algorithm
    assert "cells" not in target.algorithm
    assert np.isfinite(target.gradient(observed + 0.05)).all()
    with pytest.raises(ValueError, match=r"would need \d+ cells"):
        DISCREPANCIES["energy"](algorithm="binned").bind(observed, 0.1)


def test_an_outlier_does_not_ruin_the_cells(x64):
    y, observed = clouds(n=400, m=500)
    target = DISCREPANCIES["energy"]().bind(observed.at[0].set(1e6), 0.0)
    assert target.algorithm == "sorted (exact)"
    with pytest.raises(ValueError, match=r"would need .* cells"):
        DISCREPANCIES["kl"](0.3, "binned").bind(observed.at[0].set(1e6), 0.0).gradient(y)


@pytest.mark.parametrize(
    ("sample", "m", "algorithm"),
    [
        (lambda rng, n: rng.normal(size=n), 10_000, "binned"),
        (lambda rng, n: rng.normal(size=n), 1_000, "sorted"),
        (lambda rng, n: rng.standard_t(3, size=n), 7_000, "sorted"),  # outliers stretch the cells
        (lambda rng, n: np.append(rng.normal(size=n - 1), 1e4), 10_000, "sorted"),
    ],
    ids=["many", "few", "heavy tails", "an outlier"],
)
def test_energy_takes_cells_only_where_the_error_they_state_is_small(sample, m, algorithm):
    observed, y = (
        jnp.asarray(sample(np.random.default_rng(seed), n)[:, None], jnp.float32) for seed, n in ((0, m), (1, 5_000))
    )
    target = DISCREPANCIES["energy"]().bind(observed, 0.0)
    assert target.algorithm.startswith(algorithm)
    # the rule is for as many particles as observations; of half as many, a cell's share scatters more
    assert float(jax.jit(target.gradient_error)(y)) <= 0.015
