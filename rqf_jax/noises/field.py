"""Isotropic random fields: every token feels a Gaussian vector, correlated through the tokens."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._arguments import Key, fitting, integer, is_concrete, part, prng_key, scalar
from .._linalg.lanes import gram, transform
from ..kernels import AbstractKernel
from ..manifolds import AbstractManifold, Sphere
from ._abstract import AbstractNoise, Calculus


class AbstractDrawnNoise(AbstractNoise):
    """dx_a = P_{x_a} F_a with E F_ai F_bj = S_ab(X) δ_ij dt: the same S for every direction.

    The increment is drawn for the tokens at the start of a step, so the equation is an Itô one.
    """

    @property
    def isotropic(self) -> bool:
        """True: S is that of every direction."""
        return True

    @abc.abstractmethod
    def covariance(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens tokens"]:
        """S(X), positive semidefinite, per unit time."""

    def shape(self, x: Float[Array, "tokens dim"]) -> tuple[int, ...]:
        """The shape of the state."""
        return x.shape

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The increment is drawn for the tokens of one state."""
        if not isinstance(manifold, Sphere):
            raise ValueError(f"`{type(self).__name__}` is a noise of the sphere; got {manifold}.")
        return Calculus.ITO


class AbstractFieldNoise(AbstractDrawnNoise):
    """dx_a = P_{x_a} F_a with E F_ai F_bj = S_ab(X) δ_ij dt: the same S for every direction.

    The increment is L dW with S = L Lᵀ, L lower triangular, and dW of the shape of the state. It is
    drawn for the tokens at the start of a step, so the equation is an Itô equation. Rounding limits
    how close two tokens can come: distances below about √(N ε) count as zero, and such tokens move
    as one from then on (4e-4 √N in float32, 1e-8 √N in float64).
    """

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """L dW."""
        return correlated(self.covariance(t, x), dw)


class KernelNoise(AbstractFieldNoise):
    """An isotropic field on the sphere with a given covariance of two points.

        dx_a = P_{x_a} F(x_a),   E F_i(x) F_j(y) = κ(<x, y>) δ_ij dt

    Itô drift -κ(1) (n-1)/2 x. κ(r) = c is `BiasNoise`, κ(r) = v r is `IsotropicNoise` with
    sigma_s² = sigma_a² = v, and `kernels.MLP` the layers of a perceptron at initialisation. Its
    Lyapunov exponents are λ_i = [(n-1-2i) κ'(1) - (n-1) κ(1)]/2, i = 1, …, n-1.

    Raises ValueError if `kernel` is not one of `rqf_jax.kernels`, or if |κ(r)| > κ(1) somewhere,
    which no covariance can. Source: arXiv:2604.26898 (read); the exponents are derived.
    """

    kernel: AbstractKernel

    def __check_init__(self):
        part(AbstractKernel)("kernel", self.kernel)
        if is_concrete(self.kernel):
            with jax.ensure_compile_time_eval():
                r = np.linspace(-1, 1, 41)
                values = np.asarray(self.kernel(jnp.asarray(r)))
            worst = int(np.argmax(np.abs(values)))
            if not np.abs(values[worst]) <= values[-1] * (1 + 1e-5):
                raise ValueError(
                    "`kernel` must have |κ(r)| ≤ κ(1); got "
                    f"κ({r[worst]:g}) = {values[worst]:g} and κ(1) = {values[-1]:g}."
                )

    def covariance(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens tokens"]:
        """κ of the Gram matrix."""
        return self.kernel(gram(x, x))


class HomogenisedNoise(AbstractFieldNoise):
    """Attention whose weights are all drawn anew in every layer, in the limit of many layers.

        S_ij = variance · E_A <m_i, m_j>,   m_i = Σ_j softmax_j(β x_iᵀ A x_j) x_j,   A = W W'ᵀ,

    W and W' (n x n) of independent normals. The mean over A is over matrices drawn once, when the
    noise is made: an attention layer with that many heads, whose keys and queries stay and whose
    values are new in every layer.

    **Arguments**

    - `beta`: inverse temperature β, any real number.
    - `variance`: variance ≥ 0 of an entry of a value matrix per unit time.
    - `dim`: the dimension n of a token.
    - `key_variance`: variance ≥ 0 of an entry of W and W'.
    - `samples`: number of matrices A; `key`: the JAX key from which they are drawn.

    **Raises** ValueError for negative variances and sizes below 1.

    **Example**

    >>> noise = rqf.noises.HomogenisedNoise(
    ...     1.0, 0.5, 3, key_variance=1.0, samples=4, key=jax.random.key(0)
    ... )
    >>> noise.covariance(0.0, jnp.eye(3)).shape
    (3, 3)

    Source: Koubbi, Geshkovski & Rigollet, arXiv:2604.01978 (read in a transcription).
    """

    beta: Float[Array, ""] = eqx.field(converter=scalar("beta"))
    variance: Float[Array, ""] = eqx.field(converter=scalar("variance", minimum=0))
    query_keys: Float[Array, "samples dim dim"]

    def __init__(
        self,
        beta: Any,
        variance: Any,
        dim: int,
        *,
        key_variance: Any,
        samples: int,
        key: Key,
    ):
        self.beta = beta
        self.variance = variance
        dim, samples = integer("dim", dim), integer("samples", samples)
        fitting(("samples", "dim"), (2, samples, dim, dim))
        scale = scalar("key_variance", minimum=0)(key_variance)
        left, right = jax.random.normal(prng_key("key", key), (2, samples, dim, dim), scale.dtype)
        self.query_keys = scale * jnp.matmul(left, right.mT, precision="highest")

    def covariance(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens tokens"]:
        """variance · mean over A of <m_i, m_j>."""
        if self.query_keys.shape[-1] != x.shape[-1]:
            raise ValueError(
                f"`dim` must be {x.shape[-1]}, that of the tokens; got {self.query_keys.shape[-1]}."
            )

        def one(query_key):
            scores = jnp.matmul(transform(query_key.T, x), x.T, precision="highest")
            weights = jax.nn.softmax(self.beta * scores, axis=-1)
            mean = jnp.matmul(weights, x, precision="highest")
            return gram(mean, mean)

        return self.variance * jnp.mean(jax.vmap(one)(self.query_keys), axis=0)


def correlated(
    s: Float[Array, "tokens tokens"], dw: Float[Array, "tokens dim"]
) -> Float[Array, "tokens dim"]:
    """L dW with L Lᵀ = S, for every direction."""
    return jnp.matmul(_factor(s), dw, precision="highest")


def _factor(s: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """L with L Lᵀ = S, lower triangular; a column is 0 where S is singular to rounding.

    A library Cholesky gives NaN for tokens that coincide, which is where synchronisation leads.
    """
    tokens = s.shape[0]
    tolerance = 4 * tokens * jnp.finfo(s.dtype).eps * jnp.max(jnp.diagonal(s))
    rows = jnp.arange(tokens)

    def column(rest, j):
        pivot = rest[j, j]
        independent = pivot > tolerance
        root = jnp.sqrt(jnp.where(independent, pivot, 1.0))
        values = jnp.where(independent & (rows >= j), rest[:, j] / root, 0.0)
        return rest - values[:, None] * values[None, :], values

    return lax.scan(column, s, rows)[1].T
