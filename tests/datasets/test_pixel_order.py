"""Images are stored row by row: rows along y, columns along x."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import SMALL, instance


def widths(axis):
    """Nanoclusters of theta (2, 2), and with the atoms further out along one axis."""
    before = jnp.full((1, 2), 2.0)
    return (before, ()), (before.at[0, axis].add(2.0), ())


def shifts(axis):
    """A protein where it is, and shifted along one axis by most of a pixel."""
    truth = instance("adk").truth
    theta, pose = truth.theta[:1], jax.tree.map(lambda leaf: leaf[:1], truth.pose)
    return (theta, pose), (theta, pose._replace(shift=pose.shift.at[0, axis].add(8.0)))


@pytest.mark.parametrize("axis", [0, 1], ids="xy")
@pytest.mark.parametrize(("problem", "moved"), [("nanocluster", widths), ("adk", shifts)])
def test_what_moves_along_x_changes_columns_and_what_moves_along_y_rows(problem, moved, axis):
    size, render = SMALL[problem]["image_size"], jax.jit(instance(problem).problem.render)
    before, after = (np.asarray(render(*drawn)).reshape(size, size) for drawn in moved(axis))
    # sums over rows for x, over columns for y
    profiles = [(before.sum(sum_over), after.sum(sum_over)) for sum_over in (0, 1)]
    (moving, changed), (still, same) = profiles[axis], profiles[1 - axis]
    # sums over Gaussians of about a pixel do not depend on where they are, up to exp(-2 pi^2 std^2) and their tails
    np.testing.assert_allclose(same, still, atol=1e-3 * still.max())
    assert np.abs(changed - moving).max() > 0.1 * moving.max()
