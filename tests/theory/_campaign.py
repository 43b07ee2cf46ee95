"""Calls of every closed form with extreme and wrong arguments, drawn with a fixed seed."""

import dataclasses
import inspect
import pkgutil
import re
import warnings
from importlib import import_module

import numpy as np

from rqf_jax import theory

WRONG = (
    "1.0", b"1", None, 1j, {1.0}, np.ma.masked_array([1.0], [True]), np.datetime64("2026-01-01"),
    object(), [[1.0], [1.0, 2.0]], 10**400, np.nan, len,
)  # fmt: skip
EXTREME = (
    0.0, 1e-320, 1e-300, 1e-20, 1e-8, 0.3, 1.0, 2.5, 50.0, 1e4, 1e8, 1e16, 1e150, 1e300, -0.5,
    -1e4, np.inf,
)  # fmt: skip
COUNTS = (1, 2, 3, 6, 12, 100, 1000, 10**6, 2**53, 10**400, 0, -3)
BOUNDED = (-1.0, -1 + 1e-15, -0.99, -0.5, 0.0, 1e-300, 0.3, 0.999, 1 - 1e-15, 1.0)
TURNS = (0.0, 1e-300, 1e-12, 0.4, np.pi / 2, 3.0, np.pi - 1e-12, np.pi)
UNIT = (0.0, 1e-300, 1e-9, 0.3, 0.5, 0.5 + 1e-12, 1 - 1e-12, 1.0)


SMALL = theory.initialisation.llama(dim=16, layers=2, heads=2, inner=24)
NAMED = {
    "architecture": (SMALL,),
    "scheme": ("post", "ngpt", "pre", "peri"),
    "radii": ((1.0, 2.0), (1e-300, 1e300), (1.0,)),
    "activation": ("gelu", "silu", "sine"),
    "draws": (0, 1, 2),
    "seeds": (1, 2, 0),
    "tokens": (2, 5, 12, 200, 2**53, 0),
    "config": ({}, {"model_type": "gpt2"}, "missing.json"),
    "parallel": (True, False),
    "causal": (True, False),
    "fresh": (True, False),
}


def public():
    """Every closed form, by module and name."""
    for module in pkgutil.iter_modules(theory.__path__):
        if not module.name.startswith("_"):
            found = import_module(f"rqf_jax.theory.{module.name}")
            for name, value in vars(found).items():
                if inspect.isfunction(value) and hasattr(value, "contract"):
                    if value.__name__ == name:
                        yield f"{module.name}.{name}", value


def _matrix(rng, size, *, gram=False):
    root = rng.standard_normal((size, size)) * 10 ** rng.uniform(-6, 2, size)
    square = root @ root.T
    if gram:
        scale = np.sqrt(np.diag(square))
        square = square / np.outer(scale, scale)
    return square


def argument(rng, name, parameter):
    """A value for an argument, mostly one that the function should know what to do with."""
    text = str(parameter.annotation)
    called = name in ("weight", "kernel", "function")
    if rng.random() < 0.06:
        return WRONG[rng.integers(len(WRONG) - called)]
    if called:
        return {
            "weight": (theory.attention.softmax_weight, theory.attention.unnormalised_weight)[
                rng.integers(2)
            ],
            "kernel": lambda r: r + 0.5,
        }.get(name, np.tanh)
    if name in NAMED and rng.random() < 0.9:
        return NAMED[name][rng.integers(len(NAMED[name]))]
    size = int(rng.integers(1, 6))
    if name == "covariance":
        return np.einsum("ab,cd->acbd", np.eye(size), np.eye(size))
    if name == "gram":
        return _matrix(rng, size, gram=True)
    if name in ("rows", "columns") and "int" not in text:
        return _matrix(rng, 3)
    if name in ("value", "query_key") and "matrix" in text:
        return _matrix(rng, size)
    if name in ("hessian", "drift", "diffusion") and rng.random() < 0.8:
        return _matrix(rng, 2)
    if name == "hessians":
        return np.stack([_matrix(rng, 2) for _ in range(size)])
    if name in ("features", "paths", "loss") and rng.random() < 0.8:
        return rng.standard_normal((2, 2, 2) if name == "paths" else (2, 3))
    if name == "x":
        return np.eye(3)[0]
    if name == "direction":
        return np.eye(size)[0]
    if name in ("others", "signals", "precisions", "eigenvalues", "values", "points"):
        return 10 ** rng.uniform(-9, 9, size)
    if name in ("end", "start") and rng.random() < 0.5:
        return np.cumsum(10.0 ** rng.uniform(-12, 1, 3))
    if text == "<class 'int'>" or "int | None" in text:
        return COUNTS[rng.integers(len(COUNTS))]
    pool = EXTREME
    if "overlap" in name:
        pool = BOUNDED
    elif "angle" in name or name == "threshold":
        pool = TURNS
    elif name in ("fraction", "ratio", "momentum"):
        pool = UNIT
    elif name == "beta" and rng.random() < 0.3:
        pool = (1, 2, 4)
    value = pool[rng.integers(len(pool))]
    if rng.random() < 0.15 and "Real" in text:
        return np.array([value, pool[rng.integers(len(pool))]])
    return value


def draw(rng, function):
    """Arguments of one call by name; some that have a default are left out."""
    parameters = inspect.signature(function).parameters
    return {
        name: argument(rng, name, parameter)
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty or rng.random() < 0.6
    }


def verdict(function, arguments):
    """What is wrong with the outcome of a call, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = function(**arguments)
        except ValueError as error:
            text = str(error)
            named = re.findall(r"`(\w+)`", text)
            if function.__name__ in named or set(named) & set(arguments):
                return None
            return f"names no argument: {text}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    for part in result if isinstance(result, tuple) else (result,):
        for number in vars(part).values() if dataclasses.is_dataclass(part) else (part,):
            if isinstance(number, float | complex | np.ndarray) and np.any(np.isnan(number)):
                return "NaN"
    return None
