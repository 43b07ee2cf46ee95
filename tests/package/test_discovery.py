"""A user who types `help`, `dir` or `print` finds names and numbers, and nothing else."""

import importlib
import inspect
import pkgutil
import pydoc
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from _public import PUBLIC

import rqf_jax as rqf

FOLDERS = [
    name
    for name in rqf.__all__
    if inspect.ismodule(getattr(rqf, name)) and hasattr(getattr(rqf, name), "__all__")
]


def test_the_package_lists_all_that_it_offers_and_none_of_what_it_imports():
    assert {"analysis", "fit", "inference", "losses", "open", "plot", "save", "theory"} < set(
        dir(rqf)
    )
    assert {"simulate", "propagate", "SDE", "models", "training", "io"} < set(dir(rqf))
    assert not {"Any", "TYPE_CHECKING", "importlib"} & set(dir(rqf))
    shipped = {module.name for module in pkgutil.iter_modules(rqf.__path__)}
    assert {name for name in shipped if name[0] != "_"} - {"cli", "runs"} < set(dir(rqf))


def test_listing_names_loads_none_of_the_slow_ones():
    code = "import sys, rqf_jax; dir(rqf_jax); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("name", ["", *FOLDERS])
def test_help_and_dir_of_a_folder_list_its_names(name):
    module = importlib.import_module(f"rqf_jax.{name}" if name else "rqf_jax")
    text = pydoc.render_doc(module, renderer=pydoc.plaintext)
    assert [each for each in module.__all__ if each not in text] == []
    assert set(dir(module)) - {"__version__"} == set(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_offers_nothing_that_is_not_listed(name):
    module = getattr(rqf, name)
    ours = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and callable(value)
        and getattr(value, "__module__", "").startswith("rqf_jax.")
        and (hasattr(module, "__path__") or value.__module__ == module.__name__)
    }
    assert ours <= set(module.__all__)


def test_signatures_can_be_read_on_a_screen():
    assert len(PUBLIC) > 400
    long = {}
    for name, value in PUBLIC.items():
        signature = inspect.signature(value)
        parameters = signature.parameters.values()
        # An array-like spelled out, as NumPy and JAX show it, takes 300 characters.
        long |= {f"{name}({one.name})": len(str(one)) for one in parameters if len(str(one)) > 150}
        if len(str(signature)) > max(260, 75 * len(parameters)):
            long[name] = len(str(signature))
    assert not long


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (
            lambda: rqf.models.noisy_attention(2.0, 0.5),
            "SDE(drift=Attention(beta=2, strength=1), "
            "noise=IsotropicNoise(symmetric=0.5, antisymmetric=0), manifold=Sphere())",
        ),
        (lambda: rqf.laws.InSpan(rqf.laws.Uniform(8, 3)), "InSpan(law=Uniform(tokens=8, dim=3))"),
        (
            lambda: rqf.noises.Sum(rqf.noises.TokenNoise(1), rqf.noises.BiasNoise(0.25)),
            "Sum(TokenNoise(sigma=1), BiasNoise(sigma=0.25))",
        ),
        (
            lambda: rqf.drifts.Linear(jnp.eye(3)),
            "Linear(matrix=float64[3, 3])",
        ),
        (
            lambda: rqf.schedules.PiecewiseLinear([0, 1], [1, 0.5]),
            "PiecewiseLinear(ts=[0, 1], values=[1, 0.5])",
        ),
        (
            lambda: rqf.kernels.MLP("relu", 3),
            "MLP(activation='relu', dim=3, bias_in=0, bias_out=0)",
        ),
        (
            lambda: rqf.drifts.Network((2,), key=jax.random.key(0)),
            "Network(network=MLP(1218 parameters), bound=1, state=(2,))",
        ),
    ],
)
def test_printing_shows_the_numbers(thing, expected):
    assert repr(thing()) == expected


def test_inside_jit_printing_shows_kinds():
    def show(sigma):
        seen.append(repr(rqf.noises.TokenNoise(sigma)))
        return sigma

    seen = []
    jax.jit(show)(1.0)
    assert seen == ["TokenNoise(sigma=float64[])"]


def test_a_notebook_shows_an_equation_as_a_table():
    shown = rqf.models.noisy_attention(2.0, 0.5)._repr_html_()
    assert shown.startswith("<table>") and "Attention(beta=2, strength=1)" in shown
