"""The contract check passes our problems, and finds and names each break of one."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench.app import cli
from cryosip.bench.check import contract_problems, run
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.registry import DATASETS

OURS = ["adk", "hsp90", "inverse-kinematics", "nanocluster", "oned", "slcp", "two-moons"]
ONED = DATASETS["oned"]
CALLS = itertools.count()


def findings(part):
    """What one part of the contract says of the problem "mine"."""
    ((names, check),) = (
        area for title, area in contract_problems.of_problem("mine").items() if title == f"mine: {part}"
    )
    return [found for name in names for found in run._findings(name, check)]


def changed(problem=lambda p, t: {}, truth=lambda p, t: {}):
    """oned with other fields of its problem and of its truth."""

    @functools.wraps(ONED)
    def mine(**options):
        instance = ONED(**options)
        p, t = instance.problem, instance.truth
        return instance._replace(problem=p._replace(**problem(p, t)), truth=t._replace(**truth(p, t)))

    return mine


@pytest.mark.parametrize("part", contract_problems.PARTS)
def test_oned_keeps_the_contract(part, monkeypatch):
    monkeypatch.setitem(DATASETS, "mine", changed())
    found = findings(part)
    assert found
    assert [(f.what, f.number, f.error) for f in found if not f.passed] == []
    assert [f.what for f in found if f.unchecked] == (
        ["mine: no square images with a shift in their poses: pixel order"] if part == "pixel order" else []
    )


def test_a_right_likelihood_keeps_the_contract(monkeypatch):
    monkeypatch.setitem(DATASETS, "mine", changed(gaussian(1.5)))
    assert [(f.what, f.number) for f in findings("likelihood and identifiable points") if not f.passed] == []


def seedless(n_observations=400, noise_std=1.5):
    return ONED(n_observations=n_observations, noise_std=noise_std)


def one_seed(**options):
    return ONED(**options | {"seed": 0})


@jax.custom_jvp
def flat(theta):
    return theta


flat.defjvp(lambda primals, tangents: (primals[0], 1.001 * tangents[0]))


def poses(sample, nodes=2):
    """Fields of a problem with an angle that changes nothing."""
    return lambda p, t: {
        "sample_pose": sample,
        "pose_quadrature": lambda order: ((jnp.zeros(nodes),), jnp.full(2, 0.5)),
        "render": lambda theta, pose: theta + 0 * pose[0][:, None],
    }


def angles(p, t):
    return {"pose": (jnp.zeros(len(t.theta)),)}


def gaussian(std):
    """The likelihood of oned with noise of that std, which is 1.5."""
    return lambda p, _t: {"log_likelihood": lambda theta, i: -0.5 * ((p.observations[i] - theta)[:, 0] / std) ** 2}


# the part of the contract, what the finding says, and the problem
LIKELIHOOD = "likelihood and identifiable points"
BREAKS = {
    "a likelihood of less noise": (  # which needs more observations than others to be found
        LIKELIHOOD,
        "mean ratio of likelihoods",
        functools.wraps(ONED)(lambda **o: changed(gaussian(0.75))(**o | {"n_observations": 2_000})),
    ),
    "a likelihood of other images": (
        LIKELIHOOD,
        "truth less structures of other images",
        changed(lambda p, t: {"log_likelihood": lambda theta, i: gaussian(1.5)(p, t)["log_likelihood"](theta, i - 1)}),
    ),
    "a likelihood of other rows": (
        LIKELIHOOD,
        "row i of log_likelihood",
        changed(lambda p, t: {"log_likelihood": lambda theta, i: theta[0] * jnp.ones(len(i))}),
    ),
    "structures that images tell apart at one point": (
        LIKELIHOOD,
        "images of structures with one point",
        changed(truth=lambda p, t: {"identifiable": jnp.abs}),
    ),
    "no seed": ("shapes", "it has no seed", seedless),
    "no name": ("shapes", "name of the problem", changed(lambda p, t: {"name": ""})),
    "a list for an instance": ("shapes", "list", functools.wraps(ONED)(lambda **o: list(ONED(**o)))),
    "a prior of another shape": (
        "shapes",
        r"shape of log_prior is \(16,\): it is \(16, 1\)",
        changed(lambda p, t: {"log_prior": lambda theta: theta}),
    ),
    "a truth of another dimension": (
        "shapes",
        "shape of truth.sample",
        changed(truth=lambda p, t: {"sample": lambda key, n: t.sample(key, n)[:, 0]}),
    ),
    "images that are not finite": (
        "shapes",
        "render: numbers that are not finite",
        changed(lambda p, t: {"render": lambda theta, pose: theta / 0}),
    ),
    "a box of half the parameters": (
        "shapes",
        "structures .* in theta_box",
        changed(lambda p, t: {"theta_box": (jnp.zeros(1), p.theta_box[1])}),
    ),
    "a box upside down": ("shapes", "lower < upper", changed(lambda p, t: {"theta_box": p.theta_box[::-1]})),
    "weights of nodes that sum to 2": (
        "poses",
        "weights sum to 1",
        changed(lambda p, t: {"pose_quadrature": lambda order: ((), 2 * jnp.ones(1))}),
    ),
    "poses that the key does not decide": (
        "poses",
        "sample_pose, called again",
        changed(poses(lambda key, n: (jnp.full(n, next(CALLS)),)), angles),
    ),
    "one pose too many": (
        "poses",
        "leading axis of sample_pose",
        changed(poses(lambda key, n: (jnp.zeros(n + 1),)), angles),
    ),
    "nodes without weights": (
        "poses",
        "leading axis of the nodes",
        changed(poses(lambda key, n: (jnp.zeros(n),), nodes=3), angles),
    ),
    "a truth without poses": ("poses", "truth.pose is formed", changed(poses(lambda key, n: (jnp.zeros(n),)))),
    "a render that counts": (
        "purity and determinism",
        "render, called again",
        changed(lambda p, t: {"render": lambda theta, pose: theta + next(CALLS)}),
    ),
    "a render of all rows together": (
        "purity and determinism",
        "row i of render",
        changed(lambda p, t: {"render": lambda theta, pose: theta - theta.mean(0)}),
    ),
    "another render under jit": (
        "purity and determinism",
        "render under jit",
        changed(lambda p, t: {"render": lambda theta, pose: theta + isinstance(theta, jax.core.Tracer)}),
    ),
    "a seed that does nothing": (
        "purity and determinism",
        "another seed",
        functools.wraps(ONED)(one_seed),
    ),
    "data of nobody's seed": (
        "purity and determinism",
        "observations of the same seed",
        functools.wraps(ONED)(lambda **o: ONED(**o | {"seed": next(CALLS)})),
    ),
    "a problem that holds the truth": (
        "holds nothing of the truth",
        "holds nothing of the truth: it holds",
        changed(lambda p, t: {"log_prior": lambda theta: 0 * t.theta.sum() + theta[:, 0]}),
    ),
    "data without noise": (
        "holds nothing of the truth",
        "without noise",
        changed(lambda p, t: {"observations": t.theta + 0.0}),
    ),
    "a derivative off": (
        "gradient of render",
        "gradient of render",
        changed(lambda p, t: {"render": lambda theta, pose: flat(theta)}),
    ),
    "a truth not behind the data": (
        "samplers against their own moments",
        "structures behind the observations",
        changed(truth=lambda p, t: {"sample": lambda key, n: 1.15 * t.sample(key, n)}),
    ),
    "a truth that the key does not decide": (
        "samplers against their own moments",
        "truth.sample, called again",
        changed(truth=lambda p, t: {"sample": lambda key, n: t.sample(jr.key(next(CALLS)), n)}),
    ),
    "quantiles off": (
        "samplers against their own moments",
        "at the quantiles",
        changed(truth=lambda p, t: {"quantile": lambda u: t.quantile(u) + 0.1}),
    ),
    "noise of another std": (
        "samplers against their own moments",
        "noise, probability",
        changed(lambda p, t: {"noise_std": 1.4 * p.noise_std}),
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_of_the_contract_is_found_and_named(name, monkeypatch):
    part, words, factory = BREAKS[name]
    monkeypatch.setitem(DATASETS, "mine", factory)
    failed = [f"{found.what}: {found.error}" for found in findings(part) if not found.passed]
    assert any(re.search(words, text) for text in failed), failed


def images_with(change):
    """Images (n, 9 * 9) of a Gaussian spot, moved by a shift of the pose, as rows along y unless changed."""

    def render(theta, pose):
        grid = jnp.arange(9.0) - 4
        x, y = (jnp.exp(-((grid - pose.shift[:, i, None]) ** 2) / (2 * (1 + i))) for i in (0, 1))
        return change(y[:, :, None] * x[:, None, :]).reshape(len(theta), -1) + theta

    return render


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda images: images, []),
        (lambda images: images.swapaxes(1, 2), ["x", "y"]),
        (lambda images: images[:, ::-1], ["y"]),
    ],
    ids=["as agreed", "columns along y", "highest y first"],
)
def test_the_order_of_pixels_is_found_by_shifts(change, failed, monkeypatch):
    def pose(key, n):
        return ProteinPose(jnp.zeros((n, 3, 3)), 0.3 * jr.normal(key, (n, 2)), jnp.zeros(n))

    fields = {"observations": jnp.zeros((400, 81)), "sample_pose": pose, "render": images_with(change)}
    monkeypatch.setitem(DATASETS, "mine", changed(lambda p, t: fields))
    found = findings("pixel order")
    assert [f.what for f in found if not f.passed] == [f"correlation along {axis}" for axis in failed]
    assert len(found) == 2
    assert all(np.isfinite(f.number) for f in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_all_problems_of_ours_keep_the_contract(name):
    """By the command."""
    result = CliRunner().invoke(cli.app, ["check", "--problem", name], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    assert "all passed" in result.output


def test_the_command_says_what_failed(monkeypatch):
    monkeypatch.setattr(contract_problems, "PARTS", {"shapes": contract_problems.PARTS["shapes"]})
    monkeypatch.setitem(DATASETS, "mine", changed(lambda p, t: {"name": ""}))
    result = CliRunner().invoke(cli.app, ["check", "--problem", "mine"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 1, result.output
    assert re.search(r"name of the problem.* FAILED", result.output)
    assert result.output.splitlines()[-1].endswith("1 FAILED")
