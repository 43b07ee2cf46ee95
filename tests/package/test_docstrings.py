"""Docstrings: the examples run, and functions with many parameters say what each of them is."""

import doctest
import inspect
import re

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from _public import PUBLIC

import rqf_jax as rqf

FINDER = doctest.DocTestFinder(exclude_empty=True, recurse=False)
EXAMPLES = {
    name: example
    for name, value in PUBLIC.items()
    for example in FINDER.find(value, name, globs={})
    if example.examples
}
SLOW = {"rqf.losses.MaximumMeanDiscrepancy", "rqf.training.GPT", "rqf.training.BernoulliRBM"}
SLOW |= {"rqf.analysis.find_equilibria", "rqf.layers.transformer", "rqf.surrogates.Transformer"}
SLOW |= {"rqf.CounterPath", "rqf.propagate", "rqf.io.save", "rqf.losses.SimulatedMoments"}
SLOW |= {"rqf.noises.HomogenisedNoise", "rqf.drifts.Network", "rqf.inference.fit_matrix_ou"}
SLOW |= {f"rqf.analysis.{name}" for name in ("lyapunov_spectrum", "two_point_exponent", "pullback")}
SLOW |= {f"rqf.surrogates.{name}" for name in ("AlmostLinear", "ShallowPiecewise", "CellHead")}
SLOW |= {f"rqf.training.{name}" for name in ("Process", "GaussianRBM", "NoisyDescent", "train")}
SLOW |= {f"rqf.layers.{name}" for name in ("RandomAttention", "RandomMLP")}
SLOW |= {f"rqf.training.{name}" for name in ("Copies", "DeepLinear", "Tangents", "TeacherStudent")}
SLOW |= {f"rqf.analysis.curvature.{name}" for name in ("hessian_eigenvalues", "spectral_density")}
SLOW |= {"rqf.analysis.common_noise", "rqf.analysis.curvature.Curvature"}
SLOW |= {
    f"rqf.inference.{name}"
    for name in (
        "fit_attention",
        "fit_filtered",
        "fit_shooting",
        "ensemble_kalman",
        "fit_noise_observed",
        "fit_noise",
        "fit_dyson",
    )
}
SLOW |= {f"rqf.inference.{name}" for name in ("fit_pairs", "predicted_error", "recover_noise")}

# Records that functions make and users read: their docstring lists the fields.
MADE = {
    "rqf.inference.Explanation",
    "rqf.inference.LayerRivals",
    "rqf.inference.RivalFit",
    "rqf.analysis.ActivationFit",
    "rqf.analysis.Equilibria",
    "rqf.analysis.KoopmanModes",
    "rqf.analysis.MarchenkoPasturFit",
    "rqf.analysis.RateEstimate",
    "rqf.analysis.SparseDynamics",
    "rqf.analysis.SpectrumDescription",
    "rqf.analysis.SurvivalCurve",
    "rqf.analysis.TailExponent",
    "rqf.analysis.surrogates.Dimension",
    "rqf.analysis.surrogates.Distance",
    "rqf.analysis.surrogates.TransitionMatrix",
    "rqf.inference.Filtered",
    "rqf.inference.FitResult",
    "rqf.inference.HiddenStatesFit",
    "rqf.inference.Layer",
    "rqf.inference.Whitened",
    "rqf.inference.rivals.Weighed",
    "rqf.io.Checkpoints",
    "rqf.io.WeightMatrix",
    "rqf.io.Weights",
    "rqf.noises.Calculus",
    "rqf.training.gpt.Transformer",
    "rqf.training.injections.Draw",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in EXAMPLES],
)
def test_the_example_of_a_docstring_prints_what_it_says(name, unchecked):
    example = EXAMPLES[name]
    example.globs = {"jax": jax, "jnp": jnp, "np": np, "rqf": rqf}
    failures = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        example, out=failures.append
    )
    plt.close("all")
    assert not failures, "".join(failures)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in PUBLIC.items()
        if not inspect.isabstract(value)
        and len(inspect.signature(value).parameters) > 3
        and name not in MADE
    ],
)
def test_a_function_with_many_parameters_lists_them_and_shows_a_call(name):
    value = PUBLIC[name]
    text, signature = inspect.getdoc(value), inspect.signature(value)
    returns = not inspect.isclass(value) and signature.return_annotation is not None
    for heading in ("rguments**", "Raises**", "Example**", *(["Returns**"] if returns else [])):
        assert heading in text, f"{name} has no {heading}"
    missing = [one for one in signature.parameters if f"`{one}`" not in text]
    assert not missing, f"{name} does not say what {missing} are"
    assert name in EXAMPLES


def test_headings_of_docstrings_have_one_form():
    other = re.compile(
        r"^ *(Arguments|Args|Parameters|Returns|Raises|Examples?):|:\*\*|\*\*Args", re.M
    )
    assert not [name for name, value in PUBLIC.items() if other.search(inspect.getdoc(value) or "")]


QUESTIONS = ("What ", "How ", "Whether ", "Where ", "Which ")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_opens_with_a_statement(name):
    value = PUBLIC[name]
    texts = {name: inspect.getdoc(value)}
    if inspect.isclass(value):
        texts |= {
            f"{name}.{key}": inspect.getdoc(one)
            for key, one in vars(value).items()
            if not key.startswith("_") and (inspect.isfunction(one) or isinstance(one, property))
        }
    assert not [key for key, text in texts.items() if (text or "").startswith(QUESTIONS)]
