"""An account of what computes an ensemble, in words."""

import diffrax
import jax
import jax.numpy as jnp

from .. import solvers
from .._fused.switch import SWITCH, wanted
from .._sde import SDE
from ..laws import AbstractLaw
from . import kernel
from .problem import Problem


def explain(sde: SDE, law: AbstractLaw, *, solver: diffrax.AbstractSolver | None = None) -> str:
    """Say which solver `simulate` takes for an equation, and what computes a save interval.

    An interval is one fused kernel where the step has few numbers, float32 states and operations
    that all have a rule; otherwise it is a scan in XLA, and the text says why.

    **Arguments**

    - `sde`, `law`: the equation and the law of an initial state, as for `simulate`.
    - `solver`: as for `simulate`.

    **Returns** a sentence.

    **Raises** ValueError as `simulate` does, for parts that do not fit together.

    **Example**

        >>> import rqf_jax as rqf
        >>> sde = rqf.models.random_quadratic_form(sigma=1.0)
        >>> print(rqf.explain(sde, rqf.laws.Uniform(tokens=64, dim=64)).partition(";")[0])
        ProjectiveFlow on cpu
    """
    problem = Problem(sde, law, [0.0, 1.0], jax.random.key(0), solver=solver).checked()
    chosen, platform = type(problem.chosen).__name__, jax.default_backend()
    if wanted():
        state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), problem.state)
        *_, last = solvers.variants(problem.chosen, sde, state, jnp.asarray(1.0))[0]
        reason = kernel.reason(sde, last, problem.state)
    else:
        reason = f"{SWITCH} = 0 turns kernels off"
    route = "one fused kernel" if reason is None else f"a scan in XLA: {reason}"
    return f"{chosen} on {platform}; each save interval is {route}."
