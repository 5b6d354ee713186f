"""Names that users type, and the factories behind them: the command line and the tests read these."""

from collections.abc import Callable

import optax
import optax.contrib

from cryosip.methods.autoencoder import autoencoder
from cryosip.methods.class3d import class3d
from cryosip.methods.composite import composite
from cryosip.methods.covariance import covariance
from cryosip.methods.data_kl import data_kl
from cryosip.methods.discrepancy import Discrepancy
from cryosip.methods.energy import energy
from cryosip.methods.flow import particle_flow
from cryosip.methods.invariant import invariant_energy
from cryosip.methods.kl import kl
from cryosip.methods.maximum_likelihood import maximum_likelihood
from cryosip.methods.method import Method
from cryosip.methods.mixture import mixture
from cryosip.methods.mmd import mmd
from cryosip.methods.optimizers import rms_sgd
from cryosip.methods.posterior_npmle import posterior_npmle
from cryosip.methods.pushforward import pushforward
from cryosip.methods.reweighting import reweighting
from cryosip.methods.sliced_energy import sliced_energy
from cryosip.methods.spectral_volumes import spectral_volumes
from cryosip.methods.variability import variability
from cryosip.methods.weighted_flow import weighted_flow

DISCREPANCIES: dict[str, Callable[..., Discrepancy]] = {
    "energy": energy,
    "kl": kl,
    "mmd": mmd,
    "composite": composite,
    "data-kl": data_kl,
    "invariant-energy": invariant_energy,
    "sliced-energy": sliced_energy,
}

METHODS: dict[str, Callable[..., Method]] = {
    "autoencoder": autoencoder,
    "class3d": class3d,
    "covariance": covariance,
    "flow": particle_flow,
    "maximum-likelihood": maximum_likelihood,
    "mixture": mixture,
    "posterior-npmle": posterior_npmle,
    "pushforward": pushforward,
    "reweighting": reweighting,
    "spectral-volumes": spectral_volumes,
    "variability": variability,
    "weighted-flow": weighted_flow,
}

VOLUME_METHODS = frozenset({"autoencoder", "class3d", "covariance", "spectral-volumes", "variability"})


def on_any_problem() -> list[str]:
    """The methods that studies compare on all problems: those of volumes need problems whose theta are volumes."""
    return [name for name in METHODS if name not in VOLUME_METHODS]


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "dog": optax.contrib.dog,
    "prodigy": optax.contrib.prodigy,
    "rms-sgd": rms_sgd,
    "sgd": optax.sgd,
}
