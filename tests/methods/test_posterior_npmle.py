"""Laplace posteriors of each image are exact where they can be written out, and the law behind them climbs by EM."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
import scipy.stats

from cryosip.datasets.registry import DATASETS
from cryosip.methods.posterior_npmle import integrate_pose_out, posterior_npmle
from cryosip.methods.problem import PoseMotion, Problem, no_pose, one_node

SIGMA = 0.05
MARKER = np.array([1.0, 0.5])  # a second point of the plane, known, that tells the angle
SMALL_ADK = {
    "n_observations": 20,
    "image_size": 12,
    "pixel_size_in_angstroms": 10.0,
    "atom_std_in_angstroms": 8.0,
    "atoms_per_bead": 4,
    "snr": 1.0,
    "seed": 3,
}


def linear(m: int = 60, half_width: float = 8.0) -> tuple[Problem, np.ndarray]:
    """y = A theta + noise in five coordinates, without a pose."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 2))
    theta = rng.normal(size=(m, 2)) @ np.array([[1.0, 0.0], [0.6, 0.5]])
    rows = jnp.asarray(matrix)
    problem = Problem(
        name="linear",
        observations=jnp.asarray(theta @ matrix.T + 0.7 * rng.normal(size=(m, 5))),
        noise_std=0.7,
        render=lambda theta, _pose: jnp.matmul(theta, rows.T, precision="highest"),
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=lambda key, n: jr.normal(key, (n, 2)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1),
        theta_box=(jnp.full(2, -half_width), jnp.full(2, half_width)),
    )
    return problem, matrix


def turned(theta: jax.Array, angle: jax.Array) -> jax.Array:
    """The point and the marker, both turned by the angle."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    points = [(theta[:, 0], theta[:, 1]), (MARKER[0], MARKER[1])]
    return jnp.stack([c for x, y in points for c in (cos * x - sin * y, sin * x + cos * y)], axis=1)


def seen_under_an_angle(m: int = 80) -> tuple[Problem, np.ndarray, np.ndarray]:
    """Points of the plane beside a marker, turned by up to half a radian; the quadrature has three nodes."""
    rng = np.random.default_rng(1)
    theta = np.array([[1.0, 0.0], [-0.5, 1.5]])[rng.integers(2, size=m)] + 0.2 * rng.normal(size=(m, 2))
    angle = rng.uniform(-0.5, 0.5, m)
    clean = np.asarray(turned(jnp.asarray(theta), jnp.asarray(angle)))
    problem = Problem(
        name="seen-under-an-angle",
        observations=jnp.asarray(clean + SIGMA * rng.normal(size=clean.shape)),
        noise_std=SIGMA,
        render=lambda theta, pose: turned(theta, pose["angle"]),
        sample_pose=lambda key, n: {"angle": jr.uniform(key, (n,), minval=-0.5, maxval=0.5)},
        pose_quadrature=lambda _order: ({"angle": jnp.array([-1 / 3, 0.0, 1 / 3])}, jnp.full(3, 1 / 3)),
        sample_init=lambda key, n: jr.normal(key, (n, 2)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1),
        theta_box=(jnp.full(2, -3.0), jnp.full(2, 3.0)),
        pose_motion=PoseMotion(1, lambda pose, step: {"angle": pose["angle"] + step[:, 0]}),
    )
    return problem, theta, clean


def states(method, steps):
    """The state after 0, 1, ... steps, and what each step told."""
    step, state = jax.jit(method.step), jax.jit(method.init)(jr.key(0))
    passed, told = [state], []
    for _ in range(steps):
        state, info = step(jr.key(1), state)
        passed.append(state)
        told.append(info)
    return passed, told


@pytest.fixture(scope="module")
def on_the_line():
    """A run on the linear problem: 9 structures, 12 refinements, Laplace, 30 steps of EM."""
    with jax.enable_x64(True):
        problem, matrix = linear()
        method = posterior_npmle(problem, n_support=9, n_candidates=3, n_refinements=12)
        return problem, matrix, method, *states(method, 9 + 12 + 1 + 30)


@pytest.fixture(scope="module")
def under_angles():
    """A run on turned points: 49 structures, 12 refinements, Laplace."""
    with jax.enable_x64(True):
        problem, _, clean = seen_under_an_angle()
        method = posterior_npmle(problem, n_support=49, n_candidates=3, n_refinements=12)
        return problem, clean, *states(method, 49 + 12 + 1)


def test_where_the_image_is_linear_each_posterior_is_the_gaussian_of_least_squares(x64, on_the_line):
    problem, matrix, method, passed, _ = on_the_line
    state = passed[22]
    least_squares = np.linalg.lstsq(matrix, np.asarray(problem.observations).T)[0].T
    np.testing.assert_allclose(method.estimate(state).theta, least_squares, atol=1e-6)
    np.testing.assert_allclose(method.estimate(state).weights, 1 / 60)
    np.testing.assert_allclose(state.precision, np.broadcast_to(matrix.T @ matrix / 0.7**2, (180, 2, 2)), rtol=1e-12)
    np.testing.assert_allclose(state.log_height, -state.misfit, rtol=1e-12)


def test_em_on_the_weights_is_that_of_the_exact_likelihoods(x64, on_the_line):
    """L_i(z) is exp(-|y_i - A z|^2 / (2 sigma^2)) here, once for the three candidates, which have met."""
    problem, matrix, method, passed, told = on_the_line
    y = np.asarray(problem.observations)
    support = np.linalg.lstsq(matrix, y.T)[0].T
    table = -0.5 * ((y[:, None] - support @ matrix.T) ** 2).sum(2) / 0.7**2
    weights = np.full(60, 1 / 60)
    for state, info in zip(passed[23:], told[22:], strict=True):
        evidence = scipy.special.logsumexp(table, axis=1, b=weights)
        assert float(info.objective) == pytest.approx(-evidence.mean(), abs=1e-6)
        weights = weights * np.exp(table - evidence[:, None]).mean(0)
        np.testing.assert_allclose(method.estimate(state).weights, weights, atol=1e-6)
    objectives = np.array([float(info.objective) for info in told[22:]])
    assert np.diff(objectives).max() <= 1e-12
    assert objectives[0] - objectives[-1] > 0.05
    assert weights.max() > 3 / 60


def test_refinement_finds_poses_between_the_nodes(x64, under_angles):
    problem, clean, passed, told = under_angles
    y = np.asarray(problem.observations)
    misfits = np.stack([np.asarray(state.misfit) for state in passed[49:62]])
    assert np.diff(misfits, axis=0).max() <= 1e-9
    assert (misfits[-1] < misfits[0]).all()
    image = np.asarray(problem.render(passed[61].theta, passed[61].pose)).reshape(80, 3, 4)
    np.testing.assert_allclose(misfits[-1].reshape(80, 3), 0.5 * ((y[:, None] - image) ** 2).sum(2) / SIGMA**2)
    truth = 0.5 * ((y - clean) ** 2).sum(1) / SIGMA**2
    before, after = (m.reshape(80, 3).min(1) for m in (misfits[0], misfits[-1]))
    assert (before <= truth).mean() < 0.1
    assert (after <= truth).mean() > 0.95
    assert float(told[60].objective) == pytest.approx(after.mean())


def test_a_step_that_overshoots_is_not_taken(x64):
    """y = theta^2 is flat at 0: the linear model reaches far beyond the minimum, until it is damped."""
    problem = Problem(
        name="square",
        observations=jnp.linspace(1.0, 6.0, 20)[:, None],
        noise_std=0.3,
        render=lambda theta, _pose: theta**2,
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=lambda key, n: jr.normal(key, (n, 1)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1),
        theta_box=(jnp.full(1, -6.0), jnp.full(1, 6.0)),
    )
    passed, _ = states(posterior_npmle(problem, n_support=12, n_candidates=12, n_refinements=20), 12 + 20)
    misfits = np.stack([np.asarray(state.misfit) for state in passed[12:]])
    assert np.diff(misfits, axis=0).max() <= 1e-12
    assert (np.diff(misfits[:2], axis=0) == 0).any()  # some first steps are refused
    np.testing.assert_allclose(misfits[-1], 0.0, atol=1e-9)


def test_the_pose_is_integrated_out_of_the_precision(x64, under_angles):
    """The Schur complement of the pose, and the determinant of its block, from differences of rendered images."""
    problem, _, passed, _ = under_angles
    state, h = passed[-1], 1e-5
    slopes = []
    for e in range(3):
        shift, turn = h * np.eye(3)[e, :2], h * np.eye(3)[e, 2]
        ahead, behind = (
            np.asarray(problem.render(state.theta + s * shift, {"angle": state.pose["angle"] + s * turn}))
            for s in (1, -1)
        )
        slopes.append((ahead - behind) / (2 * h))
    jacobian = np.stack(slopes, axis=1)
    curvature = np.einsum("iep,ifp->ief", jacobian, jacobian) / SIGMA**2
    inner, cross = curvature[:, 2, 2], curvature[:, :2, 2]
    marginal = curvature[:, :2, :2] - cross[:, :, None] * cross[:, None] / inner[:, None, None]
    size = np.abs(curvature).max()
    np.testing.assert_allclose(state.precision, marginal, atol=3e-6 * size)  # the ridge of the pose block is 1e-6
    assert np.abs(curvature[:, :2, :2] - marginal).max() > 0.1 * size
    np.testing.assert_allclose(state.log_height, -np.asarray(state.misfit) - 0.5 * np.log(inner), atol=1e-5)


def test_a_gaussian_without_its_last_coordinates_is_the_marginal(x64):
    root = np.random.default_rng(4).normal(size=(5, 4, 6))
    curvature, misfit = jnp.asarray(root @ root.swapaxes(1, 2)), jnp.arange(5.0)
    precision, log_height = integrate_pose_out(2, misfit, curvature)
    marginal = np.linalg.inv(np.linalg.inv(curvature)[:, :2, :2])
    np.testing.assert_allclose(precision, marginal, rtol=0, atol=1e-4 * np.abs(curvature).max())  # the ridge is 1e-6
    logdet = np.linalg.slogdet(np.asarray(curvature)[:, 2:, 2:])[1]
    np.testing.assert_allclose(log_height, -np.arange(5.0) - 0.5 * logdet, atol=1e-4)
    assert integrate_pose_out(4, misfit, curvature)[0] is curvature  # nothing to integrate


def test_the_law_weighs_structures_by_the_sum_over_candidates(x64):
    """L_i of candidates that have not met yet, one loop after the other; images unlike any structure do not count."""
    problem, _, _ = seen_under_an_angle(m=12)
    strange = problem.observations.at[:3, 2:].add(jnp.array([0.8, 0.4]))  # the marker is nearly twice as far out
    problem = problem._replace(observations=strange)
    method = posterior_npmle(problem, n_support=49, n_candidates=3, n_refinements=1)
    passed, told = states(method, 49 + 1 + 1 + 2)
    state = passed[51]
    misfit = np.asarray(state.misfit).reshape(12, 3)
    counts = 2 * misfit.min(1) <= scipy.stats.chi2.isf(1e-4, 4)
    assert counts.tolist() == [False] * 3 + [True] * 9
    np.testing.assert_allclose(state.weights, counts / counts.sum())
    theta, precision = np.asarray(state.theta).reshape(12, 3, 2), np.asarray(state.precision).reshape(12, 3, 2, 2)
    height = np.asarray(state.log_height).reshape(12, 3)
    support = np.asarray(method.estimate(state).theta)
    np.testing.assert_array_equal(support, theta[np.arange(12), misfit.argmin(1)])
    assert len(set(misfit.argmin(1))) == 3
    table = np.zeros((12, 12))
    for i in range(12):
        for k in range(12):
            away = support[k] - theta[i]
            logs = [height[i, j] - 0.5 * away[j] @ precision[i, j] @ away[j] for j in range(3)]
            table[i, k] = scipy.special.logsumexp(logs)
    weights = counts / counts.sum()
    for number in (51, 52):
        evidence = scipy.special.logsumexp(table, axis=1, b=weights)
        assert float(told[number].objective) == pytest.approx(-evidence[counts].mean(), rel=1e-9)
        weights = weights * np.exp(table - evidence[:, None])[counts].mean(0)
        np.testing.assert_allclose(passed[number + 1].weights, weights, atol=1e-9)


def test_images_that_no_structure_explains_take_no_part():
    """In float32 the likelihood of all structures that count underflows for one that is far from all of them."""
    problem, _, _ = seen_under_an_angle(m=12)
    strange = problem.observations.at[3].set(jnp.array([-2.5, -2.5, 2.0, 1.0]))  # the marker is twice as far out
    method = posterior_npmle(problem._replace(observations=strange), n_support=49, n_candidates=2, n_refinements=8)
    passed, told = states(method, 49 + 8 + 1 + 5)
    assert np.isfinite([float(info.objective) for info in told]).all()
    weights = np.asarray(method.estimate(passed[-1]).weights)
    assert weights[3] == 0
    assert np.delete(weights, 3).min() > 0.01
    others = problem._replace(observations=jnp.delete(problem.observations, 3, axis=0))
    without, ends = states(posterior_npmle(others, n_support=49, n_candidates=2, n_refinements=8), 49 + 8 + 1 + 5)
    np.testing.assert_allclose(np.delete(weights, 3), without[-1].weights, atol=1e-4)
    assert float(told[-1].objective) == pytest.approx(float(ends[-1].objective), abs=1e-4)


def test_the_search_keeps_the_best_structures_each_in_its_best_pose(x64):
    problem, _, _ = seen_under_an_angle()
    method = posterior_npmle(problem, n_support=25, n_candidates=4, n_refinements=1)
    passed, told = states(method, 25)
    axis = np.linspace(-3, 3, 5)
    bank = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    angles = np.asarray(problem.pose_quadrature(1)[0]["angle"])
    images = np.stack([np.asarray(turned(jnp.asarray(bank), jnp.full(25, angle))) for angle in angles], axis=1)
    misfits = 0.5 * ((np.asarray(problem.observations)[:, None, None] - images) ** 2).sum(3) / SIGMA**2
    best_pose = misfits.min(2)
    kept = np.sort(best_pose, axis=1)[:, :4]
    state = passed[-1]
    order = np.asarray(state.misfit).reshape(80, 4).argsort(1)
    np.testing.assert_allclose(np.take_along_axis(np.asarray(state.misfit).reshape(80, 4), order, 1), kept, rtol=1e-9)
    structure = best_pose.argsort(1)[:, :4]
    found = np.take_along_axis(np.asarray(state.theta).reshape(80, 4, 2), order[..., None], 1)
    np.testing.assert_array_equal(found, bank[structure])
    angle = np.take_along_axis(np.asarray(state.pose["angle"]).reshape(80, 4), order, 1)
    expected = angles[np.take_along_axis(misfits.argmin(2), structure, 1)]
    np.testing.assert_array_equal(angle, expected)
    assert float(told[-1].objective) == pytest.approx(kept[:, 0].mean())
    assert {int(info.forward_evaluations) for info in told} == {3}


def test_structures_stay_in_the_box(x64):
    """Least squares of most images lie outside of this one."""
    problem, matrix = linear(half_width=0.5)
    outside = np.abs(np.linalg.lstsq(matrix, np.asarray(problem.observations).T)[0]).max(0) > 0.5
    assert outside.mean() > 0.5
    passed, _ = states(posterior_npmle(problem, n_support=9, n_candidates=2, n_refinements=8), 9 + 8 + 3)
    for state in passed:
        assert float(jnp.abs(state.theta).max()) <= 0.5
    best = np.asarray(passed[-1].theta).reshape(60, 2, 2)[outside]
    np.testing.assert_allclose(np.abs(best).max(2), 0.5)


def test_candidates_that_were_never_found_do_no_harm():
    """Four structures for six places, in float32: what fills them up is no image's best before it is refined."""
    problem, _, _ = seen_under_an_angle()
    method = posterior_npmle(problem, n_support=4, n_candidates=6, n_refinements=8)
    passed, told = states(method, 4 + 8 + 1 + 10)
    objectives = np.array([float(info.objective) for info in told])
    for state in passed:
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))
    found = np.asarray(passed[4].misfit).reshape(80, 6) < 1e30
    assert found.sum(1).tolist() == [4] * 80
    image = np.asarray(problem.render(passed[4].theta, passed[4].pose)).reshape(80, 6, 4)
    misfit = 0.5 * ((np.asarray(problem.observations)[:, None] - image) ** 2).sum(2) / SIGMA**2
    best = np.where(found, misfit, np.inf)
    assert objectives[3] == pytest.approx(best.min(1).mean(), rel=1e-4)
    structures = np.asarray(passed[4].theta).reshape(80, 6, 2)[np.arange(80), best.argmin(1)]
    np.testing.assert_array_equal(method.estimate(passed[4]).theta, structures)
    assert float(passed[-1].misfit.max()) < 1e30
    assert np.diff(objectives[13:]).max() <= 1e-5
    assert float(method.estimate(passed[-1]).weights.sum()) == pytest.approx(1.0, abs=1e-5)
    # three poses; a candidate, its Jacobian of 2 + 1 columns, and a trial
    calls = [int(info.forward_evaluations) for info in told]
    assert calls == [3] * 4 + [480 * 5] * 8 + [480 * 4] + [0] * 10


@pytest.mark.slow
def test_a_protein_in_float32():
    problem = DATASETS["adk"](**SMALL_ADK).problem
    method = posterior_npmle(problem, n_support=6, n_candidates=2, n_refinements=5)
    passed, told = states(method, 6 + 5 + 1 + 3)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(passed[-1]))
    objectives = np.array([float(info.objective) for info in told])
    assert np.isfinite(objectives).all()
    assert np.diff(objectives[:12]).max() <= 1e-5 * objectives[0]
    assert objectives[10] < 0.9 * objectives[5] < 0.9 * objectives[0]
    assert np.diff(objectives[12:]).max() <= 1e-5
    theta, weights = method.estimate(passed[-1])
    assert theta.shape == (20, 4)
    assert float(jnp.abs(theta).max()) <= 14
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_support": 0}, "n_support is 0; wanted a whole number >= 1"),
        ({"quadrature_order": 0}, "quadrature_order is 0; wanted a whole number >= 1"),
        ({"n_candidates": 0}, "n_candidates is 0; wanted a whole number >= 1"),
        ({"n_refinements": -1}, "n_refinements is -1; wanted a whole number >= 1"),
    ],
)
def test_counts_below_one_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        posterior_npmle(linear()[0], **options)


def test_a_problem_without_a_box_is_refused(toys):
    with pytest.raises(ValueError, match="problem 'parabola' has no theta_box"):
        posterior_npmle(toys["parabola"]())
