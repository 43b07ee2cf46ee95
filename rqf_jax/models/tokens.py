"""Tokens moved by common noise, by attention, and by state-space layers."""

from typing import Any

import jax.numpy as jnp

from .._arguments import (
    Key,
    finite,
    maybe,
    nonnegative,
    number,
    one_of,
    part,
    prng_key,
    squared,
    takes,
    whole,
)
from .._linalg.lanes import product
from .._sde import SDE
from ..drifts import (
    AbstractDrift,
    Attention,
    Linear,
    NoDrift,
    Oja,
    SelectiveStateSpace,
    UnnormalisedAttention,
)
from ..kernels import ACTIVATIONS, MLP, Activation
from ..manifolds import AbstractManifold, Euclidean, Sphere
from ..noises import (
    AnisotropicNoise,
    BiasNoise,
    HomogenisedNoise,
    IsotropicNoise,
    KernelNoise,
    Layered,
    NoNoise,
    Sum,
    TokenNoise,
    ValueNoise,
)

# ---- common noise


@takes(sigma=nonnegative)
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


@takes(sigma=nonnegative, forcing=nonnegative)
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


@takes(left=squared, right=squared)
def random_linear_layers(left: Any, right: Any) -> SDE:
    """The limit of a deep linear network with normalisation, independent anisotropic weights.

        x ← normalise(x + √h W_l x),   W_l = L Z_l R with Z_l of independent standard normals

    in the limit h → 0 at depth 1/h per unit time: the Itô equation dX = P ∂(A)X of A = L B R, here
    as the Stratonovich equation with drift -L Lᵀ RᵀR x/2 (derived). Raises ValueError for factors
    that are not square and finite.
    """
    noise = AnisotropicNoise(left, right)
    left, right = noise.left, noise.right
    return SDE(Linear(-0.5 * product(left, left.T, right.T, right)), noise, Sphere())


@takes(
    activation=one_of(*ACTIVATIONS),
    dim=whole(maximum=2**31 - 1),
    bias_in=nonnegative,
    bias_out=nonnegative,
    drift=maybe(part(AbstractDrift)),
)
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

    with κ of `kernels.MLP`. Odd activations without bias gather the tokens at two antipodes, others
    at one point.

    **Arguments**

    - `activation`: one of relu, tanh, gelu, silu, sigmoid.
    - `dim`: the dimension n of a token.
    - `bias_in`, `bias_out`: standard deviations ≥ 0 of the biases of both layers, see
      `kernels.MLP`.
    - `drift`: f, any drift; attention in the paper, none by default.

    **Returns** an `SDE` on the sphere.

    **Raises** ValueError for another activation, dim < 1, negative biases, and a `bias_in` too
    large for the series of `kernels.MLP`.

    **Example**

    >>> sde = rqf.models.mlp_flow("tanh", 3, drift=rqf.drifts.Attention(1.0))
    >>> sde.noise.kernel
    MLP(activation='tanh', dim=3, bias_in=0, bias_out=0)

    Clock and source: Agazzi, Bruno, Mosig García, Saviozzi & Romito, arXiv:2604.26898 (theory
    part read), time T over L layers, each a step T/L of attention and √(T/L) of perceptron.
    """
    kernel = MLP(activation, dim, bias_in, bias_out)
    return SDE(NoDrift() if drift is None else drift, KernelNoise(kernel), Sphere())


# ---- attention


@takes(beta=number(), query_key=maybe(squared), value=maybe(squared))
def self_attention(beta: Any, query_key: Any = None, value: Any = None) -> SDE:
    """Tokens of a transformer with the same attention in every layer, no noise.

        ẋ_i = P_{x_i} Σ_j softmax_j(β x_iᵀ M x_j) V x_j,   M = QᵀK

    Raises ValueError as `drifts.Attention` does. Source: Geshkovski, Letrouit, Polyanskiy &
    Rigollet, arXiv:2312.10794 (recalled); with general V and M, Altafini, arXiv:2511.11553.
    """
    return SDE(Attention(beta, query_key=query_key, value=value), NoNoise(), Sphere())


@takes(value=squared, weights=maybe(squared))
def oja(value: Any, weights: Any = None) -> SDE:
    """The Oja flow, of every token by itself or coupled by fixed weights.

        ẋ_i = P_{x_i} V x_i   or   ẋ_i = P_{x_i} Σ_j W_ij V x_j

    Raises ValueError as `drifts.Oja` does. Source: Altafini, arXiv:2511.11553 (abstract read).
    """
    drift = Linear(value) if weights is None else Oja(weights, value)
    return SDE(drift, NoNoise(), Sphere())


@takes(beta=number(), sigma=nonnegative, strength=number())
def noisy_attention(beta: Any, sigma: Any, strength: Any = 1.0) -> SDE:
    """Softmax attention with a random quadratic form on the residual stream.

        dX_i = P_{X_i} [ strength Σ_j softmax_j(β <X_i, X_j>) X_j dt - sigma ∂Q X_i ]

    Two tokens end opposite with positive probability if 2 strength/(1 + e^(2β)) < sigma²
    (derived), and always aligned otherwise. Raises ValueError if sigma < 0.
    """
    return SDE(Attention(beta, strength), IsotropicNoise(sigma, 0.0), Sphere())


@takes(beta=number(), sigma=nonnegative, strength=number())
def noisy_unnormalised_attention(beta: Any, sigma: Any, strength: Any = 1.0) -> SDE:
    """Unnormalised attention with a random quadratic form on the residual stream.

        dX_i = P_{X_i} [ (strength/N) Σ_j e^(β <X_i, X_j>) X_j dt - sigma ∂Q X_i ]

    Two tokens end opposite with positive probability if strength e^(-β) < sigma² (derived), and
    always aligned otherwise. Raises ValueError if sigma < 0.
    """
    return SDE(UnnormalisedAttention(beta, strength), IsotropicNoise(sigma, 0.0), Sphere())


@takes(beta=number(), variance=nonnegative)
def stochastic_transformer(beta: Any, variance: Any = 1.0) -> SDE:
    """Attention with QᵀK = 1 and a fresh random value matrix in every layer.

        dX_i = P_{X_i} dB Σ_j softmax_j(β <X_i, X_j>) X_j   (Itô),   Var B_kl = variance · t

    Two tokens end opposite with positive probability if cosh 2β > n - 2, and always aligned
    otherwise. `variance` is that of an entry of B per unit time, so only variance · t matters.

    Clock and source: Fedorov, Sander, Elie, Marion & Laurière, arXiv:2601.21942 (abstract read,
    threshold second-hand), values of entry variance `variance` and residual steps 1/√L, time 1 for
    L layers; the equation is derived. Raises ValueError if variance < 0.
    """
    sigma = jnp.sqrt(variance)
    return SDE(NoDrift(), ValueNoise(Attention(beta), sigma), Sphere())


@takes(variance=nonnegative, beta=maybe(number()))
def random_layers(variance: Any = 1.0, beta: Any = None) -> SDE:
    """The residual layers of a network, one a step, with a fresh random matrix in each.

        x_i ← normalise(x_i + √h W f_i(X)),   Var W_kl = variance

    f is softmax attention with QᵀK = 1 at inverse temperature `beta`, whose limit h → 0 is
    `stochastic_transformer`, or the tokens themselves where `beta` is None. Then the mean angle and
    the fate of every pair are those of the limit at any h. Raises ValueError if variance < 0.
    """
    sigma = jnp.sqrt(variance)
    noise = IsotropicNoise(sigma, sigma) if beta is None else ValueNoise(Attention(beta), sigma)
    return SDE(NoDrift(), Layered(noise), Sphere())


@takes(
    beta=number(),
    dim=whole(),
    key_variance=nonnegative,
    samples=whole(),
    key=prng_key,
    variance=maybe(nonnegative),
)
def homogenised_attention(
    beta: Any, dim: int, *, key_variance: Any, samples: int, key: Key, variance: Any = None
) -> SDE:
    """Attention whose queries, keys and values are all drawn anew in every layer.

        dX_i = P_{X_i} F_i,   E F_i F_jᵀ = variance E_A <m_i, m_j> 1 dt   (Itô)

    with m_i the softmax mean of the tokens under β xᵀA y, A = W W'ᵀ.

    **Arguments**

    - `beta`: inverse temperature β, any real number.
    - `dim`: the dimension n of a token.
    - `key_variance`: variance ≥ 0 of an entry of W and W'.
    - `samples`: number of matrices A in the mean E_A, drawn once.
    - `key`: the JAX key from which they are drawn.
    - `variance`: variance ≥ 0 of an entry of a value matrix per unit time; 1/dim by default.

    **Returns** an `SDE` on the sphere.

    **Raises** ValueError for negative variances and sizes below 1.

    **Example**

    >>> key = jax.random.key(0)
    >>> sde = rqf.models.homogenised_attention(1.0, 3, key_variance=0.5, samples=8, key=key)
    >>> sde.noise.query_keys.shape
    (8, 3, 3)

    Clock and source: Koubbi, Geshkovski & Rigollet, arXiv:2604.01978 (read in a transcription),
    whose `variance` is 1/dim and whose clock is αηL.
    """
    variance = 1 / dim if variance is None else variance
    noise = HomogenisedNoise(
        beta, variance, dim, key_variance=key_variance, samples=samples, key=key
    )
    return SDE(NoDrift(), noise, Sphere())


@takes(beta=number(), diffusion=nonnegative, strength=number())
def mean_field_attention(beta: Any, diffusion: Any, strength: Any = 1.0) -> SDE:
    """Unnormalised attention against noise of its own for every token.

        dx_i = P_{x_i} [ (strength/N) Σ_j e^(β <x_i, x_j>) x_j dt + √(2 diffusion) ∘ dW_i ]

    Many tokens stay uniform for diffusion above D_c = strength Γ(n/2) 2^(n/2-1) β^(-n/2) I_{n/2}(β)
    (derived), and order below. Raises ValueError if diffusion < 0.
    Source: Shalova & Schlichting, arXiv:2412.14813 (abstract read).
    """
    sigma = jnp.sqrt(2 * diffusion)
    return SDE(UnnormalisedAttention(beta, strength), TokenNoise(sigma), Sphere())


# ---- state space


@takes(
    step=squared,
    step_bias=finite,
    inputs=finite,
    outputs=finite,
    decay=nonnegative,
    manifold=maybe(part(AbstractManifold)),
)
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

    with Δ_l = softplus(S_Δ x_l + b). In flat space tokens may reach infinity in finite time;
    `simulate(..., throw=False)` marks such members.

    **Arguments**

    - `step`: S_Δ (dim, dim), and `step_bias`: b (dim,).
    - `inputs`, `outputs`: S_B and S_C (states, dim).
    - `decay`: a ≥ 0.
    - `manifold`: flat space by default, or `manifolds.Sphere()`.

    **Returns** an `SDE` without noise.

    **Raises** ValueError for arrays of other shapes or not finite, and a < 0.

    **Example**

    >>> one = jnp.eye(1)
    >>> rqf.models.mamba_tokens(one, jnp.zeros(1), one, -one).manifold
    Euclidean()

    Source: see `drifts.SelectiveStateSpace`.
    """
    drift = SelectiveStateSpace(step, step_bias, inputs, outputs, decay)
    return SDE(drift, NoNoise(), Euclidean() if manifold is None else manifold)
