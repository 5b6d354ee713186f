"""EM never lowers the penalised likelihood of (3.5), and both solvers minimise what (3.5) says."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.special

from cryosip.datasets.nanocluster import nanocluster
from cryosip.methods import expectation, likelihood, pose_search
from cryosip.methods import mixture as module
from cryosip.methods.mixture import mixture
from cryosip.methods.problem import Problem, no_pose, one_node

NARROW = ((0.3, 0.0), (0.0, 0.3))


def reference_objective(problem, state, prior_weight, sigma):
    """(3.5) without its constant log K, in numpy, one loop after the other."""
    theta, weights = state.theta, np.asarray(state.weights)
    pose, pose_weights = problem.pose_quadrature(1)
    y, total = np.asarray(problem.observations), np.zeros((len(problem.observations), len(theta), len(pose_weights)))
    for k in range(len(theta)):
        for q, mass in enumerate(np.asarray(pose_weights)):
            image = np.asarray(problem.render(theta[k : k + 1], jax.tree.map(lambda a, q=q: a[q : q + 1], pose)))
            total[:, k, q] = np.log(weights[k] * mass) - 0.5 * ((y - image) ** 2).sum(1) / sigma**2
    log_likelihood = scipy.special.logsumexp(total, axis=(1, 2)).mean()
    return -log_likelihood - prior_weight / len(theta) * float(problem.log_prior(theta).sum())


def reference_objective_in_jax(problem, theta, prior_weight):
    """The same with equal weights, for jax.grad."""
    pose, pose_weights = problem.pose_quadrature(1)

    def at(one_pose, one_theta):
        image = problem.render(one_theta[None], jax.tree.map(lambda a: a[None], one_pose))[0]
        return -0.5 * ((problem.observations - image) ** 2).sum(1) / problem.noise_std**2

    over_poses = jax.vmap(at, (0, None)) if jax.tree.leaves(pose) else lambda _pose, t: at((), t)[None]
    terms = jax.vmap(lambda t: over_poses(pose, t))(theta) + jnp.log(pose_weights)[:, None]
    log_likelihood = jax.nn.logsumexp(terms, axis=(0, 1)).mean() - jnp.log(len(theta))
    return -log_likelihood - prior_weight * problem.log_prior(theta).mean()


def history(method, steps, state=None):
    """Last state, and the objective before each step."""
    state = jax.jit(method.init)(jr.key(0)) if state is None else state

    def advance(state, _):
        state, info = method.step(jr.key(1), state)
        return state, info.objective

    state, objectives = jax.jit(lambda s: jax.lax.scan(advance, s, None, length=steps))(state)
    return state, np.asarray(objectives)


@pytest.mark.parametrize(
    ("toy", "prior_weight", "estimate_weights"),
    [
        ("oned", 0.0, False),
        ("parabola", 0.5, False),
        ("rotated", 0.5, True),
        pytest.param("oned", 0.5, True, marks=pytest.mark.slow),
        pytest.param("parabola", 0.0, True, marks=pytest.mark.slow),
        pytest.param("rotated", 0.0, False, marks=pytest.mark.slow),
    ],
)
def test_em_never_lowers_the_penalised_likelihood(x64, toys, toy, prior_weight, estimate_weights):
    problem = toys[toy]()
    method = mixture(problem, 6, prior_weight=prior_weight, estimate_weights=estimate_weights)
    state, objectives = history(method, 60)
    assert np.diff(objectives).max() <= 1e-10
    assert objectives[0] - objectives[-1] > 0.01
    before_last, _ = history(method, 59)
    expected = reference_objective(problem, before_last, prior_weight, problem.noise_std)
    assert float(objectives[-1]) == pytest.approx(expected, abs=1e-10)
    assert estimate_weights == (float(jnp.ptp(state.weights)) > 1e-3)


def test_em_never_lowers_it_where_full_steps_overshoot(x64, toys):
    """y = theta^2 is flat at 0, so that a Gauss-Newton step from there goes far beyond and must be halved."""
    parabola = toys["parabola"]()
    square = parabola._replace(observations=parabola.observations[:, 1:], render=lambda theta, _pose: theta**2)
    method = mixture(square, 3)
    start = jax.jit(method.init)(jr.key(0))._replace(theta=jnp.array([[0.01], [-0.02], [8.0]]))
    _, objectives = history(method, 80, start)
    assert np.diff(objectives).max() <= 1e-10


@pytest.mark.parametrize(("solver", "renders"), [("em", None), ("gradient", 0)])
def test_forward_evaluations_count_components_times_poses(toys, solver, renders):
    """EM adds one render for each direction of its Jacobian and for each trial of its step."""
    method = mixture(toys["rotated"](), 4, solver=solver)
    calls = int(jax.jit(method.step)(jr.key(1), jax.jit(method.init)(jr.key(0)))[1].forward_evaluations)
    assert calls == 4 * 3 if renders == 0 else (calls >= 4 * 3 * (1 + 2 + 1) and calls % 12 == 0)


@pytest.mark.parametrize("prior_weight", [0.0, 0.7])
def test_one_component_goes_to_the_analytic_maximum(x64, toys, prior_weight):
    """argmin (y - theta)^2 / (2 sigma^2) + lambda theta^2 / 2 for the prior N(0, 1) of the 1D system, in one step."""
    problem = toys["oned"]()
    precision = 1 / problem.noise_std**2
    expected = precision * float(problem.observations.mean()) / (precision + prior_weight)
    for steps, error in ((1, 1e-5), (5, 1e-12)):  # the ridge keeps 1e-6 of the way
        state, _ = history(mixture(problem, 1, prior_weight=prior_weight), steps)
        assert float(state.theta[0, 0]) == pytest.approx(expected, abs=error)


@pytest.mark.parametrize(("toy", "prior_weight"), [("oned", 0.5), ("parabola", 0.5), ("rotated", 0.0)])
def test_the_gradient_solver_follows_the_gradient(x64, toys, toy, prior_weight):
    problem = toys[toy]()
    method = mixture(problem, 3, "gradient", optax.sgd(1.0), prior_weight)
    state = jax.jit(method.init)(jr.key(2))
    followed = state.theta - jax.jit(method.step)(jr.key(1), state)[0].theta
    expected = jax.jit(jax.grad(lambda t: reference_objective_in_jax(problem, t, prior_weight)))(state.theta)
    np.testing.assert_allclose(followed, expected, atol=1e-12)


@pytest.mark.parametrize("toy", [pytest.param("oned", marks=pytest.mark.slow), "rotated"])
def test_both_solvers_reach_the_same_objective(x64, toys, toy):
    problem = toys[toy]()
    em, gradient = mixture(problem, 2), mixture(problem, 2, "gradient", optax.adam(0.02))
    (em_state, by_em), (gradient_state, by_gradient) = history(em, 300), history(gradient, 3_000)
    assert by_gradient[-1] == pytest.approx(by_em[-1], abs=1e-6)
    np.testing.assert_allclose(np.sort(em_state.theta, 0), np.sort(gradient_state.theta, 0), atol=1e-3)


def test_annealing_lowers_sigma_geometrically(x64, toys, monkeypatch):
    """sigma * factor at first, sigma after `steps`, and equal ratios between."""
    monkeypatch.setattr(module, "JITTER", 0.0)
    problem = toys["parabola"]()
    method = mixture(problem, 3, anneal=(5.0, 10))
    step, start = jax.jit(method.step), jax.jit(method.init)(jr.key(0))
    for n_steps in (0, 3, 10, 11, 500):
        state = start._replace(n_steps=jnp.asarray(n_steps, jnp.int32))
        after, info = step(jr.key(1), state)
        sigma = problem.noise_std * 5.0 ** max(0.0, 1 - n_steps / 10)
        assert float(info.objective) == pytest.approx(reference_objective(problem, state, 0.0, sigma), abs=1e-10)
        assert int(after.n_steps) == n_steps + 1


def test_annealing_parts_components_that_met(toys):
    """Only while it lasts, by a hundredth of the spread of the initial law, from the key of the step."""
    method = mixture(toys["oned"](), 50, anneal=(1.2, 10))
    step, start = jax.jit(method.step), jax.jit(method.init)(jr.key(0))._replace(theta=jnp.full((50, 1), 0.5))
    parted, other = (step(jr.key(k), start)[0].theta for k in (1, 2))
    assert min(parted.std(), other.std()) > 1e-3
    assert not np.array_equal(parted, other)
    after = step(jr.key(1), start._replace(n_steps=jnp.asarray(10, jnp.int32)))[0].theta
    assert float(jnp.ptp(after)) == pytest.approx(0.0, abs=1e-5)
    plain = jax.jit(mixture(toys["oned"](), 50).step)(jr.key(1), start)[0].theta
    assert float(jnp.ptp(plain)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("toy", "estimate_weights", "solver"),
    [
        ("parabola", True, "gradient"),
        ("rotated", True, "em"),
        pytest.param("oned", True, "em", marks=pytest.mark.slow),
        pytest.param("parabola", False, "em", marks=pytest.mark.slow),
        pytest.param("rotated", False, "gradient", marks=pytest.mark.slow),
    ],
)
def test_components_without_observations_stay_finite(toys, toy, estimate_weights, solver):
    """In float32 the mass of what lies far away underflows to zero; two components that agree share theirs."""
    problem = toys[toy]()
    method = mixture(problem, 5, solver, estimate_weights=estimate_weights)
    d = jax.jit(method.init)(jr.key(0)).theta.shape[1]
    theta = jnp.array([[1e3], [-40.0], [0.3], [0.3], [12.0]]) * jnp.ones((1, d))
    start = jax.jit(method.init)(jr.key(0))._replace(theta=theta)
    state, objectives = history(method, 10, start)
    assert bool(jnp.isfinite(state.theta).all())
    assert float(state.weights.sum()) == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite(objectives).all()
    if solver == "em":
        # a mean over 150 observations in float32
        assert np.diff(objectives).max() <= 150 * np.finfo(np.float32).eps * abs(objectives[0])


def test_all_components_far_from_all_observations_come_back(toys):
    """Where every exp(-|y - x|^2 / (2 sigma^2)) is zero in float32, the shares still sum to one."""
    problem = toys["oned"]()
    method = mixture(problem, 2)
    state, objectives = history(
        method, 5, jax.jit(method.init)(jr.key(0))._replace(theta=jnp.array([[300.0], [300.5]]))
    )
    assert np.isfinite(objectives).all()
    assert float(problem.observations.min()) < float(state.theta.min()) < float(problem.observations.max())


@pytest.mark.parametrize("tile", [1, 7, 10**9])
def test_tiles_do_not_change_the_sums(x64, toys, tile, monkeypatch):
    """150 observations in tiles of 1, of 7 with a rest, and all at once."""
    problem = toys["rotated"]()
    theta, y = problem.sample_init(jr.key(0), 12), problem.observations
    log_weights = jnp.log(jnp.full((4, 3), 1 / 12))
    monkeypatch.setattr(likelihood, "TILE", tile * 12)
    moments = likelihood.e_step(y, theta, log_weights, 0.3)
    logits = log_weights.reshape(-1) - 0.5 * ((y[:, None] - theta) ** 2).sum(2) / 0.3**2
    share = scipy.special.softmax(np.asarray(logits), axis=1)
    assert float(moments.log_likelihood) == pytest.approx(scipy.special.logsumexp(logits, axis=1).mean(), rel=1e-12)
    np.testing.assert_allclose(moments.mass.reshape(-1), share.mean(0), atol=1e-13)
    np.testing.assert_allclose(moments.total.reshape(12, 2), share.T @ np.asarray(y) / len(y), atol=1e-13)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_components": 0}, "n_components is 0; wanted a whole number >= 1"),
        ({"solver": "gradients"}, "solver is 'gradients'; wanted one of 'em', 'gradient'; did you mean 'gradient'"),
        ({"prior_weight": -1.0}, "prior_weight is -1.0; wanted a finite number >= 0"),
        ({"prior_weight": float("nan")}, "prior_weight is nan"),
        ({"optimizer": optax.adam(0.1)}, "optimizer is given with solver 'em'; wanted none, or solver 'gradient'"),
        ({"anneal": (0.5, 10)}, "anneal factor is 0.5; wanted a number >= 1"),
        ({"anneal": (-1.0, 10)}, "anneal factor is -1.0"),
        ({"anneal": (2.0, 0)}, "anneal steps is 0"),
        ({"quadrature_order": 0}, "quadrature_order is 0"),
        ({"estimate_noise": True, "anneal": (2.0, 10)}, r"estimate_noise is given with anneal \(2.0, 10\); wanted one"),
    ],
)
def test_bad_input_is_refused(options, says, tiny):
    with pytest.raises(ValueError, match=says):
        mixture(tiny.problem, **{"n_components": 2, **options})


@pytest.mark.parametrize("anneal", [None, pytest.param((4.0, 3), marks=pytest.mark.slow)])
def test_the_span_changes_nothing_but_the_work(x64, anneal):
    """EM on coordinates takes the steps of EM on pixels, to the error of the span."""
    problem = nanocluster(80, image_size=24, tau=0.5, noise_std=0.2, seed=4).problem
    pixels = mixture(problem._replace(span=None), 12, anneal=anneal)
    span = mixture(problem, 12, anneal=anneal)
    (expected, by_pixels), (found, by_span) = history(pixels, 5), history(span, 5)
    np.testing.assert_allclose(found.theta, expected.theta, atol=0.01)
    if anneal is None:
        constant = by_pixels - by_span
        np.testing.assert_allclose(constant, constant[0], atol=0.2)
        assert constant[0] > 1  # what the observations hold outside of the span
        assert np.ptp(by_pixels) > 1


def test_components_that_cannot_be_seen_do_not_run_away():
    """Outside of the image the linear model promises much for steps to anywhere, and nothing comes of them."""
    problem = nanocluster(80, image_size=24, tau=0.5, seed=4).problem
    method = mixture(problem, 6, anneal=(20.0, 30))
    theta = jnp.array([[4.0, 4.0], [5.0, 5.0], [9.9, 9.9], [11.0, 3.0], [13.0, 13.0], [30.0, 30.0]])
    state, objectives = history(method, 40, jax.jit(method.init)(jr.key(0))._replace(theta=theta))
    assert float(jnp.abs(state.theta).max()) < 40
    assert np.isfinite(objectives).all()


@pytest.mark.slow
def test_annealing_frees_what_plain_em_traps():
    """From one corner, plain EM leaves the far mode to a few components; with annealing the shares come out right."""
    problem = nanocluster(400, image_size=32, tau=0.5, seed=6, init_mean=(3.0, 3.0), init_covariance=NARROW).problem
    plain, _ = history(mixture(problem, 100), 120)
    annealed, _ = history(mixture(problem, 100, anneal=(10.0, 100)), 120)
    share = [float((state.theta.sum(1) > 8).mean()) for state in (plain, annealed)]
    assert share[1] == pytest.approx(0.8, abs=0.1)
    assert abs(share[0] - 0.8) > abs(share[1] - 0.8)


def halved(order):
    """3 * 2^order cells of [-0.6, 0.6], each halved by the next order."""
    n = 3 * 2**order
    return {"angle": 1.2 * (jnp.arange(n) + 0.5) / n - 0.6}, jnp.full(n, 1 / n)


@pytest.mark.parametrize(("toy", "estimate_weights"), [("oned", True), ("parabola", False)])
def test_refined_poses_change_nothing_where_there_are_none(x64, toys, toy, estimate_weights, monkeypatch):
    monkeypatch.setattr(pose_search, "KEPT_MASS", 2.0)  # no component is too light for the second pass
    problem = toys[toy]()
    options = {"prior_weight": 0.3, "estimate_weights": estimate_weights}
    expected, before = history(mixture(problem, 6, **options), 20)
    found, objectives = history(mixture(problem, 6, refine_poses=True, **options), 20)
    np.testing.assert_allclose(objectives, before, atol=1e-11)
    np.testing.assert_allclose(found.theta, expected.theta, atol=1e-9)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-10)


def test_refined_poses_are_those_of_the_next_order_where_none_is_left_out(x64, toys, monkeypatch):
    monkeypatch.setattr(pose_search, "KEPT_MASS", 2.0)
    monkeypatch.setattr(expectation, "SURVIVORS", 100)
    problem = toys["rotated"]()._replace(pose_quadrature=halved)
    options = {"estimate_weights": True, "estimate_noise": True}
    expected, before = history(mixture(problem, 3, quadrature_order=2, **options), 25)
    found, objectives = history(mixture(problem, 3, refine_poses=True, **options), 25)
    np.testing.assert_allclose(objectives, before, atol=1e-11)
    np.testing.assert_allclose(found.theta, expected.theta, atol=1e-9)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-10)
    assert float(found.variance) == pytest.approx(float(expected.variance), rel=1e-9)
    assert np.diff(objectives).max() <= 1e-10


def test_em_with_refined_poses_hardly_ever_rises(x64, toys):
    """Eight nodes an image hold nearly all; which of them hold 0.999 of the mass changes from step to step."""
    problem = toys["rotated"]()._replace(pose_quadrature=halved)
    method = mixture(problem, 2, refine_poses=True, estimate_weights=True)
    state, objectives = history(method, 60)
    assert np.diff(objectives).max() <= 1e-4
    assert objectives[0] - objectives[-1] > 0.1
    exhaustive, exact = history(mixture(problem, 2, quadrature_order=2, estimate_weights=True), 60)
    assert objectives[-1] == pytest.approx(exact[-1], abs=5e-3)
    np.testing.assert_allclose(np.sort(state.theta, 0), np.sort(exhaustive.theta, 0), atol=0.05)


def two_classes(m, guess):
    """y = A theta_k + noise of std 0.3 in five coordinates, two structures; `guess` is what the fit is told."""
    rng = np.random.default_rng(8)
    rows = jnp.asarray(rng.normal(size=(2, 5)))
    theta = np.array([[2.0, -1.0], [-1.5, 1.0]])[(rng.random(m) < 0.3).astype(int)]
    return Problem(
        name="two-classes",
        observations=jnp.asarray(theta @ np.asarray(rows) + 0.3 * rng.normal(size=(m, 5))),
        noise_std=guess,
        render=lambda theta, _pose: jnp.matmul(theta, rows, precision="highest"),
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=lambda key, n: 2 * jr.normal(key, (n, 2)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1),
    )


@pytest.mark.parametrize(("guess", "refine_poses"), [(0.1, False), (1.0, True)])
def test_the_noise_is_estimated(x64, guess, refine_poses):
    """From a guess three times off; the std of sigma-hat from m p numbers is sigma / sqrt(2 m p)."""
    problem = two_classes(400, guess)
    method = mixture(problem, 2, estimate_noise=True, estimate_weights=True, refine_poses=refine_poses)
    state, objectives = history(method, 60)
    assert abs(float(jnp.sqrt(state.variance)) - 0.3) < 5 * 0.3 / np.sqrt(2 * 400 * 5)
    assert np.diff(objectives).max() <= 1e-10
    assert sorted(np.asarray(state.weights)) == pytest.approx([0.3, 0.7], abs=5 * np.sqrt(0.3 * 0.7 / 400))
    before, _ = history(method, 59)
    sigma = float(jnp.sqrt(before.variance))
    expected = reference_objective(problem, before, 0.0, sigma) + 5 * np.log(sigma / guess)
    assert float(objectives[-1]) == pytest.approx(expected, abs=1e-9)


def test_em_that_estimates_the_noise_never_rises_with_poses(x64, toys):
    """Three nodes for a continuous angle: sigma covers what they miss."""
    problem = toys["rotated"]()._replace(noise_std=0.1)
    method = mixture(problem, 3, estimate_noise=True, prior_weight=0.2)
    state, objectives = history(method, 60)
    assert np.diff(objectives).max() <= 1e-10
    assert 0.2 < float(jnp.sqrt(state.variance)) < 0.6
