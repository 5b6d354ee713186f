"""What a method may know of a problem: the observations and the random forward map, never the truth."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cryosip.methods import checks, hosts
from cryosip.methods.stored import Stored, kept, opened, seen_as

Points = Float[Array, "n d"]
Images = Float[Array, "n p"]
Observations = Float[Array, "m p"]
Coordinates = Float[Array, "n r"]
Coefficients = Float[Array, " v"]
Weights = Float[Array, " n"]
Pose = Any  # a pytree with leading axis n
PRNGKey = Key[Array, ""]
MOST_DIMENSIONS = 100  # of theta, for steps that take a derivative for each


class Span(NamedTuple):
    """Orthonormal coordinates c = B^T y of a space that holds every image of `render`, B of shape (p, r) with r << p.

    `project` takes images (n, p) to coordinates (n, r), and white noise to white noise of the same std;
    `coordinates(theta, pose)` is B^T render(theta, pose) without its pixels; no image lies further than `error` (the
    2-norm, in units of y) from it, for any theta, or where that cannot be bounded, for draws of the initial
    distribution. What observations hold outside of it, no parameter can change.
    """

    project: Callable[[Images], Coordinates]
    coordinates: Callable[[Points, Pose], Coordinates]
    error: float


class PoseMotion(NamedTuple):
    """Poses nearby: `move(pose, step)` with steps of shape (n, dimension), smooth, and the pose itself at step 0."""

    dimension: int
    move: Callable[[Pose, Float[Array, "n q"]], Pose]


class Volumes(NamedTuple):
    """Structures as densities: their images are linear in the coefficients of an orthonormal, band-limited basis.

    |c - c'| is then the L2 distance of volumes. The cube has size^3 voxels of `voxel_size` angstroms a side.
    `project(c, pose)` takes one volume (v,) and n poses to the coordinates of its images in the span (n, r), up to the
    error of its interpolation. `normal(pose, weights, precision)`, of m poses, weights (m, p) of the images and the
    precision (s,) of coordinates in each shell, gives a function that takes pairs (q, q) and volumes V (q, v) to
    sum_l sum_i weights[i, pairs[k, l]] P_i^T diag(precision) P_i V_l, P_i the projection in pose i; pairs (q,) say that
    no volume is coupled with another. It costs as much for many images as for few. `in_ball` multiplies volumes (n, v)
    by a ball that fills the cube. `shells` (v,) and `image_shells` (r,) are the spatial frequencies, in units of one
    over the width of the cube, of each coefficient and of each coordinate of an image.
    """

    size: int
    voxel_size: float
    project: Callable[[Coefficients, Pose], Coordinates]
    normal: Callable[
        [Pose, Float[Array, "m p"], Float[Array, " s"]], Callable[[Int[np.ndarray, "*q"], Points], Float[Array, "q v"]]
    ]
    in_ball: Callable[[Float[Array, "n v"]], Float[Array, "n v"]]
    shells: Int[Array, " v"]
    image_shells: Int[Array, " r"]


class Problem(NamedTuple):
    """y = T(theta, omega) = H^{omega_r} G(theta) + omega_n with omega_n ~ N(0, noise_std^2 I), (2.1) [sanchez2025].

    Images are stored row by row, rows along y, columns along x: pixel (x, y) of a square image of S^2 = p pixels is
    component y S + x of a row of `observations` and of what `render` returns, the lowest y first.

    `render` is noise-free and its row i uses pose i; `sample_pose` draws omega_r as a pytree with leading axis n, ()
    where there is none; `pose_quadrature(order)` gives the nodes and weights of the integral in (3.5), and where order
    + 1 has c times as many nodes, its rows c i ... c i + c - 1 refine row i; `log_prior` is log rho_p up to a constant.

    Optional: `theta_box`, (lower, upper) of shape (d,) each, is a box that holds theta as far as the observations tell;
    methods that need a grid ask for it. `span` is offered where all images lie in a space of few dimensions; methods
    then work there instead of on pixels. `pose_motion` is offered where poses are continuous, for methods that refine
    the pose of each image. `log_likelihood(theta, image)` of (n, d) and (n,) is log p(y_image | theta) of each pair,
    pose and noise integrated out, up to a constant that is free of theta; it is offered where it has a closed form, or
    where more is known of each image than the distribution of poses. It says the same as `render`, `sample_pose` and
    `noise_std`, which may then be 0: all noise is in the pose. Methods with a likelihood take it in place of their own.
    `support` (k, d) are structures that are given: theta is one of them. `volumes` is offered beside a span where
    methods may look for any density. `poses`, with leading axis m, are those of the observations as an earlier
    refinement left them, with its error.

    `observations` may be on disk: a memory map, or a list of them, which `checked` makes a `Stored`. Methods see it as
    they see an array, by its shape, its type and the rows `observations[rows]`, and go over all rows by the functions
    of stored.py, which take both; what can do with an array alone refuses it.
    """

    name: str
    observations: Observations
    noise_std: float
    render: Callable[[Points, Pose], Images]
    sample_pose: Callable[[PRNGKey, int], Pose]
    pose_quadrature: Callable[[int], tuple[Pose, Weights]]
    sample_init: Callable[[PRNGKey, int], Points]
    log_prior: Callable[[Points], Weights]
    theta_box: tuple[Float[Array, " d"], Float[Array, " d"]] | None = None
    span: Span | None = None
    pose_motion: PoseMotion | None = None
    log_likelihood: Callable[[Points, Int[Array, " n"]], Float[Array, " n"]] | None = None
    support: Float[Array, "k d"] | None = None
    volumes: Volumes | None = None
    poses: Pose | None = None


def no_pose(_key: PRNGKey, _n: int) -> Pose:
    """`sample_pose` of a problem that has none."""
    return ()


def one_node(_order: int) -> tuple[Pose, Weights]:
    """`pose_quadrature` of a problem that has none."""
    return (), jnp.ones(1)


def checked(problem: Problem) -> Problem:
    """The problem with floating-point observations, in memory or `Stored`.

    Raises ValueError for what is none, observations that are not finite and (m, p), p the pixels that `render` makes,
    and noise that is not positive, or where a `log_likelihood` is offered negative.
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem is a {type(problem).__name__}; wanted a Problem, such as instance.problem")
    observations: Any = opened(problem.observations)
    if not isinstance(observations, Stored):
        observations = checks.finite_rows("observations", observations)
    elif hosts.several():
        raise ValueError(
            "observations are on disk, in a run of several processes; wanted hosts.from_rows of those of each"
        )
    sized = checks.positive if problem.log_likelihood is None else checks.non_negative
    noise_std = sized("noise_std", problem.noise_std)
    image = jax.eval_shape(lambda: problem.render(problem.sample_init(jr.key(0), 1), problem.sample_pose(jr.key(0), 1)))
    if observations.shape[1:] != image.shape[1:]:
        raise ValueError(f"observations has shape {observations.shape}; wanted (m, {image.shape[1]}) as render makes")
    if not isinstance(observations, Stored):
        if not hosts.is_apart(observations):
            hosts.check_alike("observations", observations)
        observations = hosts.laid_out(jnp.asarray(problem.observations, observations.dtype), len(observations))
    return problem._replace(observations=observations, noise_std=noise_std)


def dimensions(problem: Problem) -> int:
    """d, of theta (n, d)."""
    return int(jax.eval_shape(lambda: problem.sample_init(jr.key(0), 1)).shape[1])


def of_few_dimensions(problem: Problem, method: str) -> None:
    """ValueError where a method whose steps take a derivative for each coordinate would have more than 100."""
    if dimensions(problem) > MOST_DIMENSIONS:
        raise ValueError(
            f"problem {problem.name!r} has theta of {dimensions(problem)} numbers, and {method} takes a derivative for "
            f"each; wanted {MOST_DIMENSIONS} or fewer"
        )


def in_span(problem: Problem) -> Problem:
    """The same problem with coordinates for images: every likelihood changes by a factor that is free of theta."""
    if problem.span is None:
        return problem
    on_disk, project = isinstance(problem.observations, Stored), problem.span.project
    coordinates = (seen_as if on_disk else hosts.by_rows)(project, problem.observations)
    return problem._replace(observations=coordinates, render=problem.span.coordinates, span=None)


def part(problem: Problem, rows: Int[Array, " b"]) -> Problem:
    """The same problem with some of its observations."""
    given = problem.log_likelihood
    poses = jax.tree.map(lambda a: a[rows], problem.poses)
    observations = hosts.laid_out(kept(problem.observations, rows), len(rows))
    some = problem._replace(observations=observations, poses=poses)
    if given is None:
        return some
    return some._replace(log_likelihood=lambda theta, image: given(theta, rows[image]))


def halves(problem: Problem) -> tuple[Problem, Problem]:
    """Every other observation, to fit, and the rest, to hold out; ValueError where there is one alone."""
    m = len(problem.observations)
    if m < 2:
        raise ValueError(f"problem {problem.name!r} has {m} observation; wanted 2 or more, to hold out half of them")
    return part(problem, jnp.arange(0, m, 2)), part(problem, jnp.arange(1, m, 2))
