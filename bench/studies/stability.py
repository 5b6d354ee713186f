"""How much a distribution of volumes changes where nothing should matter: seed, half, noise, number of components."""

from typing import NamedTuple

from cryosip.bench.studies.study import Options, Size, run_on
from cryosip.bench.studies.volumes import (
    BATCH,
    CLASS_STEPS,
    COVARIANCE_STEPS,
    EM_STEPS,
    EPOCHS,
    GIVEN,
    MOLECULE,
    VOLUME_IMAGES,
)
from cryosip.records.schema import Labels, RunConfig

N_COMPONENTS = 4
CHANGES = ("seed", "half", "noise", "components")


class Row(NamedTuple):
    """A method as in the study volumes; its steps are those on n images."""

    variant: str
    method: str
    steps: int
    options: Options


def stability(size: Size) -> list[RunConfig]:
    """Each method with each change, on the images of the study volumes."""
    images = VOLUME_IMAGES[size.images] | GIVEN
    return [
        run_on(f"{MOLECULE}-volumes", images, 1, "stability", Labels(row.variant, "change", change), size, row.method,
               row.steps, n_components=N_COMPONENTS, change=change, **row.options)
        for change in CHANGES
        for row in rows(size.n // 2 if change == "half" else size.n)
    ]  # fmt: skip


def rows(n: int) -> list[Row]:
    """Methods on n images: epochs of the autoencoder are as many on half of them."""
    return [
        Row("classes", "class3d", CLASS_STEPS, {}),
        Row("3D variability", "variability", EM_STEPS, {}),
        Row("covariance, posterior means", "covariance", COVARIANCE_STEPS, {}),
        Row("covariance, deconvolved", "covariance", COVARIANCE_STEPS, {"distribution": "deconvolved"}),
        Row("autoencoder", "autoencoder", EPOCHS * -(-n // BATCH), {"n_batch": BATCH}),
    ]
