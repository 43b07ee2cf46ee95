"""rqf_jax: stochastic dynamics of tokens and weights on JAX.

    sde = rqf_jax.models.random_quadratic_form(sigma=1.0)
    law = rqf_jax.laws.Uniform(tokens=8, dim=3)
    runs = rqf_jax.simulate(sde, law, [0, 1, 2], substeps=8, members=100, key=jax.random.key(0))

An equation is a drift, a noise and a manifold (`SDE`, or one of `models`); `simulate` makes an
ensemble of its paths, `observables` and `analysis` look at them, `theory` says what to expect,
`inference` and `fit` find parameters, `training` runs learning rules, `surrogates` learn to
continue paths, `plot` draws, `save` and `open` keep ensembles on disk, `runs.train` trains there.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from . import (
    drifts,
    kernels,
    laws,
    layers,
    manifolds,
    models,
    noises,
    observables,
    potentials,
    recurrences,
    schedules,
    solvers,
    systems,
)
from ._brownian.path import CounterPath
from ._ensemble.explain import explain
from ._ensemble.members import member_keys
from ._ensemble.propagate import propagate
from ._ensemble.simulate import simulate
from ._ensemble.trajectories import NonFiniteError, Trajectories
from ._sde import SDE

if TYPE_CHECKING:
    from . import analysis, inference, io, losses, plot, runs, surrogates, theory, training
    from ._fit import Fit, fit
    from .io import load as open, save

__version__ = importlib.metadata.version("rqf_jax")

__all__ = [
    "SDE",
    "CounterPath",
    "Fit",
    "NonFiniteError",
    "Trajectories",
    "analysis",
    "drifts",
    "explain",
    "fit",
    "inference",
    "io",
    "kernels",
    "laws",
    "layers",
    "losses",
    "manifolds",
    "member_keys",
    "models",
    "noises",
    "observables",
    "open",
    "plot",
    "potentials",
    "propagate",
    "recurrences",
    "runs",
    "save",
    "schedules",
    "simulate",
    "solvers",
    "surrogates",
    "systems",
    "theory",
    "training",
]

# Figures, files, statistics and special functions take longer to import than all the rest.
_LATER = {
    "Fit": ("._fit", "Fit"),
    "analysis": (".analysis", ""),
    "fit": ("._fit", "fit"),
    "inference": (".inference", ""),
    "io": (".io", ""),
    "losses": (".losses", ""),
    "open": (".io", "load"),
    "plot": (".plot", ""),
    "runs": (".runs", ""),
    "save": (".io", "save"),
    "surrogates": (".surrogates", ""),
    "theory": (".theory", ""),
    "training": (".training", ""),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LATER[name]
    found = importlib.import_module(module, __name__)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
