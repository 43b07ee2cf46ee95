"""Arguments of one valid call of every public function, and values that do not belong there."""

import datetime
import decimal
import math
import os
import tempfile

import _public
import jax
import jax.numpy as jnp
import numpy as np
import optax

import rqf_jax as rqf

# Methods that users call, besides every function and class.
PUBLIC = _public.PUBLIC | {
    f"rqf.{name}": getattr(owner, name.rpartition(".")[2])
    for name, owner in {
        "SDE.terms": rqf.SDE,
        "Trajectories.observe": rqf.Trajectories,
        "Trajectories.to_xarray": rqf.Trajectories,
        "analysis.SurvivalCurve.restricted_mean": rqf.analysis.SurvivalCurve,
        "inference.FitResult.interval": rqf.inference.FitResult,
        "io.Sentence.select": rqf.io.Sentence,
        "io.Sentence.unit": rqf.io.Sentence,
    }.items()
}

KEY = jax.random.key(0)
TOKENS = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.6, 0.8, 0], [0, 0.6, 0.8]])
STATES = TOKENS[None, None] * np.ones((3, 4, 1, 1))
TIMES = np.array([0.0, 0.1, 0.2, 0.3])
SPECTRUM = np.array([-1.5, -0.5, 0.25, 1.0])
PAIR = rqf.laws.Pair(1.0, 3)
TARGET = np.diag([2.0, 1.0])


def _runs(sde, law, members=12, times=TIMES):
    return rqf.simulate(sde, law, times, substeps=2, members=members, key=KEY)


_MADE = {}


def made(name):
    """Ensembles for functions that take them, made once."""
    if name not in _MADE:
        rqf_sde = rqf.models.random_quadratic_form(1.0)
        _MADE[name] = {
            "tokens": lambda: _runs(rqf_sde, rqf.laws.Uniform(4, 6)),
            "pairs": lambda: _runs(rqf_sde, PAIR),
            "attention": lambda: _runs(rqf.models.noisy_attention(1.0, 0.3), PAIR),
            "eigenvalues": lambda: _runs(
                rqf.models.dyson_eigenvalues(1.0, 1.0), rqf.laws.GaussianEnsemble(3, 1.0)
            ),
            "weights": lambda: _runs(
                rqf.models.weight_ou(1.0, 1.0, TARGET), rqf.laws.Zeros((2, 2)), 3
            ),
            "numbers": lambda: rqf.Trajectories(
                jnp.asarray(TIMES), jnp.asarray(TIMES[None] * np.ones((3, 1))), jnp.zeros(3, int)
            ),
        }[name]()
    return _MADE[name]


def _loss(sde, key):
    return sde.noise.symmetric**2


def _strength(sde):
    return sde.noise.symmetric


def _decaying(p):
    drift, noise = rqf.drifts.Pull(p["rate"]), rqf.noises.TokenNoise(1.0)
    return rqf.SDE(drift, noise, rqf.manifolds.Euclidean())


def _still(p):
    drift, noise = rqf.drifts.Pull(p["rate"]), rqf.noises.NoNoise()
    return rqf.SDE(drift, noise, rqf.manifolds.Euclidean())


def _flat(x):
    return jnp.sum(x)


class Later:
    """A value that is made when a call is."""

    def __init__(self, make):
        self.make = make


def _folder(name):
    return Later(lambda: os.path.join(tempfile.mkdtemp(), name))


def _stored():
    path = os.path.join(tempfile.mkdtemp(), "runs.zarr")
    rqf.save(made("pairs"), path, attributes={"seed": 0})
    return path


def _few_sentences():
    return [s.select(range(4)) for s in rqf.io.example_hidden_states()]


def _axis():
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def _total(weights):
    return jnp.sum(weights**2)


def _square(weights, batch):
    return jnp.sum(weights**2)


def _residuals(weights, batch):
    return batch - weights


def _sde():
    return rqf.models.random_quadratic_form(1.0)


def _path():
    return rqf.CounterPath(jnp.asarray(TIMES), 2, shape=(3, 3), key=KEY)


class _Foreign:
    """The face of a flow of another package."""

    params, ic = {"a": 0.1}, [1.0]

    @staticmethod
    def _rhs(x, t, a):
        return (a * x,)


def _modes():
    return rqf.analysis.koopman_modes(np.random.default_rng(0).normal(size=(20, 2)), np.arange(20))


def _grid():
    return rqf.surrogates.Grid([0.0], [1.0], 4)


def _head():
    return rqf.surrogates.GaussianHead([0.0], [1.0], width=4, key=KEY)


def _recurrent():
    return rqf.surrogates.AlmostLinear(1, latent=3, pieces=1, key=KEY)


def _sentence():
    return rqf.io.example_hidden_states().sentences[0]


def _architecture():
    return rqf.theory.initialisation.gpt2(dim=64, layers=2, heads=4)


def _cosine(r):
    return r


def _spring(q):
    return q


# By the name of the parameter, where all functions that have it mean the same.
NAMED = {
    "a": 0.2,
    "activation": "tanh",
    "advection": 1.0,
    "alignment": 0.5,
    "amplitude": 0.5,
    "amplitudes": [1.0, 0.5],
    "angle": 1.0,
    "angles": [0.5, 1.0],
    "antisymmetric": 0.5,
    "architecture": _architecture(),
    "attractor": TOKENS[:2],
    "ax": None,
    "azimuth": 30.0,
    "b": 0.2,
    "barrier": 0.5,
    "batch": 2,
    "batch_size": 2,
    "beta": 1.0,
    "bias_in": 0.1,
    "bias_out": 0.1,
    "bins": 5,
    "bound": 1.0,
    "boundary": None,
    "branch": rqf.layers.RandomLinear(1.0),
    "bulk": 0.5,
    "c": 5.0,
    "check": True,
    "cloud": TOKENS,
    "coefficients": [0.5, 0.5],
    "columns": 3,
    "common": 0.5,
    "concentration": 1.0,
    "confidence": 0.9,
    "count": 3,
    "counts": [3, 4, 5],
    "coupling": 1.0,
    "covariance": np.eye(2),
    "cubic": 1.0,
    "curvature": 1.0,
    "damping": 0.3,
    "death": 1.0,
    "decay": 1.0,
    "degrees": (1, 2),
    "density": None,
    "depth": 2,
    "diffusion": 0.5,
    "dim": 3,
    "direction": np.array([1.0, 0.0]),
    "discard": 1,
    "dof": [3.0, 3.0, 3.0, 3.0],
    "drift": rqf.drifts.MeanField(1.0),
    "dt": 0.1,
    "duration": 50.0,
    "durations": rqf.analysis.Durations([1.0, 2.0], np.array([True, False])),
    "feeding": 1.0,
    "frequency": 1.2,
    "friction": 0.2,
    "growth": 0.5,
    "instability": 0.5,
    "linear": -1.0,
    "log_ratio": 0.3,
    "overlap_mean": 0.5,
    "position": 1,
    "other": 2,
    "predation": 0.5,
    "score_variance": 1.0,
    "radii": (1.0, 2.0),
    "edge": 2.0,
    "eigenvalue": 1.0,
    "eigenvalues": SPECTRUM,
    "elevation": 20.0,
    "end": 1.0,
    "epsilon": 0.5,
    "error": 1.0,
    "every": 1,
    "exponents": [0.5, -1.0],
    "factor": np.ones((2, 2, 3)),
    "feature": 1.0,
    "field": rqf.drifts.MeanField(1.0),
    "first_member": 0,
    "first_seed": 0,
    "forcing": 0.5,
    "fraction": 0.25,
    "function": jnp.tanh,
    "g": 1.0,
    "gap": 0.5,
    "gradient_variance": 1.0,
    "gram": np.full((3, 3), 0.5) + np.eye(3) / 2,
    "half_distance": 1.0,
    "harmonic": 2,
    "heads": 2,
    "horizon": 1.0,
    "imbalance": 0.5,
    "initial_angle": 1.0,
    "initial_variance": 0.5,
    "key": KEY,
    "key_variance": 1.0,
    "label": "label",
    "law": rqf.laws.Uniform(4, 3),
    "layer": rqf.layers.Plain(rqf.layers.RandomLinear(1.0)),
    "learning_rate": 0.1,
    "left": np.eye(2),
    "length": 1.5,
    "levels": np.linspace(0, 10, 11) * np.ones((3, 1)) + np.arange(3)[:, None] / 9,
    "limits": None,
    "manifold": rqf.manifolds.Sphere(),
    "mask": None,
    "map": rqf.systems.Rotation(),
    "mass": 2.0,
    "matrix": np.eye(3),
    "mean_overlap0": 0.5,
    "member": 0,
    "members": 3,
    "minus": 2,
    "momentum": 0.5,
    "n": 4,
    "noise": rqf.noises.TokenNoise(0.5),
    "normalise": "raise",
    "observed": np.array([True, False]),
    "order": 3,
    "other_square": 0.2,
    "others": [-1.0, 0.5],
    "outputs": np.ones((2, 3)),
    "overlap": 0.5,
    "overlap0": 0.4,
    "overwrite": True,
    "own": 0.5,
    "plus": 3,
    "points": 3,
    "potential": rqf.potentials.Quartic(1.0),
    "power": 1.0,
    "precision": 2.0,
    "precisions": [2.0, 3.0],
    "private": 0.5,
    "probabilities": [0.2, 0.3, 0.5],
    "product": 0.5,
    "query_key": np.eye(3),
    "rate": 0.5,
    "rates": rqf.drifts.MeanField(1.0),
    "ratio": 0.5,
    "rho": 20.0,
    "right": np.eye(2),
    "rows": 5,
    "s": 1.0,
    "samples": 2,
    "scale": 1.0,
    "schedule": rqf.schedules.Exponential(0.5),
    "sde": Later(_sde),
    "seeds": 2,
    "shape": (2, 3),
    "sigma": 1.0,
    "signal": 3.0,
    "signals": [1.0, 2.0],
    "slope": 0.5,
    "solver": None,
    "spacing": 1.0,
    "square": 0.3,
    "state": (2, 3),
    "step": 0.1,
    "steps": 3,
    "step_bias": -0.5,
    "step_slope": 0.5,
    "stop": 2.0,
    "strength": 1.0,
    "substeps": 2,
    "sweeps": 2,
    "symmetric": 1.0,
    "target": 1.0,
    "targets": [1.0, 0.5, 0.0],
    "teacher": 2.0,
    "theory": None,
    "threshold": 0.1,
    "throw": True,
    "time": 0.5,
    "times": None,
    "tokens": 4,
    "tolerance": 1e-6,
    "ts": TIMES,
    "value": 0.5,
    "values": SPECTRUM,
    "variance": 0.5,
    "viscosity": 0.1,
    "vocabulary": 8,
    "weight": 1.0,
    "weight_decay": 0.1,
    "width": 4,
    "x": TOKENS,
    "y": TOKENS[::-1].copy(),
}

MATRIX = np.array([[1.0, 0.5], [0.5, -1.0]])
SERIES = np.random.default_rng(0).normal(size=(10, 100, 2))
SPECTRA = np.sort(np.random.default_rng(0).normal(size=(6, 5)), axis=1)
WEIGHT = Later(lambda: rqf.theory.attention.softmax_weight)
FILTERED = {
    "sde": Later(lambda: _decaying({"rate": 1.0})),
    "law": rqf.laws.Normal((1,), 1.0),
    "ys": np.array([1.0, 0.5, 0.8, 0.2]),
    "observe": _flat,
    "observation": 0.3,
    "members": 20,
    "method": "square_root",
    "inflation": 1.0,
}
VIEWS = {"x": np.eye(3)[:, :2], "y": np.ones((3, 2)), "decay": 0.1}
ENSEMBLE = {"xlabel": "t", "ylabel": "y", "ax": None}

# Where a function means something else by a name, or the whole call must fit together.
PARTICULAR = {
    "SDE": {"drift": rqf.drifts.NoDrift()},
    "SDE.terms": {"self": Later(_sde), "path": Later(_path), "origin": 0.0},
    "Trajectories.observe": {"self": Later(lambda: made("pairs")), "observable": _flat},
    "Trajectories.to_xarray": {
        "self": Later(lambda: made("pairs")),
        "dims": {"state": ("a", "b")},
        "observables": {"sum": _flat},
    },
    "analysis.SurvivalCurve.restricted_mean": {
        "self": Later(lambda: rqf.analysis.kaplan_meier(NAMED["durations"]))
    },
    "inference.FitResult.interval": {
        "self": Later(lambda: rqf.inference.fit_pairs(made("pairs"))),
        "level": 0.9,
    },
    "io.Sentence.select": {"self": Later(_sentence), "indices": [0, 1]},
    "io.Sentence.unit": {"self": Later(_sentence), "layer": 1},
    "CounterPath": {"ts": jnp.asarray(TIMES), "dtype": None},
    "Trajectories": None,
    "theory.initialisation.first_block_cosine": {"start": 0.5, "attention": 0.5},
    "theory.normalisation.kernel_pair": {"kernel": _cosine},
    "drifts.Momentum": {"gradient": _spring, "friction": 0.5},
    "laws.Product": {"laws": {"q": rqf.laws.Zeros((2,)), "p": rqf.laws.Zeros((2,))}},
    "manifolds.Product": {
        "manifolds": {"q": rqf.manifolds.Euclidean(), "p": rqf.manifolds.Euclidean()}
    },
    "models.heavy_ball": {"gradient": _spring, "convexity": 1.0},
    "drifts.SelfSupervised": {"inputs": np.eye(2), "cross": np.eye(2) / 2, "decay": 0.1},
    "models.ema_flow": VIEWS,
    "models.joint_flow": VIEWS,
    "models.stop_gradient_flow": VIEWS,
    "noises.MomentNoise": {"x": VIEWS["x"], "y": VIEWS["y"], "temperature": 0.1},
    "theory.self_supervised.lengths": {"inputs": 1.0, "cross": 0.8, "decay": 0.05},
    "theory.self_supervised.spectrum": {
        "inputs": 1.0,
        "cross": 0.8,
        "decay": 0.05,
        "units": 3,
        "stable": True,
    },
    "models.nesterov": {"gradient": _spring},
    "models.underdamped_langevin": {"gradient": _spring, "friction": 1.0, "temperature": 1.0},
    "noises.Product": {"noises": {"q": rqf.noises.NoNoise(), "p": rqf.noises.NoNoise()}},
    "analysis.Durations": {"times": [1.0, 2.0]},
    "analysis.bingham": {"x": TOKENS},
    "analysis.centre": {"x": jnp.asarray(TOKENS)},
    "analysis.antipodal_pair": {"x": jnp.asarray(TOKENS)},
    "analysis.attractor_distances": {"x": jnp.asarray(TOKENS), "attractor": jnp.asarray(TOKENS)},
    "analysis.chord": {"x": jnp.asarray(TOKENS), "y": jnp.asarray(TOKENS[::-1].copy())},
    "analysis.line_distance": {"x": jnp.asarray(TOKENS), "y": jnp.asarray(TOKENS[::-1].copy())},
    "analysis.dispersion": {"cloud": jnp.asarray(TOKENS)},
    "analysis.sign_pattern": {"x": jnp.asarray(TOKENS)},
    "analysis.gradient_defect": {"x": jnp.asarray(TOKENS)},
    "analysis.stability": {"x": jnp.asarray(TOKENS)},
    "analysis.find_equilibria": {
        "starts": jnp.asarray(TOKENS[None]),
        "tolerance": None,
    },
    "analysis.first_above": {"runs": Later(lambda: made("numbers")), "threshold": 0.1},
    "analysis.first_below": {"runs": Later(lambda: made("numbers")), "threshold": 0.1},
    "analysis.fit_marchenko_pastur": {"values": [1.0, 2.0, 3.0], "rows": 5},
    "analysis.KoopmanModes": None,
    "analysis.koopman_modes": {
        "runs": np.random.default_rng(0).normal(size=(5, 20, 2)),
        "times": np.arange(20.0),
        "dictionary": None,
        "delays": 2,
        "rank": None,
        "gaps": "raise",
    },
    "analysis.Monomials": {"size": 2, "degree": 2},
    "analysis.SparseDrift": None,
    "analysis.SparseDynamics": None,
    "analysis.sparse_dynamics": {
        "runs": np.random.default_rng(0).normal(size=(5, 20, 2)),
        "times": np.arange(20.0),
        "dictionary": rqf.analysis.Monomials(2, 2),
        "names": None,
    },
    "analysis.surrogates.Dimension": None,
    "analysis.surrogates.Distance": None,
    "analysis.surrogates.TransitionMatrix": None,
    "analysis.surrogates.correlation_dimension": {
        "runs": SERIES,
        "low": 0.01,
        "high": 0.5,
        "window": 1,
        "points": 800,
    },
    "analysis.surrogates.forecast_error": {"truth": SERIES, "forecasts": SERIES},
    "analysis.surrogates.map_exponents": {
        "map": jnp.sin,
        "starts": np.ones((2, 1)),
        "exponents": 1,
        "discard": 1,
    },
    "analysis.surrogates.mixture_divergence": {
        "truth": SERIES,
        "models": SERIES,
        "width": 0.5,
        "centres": 20,
        "samples": 20,
        "gaps": "raise",
    },
    "analysis.surrogates.spectral_distance": {
        "truth": SERIES,
        "models": SERIES,
        "times": np.arange(100.0),
        "smoothing": 1.0,
    },
    "analysis.surrogates.state_space_divergence": {
        "truth": SERIES,
        "models": SERIES,
        "bins": 5,
        "margin": 0.1,
        "smoothing": 1e-5,
        "gaps": "raise",
    },
    "analysis.surrogates.transition_matrix": {
        "runs": SERIES,
        "bins": 3,
        "box": [[-3.0, 3.0]] * 2,
        "lag": 1,
        "gaps": "raise",
    },
    "analysis.surrogates.valid_prediction_time": {
        "truth": SERIES,
        "forecasts": SERIES,
        "times": np.arange(100.0),
        "exponent": 0.9,
        "threshold": 0.4,
    },
    "analysis.lyapunov_spectrum": {"exponents": 2, "law": rqf.laws.Uniform(1, 3)},
    "analysis.mean_spacing_ratio": {"values": SPECTRA},
    "analysis.unfold": {"values": SPECTRA},
    "analysis.SpectrumDescription": None,
    "analysis.describe_spectrum": {"values": np.arange(1.0, 30.0), "rows": 40},
    "analysis.tail_exponent": {"values": np.arange(1.0, 30.0), "start": 2.0},
    "analysis.two_point_exponent": {
        "first": Later(lambda: made("pairs")),
        "second": Later(lambda: made("attention")),
        "distance": (lambda x, y: jnp.sqrt(jnp.sum((x - y) ** 2)) + 1.0),
        "start": 0,
    },
    "drifts.Attention": {
        "value": np.eye(3),
        "mask": np.eye(4, dtype=bool),
        "chunk_size": 2,
        "frequencies": [1.0],
    },
    "drifts.rotary_frequencies": {"planes": 2, "base": 100.0},
    "drifts.UnnormalisedAttention": {
        "frequencies": [1.0],
        "value": np.eye(3),
        "mask": np.eye(4, dtype=bool),
        "chunk_size": 2,
    },
    "drifts.Normed": {"gain": np.ones(3), "centre": True},
    "drifts.Constant": {"velocity": [1.0, 2.0]},
    "drifts.MatrixWell": {"beta": 1},
    "drifts.Driven": {"record": TIMES[:, None], "coordinates": (0,)},
    "drifts.Nudged": {"record": TIMES[:, None], "coordinates": (0,), "gain": 1.0},
    "drifts.Oja": {"weights": np.full((2, 2), 0.5), "value": np.eye(3)},
    "drifts.SelectiveStateSpace": {
        "step": np.eye(3),
        "step_bias": np.zeros(3),
        "inputs": np.ones((2, 3)),
    },
    "drifts.Sum": {"drifts": (rqf.drifts.NoDrift(), rqf.drifts.MeanField(1.0))},
    "drifts.TwoLayer": {"target": TARGET},
    "fit": {"loss": _loss, "where": _strength, "optimizer": None, "steps": 2},
    "inference.choose": None,
    "inference.fit_attention": {
        "runs": Later(lambda: made("attention")),
        "attention": rqf.drifts.Attention(1.0),
        "parameters": ("strength",),
        "noise": 0.3,
    },
    "inference.Filtered": None,
    "inference.ensemble_kalman": FILTERED,
    "inference.fit_filtered": {**FILTERED, "model": _decaying, "start": {"rate": 1.0}},
    "inference.fit_shooting": {
        **FILTERED,
        "model": _still,
        "start": {"rate": 1.0},
        "state": [1.0],
        "window": 2,
        "observation": None,
    },
    "inference.fit_dyson": {
        "runs": Later(lambda: made("eigenvalues")),
        "rate": None,
        "beta": None,
        "method": "tamed",
    },
    "inference.Explanation": None,
    "inference.LayerRivals": None,
    "inference.RivalFit": None,
    "inference.explain": {
        "sentences": Later(_few_sentences),
        "rivals": (rqf.inference.rivals.SharedMatrix(),),
        "folds": 2,
    },
    "inference.fit_hidden_states": {
        "sentences": Later(lambda: rqf.io.example_hidden_states().sentences),
        "compare": False,
    },
    "inference.rivals.AttentionFlow": {
        "query": np.eye(3),
        "key": np.eye(3),
        "value": np.eye(3),
        "label": "head",
    },
    "inference.rivals.AttentionValues": {
        "query": np.eye(3),
        "key": np.eye(3),
        "label": "head",
    },
    "inference.rivals.Field": {"kernel": rqf.kernels.MLP("relu", 4)},
    "inference.rivals.Mixture": {
        "parts": (rqf.inference.rivals.SharedMatrix(), rqf.inference.rivals.SentenceBias()),
        "label": "both",
    },
    "inference.rivals.Series": {"degrees": 3},
    "inference.rivals.Tokens": None,
    "inference.rivals.Weighed": None,
    "inference.fit_matrix_ou": {
        "runs": Later(lambda: made("weights")),
        "target": TARGET,
        "stationary": False,
        "manifold": None,
    },
    "inference.fit_noise": {
        "runs": Later(lambda: made("tokens")),
        "method": "qmle",
        "antisymmetric": True,
    },
    "inference.fit_noise_observed": {"runs": Later(lambda: made("tokens"))},
    "inference.fit_pairs": {"runs": Later(lambda: made("pairs"))},
    "inference.recover_noise": {"runs": Later(lambda: made("tokens")), "antisymmetric": None},
    "inference.fit_scaling": {
        "noise": [1.0, 1.1, 0.9, 1.0],
        "learning_rate": [0.1, 0.2, 0.3, 0.1],
        "batch_size": [10.0, 20.0, 30.0, 40.0],
        "dataset_size": None,
    },
    "inference.half_angle": {"x": jnp.asarray(TOKENS), "y": jnp.asarray(TOKENS[::-1].copy())},
    "inference.logarithm": {"x": jnp.asarray(TOKENS), "y": jnp.asarray(TOKENS[::-1].copy())},
    "inference.predicted_error": {"antisymmetric": 0.5},
    "inference.whiten": None,
    "io.Checkpoints": None,
    "io.HiddenStates": None,
    "io.Sentence": None,
    "io.WeightMatrix": None,
    "io.Weights": None,
    "io.as_hidden_states": {
        "hidden_states": STATES,
        "mask": np.ones((4, 4)),
        "tokens": None,
        "texts": None,
        "final_norm": False,
    },
    "io.read_checkpoints": None,
    "io.read_weights": None,
    "io.write_hidden_states": {
        "path": _folder("a.npz"),
        "hidden_states": STATES,
        "mask": np.ones((4, 4)),
        "tokens": None,
        "texts": None,
        "final_norm": False,
        "overwrite": False,
    },
    "io.check_target": None,
    "io.load": {"path": Later(_stored)},
    "io.read_hidden_states": None,
    "io.save": {
        "runs": Later(lambda: made("pairs")),
        "path": _folder("a.zarr"),
        "attributes": {"seed": 0},
    },
    "io.save_dataset": {
        "dataset": Later(lambda: made("pairs").to_xarray()),
        "path": _folder("a.zarr"),
        "attributes": {"seed": 0},
    },
    "io.standard_library": {"tokens": 100},
    "io.to_netcdf": {
        "dataset": Later(lambda: made("pairs").to_xarray()),
        "path": _folder("a.nc"),
    },
    "laws.Equiangular": {"overlap": 0.2, "dim": 5},
    "laws.Fixed": {"x0": TOKENS},
    "layers.Block": {"layers": (rqf.layers.Plain(rqf.layers.RandomLinear(1.0)),)},
    "layers.Fixed": {"stream": rqf.manifolds.Sphere()},
    "layers.Norm": {"gain": np.ones(3), "centre": True},
    "layers.Normed": {"gain": np.ones(3), "centre": True},
    "layers.Parallel": {"branches": (rqf.layers.RandomLinear(1.0),)},
    "layers.RandomAttention": {
        "head_dim": 4,
        "key_heads": 1,
        "causal": True,
        "frequencies": [1.0, 0.1],
    },
    "layers.RandomMLP": {"input_variance": 0.5, "gated": True},
    "layers.Residual": {"stream": rqf.manifolds.Sphere()},
    "losses.MaximumMeanDiscrepancy": {
        "samples": STATES * np.array([1.0, -1.0, 0.5])[:, None, None, None],
        "law": rqf.laws.Uniform(4, 3),
        "observable": (lambda x: x),
        "bandwidth": None,
    },
    "losses.SimulatedMoments": {"target": np.zeros(4), "observable": _flat},
    "losses.causal_weights": {"errors": np.ones(3)},
    "losses.TransitionLikelihood": {"runs": np.ones((3, 4, 2, 2))},
    "models.dyson": {"beta": 1, "target": MATRIX},
    "models.dyson_eigenvalues": {"beta": 1},
    "models.mamba_tokens": {
        "step": np.eye(3),
        "step_bias": np.zeros(3),
        "inputs": np.ones((2, 3)),
    },
    "models.in_log_time": {"model": Later(_sde)},
    "models.normalised": {
        "model": Later(_sde),
        "scheme": "pre",
        "gain": np.ones(3),
        "centre": True,
    },
    "models.normalised_layers": {"scheme": "pre"},
    "noises.Normed": {"gain": np.ones(3), "centre": True},
    "kernels.UnitOutput": {"kernel": rqf.kernels.PowerSeries([0.0, 1.0])},
    "models.oja": {"value": np.eye(3), "weights": np.full((2, 2), 0.5)},
    "models.self_attention": {"value": np.eye(3)},
    "models.two_layer": {"teacher": TARGET},
    "models.weight_ou": {"teacher": TARGET},
    "noises.Calculus": None,
    "noises.KernelNoise": {"kernel": rqf.kernels.PowerSeries([0.5, 0.5])},
    "noises.SpectralNoise": {"beta": 1},
    "noises.Sum": {"noises": (rqf.noises.TokenNoise(1.0), rqf.noises.BiasNoise(1.0))},
    "noises.covariance_factor": {"covariance": np.eye(6)},
    "plot.angle_histogram": {"density": None},
    "plot.koopman": {"modes": Later(_modes)},
    "plot.legend": None,
    "plot.error_band": {"x": TIMES, "values": TIMES, "errors": TIMES, "step": None},
    "plot.error_bars": {"x": TIMES, "values": TIMES, "errors": TIMES, "step": None},
    "plot.fan": {"values": TIMES * np.ones((3, 1)), **ENSEMBLE},
    "plot.mean_lines": {"values": {"a": TIMES * np.ones((3, 1)) + [[0], [1], [2]]}, **ENSEMBLE},
    "plot.rivals": {
        "explanation": Later(
            lambda: rqf.inference.explain(
                _few_sentences(), (rqf.inference.rivals.SharedMatrix(),), folds=2
            )
        )
    },
    "plot.phase_diagram": {
        "x": [0.0, 1.0],
        "y": [0.0, 1.0, 2.0],
        "values": np.ones((2, 3)),
        "threshold": "theory",
    },
    "plot.spectrum": {"values": SPECTRUM, "density": None},
    "plot.sphere": {"x": TOKENS},
    "laws.Normal": {"mean": 0.5},
    "systems.Exponents": None,
    "systems.Dysts": {"system": _Foreign()},
    "systems.KuramotoSivashinsky": {"points": 16},
    "systems.Lorenz96": {"size": 5},
    "systems.orbit": {"x": 0.3},
    "schedules.PiecewiseLinear": {"values": TIMES},
    "solvers.begin": None,
    "solvers.check": {"solver": rqf.solvers.ProjectiveFlow()},
    "solvers.micro_step": None,
    "solvers.ProjectiveFlow": {"level": 2},
    "theory.anisotropic.density": {"x": TOKENS, "rows": np.eye(3), "columns": np.eye(3)},
    "theory.anisotropic.drift": {"x": TOKENS, "rows": np.eye(3), "columns": np.eye(3)},
    "theory.anisotropic.second_moment": {"rows": np.eye(3), "columns": np.eye(3)},
    "theory.dyson.eigenvector_decay": {"eigenvalues": SPECTRUM},
    "theory.dyson.gap_density": {"start": 0.1},
    "theory.dyson.square_sum_mean": {"start": 0.1},
    "theory.dyson.square_sum_variance": {"start": 0.1},
    "theory.dyson.square_sum_cdf": {"start": 0.1},
    "theory.dyson.log_transition_density": {"end": SPECTRUM, "start": SPECTRUM + 0.1},
    "theory.dyson.mean_characteristic_polynomial": {"start": SPECTRUM},
    "theory.fields.overlap_drift": {"kernel": rqf.kernels.PowerSeries([0.5, 0.5])},
    "theory.fields.overlap_variance": {"kernel": rqf.kernels.PowerSeries([0.5, 0.5])},
    "theory.information.water_filling": {"gains": [1.0, 2.0], "budget": 1.0},
    "theory.learning.activation_curve": {
        "amplitude": 1.0,
        "decay": 0.1,
        "growth": 1.0,
        "offset": 1.0,
        "level": 0.5,
    },
    "theory.learning.activation_peak": {"decay": 0.1, "growth": 1.0, "offset": 1.0},
    "theory.learning.collapse_gap": {"bits": 24},
    "theory.learning.teacher_gap": {"noise": 0.5},
    "theory.levels.tracy_widom_cdf": {"beta": 1},
    "theory.levels.tracy_widom_moments": {"beta": 1},
    "theory.levels.largest_eigenvalue": {"beta": 1},
    "theory.linear_networks.deep_mode": {"start": 0.1, "layers": 3},
    "theory.linear_networks.deep_time": {"end": 0.9, "start": 0.1, "layers": 3},
    "theory.linear_networks.balanced_mode": {"start": 0.1},
    "theory.linear_networks.balanced_time": {"end": 0.9, "start": 0.1},
    "theory.linear_networks.unbalanced_mode": {"start": 0.1},
    "theory.mamba.slow_growth": {"time": 1e6},
    "theory.mamba.decay_constants": {"product": -1.0},
    "theory.mamba.first_token_time": {"start": 1.0},
    "theory.mamba.blow_up_time": {"start": 1.0},
    "theory.meanfield.growth_rate": {"noise": 0.5},
    "theory.meanfield.order_parameter": {"noise": 0.1},
    "theory.multistability.pattern_spectrum": {
        "value": MATRIX,
        "query_key": MATRIX,
        "direction": np.linalg.eigh(MATRIX)[1][:, 1],
    },
    "theory.currents.covariance": {"drift": np.eye(2), "diffusion": np.eye(2)},
    "theory.currents.current": {"drift": np.eye(2), "diffusion": np.eye(2)},
    "theory.currents.entropy_production": {"drift": np.eye(2), "diffusion": np.eye(2)},
    "theory.currents.path_entropy": {
        "paths": np.ones((2, 3, 2)),
        "drift": np.eye(2),
        "diffusion": np.eye(2),
    },
    "theory.fokker_planck.density": {
        "loss": np.arange(4.0),
        "start": np.ones(4),
        "times": [0.0, 1.0],
    },
    "theory.sgd.critical_rate": {"hessians": np.ones((2, 1, 1)), "replacement": True},
    "theory.sgd.epoch_variance": {"curvature": 1.0, "replacement": True},
    "theory.sgd.gaussian_critical_rate": {"eigenvalues": [1.0, 2.0]},
    "theory.sgd.moments": {
        "eigenvalues": [1.0, 2.0],
        "start": [1.0, 1.0],
        "updates": [0, 3],
        "noise": 0.5,
    },
    "theory.sgd.random_features": {
        "features": [[1.0, 0.0]],
        "teacher": [1.0, 2.0],
        "noise": 0.5,
    },
    "theory.sgd.stability_radius": {"hessians": np.ones((2, 1, 1)), "replacement": True},
    "theory.sgd.stationary_covariance": {"hessian": np.eye(2), "noise": np.eye(2)},
    "theory.spectra.fourth_moment_about": {"signals": [1.0, 2.0, 3.0]},
    "theory.spectra.marchenko_pastur_cdf": {"value": 1.0},
    "theory.spectra.mean_characteristic_polynomial": {"start": SPECTRUM**2},
    "theory.spectra.singular_value_drift": {
        "values": [1.0, 2.0],
        "covariance": np.eye(4).reshape(2, 2, 2, 2),
    },
    "theory.sphere.expectation": {"function": np.cos, "points": ()},
    "theory.sphere.layer_log_det_increment": {"tokens": 2},
    "theory.dyson.inverse_square_gaps": {"beta": 2},
    "theory.wells.moment": {"power": 2},
    "theory.wells.passage_time": {"start": -1.0},
    "theory.outliers.emergence_time": {"teacher": 9.0},
    "theory.outliers.rectangular_emergence_time": {"teacher": 9.0},
    "analysis.curvature.Curvature": {"loss": _square, "data": np.ones((3, 2))},
    "analysis.curvature.example_gradients": {
        "loss": _square,
        "weights": np.ones(2),
        "data": np.ones((3, 2)),
    },
    "analysis.curvature.example_hessians": {
        "loss": _square,
        "weights": np.ones(2),
        "data": np.ones((3, 2)),
    },
    "analysis.curvature.gauss_newton_product": {
        "outputs": jnp.sin,
        "loss": _total,
        "weights": np.ones(2),
        "vector": np.ones(2),
    },
    "analysis.curvature.gradient_covariance": {
        "loss": _square,
        "weights": np.ones(2),
        "data": np.ones((3, 2)),
    },
    "analysis.curvature.hessian": {"loss": _total, "weights": np.ones(2)},
    "analysis.curvature.hessian_eigenvalues": {
        "loss": _total,
        "weights": np.ones(2),
        "count": 1,
        "steps": 2,
    },
    "analysis.curvature.hessian_product": {
        "loss": _total,
        "weights": np.ones(2),
        "vector": np.ones(2),
    },
    "analysis.curvature.hessian_trace": {"loss": _total, "weights": np.ones(2), "probes": 2},
    "analysis.curvature.spectral_density": {"loss": _total, "weights": np.ones(2), "probes": 2},
    "analysis.equilibrium": {
        "start": jnp.asarray([[0.99, np.sqrt(1 - 0.99**2), 0.0]]),
        "drift": rqf.drifts.Linear(np.diag([3.0, 2.0, 1.0])),
    },
    "analysis.fit_activation_curve": {
        "ts": np.arange(6.0),
        "values": np.array([0.0, 0.7, 1.1, 1.0, 0.9, 0.8]),
    },
    "analysis.learning_rate_sensitivity": {"losses": np.array([1.0, 0.2]), "start": 1.0},
    "analysis.stability_gap": {
        "updates": np.array([0.0, 1.0, 2.0]),
        "scores": np.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.8]]),
        "starts": [0, 1],
        "window": 1,
    },
    "recurrences.Recurrence": {name: np.ones((2, 1, 1)) for name in ("keep", "write", "read")}
    | {"inputs": np.ones((2, 1))},
    "recurrences.exponential_features": {"x": np.ones((2, 1)), "order": 2},
    "recurrences.gated": {"gates": np.ones((2, 1)), "inputs": np.ones((2, 1))},
    "recurrences.linear_attention": {
        name: np.ones((2, 1)) for name in ("queries", "keys", "values")
    }
    | {"normalise": True},
    "recurrences.softmax_attention": {
        name: np.ones((2, 1)) for name in ("queries", "keys", "values")
    }
    | {"order": 2},
    "recurrences.state_space": {
        name: np.ones((2, 1)) for name in ("steps", "write", "read", "inputs")
    }
    | {"decay": 1.0},
    "theory.learning.max_margin": {"examples": np.eye(2)},
    "theory.synchronisation.exponent": {"curvature": 1.0},
    "theory.synchronisation.critical_rate": {"curvature": 1.0},
    "surrogates.AlmostLinear": {"size": 1, "latent": 3, "pieces": 1},
    "surrogates.CellHead": {"grid": Later(_grid), "width": 4, "rank": 2},
    "surrogates.GaussianHead": {"mean": [0.0], "scale": [1.0], "width": 4, "spread": 0.1},
    "surrogates.Grid": {"low": [0.0], "high": [1.0], "cells": 4},
    "surrogates.ShallowPiecewise": {"size": 1, "latent": 2, "hidden": 3},
    "surrogates.Transformer": {"head": Later(_head), "blocks": 1, "context": 2},
    "surrogates.forced_loss": {"surrogate": Later(_recurrent), "windows": np.ones((2, 3, 1))},
    "surrogates.grid_of": {"paths": TIMES[:, None], "cells": 4, "margin": 0.1},
    "surrogates.loss": {"surrogate": Later(_recurrent), "windows": np.ones((2, 3, 1))},
    "surrogates.sample": {
        "surrogate": Later(_recurrent),
        "past": np.ones((1, 1)),
        "steps": 2,
        "throw": True,
    },
    "surrogates.teacher_forcing": {"jacobians": np.eye(2)},
    "surrogates.windows": {"paths": TIMES[:, None], "length": 2},
    "training.Copies": {
        "process": Later(lambda: rqf.training.DeepLinear(TARGET, [TARGET], learning_rate=0.1)),
        "copies": 2,
    },
    "training.Tangents": {
        "process": Later(lambda: rqf.training.DeepLinear(TARGET, [TARGET], learning_rate=0.1)),
        "exponents": 1,
    },
    "training.log_stablemax": {"logits": np.ones(2)},
    "training.perpendicular": {"rescale": False},
    "drifts.Descent": {"gradient": _spring, "perpendicular": True},
    "training.BernoulliRBM": {
        "data": np.array([[0, 1.0], [1, 0], [1, 1]]),
        "law": rqf.laws.Normal((3, 2)),
    },
    "training.DeepLinear": {
        "teacher": TARGET,
        "layers": [np.eye(2), np.eye(2)],
        "noise": 0.1,
    },
    "training.GPT": {
        "text": np.arange(40) % 8,
        "context": 4,
        "layers": 1,
    },
    "training.GaussianRBM": {"law": rqf.laws.Normal((3, 2))},
    "training.NoisyDescent": {
        "network": rqf.training.networks.Regression(),
        "law": rqf.laws.Zeros((2,)),
        "inputs": np.ones((3, 2)),
        "injections": (rqf.training.injections.LabelNoise(0.1),),
    },
    "training.FirstWeights": {
        "process": Later(lambda: rqf.training.DeepLinear(TARGET, [TARGET], learning_rate=0.1))
    },
    "training.limit": {
        "process": Later(
            lambda: rqf.training.Process(
                _square, rqf.laws.Zeros((2,)), np.ones(3), optimiser=optax.sgd(0.1)
            )
        )
    },
    "training.LeastSquares": {"residuals": _residuals},
    "training.Process": {
        "loss": _square,
        "law": rqf.laws.Zeros((2,)),
        "data": (),
        "optimiser": optax.sgd(0.1),
        "injections": (),
    },
    "training.Subspace": {"law": rqf.laws.Zeros((3,)), "dimension": 2},
    "training.data.Fresh": {"law": rqf.laws.Normal((2,))},
    "training.data.Sampled": {"law": rqf.laws.Normal((2,))},
    "training.data.Tasks": {"tasks": [np.ones(2)], "starts": [0]},
    "training.data.Whole": {"examples": np.ones(2)},
    "training.TeacherStudent": {
        "teacher": TARGET,
        "law": rqf.laws.Zeros((2, 2)),
        "noise": 0.1,
        "inputs": np.ones((4, 2)),
    },
    "training.gpt.Transformer": None,
    "training.gpt.cross_entropy": None,
    "training.gpt.spectra": None,
    "training.gpt.Record": {"texts": np.ones((2, 5), int)},
    "training.injections.Draw": None,
    "training.injections.checked_injections": None,
    "training.progress_bar": {"text": "training"},
    "training.slow_flow": {
        "process": Later(
            lambda: rqf.training.NoisyDescent(
                rqf.training.networks.Regression(),
                rqf.laws.Zeros((2,)),
                np.ones((3, 2)),
                np.ones(3),
                learning_rate=0.1,
                injections=(rqf.training.injections.LabelNoise(0.1),),
            )
        )
    },
    "runs.train": {
        "process": rqf.training.TeacherStudent(
            TARGET, rqf.laws.Zeros((2, 2)), learning_rate=0.1, batch=2
        ),
        "updates": [0, 1],
        "path": _folder("seeds.zarr"),
        "chunk": 8,
        "segment": None,
        "overwrite": False,
        "quiet": True,
    },
    "training.train": {
        "process": rqf.training.TeacherStudent(
            TARGET, rqf.laws.Zeros((2, 2)), learning_rate=0.1, batch=2
        ),
        "updates": [0, 1, 2],
        "progress": None,
    },
    "member_keys": {},
    "kernels.MLP": {},
    "simulate": {"adjoint": None, "save": _flat},
    "propagate": {"save": _flat},
} | {
    f"observables.{name}": {"x": MATRIX, "function": jnp.tanh, "direction": np.array([1.0, 0.0])}
    for name in (
        "hermitian",
        "hermitian_spectrum",
        "matrix_function",
        "outlier_overlap",
        "singular_overlaps",
        "singular_values",
        "spectrum",
        "stable_rank",
    )
}
PARTICULAR["observables.singular_overlaps"] |= {
    "left": np.array([1.0, 0]),
    "right": np.array([1.0, 0]),
}
for _name in PUBLIC:
    if _name.startswith(("rqf.training.injections.", "rqf.training.data.")):
        _given = PARTICULAR.setdefault(_name[4:], {})
        if _given is not None:
            _given["common"] = None
    if _name.startswith("rqf.theory.attention.") and _name[4:] not in PARTICULAR:
        PARTICULAR[_name[4:]] = {"weight": WEIGHT}

# Results, which functions make and users read, and parts that one function hands to another.
INNER = {
    "Fit",
    "analysis.ActivationFit",
    "analysis.StabilityGap",
    "analysis.ChiSquareTest",
    "analysis.ClusterCount",
    "analysis.Equilibria",
    "analysis.curvature.Estimate",
    "analysis.curvature.Extremes",
    "analysis.curvature.SpectralDensity",
    "analysis.LyapunovSpectrum",
    "analysis.MarchenkoPasturFit",
    "analysis.RateEstimate",
    "analysis.SurvivalCurve",
    "analysis.TailExponent",
    "solvers.variants",
    "theory.initialisation.Blocks",
    "inference.DrivingNoise",
    "inference.FitResult",
    "inference.HiddenStatesFit",
    "inference.Layer",
    "inference.Whitened",
} | {name for name, arguments in PARTICULAR.items() if arguments is None}

HOSTILE = {
    "text": "abc",
    "text of a number": "1.0",
    "bytes": b"1",
    "none": None,
    "true": True,
    "complex": 1 + 2j,
    "complex array": np.array([1j, 2.0]),
    "set": {1.0, 2.0},
    "dict": {"a": 1.0},
    "object": object(),
    "class": dict,
    "function": len,
    "generator": Later(lambda: (i for i in (1, 2))),
    "key": KEY,
    "masked": np.ma.masked_array([1.0, 2.0], [False, True]),
    "date": np.datetime64("2026-01-01"),
    "duration": datetime.timedelta(1),
    "decimal": decimal.Decimal("0.5"),
    "huge": 10**12,
    "enormous": 10**400,
    "negative": -1,
    "zero": 0,
    "half": 0.5,
    "large": 1e30,
    "near the end": 1e300,
    "tiny": 1e-300,
    "nan": math.nan,
    "infinite": math.inf,
    "minus infinite": -math.inf,
    "empty": np.zeros(0),
    "vector": np.array([0.1, 0.2, 0.3]),
    "matrix": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "cube": np.ones((2, 2, 2)),
    "ragged": [[1.0], [1.0, 2.0]],
    "list of text": ["a", "b"],
    "array with nan": np.array([0.1, math.nan]),
    "manifold": rqf.manifolds.Sphere(),
    "law": rqf.laws.Zeros((2,)),
    "drift": rqf.drifts.NoDrift(),
}


def fresh(value):
    return value.make() if isinstance(value, Later) else value
