"""One random matrix shared by all tokens: the noise of linear layers.

With B a matrix of independent standard Brownian motions, Q = (B + Bᵀ)/2 and R = (B - Bᵀ)/2 are
independent, Var Q_ii = t, Var Q_ij = Var R_ij = t/2 (i ≠ j), and

    dX_a = -P_{X_a} ∂A X_a,    A = sigma_s Q + sigma_a R.

sigma_s² is the synchronisation rate (sin θ decays as exp(-sigma_s² t)), sigma_a only turns the
cloud rigidly. A full matrix of i.i.d. entries of variance v per unit time is
sigma_s² = sigma_a² = v.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arguments import is_concrete, scalar, square
from .._linalg.lanes import gram, product, transform
from .._linalg.unrolled import Matrix
from ..manifolds import AbstractManifold, Sphere
from ._abstract import AbstractNoise, Calculus

_ALIKE = 1e-6  # relative difference of strengths that are one


class AbstractMatrixNoise(AbstractNoise):
    """A noise that acts on every token by one matrix: g(t, X) ∘ dB = -∂A X.

    On the sphere its flow is the normalised flow of the linear equation dY = -∂A Y, which is what
    `rqf_jax.solvers.ProjectiveFlow` integrates; `log_flow` is all it asks for.
    """

    @abc.abstractmethod
    def matrix(self, t: Float[Array, ""], dw: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """The increment dA of the shared matrix."""

    @abc.abstractmethod
    def log_flow(self, t: Float[Array, ""], dw: Matrix, h: Float[Array, ""], degree: int) -> Matrix:
        """A matrix Ω whose exponential series, cut after `degree` ≥ 2, has the law of the flow.

        That is, 1 + Ω + … + Ω^degree/degree! of Ω less its trace part has the law of the linear
        flow over a step of length h, up to multiples of the identity, which normalisation
        removes, and in every expectation up to O(h^(p+1)), where p is the weak order that a
        `ProjectiveFlow` has with this noise. To be written with +, -, @, .T and products
        by scalars from the right only, because a tiny `dw` does not come as an array.
        """

    @abc.abstractmethod
    def control(self, dim: int, h: Float[Array, "*steps"]) -> Float[Array, "*steps"]:
        """The dimensionless size of a step, half the typical squared norm of its increment."""

    @abc.abstractmethod
    def level(self, dim: int, h: Float[Array, ""]) -> Int[Array, ""]:
        """The `ProjectiveFlow.level` that a step of length h needs, an int32.

        2, which is exact to rounding, is right for every noise; less is faster, and allowed where
        the noise conserves nothing that a polynomial would change.
        """


class IsotropicNoise(AbstractMatrixNoise):
    """Rotation-invariant shared matrix noise with a symmetric and an antisymmetric strength.

        dX_a = -P_{X_a} ∂A X_a,   A = sigma_s (B + Bᵀ)/2 + sigma_a (B - Bᵀ)/2   (Stratonovich)

    Itô form: dX_a = -P_{X_a} dA X_a - (sigma_s² + sigma_a²)(n-1)/4 X_a dt. One token is a Brownian
    motion with generator (sigma_s² + sigma_a²)/4 Δ; the overlap r of two tokens obeys
    dr = -sigma_s² r(1-r²) dt + √2 sigma_s (1-r²) dW in every dimension.
    `symmetric` is sigma_s and `antisymmetric` sigma_a; their squares are variance per unit time.
    Without `antisymmetric` it is 0.

    Raises ValueError if a strength is negative or not a finite scalar.
    Source: Engel & Shalova, arXiv:2603.06187 (the symmetric case; the sign of A changes no law);
    the general Itô form is derived, and checked in the tests by enumerating the noise basis.
    """

    symmetric: Float[Array, ""] = eqx.field(converter=scalar("symmetric", minimum=0))
    antisymmetric: Float[Array, ""] = eqx.field(
        default=0.0, converter=scalar("antisymmetric", minimum=0)
    )

    def shape(self, x: Float[Array, "tokens dim"]) -> tuple[int, ...]:
        """(dim, dim)."""
        return (x.shape[-1], x.shape[-1])

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, "dim dim"]
    ) -> Float[Array, "tokens dim"]:
        """-dA x_a for every token."""
        return -transform(self.matrix(t, dw), x)

    @property
    def isotropic(self) -> bool:
        """True for equal strengths, as those of a matrix of independent entries, or traced ones.

        Of traced ones that differ `covariance` is NaN.
        """
        if not is_concrete((self.symmetric, self.antisymmetric)):
            return True
        return bool(np.isclose(self.symmetric, self.antisymmetric, rtol=_ALIKE, atol=0))

    def covariance(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens tokens"]:
        """(sigma_s² + sigma_a²)/2 <x_a, x_b> in all directions; NaN unless sigma_s = sigma_a."""
        one, other = self.symmetric, self.antisymmetric
        alike = jnp.abs(one - other) <= _ALIKE * jnp.abs(other)
        return jnp.where(alike, (one**2 + other**2) / 2, jnp.nan) * gram(x, x)

    def matrix(self, t: Float[Array, ""], dw: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """dA = sigma_s (dB + dBᵀ)/2 + sigma_a (dB - dBᵀ)/2."""
        return _blend(self.symmetric, self.antisymmetric, dw)

    def log_flow(self, t: Float[Array, ""], dw: Matrix, h: Float[Array, ""], degree: int) -> Matrix:
        """Ω = -(s Q + a R) with the strengths of a weak scheme of order 2 (derived here).

            s  = sigma_s [1 + n h (sigma_s²/24 + sigma_a²/48)]²
            a² = sigma_a² [1 - (n-2) h sigma_a²/48]² + (n+2) h sigma_s² (sigma_s²/8 + sigma_a²/6)

        and for degree 2, s times 1 + (C + c/4)/3 and a times 1 + (C - c/4)/3, where
        C = h [(n+1-3/n) sigma_s² - (n-1) sigma_a²]/2 and c = h (sigma_s² + sigma_a²).

        The random walk exp(Ω_k)···exp(Ω_1) with s = sigma_s, a = sigma_a errs by
        -(h²/24)[(3/2) Σ [E_j,E_i]² + 2 Σ E_i K(E_i)], E the noise basis and K = Σ ad(E_j)²: a
        quadratic form in the same basis, because the law is rotation invariant, so a change of the
        two variances removes it. What is left free at third order is set by measurement: the square
        in s has the smallest error of E r² over n = 2…15. For sigma_a = 0 the a-term is the weak
        substitute of the Lévy area [dQ, dQ]: needed for positions, not for one-time overlaps. The
        quadratic polynomial lacks Ω³/6, which at this order only lowers the variances, by
        E[Ω³ ⊗ Ω]/3; from degree 3 on what is lacking has a mean proportional to the identity.
        """
        n = dw.shape[-1]
        s2, a2 = self.symmetric**2, self.antisymmetric**2
        symmetric = self.symmetric * (1 + n * h * (s2 / 24 + a2 / 48)) ** 2
        variance = a2 * (1 - (n - 2) * h * a2 / 48) ** 2 + (n + 2) * h * s2 * (s2 / 8 + a2 / 6)
        # sqrt has an infinite slope at 0: without noise both value and gradient are 0.
        silent = variance == 0
        antisymmetric = jnp.where(silent, 0.0, jnp.sqrt(jnp.where(silent, 1.0, variance)))
        if degree == 2:
            mean, spread = h * ((n + 1 - 3 / n) * s2 - (n - 1) * a2) / 2, h * (s2 + a2)
            symmetric = symmetric * (1 + (mean + spread / 4) / 3)
            antisymmetric = antisymmetric * (1 + (mean - spread / 4) / 3)
        return -_blend(symmetric, antisymmetric, dw)

    def control(self, dim: int, h: Float[Array, "*steps"]) -> Float[Array, "*steps"]:
        """n h (sigma_s² + sigma_a²)."""
        return dim * h * (self.symmetric**2 + self.antisymmetric**2)

    def level(self, dim: int, h: Float[Array, ""]) -> Int[Array, ""]:
        """2 where rotation prevails, because a rotation keeps overlaps, and a polynomial does not;
        0 up to a control number of 1/8 without any, 1 up to 1."""
        control = self.control(dim, h)
        exact = (control > 1) | (self.antisymmetric > self.symmetric)
        quadratic = (control <= 0.125) & (self.antisymmetric == 0)
        return jnp.where(exact, 2, jnp.where(quadratic, 0, 1)).astype(jnp.int32)

    @property
    def spans(self) -> bool:
        """True: the equation of the overlaps knows no dimension."""
        return True

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """On the sphere the Itô correction is radial, hence invisible; elsewhere it is not."""
        return Calculus.EITHER if isinstance(manifold, Sphere) else Calculus.STRATONOVICH


class AnisotropicNoise(AbstractMatrixNoise):
    """Shared matrix noise that prefers directions: independent entries between two factors.

        dX_a = -P_{X_a} ∂A X_a,   A = L B R   (Stratonovich)

    `left` is L and `right` R, any real n x n matrices, so that the columns of A have covariance
    C = L Lᵀ and its rows D = RᵀR; L = R = √v 1 is `IsotropicNoise` with sigma_s² = sigma_a² = v.
    The limit of linear layers x ← normalise(x + √h A x) is the Itô equation of the same noise,
    which has the further drift -C D x/2 (`models.random_linear_layers`); its invariant density is
    proportional to (xᵀC⁻¹x)^(1-n/2) / xᵀDx (derived). Weak order 1 with `ProjectiveFlow`.

    Raises ValueError for factors that are not square and finite or, when used, not of the tokens'
    size.
    """

    left: Float[Array, "n n"] = eqx.field(converter=square("left"))
    right: Float[Array, "n n"] = eqx.field(converter=square("right"))

    def shape(self, x: Float[Array, "tokens dim"]) -> tuple[int, ...]:
        """(dim, dim)."""
        dim = x.shape[-1]
        for name, factor in (("left", self.left), ("right", self.right)):
            if factor.shape != (dim, dim):
                raise ValueError(
                    f"`{name}` must be {dim} x {dim} for tokens in dimension {dim}; "
                    f"got shape {factor.shape}."
                )
        return (dim, dim)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, "dim dim"]
    ) -> Float[Array, "tokens dim"]:
        """-dA x_a for every token."""
        return -transform(self.left, transform(dw, transform(self.right, x)))

    def matrix(self, t: Float[Array, ""], dw: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """dA = L dB R."""
        return product(self.left, dw, self.right)

    def log_flow(self, t: Float[Array, ""], dw: Matrix, h: Float[Array, ""], degree: int) -> Matrix:
        """Ω = -L dB R: a random walk of exponentials has the Stratonovich limit."""
        return -product(self.left, dw, self.right)

    def control(self, dim: int, h: Float[Array, "*steps"]) -> Float[Array, "*steps"]:
        """2 h tr C tr D / n, which for isotropic factors is n h (sigma_s² + sigma_a²)."""
        return 2 * h * jnp.sum(self.left**2) * jnp.sum(self.right**2) / dim

    def level(self, dim: int, h: Float[Array, ""]) -> Int[Array, ""]:
        """1 up to a control number of 1: the quadratic would need a correction."""
        return jnp.where(self.control(dim, h) > 1, 2, 1).astype(jnp.int32)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Its Itô correction is not radial."""
        return Calculus.STRATONOVICH


class SpanNoise(AbstractNoise):
    """`IsotropicNoise` for few tokens in a high dimension: draws (n + N) N normals, not n².

    The matrix of `IsotropicNoise` is only ever applied to the N tokens. With Xᵀ = E U (QR) and A
    rotation invariant, A E = E W + (1 - E Eᵀ) Z, where W (N x N) has the law of A in dimension N
    and Z (n x N) is independent with i.i.d. entries of variance (sigma_s² + sigma_a²)/2. So

        dX = -(E dW U + (1 - E Eᵀ) dZ U)ᵀ

    has the law of -dA X given X (derived here; a test compares the covariances). W and Z belong
    to the tokens at the start of a step, so `GeodesicEuler` is the solver; it halves its weak
    error with h, and its bias grows as n sigma² h. Gradients through the QR factorisation need
    linearly independent tokens.

    Raises ValueError if a strength is negative or not a finite scalar, if N ≥ n, or off the sphere.
    """

    symmetric: Float[Array, ""] = eqx.field(converter=scalar("symmetric", minimum=0))
    antisymmetric: Float[Array, ""] = eqx.field(
        default=0.0, converter=scalar("antisymmetric", minimum=0)
    )

    def shape(self, x: Float[Array, "tokens dim"]) -> tuple[int, ...]:
        """(tokens + dim, tokens)."""
        tokens, dim = x.shape
        if tokens >= dim:
            raise ValueError(
                "`SpanNoise` needs fewer tokens than dimensions; got "
                f"{tokens} tokens in dimension {dim}. Use `IsotropicNoise`."
            )
        return (tokens + dim, tokens)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, "both tokens"]
    ) -> Float[Array, "tokens dim"]:
        """-(E dW U + (1 - E Eᵀ) dZ U)ᵀ."""

        def mm(a, b):
            return jnp.matmul(a, b, precision="highest")

        tokens = x.shape[0]
        frame, upper = jnp.linalg.qr(x.T)
        inside = _blend(self.symmetric, self.antisymmetric, dw[:tokens])
        outside = jnp.sqrt((self.symmetric**2 + self.antisymmetric**2) / 2) * dw[tokens:]
        image = mm(frame, inside - mm(frame.T, outside)) + outside
        return -mm(image, upper).T

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The increment is drawn in the frame of one state, so a step may use it once."""
        if not isinstance(manifold, Sphere):
            raise ValueError(f"`SpanNoise` is a noise of the sphere; got {manifold}.")
        return Calculus.ITO


def _blend(symmetric: Float[Array, ""], antisymmetric: Float[Array, ""], dw: Matrix) -> Matrix:
    """symmetric (dw + dwᵀ)/2 + antisymmetric (dw - dwᵀ)/2."""
    return dw * ((symmetric + antisymmetric) / 2) + dw.T * ((symmetric - antisymmetric) / 2)
