"""Drifts of normalised networks: what a branch reads, and what it writes, at unit length."""

from typing import Any

from jaxtyping import Array, Float

from .._arguments import part
from .._norm import Norm, unit
from ._abstract import AbstractDrift


class Normed(AbstractDrift):
    """A drift that sees directions alone: the branch of a Pre-LN layer.

        f(t, x) = f_0(t, N(x)),   N(x) = Γ x/|x|

    On `manifolds.Euclidean` tokens keep their radii: x ← x + h f_0(N(x)). `models.normalised` does
    this to a whole equation.

    **Arguments**

    - `drift`: f_0, any drift of tokens (tokens, dim).
    - `gain`: the diagonal of Γ, (dim,); 1 by default. A transformer's √dim belongs in the drift.
    - `centre`: take the mean over the coordinates of each token out first, as LayerNorm does.

    **Raises** ValueError if `drift` is not a drift, or the gain is no vector of the tokens' size.
    `simulate` refuses initial tokens of norm 0.

    **Example**

    >>> drift = rqf.drifts.Normed(rqf.drifts.MeanField(1.0))
    >>> print(drift(0.0, jnp.array([[3.0, 0.0], [0.0, 0.5]]))[0])
    [0.5 0.5]
    """

    drift: AbstractDrift
    norm: Norm

    def __init__(self, drift: AbstractDrift, gain: Any = None, centre: bool = False):
        self.drift = part(AbstractDrift)("drift", drift)
        self.norm = Norm(gain, centre)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """f_0(t, N(x))."""
        return self.drift(t, self.norm(x))

    @property
    def spans(self) -> bool:
        """True if the inner drift does, and no axis is special to the norm."""
        return self.drift.spans and self.norm.plain


class UnitOutput(AbstractDrift):
    """A drift of unit length: the output of a branch is normalised before it is added.

        f_i(t, x) = v_i/|v_i|,   v = f_0(t, x)

    On the sphere this is nGPT, and on `manifolds.Euclidean`, around a `Normed` drift, Peri-LN
    (Gemma 2). Where v_i = 0 the velocity is 0. Raises ValueError if `drift` is not a drift.
    """

    drift: AbstractDrift

    def __check_init__(self):
        part(AbstractDrift)("drift", self.drift)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The directions of the inner drift."""
        return unit(self.drift(t, x))

    @property
    def spans(self) -> bool:
        """True if the inner drift does."""
        return self.drift.spans
