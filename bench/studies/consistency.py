"""The four statements of section 3, each measured on data: Proposition 3.1, Lemma 3.2, Proposition 3.3 and §3.1."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import scipy.optimize

from cryosip.bench import metrics
from cryosip.bench.build import build_instance
from cryosip.bench.execute import Session
from cryosip.bench.limits import ending_after
from cryosip.bench.measure import Arrays, finite
from cryosip.bench.studies.certified import OBJECTIVES, best_particles, minimise
from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.datasets.instance import Instance, Truth
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.data_kl import data_kl
from cryosip.methods.flow import particle_flow
from cryosip.methods.likelihood import render_all
from cryosip.methods.method import Method, WeightedPoints
from cryosip.methods.mixture import mixture
from cryosip.methods.problem import Points, Problem, in_span
from cryosip.records.schema import Labels, Result, RunConfig

Measured = tuple[Result, Arrays]

CONSISTENCY_KEY = 1004  # fold_in number of a replicate's key
TAIL = 1e-9  # of the truth on either side of the interval that Proposition 3.1 searches
NODES_PER_STD = 20  # of the quadrature over y
TOLERANCE = 1e-12  # of the duality gap
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # lambda over K / N
EM_STEPS, PROBES = 2_000, 20

# nothing is tuned to the paper's law: the other has three modes and another noise
LAWS: dict[str, Options] = {
    "§4.1": {},
    "three modes": {
        "means": [-3.0, 0.0, 3.5],
        "stds": [0.4, 0.6, 0.3],
        "weights": [0.3, 0.4, 0.3],
        "noise_std": 0.8,
        "init_std": 2.0,
    },
}
IMAGES: Options = {"image_size": 32}
EULER_STEPS = {"oned": 0.5, "nanocluster": 0.02}
PRECISIONS = {"float32": False, "float64": True}


def consistency(size: Size) -> list[RunConfig]:
    """All statements; N of Proposition 3.1 goes up to ten times the observations, K of Lemma 3.2 to a fifteenth."""
    counts = [n for n in (30, 100, 300, 1_000, 3_000, 10_000, 30_000) if n <= 10 * size.n]
    particles = [2**i for i in range(12) if 15 * 2**i <= size.n]
    runs = []
    for law, options in LAWS.items():
        on_law = partial(run_on, "oned", options, 1, "consistency")
        for name in OBJECTIVES:
            labels = Labels(law, "objective", name)
            runs.append(on_law(labels, size, "large-data", 1, objective=name, counts=counts, draws=4))
            runs.append(on_law(labels, size, "particle-number", 1, objective=name, counts=particles, n_starts=1))
        modes = len(options.get("means", (0, 0)))
        runs.append(on_law(Labels(law), size, "prior-weight", 1, n_components=modes, n=min(size.n, 200)))
        runs.append(on_law(Labels(law), size, "gradient-descent", 60, n=min(size.n, 200)))
    images = run_on(
        "nanocluster", IMAGES, 1, "consistency", Labels("§4.2"), size, "gradient-descent", 60, n=min(size.n, 100)
    )
    return [*runs, images]


def measure_statement(config: RunConfig, session: Session) -> Measured:
    """What one statement says, of one replicate's data."""
    statement = STATEMENTS[checks.one_of("statement", config.method, STATEMENTS)]
    with ending_after(session.limits.seconds):
        return statement(config)


def large_data(config: RunConfig) -> Measured:
    """Proposition 3.1: min E_N - min E for N fresh observations, E the distance to their law."""
    options, truth = config.method_options, build_instance(config).truth
    noise_std = build_instance(config).problem.noise_std
    low, high = law_range(truth)
    limit = LIMITS[options["objective"]](truth, noise_std)
    rows: list[dict[str, Any]] = []
    for at, n in enumerate(options["counts"]):
        for draw in range(options["draws"]):
            y = fresh(truth, noise_std, n, (config.replicate, at, draw))
            optimum = minimise(OBJECTIVES[options["objective"]](y, noise_std, low, high), low, high, TOLERANCE)
            rows.append({"n": n, "draw": draw, "gap": optimum.value - limit, "certificate": optimum.certificate})
    return _told({"minimum": limit}, rows)


def law_range(truth: Truth) -> tuple[float, float]:
    """An interval that holds all of the truth but TAIL on either side; ValueError where it is not known on a line."""
    if truth.quantile is None:
        raise ValueError("the truth has no quantile function; wanted a problem on the line, such as 'oned'")
    low, high = truth.quantile(np.array([TAIL, 1 - TAIL]))
    return float(low), float(high)


def fresh(truth: Truth, noise_std: float, n: int, seed: tuple[int, ...]) -> np.ndarray:
    """n observations that no other draw shares."""
    rng = np.random.default_rng([CONSISTENCY_KEY, *seed])
    assert truth.quantile is not None
    return truth.quantile(rng.random(n)) + noise_std * rng.normal(size=n)


def entropy(truth: Truth, noise_std: float) -> float:
    """min E of (3.3) without a prior: -integral rho_y log(rho_y sqrt(2 pi) sigma), attained by the truth (Gibbs)."""
    theta = metrics.reference(truth).theta[:, 0]
    low, high = theta.min() - 9 * noise_std, theta.max() + 9 * noise_std
    y = np.linspace(low, high, int(np.ceil((high - low) / noise_std * NODES_PER_STD)))
    scaled = np.array([np.exp(-0.5 * ((at - theta) / noise_std) ** 2).mean() for at in y])
    density = scaled / (np.sqrt(2 * np.pi) * noise_std)
    return -float((density * np.log(scaled)).sum() * (y[1] - y[0]))


# the squared distance vanishes at the truth
LIMITS: dict[str, Callable[[Truth, float], float]] = {"likelihood": entropy, "energy": lambda _truth, _noise_std: 0.0}


def particle_number(config: RunConfig) -> Measured:
    """Lemma 3.2 and Proposition 3.3: E(rho^K) - E(rho*) on the replicate's data, and how far rho^K is from rho*."""
    options, problem = config.method_options, build_instance(config).problem
    assert problem.theta_box is not None
    low, high = (float(bound[0]) for bound in problem.theta_box)
    y = np.asarray(problem.observations, np.float64)[:, 0]
    objective = OBJECTIVES[options["objective"]](y, problem.noise_std, low, high)
    optimum = minimise(objective, low, high, TOLERANCE)
    star = WeightedPoints(optimum.theta[:, None], optimum.weights)
    found = best_particles(objective, optimum, options["counts"], low, high, options["n_starts"], config.replicate)
    rows = []
    for theta, value in found:
        law = WeightedPoints(theta[:, None], np.full(len(theta), 1 / len(theta)))
        distances = metrics.some(("w2", "energy_distance"), law, star)
        rows.append({"k": len(theta), "gap": value - optimum.value, "certificate": optimum.certificate, **distances})
    return _told({"minimum": optimum.value, "support": len(optimum.theta)}, rows)


def prior_weight(config: RunConfig) -> Measured:
    """§3.1: N L_{N,K} of (3.5) at lambda = factor K / N against the log-posterior of [kimanius2021], Eq. (2).

    `objective_difference` is the largest relative difference over random theta, in roundings of float64; `distance` the
    root mean square distance of the minimiser of (3.5), by EM, from the MAP estimate, by BFGS on the log-posterior.
    """
    n, k = config.method_options["n"], config.method_options["n_components"]
    with jax.enable_x64(True):
        problem = _first(config, n).problem
        levels = (np.arange(k) + 0.5) / k
        start = np.quantile(np.asarray(problem.observations), levels, axis=0)
        best = maximum_a_posteriori(problem, start)
        probes = np.asarray(problem.sample_init(jr.key(0), PROBES * k)).reshape(PROBES, k, -1)
        exact = np.array([negative_log_posterior(problem, theta) for theta in probes])
        rows = []
        for factor in FACTORS:
            run = em(mixture(problem, k, prior_weight=factor * k / n))
            ours = n * np.array([run(theta, 0)[1] for theta in probes])
            difference = np.abs(ours - exact).max() / np.abs(exact).max() / np.finfo(np.float64).eps
            gap = np.sort(run(start, EM_STEPS)[0], axis=0) - np.sort(best, axis=0)
            distance = float(np.sqrt((gap**2).mean()))
            rows.append({"factor": factor, "objective_difference": float(difference), "distance": distance})
    return _told({}, rows)


def negative_log_posterior(problem: Problem, theta: np.ndarray) -> float:
    """-sum_i log sum_k P(y_i | k) / K - sum_k log rho_p(theta_k), written out; no poses, constants dropped."""
    images = np.asarray(problem.render(jnp.asarray(theta), ()))
    squares = ((np.asarray(problem.observations)[:, None] - images) ** 2).sum(-1)
    evidence = np.exp(-0.5 * squares / problem.noise_std**2).mean(1)
    return -float(np.log(evidence).sum() + problem.log_prior(jnp.asarray(theta)).sum())


def maximum_a_posteriori(problem: Problem, start: np.ndarray) -> np.ndarray:
    """The minimum of the negative log-posterior next to the start, by BFGS and differences of its values."""
    found = scipy.optimize.minimize(
        lambda x: negative_log_posterior(problem, x.reshape(start.shape)),
        start.ravel(),
        jac="3-point",
        method="BFGS",
        options={"gtol": 1e-9},
    )
    return found.x.reshape(start.shape)


def em(method: Method) -> Callable[[np.ndarray, int], tuple[np.ndarray, float]]:
    """theta after so many steps of EM from a start, and the objective there."""
    key = jr.key(0)
    state = method.init(key)

    @jax.jit
    def after(theta: Points, steps: jax.Array) -> tuple[Points, jax.Array]:
        last = jax.lax.fori_loop(0, steps, lambda _, s: method.step(key, s)[0], state._replace(theta=theta))
        return last.theta, method.step(key, last)[1].objective

    def run(theta: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
        moved, value = after(jnp.asarray(theta), jnp.asarray(steps))
        return np.asarray(moved), float(value)

    return run


def gradient_descent(config: RunConfig) -> Measured:
    """§3.1: the flow of the noise-integrated KL with K = N particles against gradient descent on (3.5) with step K dt.

    The rows tell, in roundings of each precision, the largest difference of the two, and that of the flow from descent
    along the automatic derivative of (3.5) written out, over all particles, relative to the largest |theta|.
    """
    n, rate = config.method_options["n"], EULER_STEPS[config.problem]
    rows = [{"step": float(step)} for step in range(1, config.steps + 1)]
    fall = {}
    for name, wide in PRECISIONS.items():
        with jax.enable_x64(wide):
            problem = _first(config, n).problem
            flow = particle_flow(problem, data_kl(), optax.sgd(rate), n, sampling="closed-form")
            descent = mixture(problem, n, solver="gradient", optimizer=optax.sgd(n * rate))
            path, values = trajectory(flow, config.steps)
            others = {"mixture": trajectory(descent, config.steps)[0], "written": written_out(problem, n, rate, path)}
            fall[f"fall_{name}"] = float(values[0] - values[-1])
            for other, theta in others.items():
                differences = np.abs(theta - path).max((1, 2)) / np.abs(path).max() / np.finfo(path.dtype).eps
                for row, difference in zip(rows, differences, strict=True):
                    row[f"{other}_{name}"] = float(difference)
    return _told(fall, rows)


def trajectory(method: Method, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """theta (steps, k, d) after each step from the same start, and the objective before it."""

    def step(state: Any, _: Any) -> tuple[Any, tuple[Points, jax.Array]]:
        after, info = method.step(jr.key(0), state)
        return after, (after.theta, info.objective)

    theta, values = jax.lax.scan(step, method.init(jr.key(0)), length=steps)[1]
    return np.asarray(theta), np.asarray(values)


def written_out(problem: Problem, k: int, rate: float, path: np.ndarray) -> np.ndarray:
    """theta after each step of descent on (3.5) by automatic differentiation, the step K dt."""
    problem = in_span(problem)

    def objective(theta: Points) -> jax.Array:
        images = render_all(problem, theta, *_one_pose(problem))
        squares = ((problem.observations[:, None] - images) ** 2).sum(-1)
        return -jax.nn.logsumexp(-0.5 * squares / problem.noise_std**2, axis=1).mean()

    def step(theta: Points, _: Any) -> tuple[Points, Points]:
        after = theta - k * rate * jax.grad(objective)(theta)
        return after, after

    return np.asarray(jax.lax.scan(step, problem.sample_init(jr.key(0), k), length=len(path))[1])


def _one_pose(problem: Problem) -> tuple[Any, int]:
    pose, weights = problem.pose_quadrature(1)
    if len(weights) != 1:
        raise ValueError(f"problem {problem.name!r} has {len(weights)} poses; wanted one without poses")
    return pose, 1


def _first(config: RunConfig, n: int) -> Instance:
    """The instance in the precision in force, with its first n observations."""
    instance = DATASETS[config.problem](seed=config.replicate, **config.problem_options)
    return instance._replace(problem=instance.problem._replace(observations=instance.problem.observations[:n]))


def _told(values: dict[str, Any], rows: list[dict[str, Any]]) -> Measured:
    """Plain fields of a record."""
    curve = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    return Result(steps=len(rows), metrics=finite(values), curve=curve), {}


STATEMENTS: dict[str, Callable[[RunConfig], Measured]] = {
    "large-data": large_data,
    "particle-number": particle_number,
    "prior-weight": prior_weight,
    "gradient-descent": gradient_descent,
}
