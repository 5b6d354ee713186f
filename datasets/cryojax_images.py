"""The only file that knows cryoJAX: images of Gaussian atoms through its poses and its optics, to compare ours with.

cryoJAX keeps a Gaussian's integral where ours keep its height: weights are multiplied by 2 pi std^2. Its default
integrator, "average", takes the mean over each pixel (error functions); "point" takes the value at its centre as we do.
With `n_spread` it computes an atom on so many pixels of each axis alone.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.particle_tables import Ctf

Sampling = Literal["average", "point"]
PoseClass = Literal["QuaternionPose", "EulerAnglePose", "AxisAnglePose"]


def images(
    size: int,
    pixel_size: float,
    std: float,
    weights: Float[np.ndarray, " a"],
    positions: Float[Array, "n a 3"],
    rotation: Float[Array, "n 3 3"],
    shift: Float[Array, "n 2"],
    defocus: Float[Array, " n"] | None = None,
    *,
    voltage_in_kilovolts: float = 300.0,
    sampling: Sampling = "average",
    n_spread: int | None = None,
    pose: PoseClass = "QuaternionPose",
) -> Float[Array, "n s s"]:
    """sum_a weights_a exp(-|g - (R X_a)_xy - t|^2 / (2 std^2)) at the pixels g, times the CTF where there is a defocus.

    cryoJAX's own pose rotates the atoms; its image model shifts by phases and applies the CTF, both as if images were
    periodic.

    Parameters
    ----------
    size
        Pixels of a side.
    pixel_size, std
        Of a pixel's side and of an atom, in angstroms.
    weights
        Heights of the atoms (a,).
    positions
        X (n, a, 3), in angstroms.
    rotation, shift
        R (n, 3, 3), and t (n, 2) in angstroms.
    defocus
        (n,), in angstroms; None, the default: no CTF.
    voltage_in_kilovolts
        Of the CTF; 300 by default.
    sampling
        "average" over each pixel, cryoJAX's default, or the value at its "point".
    n_spread
        An atom is computed on so many pixels of each axis alone; all of them by default.
    pose
        Which of cryoJAX's classes holds the pose; quaternions by default.

    Returns
    -------
    Array
        Images (n, size, size), rows along y, columns along x.
    """
    import cryojax.simulator as cxs  # heavy: only who compares pays for it
    from cryojax.rotations import SO3

    # not precompute_mode="none", the default: it caches grids, tracers included
    config = cxs.BasicImageConfig((size, size), pixel_size, voltage_in_kilovolts, precompute_mode="rfft")
    integrator = cxs.GaussianMixtureProjection(sampling_mode=sampling, n_spread=n_spread)
    amplitudes = 2 * np.pi * std**2 * weights

    def image(
        position: Float[Array, "a 3"],
        matrix: Float[Array, "3 3"],
        offset: Float[Array, "2"],
        focus: Float[Array, ""] | None,
    ) -> Float[Array, "s s"]:
        volume = cxs.GaussianMixtureVolume(position, amplitudes, std**2)
        view = getattr(cxs, pose).from_rotation_and_translation(SO3.from_matrix(matrix), offset)
        optics = None if focus is None else cxs.ContrastTransferTheory(cxs.AstigmaticCTF(focus))
        return cxs.make_image_model(volume, config, view, optics, integrator).simulate()

    return jax.vmap(image)(positions, rotation, shift, defocus)


def scattering_projections(
    size: int, pixel_size: float, atomic_number: int, positions: Float[Array, "n a 3"], b_factor: float = 0.0
) -> Float[Array, "n s s"]:
    """The bare integrator on atoms of one element with cryoJAX's own table, averaged over each pixel.

    Its Gaussians have the integrals a_j of the scattering factor, in angstroms; a potential is 4 pi times that.
    Positions (n, a, 3) are in angstroms, after the rotation.
    """
    import cryojax.simulator as cxs
    from cryojax.constants import PengScatteringFactorParameters

    config = cxs.BasicImageConfig((size, size), pixel_size, precompute_mode="rfft")
    integrator = cxs.GaussianMixtureProjection(sampling_mode="average")
    n_atoms = positions.shape[1]
    table = PengScatteringFactorParameters(np.full(n_atoms, atomic_number))

    def image(position: Float[Array, "a 3"]) -> Float[Array, "s s"]:
        volume = cxs.GaussianMixtureVolume.from_tabulated_parameters(position, table, np.full(n_atoms, b_factor))
        return integrator.integrate(volume, config, outputs_real_space=True)

    return jax.lax.map(image, positions)


def projections(
    size: int,
    pixel_size: float,
    std: float,
    weights: Float[np.ndarray, " a"],
    positions: Float[Array, "n a 3"],
    *,
    sampling: Sampling = "average",
    n_spread: int | None = None,
) -> Float[Array, "n s s"]:
    """The bare integrator on atoms that have been moved already, one image after the other: the least it can cost.

    Parameters
    ----------
    size
        Pixels of a side.
    pixel_size, std
        Of a pixel's side and of an atom, in angstroms.
    weights
        Heights of the atoms (a,).
    positions
        Of the atoms, after rotation and shift (n, a, 3), in angstroms.
    sampling, n_spread
        As in `images`.

    Returns
    -------
    Array
        Images (n, size, size).
    """
    import cryojax.simulator as cxs

    config = cxs.BasicImageConfig((size, size), pixel_size, precompute_mode="rfft")
    integrator = cxs.GaussianMixtureProjection(sampling_mode=sampling, n_spread=n_spread)
    amplitudes = 2 * np.pi * std**2 * weights

    def image(position: Float[Array, "a 3"]) -> Float[Array, "s s"]:
        volume = cxs.GaussianMixtureVolume(position, amplitudes, std**2)
        return integrator.integrate(volume, config, outputs_real_space=True)

    return jax.lax.map(image, positions)


def contrast_transfer(frequency: Float[Array, " k"], defocus: float, voltage_in_kilovolts: float) -> Float[Array, " k"]:
    """The CTF at frequencies in 1 / angstrom, with cryoJAX's defaults: aberration 2.7 mm, amplitude contrast 0.1."""
    import cryojax.simulator as cxs
    from cryojax.constants import wavelength_from_kilovolts

    grid = jnp.stack([frequency, jnp.zeros_like(frequency)], axis=1)[None]
    return cxs.AstigmaticCTF(defocus)(grid, wavelength_from_kilovolts(voltage_in_kilovolts))[0]


def astigmatic_transfer(frequency: Float[np.ndarray, "h w 2"], ctf: Ctf) -> Float[np.ndarray, "h w"]:
    """The CTF of one image at frequencies (k_x, k_y) in 1 / angstrom, with its B-factor and scale.

    cryoJAX measures the angle of the defocus from the second axis of its frequencies, RELION from x.
    """
    import cryojax.simulator as cxs
    from cryojax.constants import wavelength_from_kilovolts

    found = cxs.AstigmaticCTF(
        defocus_in_angstroms=(ctf.defocus_u + ctf.defocus_v) / 2,
        astigmatism_in_angstroms=ctf.defocus_u - ctf.defocus_v,
        astigmatism_angle=np.rad2deg(ctf.angle),
        spherical_aberration_in_mm=ctf.spherical_aberration * 1e-7,
    )(
        jnp.asarray(frequency[..., ::-1]), wavelength_from_kilovolts(ctf.voltage), ctf.amplitude_contrast,
        np.rad2deg(ctf.phase_shift),
    )  # fmt: skip
    decay = ctf.scale * np.exp(-ctf.b_factor * (frequency**2).sum(-1) / 4)
    return decay * np.asarray(found)


def slices(
    voxels: Float[np.ndarray, "l l l"], pad_scale: float
) -> tuple[Array, Callable[[Array, Float[Array, "3 3"]], Array]]:
    """The transform of a volume as cryoJAX holds it, and its slice in one pose: half the transform of an image.

    Between the nodes of the transform, whose spacing is 1 / `pad_scale` of that of the images, it is linear.
    """
    import cryojax.ndimage as cxn
    import cryojax.simulator as cxs

    volume = cxs.FourierVoxelGridVolume.from_real_voxel_grid(voxels, pad_scale=pad_scale)

    def one(values: Array, rotation: Float[Array, "3 3"]) -> Array:
        # rows of the frame's axes: k of the image is R^T k of the volume
        return cxn.sample_fft_slice(values, volume.frequency_slice @ rotation, unroll=False)

    return volume.values, one
