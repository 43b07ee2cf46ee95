"""The normalisation schemes of networks, for any equation of tokens on the sphere."""

from typing import Any, Literal

from .._arguments import flag, maybe, nonnegative, number, one_of, part, takes
from .._sde import SDE
from ..drifts import AbstractDrift, Attention, NoDrift, Normed, Scheduled, UnitOutput
from ..manifolds import Euclidean, Sphere
from ..noises import (
    AbstractNoise,
    Calculus,
    IsotropicNoise,
    Layered,
    NoNoise,
    Normed as NormedNoise,
    Scheduled as ScheduledNoise,
    UnitOutput as UnitOutputNoise,
)
from ..schedules import Exponential

Scheme = Literal["post", "ngpt", "pre", "peri"]


@takes(
    model=part(SDE),
    scheme=one_of("post", "ngpt", "pre", "peri"),
    centre=flag,
)
def normalised(model: SDE, scheme: Scheme, *, gain: Any = None, centre: bool = False) -> SDE:
    """An equation on the sphere in one of the four schemes of normalisation.

        post   x ← N(x + h F(x))         ngpt   x ← N(x + h N(F(x)))
        pre    x ← x + h F(N(x))         peri   x ← x + h N(F(N(x)))

    in the limit of short steps, with √h in place of h for fresh weights. `theory.normalisation` has
    closed forms under the same names. A stream that keeps its radius is flat space, the
    norm a wrapper around drift and noise (`drifts.Normed`, `noises.Normed`, `UnitOutput`).

    **Arguments**

    - `model`: an `SDE` on the sphere, such as those of `models`. Its noise is that of weights that
      are drawn afresh in each layer: the equation is Itô's in the ambient space.
    - `scheme`: "post" (the model itself), "ngpt", "pre" or "peri".
    - `gain`: diagonal (dim,) of the matrix on what branches read; 1 by default.
    - `centre`: branches read x - mean x, as with LayerNorm.

    **Returns** an `SDE` on `manifolds.Sphere()` (post, ngpt) or `Euclidean()` (pre, peri).

    **Raises** ValueError for a model that is not on the sphere, one whose noise has an Itô
    correction there, of which the drift may hold a part, and for outputs of unit length of a noise
    that `noises.UnitOutput` does not know.

    **Example**

    >>> model = rqf.models.stochastic_transformer(1.0)
    >>> rqf.models.normalised(model, "pre").manifold
    Euclidean()
    """
    if not isinstance(model.manifold, Sphere):
        raise ValueError(f"`model` must be on the sphere; got one on {model.manifold}.")
    if model.noise.calculus(model.manifold) is Calculus.STRATONOVICH:
        raise ValueError(
            "`model` must have noise of fresh weights, whose Itô and Stratonovich equations agree "
            f"on the sphere; got {type(model.noise).__name__}. Put `noises.Normed` around it and "
            "write the drift of the Itô equation."
        )
    kept, unit = scheme in ("pre", "peri"), scheme in ("ngpt", "peri")
    reads = kept or gain is not None or centre

    def drift(inner: AbstractDrift) -> AbstractDrift:
        if isinstance(inner, NoDrift):
            return inner
        inner = Normed(inner, gain, centre) if reads else inner
        return UnitOutput(inner) if unit else inner

    def noise(inner: AbstractNoise) -> AbstractNoise:
        if isinstance(inner, NoNoise):
            return inner
        if isinstance(inner, Layered):
            return Layered(noise(inner.noise))
        inner = UnitOutputNoise(inner) if unit else inner
        return NormedNoise(inner, gain, centre) if reads else inner

    return SDE(drift(model.drift), noise(model.noise), Euclidean() if kept else Sphere())


@takes(
    scheme=one_of("post", "ngpt", "pre", "peri"),
    sigma=nonnegative,
    beta=maybe(number()),
    strength=number(),
)
def normalised_layers(
    scheme: Scheme, sigma: Any = 1.0, beta: Any = None, strength: Any = 1.0
) -> SDE:
    """Random layers in one of the four schemes of normalisation, with attention or without.

        x_i ← S(x_i + h strength Σ_j softmax_j(β <θ_i, θ_j>) θ_j + √h W θ_i),   θ = x/|x|

    in the limit of short steps, W of independent entries of variance sigma²: `normalised` of
    attention and `noises.IsotropicNoise(sigma, sigma)`.

    **Arguments**

    - `scheme`: "post", "ngpt", "pre" or "peri", see `normalised`.
    - `sigma`: standard deviation ≥ 0 of an entry of W, per √time; outputs of unit length have none.
    - `beta`: inverse temperature β; no attention if None.
    - `strength`: of attention, per unit time.

    **Returns** an `SDE` on `manifolds.Sphere()` (post, ngpt) or `Euclidean()` (pre, peri).

    **Raises** ValueError for another scheme, and sigma < 0.

    **Example**

    >>> rqf.models.normalised_layers("pre", beta=1.0).drift
    Normed(drift=Attention(beta=1, strength=1), norm=Norm(centre=False))

    Clock: time t for L layers of step h = t/L. [derived]
    """
    drift = NoDrift() if beta is None else Attention(beta, strength)
    return normalised(SDE(drift, IsotropicNoise(sigma, sigma), Sphere()), scheme)


@takes(model=part(SDE), rate=number(minimum=0))
def in_log_time(model: SDE, rate: Any = 1.0) -> SDE:
    """The same equation on a logarithmic clock τ: it is at the time t = (e^{rate τ} - 1)/rate.

        dX = P [ e^{rate τ} f(X) dτ + e^{rate τ/2} g(X) ∘ dB ]

    Under Pre-LN radii grow and everything slows down as a power of t, so that ten decades of t are
    23 units of τ. The equation must not depend on time by itself, or it is read at τ. With steps of
    length h in τ the noise of a step is weak of order 1 in rate·h. Raises ValueError if `model` is
    not an `SDE` or the rate is negative.
    """
    return SDE(
        Scheduled(model.drift, Exponential(rate)),
        ScheduledNoise(model.noise, Exponential(rate / 2)),
        model.manifold,
    )
