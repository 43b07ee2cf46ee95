"""The equations of the papers, a few lines each.

Every model is a function from parameters to an `SDE`; its docstring names the paper's clock. Tokens
live on the sphere unless said otherwise.
"""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ._arguments import finite, is_concrete, scalar
from ._sde import SDE
from .drifts import (
    AbstractDrift,
    Attention,
    Coulomb,
    Geometric,
    Linear,
    MatrixWell,
    Network,
    NoDrift,
    Oja,
    Pull,
    SelectiveStateSpace,
    Sum as SumOfDrifts,
    TwoLayer,
    UnnormalisedAttention,
)
from .kernels import MLP, Activation
from .manifolds import AbstractManifold, Euclidean, Hermitian, Sphere, Symmetric, WeylChamber
from .noises import (
    AnisotropicNoise,
    BiasNoise,
    HomogenisedNoise,
    IsotropicNoise,
    KernelNoise,
    Layered,
    LinearNoise,
    NoNoise,
    SpectralNoise,
    Sum,
    TokenNoise,
    ValueNoise,
)
from .potentials import AbstractPotential

# ---- common noise


def random_quadratic_form(sigma: Any) -> SDE:
    """Tokens on the gradient flow of a random quadratic form, the same for all.

        dX_a = -sigma P_{X_a} ∂Q X_a,   Q = (B + Bᵀ)/2   (Stratonovich)

    Tokens synchronise up to sign by the common noise, without attention: sin θ of every pair
    decays as exp(-sigma² t). `sigma` is a scalar ≥ 0 and sigma² variance per unit time.

    Clock: with sigma = √2 one token is a standard Brownian motion on the sphere (generator Δ/2),
    the clock of Shalova, arXiv:2608.16664 and, by its citations, of Engel & Shalova,
    arXiv:2603.06187, whose equation this is. Raises ValueError if sigma < 0.
    """
    return SDE(NoDrift(), IsotropicNoise(symmetric=sigma, antisymmetric=0.0), Sphere())


def forced_rqf(sigma: Any, forcing: Any) -> SDE:
    """A random quadratic form and a common random bias: two clusters first, then one.

        dX_a = P_{X_a} (-sigma ∂Q X_a + forcing ∂W),   W one Brownian motion in R^n for all tokens

    A pair that ended opposite merges after a time of about (π/(2 γ sigma²)) B((n-1)/2, 1/2) with
    γ = √2 forcing/sigma, for small γ (derived).

    Clock: Shalova, arXiv:2608.16664 (read), has sigma = √2 and γ = forcing. Raises ValueError if a
    strength is negative.
    """
    noise = Sum(IsotropicNoise(symmetric=sigma, antisymmetric=0.0), BiasNoise(sigma=forcing))
    return SDE(NoDrift(), noise, Sphere())


def random_linear_layers(left: Any, right: Any) -> SDE:
    """The limit of a deep linear network with normalisation, independent anisotropic weights.

        x ← normalise(x + √h W_l x),   W_l = L Z_l R with Z_l of independent standard normals

    in the limit h → 0 at depth 1/h per unit time: the Itô equation dX = P ∂(A)X of A = L B R, here
    as the Stratonovich equation with drift -L Lᵀ RᵀR x/2 (derived). Raises ValueError for factors
    that are not square and finite.
    """
    noise = AnisotropicNoise(left, right)
    c, d = noise.left @ noise.left.T, noise.right.T @ noise.right
    return SDE(Linear(-0.5 * (c @ d)), noise, Sphere())


def mlp_flow(
    activation: Activation,
    dim: int,
    *,
    bias_in: Any = 0.0,
    bias_out: Any = 0.0,
    drift: AbstractDrift | None = None,
) -> SDE:
    """Tokens through the layers of a wide random perceptron, with or without a drift.

        dX_a = P_{X_a} [ f_a(X) dt + F(X_a) ],   E F_i(x) F_j(y) = κ(<x, y>) δ_ij dt

    with κ of `kernels.MLP`; odd activations without bias gather the tokens at two antipodes, others
    at one point. `drift` is attention in the paper. Raises ValueError as `kernels.MLP` does.

    Clock and source: Agazzi, Bruno, Mosig García, Saviozzi & Romito, arXiv:2604.26898 (theory
    part read), time T over L layers, each a step T/L of attention and √(T/L) of perceptron.
    """
    kernel = MLP(activation, dim, bias_in, bias_out)
    return SDE(NoDrift() if drift is None else drift, KernelNoise(kernel), Sphere())


# ---- attention


def self_attention(beta: Any, query_key: Any = None, value: Any = None) -> SDE:
    """Tokens of a transformer with the same attention in every layer, no noise.

        ẋ_i = P_{x_i} Σ_j softmax_j(β x_iᵀ M x_j) V x_j,   M = QᵀK

    Raises ValueError as `drifts.Attention` does. Source: Geshkovski, Letrouit, Polyanskiy &
    Rigollet, arXiv:2312.10794 (recalled); with general V and M, Altafini, arXiv:2511.11553.
    """
    return SDE(Attention(beta, query_key=query_key, value=value), NoNoise(), Sphere())


def oja(value: Any, weights: Any = None) -> SDE:
    """The Oja flow, of every token by itself or coupled by fixed weights.

        ẋ_i = P_{x_i} V x_i   or   ẋ_i = P_{x_i} Σ_j W_ij V x_j

    Raises ValueError as `drifts.Oja` does. Source: Altafini, arXiv:2511.11553 (abstract read).
    """
    drift = Linear(value) if weights is None else Oja(weights, value)
    return SDE(drift, NoNoise(), Sphere())


def noisy_attention(beta: Any, sigma: Any, strength: Any = 1.0) -> SDE:
    """Softmax attention with a random quadratic form on the residual stream.

        dX_i = P_{X_i} [ strength Σ_j softmax_j(β <X_i, X_j>) X_j dt - sigma ∂Q X_i ]

    Two tokens end opposite with positive probability if 2 strength/(1 + e^(2β)) < sigma²
    (derived), and always aligned otherwise. Raises ValueError if sigma < 0.
    """
    return SDE(Attention(beta, strength), IsotropicNoise(sigma, 0.0), Sphere())


def noisy_unnormalised_attention(beta: Any, sigma: Any, strength: Any = 1.0) -> SDE:
    """Unnormalised attention with a random quadratic form on the residual stream.

        dX_i = P_{X_i} [ (strength/N) Σ_j e^(β <X_i, X_j>) X_j dt - sigma ∂Q X_i ]

    Two tokens end opposite with positive probability if strength e^(-β) < sigma² (derived), and
    always aligned otherwise. Raises ValueError if sigma < 0.
    """
    return SDE(UnnormalisedAttention(beta, strength), IsotropicNoise(sigma, 0.0), Sphere())


def stochastic_transformer(beta: Any, variance: Any = 1.0) -> SDE:
    """Attention with QᵀK = 1 and a fresh random value matrix in every layer.

        dX_i = P_{X_i} dB Σ_j softmax_j(β <X_i, X_j>) X_j   (Itô),   Var B_kl = variance · t

    Two tokens end opposite with positive probability if cosh 2β > n - 2, and always aligned
    otherwise. `variance` is that of an entry of B per unit time, so only variance · t matters.

    Clock and source: Fedorov, Sander, Elie, Marion & Laurière, arXiv:2601.21942 (abstract read,
    threshold second-hand), values of entry variance `variance` and residual steps 1/√L, time 1 for
    L layers; the equation is derived. Raises ValueError if variance < 0.
    """
    sigma = jnp.sqrt(scalar("variance", minimum=0)(variance))
    return SDE(NoDrift(), ValueNoise(Attention(beta), sigma), Sphere())


def random_layers(variance: Any = 1.0, beta: Any = None) -> SDE:
    """The residual layers of a network, one a step, with a fresh random matrix in each.

        x_i ← normalise(x_i + √h W f_i(X)),   Var W_kl = variance

    f is softmax attention with QᵀK = 1 at inverse temperature `beta`, whose limit h → 0 is
    `stochastic_transformer`, or the tokens themselves where `beta` is None. Then the mean angle and
    the fate of every pair are those of the limit at any h. Raises ValueError if variance < 0.
    """
    sigma = jnp.sqrt(scalar("variance", minimum=0)(variance))
    noise = IsotropicNoise(sigma, sigma) if beta is None else ValueNoise(Attention(beta), sigma)
    return SDE(NoDrift(), Layered(noise), Sphere())


def homogenised_attention(
    beta: Any, dim: int, *, key_variance: Any, samples: int, key: PRNGKeyArray, variance: Any = None
) -> SDE:
    """Attention whose queries, keys and values are all drawn anew in every layer.

        dX_i = P_{X_i} F_i,   E F_i F_jᵀ = variance E_A <m_i, m_j> 1 dt   (Itô)

    with m_i the softmax mean of the tokens under β xᵀA y; see `noises.HomogenisedNoise` for A, its
    `samples` and errors. `variance` is 1/dim if left out, the choice of Koubbi, Geshkovski &
    Rigollet, arXiv:2604.01978 (read in a transcription), whose clock is αηL.
    """
    variance = 1 / dim if variance is None else variance
    noise = HomogenisedNoise(
        beta, variance, dim, key_variance=key_variance, samples=samples, key=key
    )
    return SDE(NoDrift(), noise, Sphere())


def mean_field_attention(beta: Any, diffusion: Any, strength: Any = 1.0) -> SDE:
    """Unnormalised attention against noise of its own for every token.

        dx_i = P_{x_i} [ (strength/N) Σ_j e^(β <x_i, x_j>) x_j dt + √(2 diffusion) ∘ dW_i ]

    Many tokens stay uniform for diffusion above D_c = strength Γ(n/2) 2^(n/2-1) β^(-n/2) I_{n/2}(β)
    (derived), and order below. Raises ValueError if diffusion < 0.
    Source: Shalova & Schlichting, arXiv:2412.14813 (abstract read).
    """
    sigma = jnp.sqrt(2 * scalar("diffusion", minimum=0)(diffusion))
    return SDE(UnnormalisedAttention(beta, strength), TokenNoise(sigma), Sphere())


# ---- state space


def mamba_tokens(
    step: Any,
    step_bias: Any,
    inputs: Any,
    outputs: Any,
    decay: Any = 1.0,
    manifold: AbstractManifold | None = None,
) -> SDE:
    """Tokens of a selective state-space model, in flat space or with normalisation on the sphere.

        ẋ_l = h_l (S_C x_l),   h_l = e^(-a Δ_l) h_{l-1} + Δ_l x_l ⊗ (S_B x_l)

    Arguments, errors and source are those of `drifts.SelectiveStateSpace`; `manifold` is
    `Euclidean()` if left out. In flat space tokens may reach infinity in finite time, and such
    members are marked.
    """
    drift = SelectiveStateSpace(step, step_bias, inputs, outputs, decay)
    return SDE(drift, NoNoise(), Euclidean() if manifold is None else manifold)


# ---- weights


def dyson(
    g: Any,
    rate: Any = 0.0,
    beta: int = 1,
    target: Any = 0.0,
    potential: AbstractPotential | None = None,
) -> SDE:
    """A random symmetric (beta = 1) or Hermitian (beta = 2) matrix, pulled to a target, in a well.

        dH = -rate (H - target) dt - V'(H) dt + dN,
        E|dN_ij|² = beta g² dt off the diagonal, dN_ii² = 2g² dt

    Its eigenvalues are Dyson's motion (`theory.dyson` has the clock); from zero and without a
    potential they fill a semicircle of radius `theory.dyson.edge`, and the step is exact in law for
    every length, so that `substeps=1` does. With a `potential` V, one of `potentials`, which acts
    on the eigenvalues as in `dyson_eigenvalues`, steps have weak order 2 (`solvers.Strang`). A
    Hermitian state is one real matrix, see `manifolds.Hermitian`; so is its target. `rate` ≥ 0 per
    unit time, g² variance per unit time.

    Raises ValueError for negative g or rate, another beta, a target that is not symmetric, and a
    potential of another kind.
    """
    if not isinstance(beta, int) or beta not in (1, 2):
        raise ValueError(
            f"`beta` must be 1 or 2 for a matrix; got {beta!r}. Use `dyson_eigenvalues`."
        )
    pull, sigma = Pull(rate, target), math.sqrt(2) * scalar("g", minimum=0)(g)
    drift = pull if potential is None else MatrixWell(potential, rate, target, beta=beta)
    if beta == 2:
        return SDE(drift, TokenNoise(sigma), Hermitian())
    if pull.target.ndim == 2 and is_concrete(pull.target):
        skew = float(jnp.max(jnp.abs(pull.target - pull.target.T)))
        if skew > 1e-5:
            raise ValueError(f"`target` must be symmetric; got entries that differ by {skew:.3g}.")
    return SDE(drift, TokenNoise(sigma), Symmetric())


def dyson_eigenvalues(
    g: Any, rate: Any = 0.0, beta: Any = 1, potential: AbstractPotential | None = None
) -> SDE:
    """Dyson's motion of n ordered eigenvalues for any beta ≥ 1, in a well.

        dλ_i = -rate λ_i dt - V'(λ_i) dt + beta g² Σ_{j≠i} dt/(λ_i - λ_j) + √2 g dB_i

    The state is the vector of eigenvalues, strictly ascending (`laws.GaussianEnsemble` draws them).
    Given as the numbers 1 and 2, beta has an exact step, `solvers.MatrixJump` (without a
    potential), for which the noise is a whole matrix; every other, and an array, has
    `solvers.BackwardEuler`. Below 1 eigenvalues would collide. V is one of `potentials`.

    Raises ValueError for negative g or rate and for beta < 1.
    """
    g = scalar("g", minimum=0)(g)
    strength = scalar("beta", minimum=1)(beta) * g**2
    matrix = isinstance(beta, int | float) and beta in (1, 2)
    noise = SpectralNoise(g, int(beta)) if matrix else TokenNoise(math.sqrt(2) * g)
    return SDE(Coulomb(strength, rate, potential), noise, WeylChamber())


def ginibre(s: Any, rate: Any = 0.0) -> SDE:
    """A real matrix of any shape with independent entries, pulled to zero.

        dW = -rate W dt + s dB

    Square ones have complex eigenvalues that fill a disc of radius √(n v), v the variance of an
    entry (Ginibre); singular values are Laguerre's process. s² is variance per unit time. Raises
    ValueError for negative s or rate.
    """
    return SDE(Pull(rate), TokenNoise(s), Euclidean())


def weight_ou(s: Any, rate: Any, teacher: Any) -> SDE:
    """A weight matrix of m ≥ n that learns a teacher under noise.

        dW = -rate (W - teacher) dt + s dB,   W and teacher of shape (m, n)

    Gradient descent of a linear layer on whitened inputs. Singular values follow Laguerre's
    process; those of the teacher emerge at `theory.outliers.rectangular_emergence_time`. The step
    is exact in law. Raises ValueError for negative s or rate, and unless m ≥ n.
    """
    teacher = finite("teacher", teacher)
    if teacher.ndim != 2 or teacher.shape[0] < teacher.shape[1]:
        raise ValueError(
            "`teacher` must be a matrix with at least as many rows as columns; got shape "
            f"{teacher.shape}. Transpose it."
        )
    return SDE(Pull(rate, teacher), TokenNoise(s), Euclidean())


def two_layer(s: Any, teacher: Any, rate: Any = 1.0) -> SDE:
    """Two coupled weight matrices that learn the product of a teacher under noise.

        dU = -rate (U Vᵀ - teacher) V dt + s dB,   dV = -rate (U Vᵀ - teacher)ᵀ U dt + s dB'

    Gradient descent of |U Vᵀ - teacher|²/2, a linear network with one hidden layer on whitened
    inputs (W₂ = U, W₁ = Vᵀ); teacher is m × n. The state is U over V, an array (m + n, hidden).
    Without noise UᵀU - VᵀV is conserved and modes follow `theory.linear_networks`. Raises
    ValueError for negative s or rate, and for a teacher that is no matrix.
    """
    return SDE(TwoLayer(rate, teacher), TokenNoise(s), Euclidean())


# ---- learned


def neural_langevin(
    state: tuple[int, ...], *, rate: Any = 1.0, sigma: Any = 1.0, key: PRNGKeyArray, **sizes: Any
) -> SDE:
    """A learnable equation with additive noise that no parameters make explode.

        dx = [-rate x + network(x)] dt + sigma dB,
        E x_i² ≤ max(E x_i(0)², (bound/rate)² + sigma²/rate)

    `state`, `key` and `sizes` (`width`, `depth`, `bound`) are those of `drifts.Network`. Fit it by
    `rqf_jax.fit(..., where=lambda sde: (sde.drift, sde.noise), steps=400)`; few steps leave it near
    its start, see there. Raises ValueError as its parts do.
    Source: the three kinds are those of Oh, Lim & Kim, ICLR 2024 (recalled, the equations from the
    authors' README second-hand); pull, bounded network and the bound on moments are ours.
    """
    drift = SumOfDrifts(Pull(rate), Network(state, key=key, **sizes))
    return SDE(drift, TokenNoise(sigma), Euclidean())


def neural_linear_noise(
    state: tuple[int, ...], *, rate: Any = 1.0, sigma: Any = 1.0, key: PRNGKeyArray, **sizes: Any
) -> SDE:
    """The same drift as `neural_langevin` with noise proportional to the state (Stratonovich).

        dx = [-rate x + network(x)] dt + sigma x ∘ dB

    Nor does it explode: |x| is at most y with dy = (bound - rate y) dt + sigma y ∘ dB, y_0 = |x_0|,
    whose mean stays bounded for sigma² < 2 rate. Raises ValueError as its parts do.
    Source: `neural_langevin`.
    """
    drift = SumOfDrifts(Pull(rate), Network(state, key=key, **sizes))
    return SDE(drift, LinearNoise(sigma), Euclidean())


def neural_geometric(
    state: tuple[int, ...], *, sigma: Any = 1.0, key: PRNGKeyArray, **sizes: Any
) -> SDE:
    """A learnable equation of positive (or negative) numbers, none of which changes sign.

        dx = x network(x) dt + sigma x ∘ dB,   |ln(x/x_0) - sigma B| ≤ bound · t

    Raises ValueError as its parts do. Source: `neural_langevin`.
    """
    return SDE(Geometric(Network(state, key=key, **sizes)), LinearNoise(sigma), Euclidean())
