"""Images in physical units, amplitudes of modes as printed and as conjectured, and what leaves images is told."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from cryosip.datasets import cryojax_images, gemmi_adapter, protein

SMALL = {"n_observations": 5, "image_size": 16, "pixel_size_in_angstroms": 8.0, "atom_std_in_angstroms": 6.0}
SCATTERING = {"n_observations": 20, "image_size": 64, "pixel_size_in_angstroms": 2.0, "intensity": "scattering"}


@pytest.mark.parametrize(("element", "number", "b_factor"), [("C", 6, 0.0), ("P", 15, 30.0)])
def test_scattering_is_4_pi_times_cryojaxs(element, number, b_factor):
    """From its own table; a potential in 1 / angstrom is 4 pi times what it calls the amplitudes."""
    problem, truth, molecule, *_ = protein.adk(element=element, b_factor=b_factor, init_half_width=1.0, **SCATTERING)
    images = np.asarray(problem.render(truth.theta, truth.pose)).reshape(-1, 64, 64)
    atoms = jnp.asarray(molecule.rest + np.tensordot(truth.theta, molecule.motions, 1), "f4")
    seen = jnp.einsum("nij,naj->nai", truth.pose.rotation, atoms, precision="highest")
    theirs = cryojax_images.scattering_projections(64, 2.0, number, seen, b_factor)
    # atoms are far narrower than pixels, and which pixel has one at an edge is a matter of rounding
    assert_allclose(images, 4 * np.pi * np.asarray(theirs), atol=1e-3 * images.max())
    # an atom's potential has the integral 4 pi f(0), wherever its pixels are
    a, _ = gemmi_adapter.scattering_factor(element)
    assert_allclose(images.sum((1, 2)) * 2.0**2, 214 * 4 * np.pi * a.sum(), rtol=1e-4)
    assert_allclose(problem.observations.std(), np.sqrt(1 + images.var()), rtol=0.02)


@pytest.mark.parametrize("b_factor", [0.0, 600.0])
def test_coordinates_of_scattering_atoms_are_those_of_their_images(x64, b_factor):
    """Of atoms far narrower than a pixel too, which alias."""
    options = {**SCATTERING, "b_factor": b_factor, "cropped_size": 21, "max_shift_in_angstroms": 3.0}
    problem, truth, *_ = protein.adk(**options)
    found = problem.span.coordinates(truth.theta, truth.pose)
    expected = problem.span.project(problem.render(truth.theta, truth.pose))
    assert_allclose(found, expected, atol=1e-6 * float(jnp.abs(expected).max()))


def test_the_amplitude_of_a_mode():
    """z_i / sqrt(lambda_i) as printed, z_i / lambda_i as conjectured."""
    printed, conjectured = protein.adk(**SMALL).molecule, protein.adk(**SMALL, amplitude="inverse").molecule
    assert_allclose(printed.amplitudes, printed.eigenvalues**-0.5)
    assert_allclose(conjectured.amplitudes, 1 / conjectured.eigenvalues)
    ratio = conjectured.eigenvalues[:, None, None] ** -0.5
    assert_allclose(conjectured.motions, ratio * printed.motions, atol=1e-9)


def test_signal_that_is_cropped_away_is_told():
    with pytest.warns(
        UserWarning, match=r"cropped_size 21 leaves signal of up to [\d.]+ noise_std in an image outside"
    ):
        protein.adk(**SCATTERING, cropped_size=21)


def test_atoms_outside_of_their_images_are_counted():
    with pytest.warns(
        UserWarning, match=r"of the atoms lie outside of their images of 16 pixels of 2 angstroms, in 100"
    ):
        protein.adk(**{**SMALL, "n_observations": 5, "pixel_size_in_angstroms": 2.0})
