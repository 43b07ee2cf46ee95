"""A quantum state that is measured, as a token: a closed form for noise that depends on the state.

    dψ = [-iH - L†L/2 + <L>* L - |<L>|²/2] ψ dt + (L - <L>) ψ dξ   (Itô),  E |dξ|² = dt, E dξ² = 0

keeps |ψ| = 1, and the mean of ψψ† obeys Lindblad's linear equation. On the real sphere of (Re ψ,
Im ψ) it is a drift and a noise as users write them (Gisin & Percival 1992, recalled).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean
from scipy.linalg import expm

import rqf_jax as rqf
from rqf_jax.noises import Calculus

HAMILTONIAN = 0.9 * np.array([[0.0, 1.0], [1.0, 0.0]])
OPERATOR = 0.8 * np.array([[0.0, 1.0], [0.0, 0.0]]) + 0.3 * np.diag([1.0, -1.0])


def parts(x):
    """Real and imaginary part of a state, and of <L>."""
    p, q = x[0, :2], x[0, 2:]
    return p, q, p @ OPERATOR @ p + q @ OPERATOR @ q, p @ OPERATOR @ q - q @ OPERATOR @ p


class Relaxation(rqf.drifts.AbstractDrift):
    """-iHψ - L†Lψ/2 + <L>* Lψ; what is along ψ is projected away."""

    def __call__(self, t, x):
        p, q, real, imaginary = parts(x)
        damping = OPERATOR.T @ OPERATOR / 2
        lp, lq = OPERATOR @ p, OPERATOR @ q
        up = HAMILTONIAN @ q - damping @ p + real * lp + imaginary * lq
        down = -HAMILTONIAN @ p - damping @ q + real * lq - imaginary * lp
        return jnp.concatenate([up, down])[None]


class Measurement(rqf.noises.AbstractNoise):
    """(L - <L>) ψ dξ, dξ = (dB_0 + i dB_1)/√2."""

    def shape(self, x):
        return (2,)

    def __call__(self, t, x, dw):
        p, q, real, imaginary = parts(x)
        up = OPERATOR @ p - real * p + imaginary * q
        down = OPERATOR @ q - real * q - imaginary * p
        a, b = dw / np.sqrt(2)
        return jnp.concatenate([a * up - b * down, a * down + b * up])[None]

    def calculus(self, manifold):
        return Calculus.ITO


def projector(x):
    """The four real numbers of ψψ†."""
    p, q = x[0, :2], x[0, 2:]
    return jnp.stack(
        [p[0] ** 2 + q[0] ** 2, p[1] ** 2 + q[1] ** 2, p[0] * p[1] + q[0] * q[1],
         q[0] * p[1] - p[0] * q[1]]
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", [rqf.solvers.GeodesicEuler(), rqf.solvers.ProjectedEuler()], ids=["geodesic", "layer"]
)
def test_the_mean_projector_of_a_measured_state_obeys_lindblads_equation(solver):
    ts = np.array([0.0, 0.5, 2.0])
    runs = rqf.simulate(
        rqf.SDE(Relaxation(), Measurement(), rqf.manifolds.Sphere()),
        rqf.laws.Fixed(np.array([[0.6, 0.0, 0.0, 0.8]])),
        ts, substeps=200, members=20_000, key=jax.random.key(0), solver=solver, save=projector,
    )  # fmt: skip
    # ρ in the basis of matrix units, row by row: A ρ B is kron(A, Bᵀ) ρ.
    one, damping = np.eye(2), OPERATOR.T @ OPERATOR / 2
    lindblad = (
        -1j * (np.kron(HAMILTONIAN, one) - np.kron(one, HAMILTONIAN.T))
        + np.kron(OPERATOR, OPERATOR)
        - np.kron(damping, one)
        - np.kron(one, damping.T)
    )
    start = np.array([0.6, 0.8j])
    for k in (1, 2):
        rho = expm(lindblad * ts[k]) @ np.outer(start, start.conj()).ravel()
        expected = [rho[0].real, rho[3].real, rho[1].real, rho[1].imag]
        assert_mean(runs.ys[:, k], expected, bias=2e-3)
