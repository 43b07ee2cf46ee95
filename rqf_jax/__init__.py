"""rqf_jax: stochastic dynamics of tokens and weights on JAX."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from . import (
    drifts as drifts,
    kernels as kernels,
    laws as laws,
    layers as layers,
    manifolds as manifolds,
    models as models,
    noises as noises,
    observables as observables,
    potentials as potentials,
    schedules as schedules,
    solvers as solvers,
)
from ._brownian.path import CounterPath as CounterPath
from ._ensemble.members import member_keys as member_keys
from ._ensemble.propagate import propagate as propagate
from ._ensemble.simulate import simulate as simulate
from ._ensemble.trajectories import NonFiniteError as NonFiniteError, Trajectories as Trajectories
from ._sde import SDE as SDE

if TYPE_CHECKING:
    from . import (
        analysis as analysis,
        inference as inference,
        io as io,
        losses as losses,
        plot as plot,
        theory as theory,
        training as training,
    )
    from ._fit import Fit as Fit, fit as fit
    from .io import load as open  # noqa: F401

__version__ = importlib.metadata.version("rqf_jax")


def __getattr__(name: str) -> Any:
    if name == "open":
        return importlib.import_module(".io", __name__).load
    # Figures, files, statistics and special functions take longer to import than all the rest.
    if name in {"analysis", "inference", "io", "losses", "plot", "theory", "training"}:
        return importlib.import_module(f".{name}", __name__)
    if name in {"Fit", "fit"}:
        return getattr(importlib.import_module("._fit", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
