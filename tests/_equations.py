"""Equations of small states that hold every public model, noise, drift and solver."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import diffrax
import equinox as eqx
import jax
import numpy as np

import rqf_jax as rqf

d, m, n, s = rqf.drifts, rqf.models, rqf.noises, rqf.solvers
flat, sphere = rqf.manifolds.Euclidean(), rqf.manifolds.Sphere()
DRAWN = np.random.default_rng(0)
Q, VIEWS, OTHER = (DRAWN.normal(size=size).astype(np.float32) for size in [(3, 3), (6, 2), (6, 2)])


def vector():
    return rqf.laws.Normal((4,))


def matrix():
    return rqf.laws.Normal((3, 3))


def symmetric():
    return rqf.laws.Fixed((Q + Q.T) / 2)


@dataclass
class Equation:
    """An equation with the law of its start.

    `why` is a word of the reason why it is a scan, if it is one. `amplifies` says that roundings
    grow beyond 2e-5 in 128 steps by the flow itself, whatever computes it: fields whose covariance
    is nearly singular where tokens meet.
    """

    sde: rqf.SDE
    law: Any = field(default_factory=lambda: rqf.laws.Uniform(5, 3))
    solver: diffrax.AbstractSolver | None = None
    why: str | None = None
    amplifies: bool = False


def parts(**laws):
    return rqf.laws.Product(laws)


def networks(*names):
    shapes = {"A": (2, 2), "B": (2, 2), "C": (2, 2)}
    return parts(**{name: rqf.laws.Normal(shapes[name]) for name in names})


def particle(sde, solver=None, **others):
    return Equation(sde, parts(q=rqf.laws.Normal((2,)), p=rqf.laws.Normal((2,))), solver, **others)


def of(noise, drift=None, law=None, manifold=sphere, solver=None, **others):
    sde, law = rqf.SDE(drift or d.NoDrift(), noise, manifold), law or rqf.laws.Uniform(5, 3)
    return Equation(sde, law, solver, **others)


def spring(q):
    return 2.0 * q


def composite():
    noise = n.Product({"x": n.IsotropicNoise(0.5, 0.5), "r": n.TokenNoise(0.3)})
    manifold = rqf.manifolds.Product({"x": sphere, "r": flat})
    return of(noise, None, parts(x=rqf.laws.Uniform(5, 3), r=vector()), manifold, s.GeodesicHeun())


def spectrum(beta, **others):
    return Equation(m.dyson_eigenvalues(0.5, 1.0, beta), rqf.laws.Fixed([0.0, 1.0, 2.0]), **others)


def masked():
    mask = d.causal_mask(5)
    return of(
        n.IsotropicNoise(0.8, 0.0),
        d.Attention(1.0, query_key=Q, value=Q.T, mask=mask),
        amplifies=True,
    )


def rotary():
    frequencies = d.rotary_frequencies(2)
    return of(n.TokenNoise(0.5), d.Attention(1.0, frequencies=frequencies), rqf.laws.Uniform(4, 4))


RECORD = [0.0, 1.0, 2.0], [[0.0], [1.0], [0.5]], [0]


def half():
    return rqf.schedules.Exponential(0.5)


# Made when they are used: parameters have the precision of the moment. A model has its own name,
# and perhaps a word more.
EQUATIONS: dict[str, Callable[[], Equation]] = {
    # ---- models of tokens
    "random_quadratic_form": lambda: Equation(m.random_quadratic_form(1.0)),
    "forced_rqf": lambda: Equation(m.forced_rqf(1.0, 0.5)),
    "random_linear_layers": lambda: Equation(m.random_linear_layers(0.5 * Q, np.eye(3))),
    "mlp_flow": lambda: Equation(m.mlp_flow("tanh", 3, bias_in=0.1, bias_out=0.1), amplifies=True),
    "self_attention": lambda: Equation(m.self_attention(1.0)),
    "oja": lambda: Equation(m.oja(Q)),
    "oja of coupled tokens": lambda: Equation(m.oja(Q, np.full((5, 5), 0.2))),
    "noisy_attention": lambda: Equation(m.noisy_attention(1.0, 1.0)),
    "noisy_unnormalised_attention": lambda: Equation(m.noisy_unnormalised_attention(1.0, 0.7)),
    "stochastic_transformer": lambda: Equation(m.stochastic_transformer(1.0)),
    "random_layers": lambda: Equation(m.random_layers(0.5)),
    "random_layers of attention": lambda: Equation(m.random_layers(0.5, beta=1.0)),
    "homogenised_attention": lambda: Equation(
        m.homogenised_attention(1.0, 3, key_variance=0.5, samples=4, key=jax.random.key(1)),
        amplifies=True,
    ),
    "mean_field_attention": lambda: Equation(m.mean_field_attention(1.0, 0.1)),
    "mamba_tokens": lambda: Equation(
        m.mamba_tokens(0.3 * np.eye(3), np.zeros(3), 0.3 * Q[:2], -0.3 * Q[1:])
    ),
    "normalised pre": lambda: Equation(m.normalised(m.stochastic_transformer(1.0), "pre")),
    "normalised ngpt": lambda: Equation(
        m.normalised(m.stochastic_transformer(1.0), "ngpt"), amplifies=True
    ),
    "normalised peri": lambda: Equation(
        m.normalised(m.self_attention(1.0), "peri", gain=[1.0, 0.5, 2.0], centre=True)
    ),
    "normalised_layers": lambda: Equation(m.normalised_layers("pre", 1.0, beta=1.0)),
    "in_log_time": lambda: Equation(m.in_log_time(m.noisy_attention(1.0, 0.5))),
    # ---- models of weights
    "dyson": lambda: Equation(m.dyson(0.5, 0.5), symmetric()),
    "dyson unitary": lambda: Equation(m.dyson(0.5, 0.5, 2), matrix()),
    "dyson in a well": lambda: Equation(
        m.dyson(0.5, 0.5, potential=rqf.potentials.Quartic(1.0)), symmetric(), why="`eigh`"
    ),
    "dyson_eigenvalues": lambda: spectrum(1),
    "dyson_eigenvalues unitary": lambda: spectrum(2, why="complex64"),
    "dyson_eigenvalues of any index": lambda: spectrum(2.5, why="`lu`"),
    "ginibre": lambda: Equation(m.ginibre(0.5, 0.5), matrix()),
    "weight_ou": lambda: Equation(m.weight_ou(1.0, 0.5, np.ones((3, 3))), matrix()),
    "two_layer": lambda: Equation(m.two_layer(0.3, np.diag([2.0, 1.0])), rqf.laws.Normal((4, 2))),
    "stop_gradient_flow": lambda: Equation(
        m.stop_gradient_flow(VIEWS, OTHER, decay=0.5, temperature=0.01), networks("A", "B")
    ),
    "ema_flow": lambda: Equation(
        m.ema_flow(VIEWS, OTHER, decay=0.5, rate=1.0, temperature=0.01), networks("A", "B", "C")
    ),
    "joint_flow": lambda: Equation(m.joint_flow(VIEWS, OTHER, decay=0.5), networks("A", "B")),
    # ---- models of particles and learned ones
    "underdamped_langevin": lambda: particle(
        m.underdamped_langevin(spring, friction=1.0, temperature=0.5)
    ),
    "heavy_ball": lambda: particle(m.heavy_ball(spring, convexity=1.0, step=0.01)),
    "nesterov": lambda: particle(m.nesterov(spring, convexity=1.0, step=0.01)),
    "neural_langevin": lambda: Equation(
        m.neural_langevin((4,), width=8, key=jax.random.key(1)), vector()
    ),
    "neural_linear_noise": lambda: Equation(
        m.neural_linear_noise((4,), sigma=0.5, width=8, key=jax.random.key(1)), vector()
    ),
    "neural_geometric": lambda: Equation(
        m.neural_geometric((4,), sigma=0.5, width=8, key=jax.random.key(1)), vector()
    ),
    # ---- noises
    "rotations": lambda: of(n.IsotropicNoise(0.8, 0.5)),
    "tokens in the plane": lambda: of(n.IsotropicNoise(1.0, 0.3), law=rqf.laws.Uniform(5, 2)),
    "tokens in dimension four": lambda: of(n.IsotropicNoise(1.0, 0.3), law=rqf.laws.Uniform(5, 4)),
    "noise of its own": lambda: of(n.TokenNoise(0.5)),
    "harmonic": lambda: of(n.HarmonicNoise(2, 1.0), law=rqf.laws.Uniform(5, 2)),
    "field of a kernel": lambda: of(
        n.KernelNoise(rqf.kernels.PowerSeries([0.0, 0.5, 0.5])), amplifies=True
    ),
    "field of a normalised kernel": lambda: of(
        n.KernelNoise(rqf.kernels.UnitOutput(rqf.kernels.PowerSeries([0.0, 0.5, 0.5]), 3)),
        amplifies=True,
    ),
    "matrix of preferred directions": lambda: of(n.AnisotropicNoise(0.5 * Q, np.eye(3))),
    "span": lambda: of(n.SpanNoise(0.5, 0.5), law=rqf.laws.Uniform(2, 4), why="`qr`"),
    "scalar": lambda: of(n.ScalarNoise(d.MeanField(1.0), 0.5)),
    "sum": lambda: of(n.Sum(n.IsotropicNoise(0.5, 0.0), n.TokenNoise(0.3), n.BiasNoise(0.2))),
    "scheduled": lambda: of(
        n.Scheduled(n.TokenNoise(0.5), half()), d.Scheduled(d.MeanField(1.0), half())
    ),
    "layers": lambda: of(n.Layered(n.IsotropicNoise(0.5, 0.5))),
    "correlated": lambda: of(n.CorrelatedNoise(np.ones((4, 2))), d.Pull(1.0), vector(), flat),
    "composite": composite,
    # ---- drifts
    "masked attention": masked,
    "rotary attention": rotary,
    "descent across weights": lambda: of(
        n.TokenNoise(0.3), d.Descent(spring, perpendicular=True), vector(), flat
    ),
    "nudged to a record": lambda: of(
        n.NoNoise(), d.Nudged(d.Pull(1.0), 2.0, *RECORD), vector(), flat
    ),
    "driven by a record": lambda: of(
        n.NoNoise(), d.Driven(d.Pull(1.0), *RECORD), rqf.laws.Normal((3,)), flat
    ),
    "waves": lambda: of(
        n.NoNoise(),
        # All waves that grow are below a third of the points.
        rqf.systems.KuramotoSivashinsky(16, advection=1.0, instability=1.0, viscosity=0.2),
        rqf.laws.Normal((16,)),
        flat,
        why="`fft`",
    ),
    "constant and linear": lambda: of(
        n.TokenNoise(0.3), d.Sum(d.Constant([1.0, 0.0, 0.0]), d.Linear(Q))
    ),
    # ---- solvers
    "LinearFlow": lambda: of(n.NoNoise(), d.Linear(Q)),
    "GeodesicHeun": lambda: Equation(m.noisy_attention(1.0, 1.0), solver=s.GeodesicHeun()),
    "ProjectedEuler": lambda: of(n.TokenNoise(0.5), solver=s.ProjectedEuler()),
    "Heun of diffrax": lambda: Equation(
        m.neural_linear_noise((4,), sigma=0.5, width=8, key=jax.random.key(1)),
        vector(),
        diffrax.Heun(),
    ),
    "Euler of diffrax": lambda: Equation(m.ginibre(0.5, 0.5), matrix(), diffrax.Euler()),
    "ItoMilstein of diffrax": lambda: Equation(
        m.ginibre(0.5, 0.5), matrix(), diffrax.ItoMilstein()
    ),
    "ShARK of diffrax": lambda: Equation(m.ginibre(0.5, 0.5), matrix(), diffrax.ShARK()),
    "SRA1 of diffrax": lambda: Equation(m.ginibre(0.5, 0.5), matrix(), diffrax.SRA1()),
    "SPaRK of diffrax": lambda: Equation(m.ginibre(0.5, 0.5), matrix(), diffrax.SPaRK()),
    "Dopri5 of diffrax": lambda: of(
        n.NoNoise(), rqf.systems.Lorenz96(8), rqf.laws.Normal((8,)), flat, diffrax.Dopri5()
    ),
    "Dopri8 of diffrax": lambda: of(
        n.NoNoise(), rqf.systems.Lorenz96(40), rqf.laws.Normal((40,)), flat, diffrax.Dopri8()
    ),
    "Tsit5 of diffrax": lambda: of(n.NoNoise(), d.Pull(1.0), vector(), flat, diffrax.Tsit5()),
}


def kinds(equation: Equation) -> set[type]:
    """The classes of all parts of an equation, its solver among them."""
    found: set[type] = set()

    def visit(part):
        if isinstance(part, eqx.Module):
            found.add(type(part))
            for own in fields(part):
                jax.tree.map(visit, getattr(part, own.name), is_leaf=_is_module)

    visit(equation.sde)
    found.add(type(equation.solver or s.default(equation.sde)))
    return found


def _is_module(part):
    return isinstance(part, eqx.Module)
