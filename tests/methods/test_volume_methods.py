"""What looks for whole volumes: one least-squares problem behind all, and methods that find what is there."""

from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench import metrics
from cryosip.bench.build import build_method
from cryosip.datasets.registry import DATASETS
from cryosip.methods import kernel_regression, latents, volumes
from cryosip.methods.class3d import class3d
from cryosip.methods.classes import log_joint
from cryosip.methods.covariance import covariance, projected_covariance
from cryosip.methods.method import WeightedPoints
from cryosip.methods.spectral_volumes import smoothest
from cryosip.methods.variability import priors, variability

IMAGES = {
    "image_size": 12, "pixel_size_in_angstroms": 13.0, "atom_std_in_angstroms": 9.0, "atoms_per_bead": 4,
    "volume_size": 10, "snr": 1.0,
}  # fmt: skip
VOLUME_METHODS = ("autoencoder", "class3d", "covariance", "spectral-volumes", "variability")
SMALL = {"spectral-volumes": {"n_eigenvectors": 3, "n_neighbours": 6, "variability_steps": 2}}
pytestmark = pytest.mark.filterwarnings("ignore:volume_size")


@cache
def made(n=40, **options):
    return DATASETS["adk-volumes"](n_observations=n, pose_error_in_degrees=0.0, **IMAGES | options)


def seen(n=40):
    return volumes.views(made(n).problem, "a test")


def dense(views):
    """P_i of each image as a matrix (m, r, v), the ball included."""
    blank = jnp.zeros((1, len(views.volumes.shells)), views.y.dtype)
    return np.asarray(jax.jacobian(lambda c: volumes.project_all(views, c)[0])(blank)[:, :, 0], float)


def run(method, steps, key=0):
    state, step, objectives = jax.jit(method.init)(jr.key(key)), jax.jit(method.step), []
    for t in range(steps):
        state, info = step(jr.fold_in(jr.key(key), t), state)
        objectives.append(float(info.objective))
    return state, objectives


def test_backprojection_is_the_transpose_of_projection():
    views, rng = seen(), np.random.default_rng(0)
    c = jnp.asarray(rng.normal(size=(2, len(views.volumes.shells))), views.y.dtype)
    x = jnp.asarray(rng.normal(size=(2, *views.y.shape)), views.y.dtype)
    there, back = volumes.project_all(views, c), volumes.backproject_all(views, x)
    assert float((there * x).sum()) == pytest.approx(float((c * back).sum()), rel=1e-4)


@pytest.mark.parametrize("diagonal", [True, False])
def test_least_squares_are_those_of_matrices(diagonal):
    views, rng, q = seen(), np.random.default_rng(1), 2
    m, v = len(views.y), len(views.volumes.shells)
    root = rng.normal(size=(m, q, q))
    products = root @ root.transpose(0, 2, 1)
    if diagonal:
        products = np.abs(rng.normal(size=(m, q)))
    targets = rng.normal(size=(q, *views.y.shape))
    noise, prior = 0.5 + rng.random(views.n_shells), 1.0 + rng.random((q, views.n_shells))
    start = jnp.zeros((q, v), views.y.dtype)
    arguments = (jnp.asarray(a, views.y.dtype) for a in (targets, products, noise, prior))
    found = volumes.least_squares(views, *arguments, start, 200)

    p, shells = dense(views), np.asarray(views.volumes.image_shells)
    weight = np.where(shells < views.n_shells, 1 / noise[np.minimum(shells, views.n_shells - 1)], 0.0)
    full = np.stack([np.diag(row) for row in products]) if diagonal else products
    normal = np.einsum("mkl,mrv,r,mrw->kvlw", full, p, weight, p).reshape(q * v, q * v)
    normal += np.diag((1 / prior)[:, np.asarray(views.volumes.shells)].ravel())
    right = np.einsum("kmr,r,mrv->kv", targets, weight, p)
    wanted = np.linalg.solve(normal, right.ravel()).reshape(q, v)
    np.testing.assert_allclose(found.maps, wanted, atol=2e-3 * np.abs(wanted).max())
    assert float(found.residual) < 1e-3


def test_no_iteration_of_conjugate_gradients_raises_the_sum():
    views = seen()
    ones = jnp.ones((len(views.y), 1), views.y.dtype)
    prior, noise = jnp.full((1, views.n_shells), 5.0), volumes.white(views)
    start = jr.normal(jr.key(0), (1, len(views.volumes.shells)))

    def total(maps):
        squares = (volumes.squared_residuals(views, volumes.project_all(views, maps)[0]) / noise).sum()
        return float(squares + (maps**2 / prior[:, views.volumes.shells]).sum())

    sums = [total(volumes.least_squares(views, views.y[None], ones, noise, prior, start, n).maps) for n in range(5)]
    assert all(after < before for before, after in pairwise(sums))


def test_the_correlation_of_volumes_is_that_of_each_shell():
    views = seen()
    a = jr.normal(jr.key(0), (1, len(views.volumes.shells)))
    np.testing.assert_allclose(volumes.correlation(views, a, -2 * a), -1.0, atol=1e-5)
    one_shell = jnp.where(views.volumes.shells == 2, -a, a)
    wanted = np.where(np.arange(views.n_shells) == 2, -1.0, 1.0)
    np.testing.assert_allclose(volumes.correlation(views, a, one_shell)[0], wanted, atol=1e-5)


def test_halves_of_noise_are_unlike_and_halves_of_images_alike():
    views = seen(200)
    alike = volumes.correlation(views, *volumes.consensus(views, volumes.in_halves(views))[:, None])[0]
    assert (np.asarray(alike[:3]) > 0.9).all()
    noise = views._replace(y=jr.normal(jr.key(5), views.y.shape))
    halves = volumes.consensus(noise, volumes.in_halves(noise))[:, None]
    assert abs(float(volumes.correlation(noise, *halves)[0, 1:].mean())) < 0.3
    # what is shrunk by it is next to nothing
    ratio = jnp.linalg.norm(volumes.shrunk(noise, *halves)) / jnp.linalg.norm(halves.mean(0))
    assert ratio < 0.5


def test_em_for_classes_never_lowers_the_posterior():
    problem = made().problem
    views, method = seen(), class3d(problem, 3)
    state, _ = run(method, 2)
    step, shells = jax.jit(method.step), views.volumes.shells

    def objective(now, prior):
        """-log p(y, V) / m with the prior that a step was made with."""
        squares = volumes.squared_residuals(views, volumes.project_all(views, now.maps))
        counts = volumes.image_counts(views)
        joint = jnp.log(now.weights)[:, None] - 0.5 * (squares / now.noise + counts * jnp.log(now.noise)).sum(2)
        penalty = 0.5 * (now.maps**2 / prior[:, shells]).sum()
        return float((penalty - jax.nn.logsumexp(joint, axis=0).sum()) / len(views.y))

    for t in range(5):
        after, info = step(jr.key(t), state)
        prior = 4.0 * state.prior
        assert float(info.objective) == pytest.approx(objective(state, prior), rel=1e-4)
        assert objective(after, prior) <= objective(state, prior) + 1e-3
        state = after


@pytest.mark.slow
def test_descent_reaches_what_em_reaches():
    problem, views = made(150).problem, seen(150)
    em, sgd = class3d(problem, 2), class3d(problem, 2, solver="sgd")
    found, _ = run(em, 20)
    begun, ended = sgd.init(jr.key(0)), run(sgd, 20 * 150 // 20)[0]

    def misfit(state):
        """-log p(y) / m."""
        squares = volumes.squared_residuals(views, volumes.project_all(views, state.maps))
        everywhere = state._replace(last_shell=views.n_shells)
        return -float(jax.nn.logsumexp(log_joint(views, everywhere, squares), axis=0).mean())

    first, last, best = misfit(begun.classes), misfit(ended.classes), misfit(found)
    assert last < first
    assert last - best < 0.05 * (first - best)


def test_em_for_variability_never_lowers_the_posterior():
    views, method = seen(), variability(made().problem, 2)
    state, _ = run(method, 1)
    step = jax.jit(method.step)

    def objective(now, prior):
        """-log p(y, V, W) / m with the prior that a step was made with."""
        told = latents.likelihoods(views, volumes.white(views), now.mean, now.maps)
        maps = jnp.concatenate([now.mean[None], now.maps])
        penalty = 0.5 * (maps**2 / prior[:, views.volumes.shells]).sum()
        return float((penalty - latents.posteriors(told, jnp.eye(2)).evidence.sum()) / len(views.y))

    for t in range(6):
        after, info = step(jr.key(t), state)
        prior = priors(views, state)
        assert float(info.objective) == pytest.approx(objective(state, prior), rel=1e-4)
        assert objective(after, prior) <= objective(state, prior) + 1e-3
        state = after


def test_posteriors_of_coordinates_are_those_of_a_gaussian():
    rng = np.random.default_rng(0)
    curvature, slope = np.array([[[4.0, 1.0], [1.0, 3.0]]]), rng.normal(size=(1, 2))
    told = latents.Likelihoods(*(jnp.asarray(a, jnp.float32) for a in (slope, curvature, np.zeros(1))))
    found = latents.posteriors(told, jnp.eye(2))
    wanted = np.linalg.inv(curvature[0] + np.eye(2))
    np.testing.assert_allclose(found.covariance[0], wanted, rtol=1e-5)
    np.testing.assert_allclose(found.mean[0], wanted @ slope[0], rtol=1e-5)
    # log of the integral of exp(s z - z C z / 2) N(z; 0, I)
    integral = 0.5 * (slope[0] @ wanted @ slope[0] + np.linalg.slogdet(wanted)[1])
    assert float(found.evidence[0]) == pytest.approx(integral, rel=1e-5)


def test_deconvolution_narrows_what_noise_has_widened():
    rng, points = np.random.default_rng(0), jnp.linspace(-4, 4, 81)[:, None]
    z = np.where(rng.random(800) < 0.3, -1.5, 1.5) + rng.normal(size=800)
    told = latents.Likelihoods(jnp.asarray(z[:, None]), jnp.ones((800, 1, 1)), jnp.zeros(800))
    weights = np.asarray(latents.deconvolved(told, points, 300))
    left = weights[np.asarray(points[:, 0]) < 0].sum()
    assert left == pytest.approx(0.3, abs=0.06)
    assert weights @ (np.abs(np.asarray(points[:, 0])) - 1.5) ** 2 < 0.15


def test_the_projected_covariance_is_without_the_noise():
    rng, true = np.random.default_rng(0), np.diag([4.0, 1.0])
    p = rng.normal(size=(20_000, 6, 2))
    z = rng.normal(size=(20_000, 2)) @ np.sqrt(true)
    r = np.einsum("mrk,mk->mr", p, z) + rng.normal(size=(20_000, 6))
    told = latents.Likelihoods(
        jnp.asarray(np.einsum("mrk,mr->mk", p, r)), jnp.asarray(np.einsum("mrk,mrl->mkl", p, p)), jnp.zeros(20_000)
    )
    np.testing.assert_allclose(projected_covariance(told), true, atol=0.2)


def test_the_smoothest_functions_tell_clusters_apart():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(30, 2)), np.array([20.0, 0.0]) + rng.normal(size=(50, 2))])
    found = np.asarray(smoothest(jnp.asarray(z, jnp.float32), 8, 3))
    np.testing.assert_allclose((found**2).mean(0), 1.0, rtol=1e-4)
    # no edge joins the clusters: two functions are constant on each
    assert found[:30, :2].std(0).max() < 0.05
    assert found[30:, :2].std(0).max() < 0.05


@pytest.mark.slow
def test_kernel_regression_on_a_subset_is_its_consensus():
    views, subset = seen(), jnp.arange(40) % 5 < 3
    found = kernel_regression.regressed(views, jnp.where(subset, 0.0, 1.0))
    halves = volumes.consensus(views, volumes.in_halves(views) * subset[:, None])[:, None]
    wanted = volumes.shrunk(views, *halves)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_kernels_hold_as_many_images_of_each_half():
    squares = jnp.asarray(np.random.default_rng(0).random(100), jnp.float32)
    within = kernel_regression.kernels(squares, [50, 25])
    # the last one that a kernel reaches has no weight
    np.testing.assert_array_equal(np.stack([(within[h::2, h] > 1e-6).sum(0) for h in (0, 1)]), [[49, 24], [49, 24]])
    assert kernel_regression.counts(103) == [103, 51, 25]
    assert kernel_regression.counts(10) == [10]


def test_representatives_are_means_of_clusters():
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    member, z = rng.integers(0, 3, 60), rng.normal(size=(60, 2))
    z, weights = z + centers[member], rng.random(60)
    found, shares = kernel_regression.representatives(jnp.asarray(z, jnp.float32), jnp.asarray(weights), 3)
    order = np.argsort(np.asarray(found).sum(1))
    means = [np.average(z[member == k], axis=0, weights=weights[member == k]) for k in range(3)]
    np.testing.assert_allclose(np.asarray(found)[order], means, atol=1e-4)
    wanted = [weights[member == k].sum() / weights.sum() for k in range(3)]
    np.testing.assert_allclose(np.asarray(shares)[order], wanted, atol=1e-5)


@pytest.mark.parametrize("name", VOLUME_METHODS)
def test_volumes_of_images_are_nearer_than_the_consensus(name):
    instance = made(150)
    method = build_method(instance.problem, name, SMALL.get(name, {}) | {"n_components": 2})
    steps = {"autoencoder": 500, "class3d": 12, "covariance": 4, "spectral-volumes": 6, "variability": 8}[name]
    state, _ = run(method, steps)
    true = np.asarray(instance.truth.theta)[:, 1:]
    given = np.asarray(method.per_image(state))[:, 1:]
    spread = np.sqrt(((true - true.mean(0)) ** 2).sum(1).mean())
    assert np.sqrt(((given - true) ** 2).sum(1).mean()) < 0.8 * spread
    estimate = method.estimate(state)
    assert estimate.theta.shape[1] == true.shape[1] + 1
    assert float(estimate.weights.sum()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("method", [variability, covariance])
def test_each_form_of_the_distribution(method):
    problem = made().problem
    state, _ = run(method(problem, 2), 3)
    means, model, deconvolved = (method(problem, 2, d).estimate(state) for d in latents.DISTRIBUTIONS)
    np.testing.assert_array_equal(means.theta, deconvolved.theta)
    assert np.asarray(means.weights).std() < 1e-8 < np.asarray(deconvolved.weights).std()
    assert np.abs(np.asarray(model.theta) - np.asarray(means.theta)).max() > 1.0


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"distribution": "density"}, {"volumes": "kernel-regression"}])
def test_forms_of_recovar_are_nearer_than_the_consensus(options):
    instance = made(400)
    method = covariance(instance.problem, 2, **options)
    state, _ = run(method, 4)
    found = jax.jit(method.estimate)(state)
    true = np.asarray(instance.truth.theta)[:, 1:]
    theta, weights = np.asarray(found.theta, float)[:, 1:], np.asarray(found.weights, float)
    assert weights.sum() == pytest.approx(1.0, abs=1e-4)
    spread = np.sqrt(((true - true.mean(0)) ** 2).sum(1).mean())
    even = np.full(len(true), 1 / len(true))
    assert metrics.w2(WeightedPoints(theta, weights), WeightedPoints(true, even)) < 0.8 * spread


def test_one_volume_and_no_heterogeneity_is_the_consensus():
    problem = made(100, means=((0.0,),), std=1e-3, snr=5.0).problem
    state, _ = run(class3d(problem, 1), 5)
    views = volumes.views(problem, "a test")
    mean = volumes.consensus(views, jnp.ones((100, 1)))
    correlation = volumes.correlation(views, mean, class3d(problem, 1).estimate(state).theta)[0]
    assert (np.asarray(correlation[:3]) > 0.99).all()


@pytest.mark.parametrize("name", VOLUME_METHODS)
def test_what_offers_no_volumes_or_no_poses_is_refused(name):
    modes = DATASETS["adk"](n_observations=10, pose_error_in_degrees=0.0, **IMAGES).problem
    with pytest.raises(ValueError, match="theta of 4 numbers, and volumes of"):
        build_method(modes, name, {})
    line = DATASETS["oned"](n_observations=10).problem
    with pytest.raises(ValueError, match="offers no volumes"):
        build_method(line, name, {})
    with pytest.raises(ValueError, match="gives no poses"):
        build_method(made().problem._replace(poses=None), name, {})


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(ValueError, match="n_neighbours is 40"):
        build_method(made().problem, "spectral-volumes", {"n_neighbours": 40})
