"""Branches with fresh weights: one matrix, a perceptron, and branches made of branches."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import each, fitting, flag, integer, maybe, one_of, optional, part, scalar
from .._norm import Norm, unit
from ..drifts import AbstractDrift
from ..kernels import ACTIVATIONS, Activation
from ._abstract import AbstractBranch


class RandomLinear(AbstractBranch):
    """One random matrix for all tokens, acting on them or on a function of them.

        W x_i   or   W f_i(x),   W_kl independent normals of variance `variance`

    `field` is f, any drift: attention for a random value matrix, None for the tokens themselves.
    Raises ValueError if the variance is negative or not a finite scalar, or f is not a drift.
    """

    variance: Float[Array, ""] = eqx.field(converter=scalar("variance", minimum=0))
    field: AbstractDrift | None = None

    def __check_init__(self):
        maybe(part(AbstractDrift))("field", self.field)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """W x_i, or W f_i(x)."""
        weights = jnp.sqrt(self.variance) * jax.random.normal(key, (x.shape[1],) * 2, x.dtype)
        entering = x if self.field is None else self.field(jnp.zeros((), x.dtype), x)
        return jnp.matmul(entering, weights.T, precision="highest")


class RandomMLP(AbstractBranch):
    """A perceptron with one hidden layer of finite width, gated or not.

        F(x) = √(v/m) Σ_j w_j φ(h_j) + σ_W c,   h_j = √s u_j·x + σ_U b_j

    with independent standard normals w_j, u_j, c in R^d and b_j. Without arguments v = 1 and
    s = 1/d: the covariance of two unit tokens is `kernels.MLP(activation, dim, bias_in, bias_out)`
    at every width m, and F is Gaussian for m → ∞. A gated perceptron, such as SwiGLU, has
    φ(h_j) √s g_j·x in place of φ(h_j), g_j standard normal.

    **Arguments**

    - `activation`: φ, one of relu, tanh, gelu, silu, sigmoid.
    - `width`: m.
    - `bias_in`, `bias_out`: σ_U ≥ 0 and σ_W ≥ 0.
    - `variance`: v ≥ 0.
    - `input_variance`: s ≥ 0, the variance of h_j for a unit token; 1/d by default.
    - `gated`: whether a second matrix multiplies the activations.

    **Raises** ValueError for another activation, width < 1, and numbers that are negative.

    **Example**

    >>> branch = rqf.layers.RandomMLP("gelu", 16)
    >>> branch(jax.random.key(0), jnp.eye(3)).shape
    (3, 3)

    Source: Agazzi, Bruno, Mosig García, Saviozzi & Romito, arXiv:2604.26898 (theory part read).
    """

    activation: Activation = eqx.field(static=True)
    width: int = eqx.field(static=True)
    bias_in: Float[Array, ""] = eqx.field(converter=scalar("bias_in", minimum=0), default=0.0)
    bias_out: Float[Array, ""] = eqx.field(converter=scalar("bias_out", minimum=0), default=0.0)
    variance: Float[Array, ""] = eqx.field(converter=scalar("variance", minimum=0), default=1.0)
    input_variance: Float[Array, ""] | None = eqx.field(
        converter=optional(scalar("input_variance", minimum=0)), default=None
    )
    gated: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        fitting("width", (integer("width", self.width), 4))
        one_of(*ACTIVATIONS)("activation", self.activation)
        flag("gated", self.gated)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The perceptron's output for every token."""
        dim, width = x.shape[1], self.width
        entering, hidden_bias, leaving, bias = (
            jax.random.normal(k, shape, x.dtype)
            for k, shape in zip(
                jax.random.split(key, 4),
                [(dim, width), (1, width), (width, dim), (1, dim)],
                strict=True,
            )
        )
        scale = dim**-0.5 if self.input_variance is None else jnp.sqrt(self.input_variance)
        with jax.default_matmul_precision("highest"):
            hidden = x @ entering * scale + self.bias_in * hidden_bias
            hidden = ACTIVATIONS[self.activation](hidden)
            if self.gated:
                gate = jax.random.normal(jax.random.fold_in(key, 4), (dim, width), x.dtype)
                hidden = hidden * (x @ gate * scale)
            out = hidden @ leaving * jnp.sqrt(self.variance / width)
            return out + self.bias_out * bias


class Parallel(AbstractBranch):
    """Branches of the same tokens, added: attention beside a perceptron, as in GPT-NeoX.

        F(x) = F_1(x) + F_2(x) + …,   weights independent

    In `Block`, the sequential form, the second branch sees what the first has made of the tokens.
    Raises ValueError for no branches, and for parts that are not branches.
    """

    branches: tuple[AbstractBranch, ...]

    def __init__(self, *branches: AbstractBranch):
        self.branches = each(part(AbstractBranch))("branches", branches)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The sum of the outputs."""
        keys = jax.random.split(key, len(self.branches))
        first, *others = (branch(own, x) for branch, own in zip(self.branches, keys, strict=True))
        return sum(others, first)


class Normed(AbstractBranch):
    """A branch that sees directions alone: F_0(N(x)), N(x) = Γ x/|x|.

    With `Residual(..., stream=Euclidean())` this is Pre-LN. `branch` is F_0; `gain` is the diagonal
    of Γ, (dim,), 1 by default; `centre` takes the mean over the coordinates of a token out first,
    as LayerNorm does. Raises ValueError if `branch` is not a branch, or the gain is no vector of
    the tokens' size.
    """

    branch: AbstractBranch
    norm: Norm

    def __init__(self, branch: AbstractBranch, gain: Any = None, centre: bool = False):
        self.branch = part(AbstractBranch)("branch", branch)
        self.norm = Norm(gain, centre)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """F_0(N(x))."""
        return self.branch(key, self.norm(x))


class UnitOutput(AbstractBranch):
    """A branch whose output is normalised before it is added: F_0(x)/|F_0(x)|, 0 where F_0 is 0.

    On the sphere this is nGPT, and around a `Normed` branch, with `stream=Euclidean()`, Peri-LN.
    Raises ValueError if `branch` is not a branch.
    """

    branch: AbstractBranch

    def __check_init__(self):
        part(AbstractBranch)("branch", self.branch)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The directions of the outputs."""
        return unit(self.branch(key, x))
