"""What an experiment would show, before it is made."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import fitting, integer, scalar
from .._ensemble.simulate import simulate
from .._sde import SDE
from ..drifts import NoDrift
from ..laws import Uniform
from ..manifolds import Sphere
from ..noises import IsotropicNoise
from ._likelihood import information
from ._result import IdentifiabilityError
from ._steps import whitened_steps

_STEPS = 512


def predicted_error(
    tokens: int, dim: int, steps: int, dt: Any, *, symmetric: Any = 1.0, antisymmetric: Any = None
) -> dict[str, float]:
    """The standard errors of `fit_noise` for one path of `steps` steps of length `dt`.

    The mean information of the quasi-likelihood along simulated paths from uniform tokens, so that
    tokens too close to the span of others are left out, and synchronisation is paid for, as in a
    fit. For short steps and well-spread tokens it is σ_s/√(2 · steps · dof) with
    dof = `theory.sphere.symmetric_rank(tokens, dim)`; divide by √members for an ensemble.

    **Arguments**

    - `tokens`: ≥ 1; `dim`: ≥ 2; `steps`: ≥ 1.
    - `dt`: time of a step, positive.
    - `symmetric`: σ_s > 0; `antisymmetric`: σ_a > 0 if it is to be fitted too.

    **Returns** a dict like `FitResult.stderr`.

    **Raises** ValueError unless tokens, steps ≥ 1, dim ≥ 2,
    dt > 0 and strengths are positive; `IdentifiabilityError` for σ_a with one token.

    **Example**

    >>> one = rqf.inference.predicted_error(3, 5, 100, 0.001)
    >>> four = rqf.inference.predicted_error(3, 5, 400, 0.001)
    >>> 1.8 < one["symmetric"] / four["symmetric"] < 2.2
    True
    """
    tokens, dim = integer("tokens", tokens), integer("dim", dim, minimum=2)
    steps = integer("steps", steps)
    fitting(("steps", "tokens", "dim"), (steps, tokens, dim))
    numbers = {"dt": dt, "symmetric": symmetric, "antisymmetric": antisymmetric}
    numbers = {
        name: scalar(name)(value)
        for name, value in numbers.items()
        if not (name == "antisymmetric" and value is None)
    }
    for name, value in numbers.items():
        if not float(value) > 0:
            raise ValueError(f"`{name}` must be positive; got {float(value):g}.")
    step = numbers.pop("dt")
    if len(numbers) == 2 and tokens == 1:
        raise IdentifiabilityError("one token shows symmetric² + antisymmetric² alone.")
    strengths = jnp.stack(list(numbers.values()))
    noise = IsotropicNoise(strengths[0], strengths[1] if len(numbers) == 2 else 0.0)
    members = max(1, min(16, _STEPS // steps))
    runs = simulate(
        SDE(NoDrift(), noise, Sphere()),
        Uniform(tokens, dim),
        float(step) * np.arange(steps + 1),
        substeps=1,
        members=members,
        key=jax.random.key(0),
        throw=False,
    )
    if np.any(runs.status):
        turn = float(strengths[0] * np.sqrt(step * (dim - 1)))
        raise ValueError(
            "`dt` must be so short that tokens turn by small angles, of the order of `symmetric` "
            f"√(`dt` (`dim` - 1)); got {turn:.3g}."
        )
    seen = whitened_steps(runs.ys, jnp.full(steps, step), None, strengths[0] ** 2)
    squares: Float[Array, " parameters"] = 2 * jnp.log(strengths.astype(runs.ys.dtype))
    fisher = np.asarray(information(squares, seen), float) / members
    errors = np.sqrt(np.diagonal(np.linalg.inv(fisher))) * np.asarray(strengths, float) / 2
    return dict(zip(numbers, map(float, errors), strict=True))
