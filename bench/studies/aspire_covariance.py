"""ASPIRE's covariance of volumes, run by a Python that has ASPIRE: the mean, eigenvolumes, coordinates of images.

It imports nothing of this package, which that Python does not have, and this package never imports ASPIRE.
"""

import os
import sys
from pathlib import Path

MEAN, COORDINATES = "mean.mrc", "coordinates.npy"
MOST_PIXELS = 12  # the kernel has (2 L)^6 entries: 0.8 GB


def eigenvolume(k: int) -> str:
    """The file of the k-th direction."""
    return f"eigenvolume{k:02d}.mrc"


def estimate(star: Path, out: Path, n_components: int) -> None:
    """Of the images of a STAR file, at most 12 pixels a side: least squares, then Wiener filtering.

    Writes the mean and the leading eigenvolumes, and the coordinates (n, k) of each image.
    """
    os.chdir(out)  # where ASPIRE writes its logs
    try:
        import mrcfile
        import numpy as np
        from aspire.basis import FBBasis3D
        from aspire.covariance import CovarianceEstimator
        from aspire.denoising import src_wiener_coords
        from aspire.noise import WhiteNoiseEstimator
        from aspire.reconstruction import MeanEstimator
        from aspire.source import RelionSource
        from aspire.utils import eigs
        from aspire.volume import Volume
    except ImportError as error:
        sys.exit(f"{sys.executable} cannot import ASPIRE ({error}); name a Python that can in CRYOSIP_ASPIRE")

    images = RelionSource(str(star), data_folder=str(star.parent))
    if images.L > MOST_PIXELS:
        images = images.downsample(MOST_PIXELS)
    basis = FBBasis3D((images.L,) * 3, dtype=images.dtype)
    variance = WhiteNoiseEstimator(images).estimate()
    of_mean = MeanEstimator(images, basis=basis, checkpoint_iterations=None)
    mean = Volume(np.asarray(of_mean.estimate()), pixel_size=images.pixel_size)  # a CTF needs the size of pixels
    of_covariance = CovarianceEstimator(images, basis=basis, mean_kernel=of_mean.kernel, checkpoint_iterations=None)
    vectors, values = eigs(of_covariance.estimate(mean, variance), n_components)
    directions = Volume(np.moveaxis(vectors, -1, 0), pixel_size=images.pixel_size)
    coordinates = src_wiener_coords(images, mean, directions, values, variance)
    for name, volume in [(MEAN, mean), *((eigenvolume(k), directions[k]) for k in range(n_components))]:
        with mrcfile.new(out / name) as file:  # a volume's own `save` makes a stack of one
            file.set_data(np.asarray(volume, np.float32)[0])
            file.voxel_size = images.pixel_size
    np.save(out / COORDINATES, coordinates.T)
    print(f"noise variance {variance:g}, eigenvalues {np.diag(values)}")


if __name__ == "__main__":
    estimate(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute(), int(sys.argv[3]))
