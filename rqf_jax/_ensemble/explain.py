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
    that all have a rule; on a device that no kernel is made for, arithmetic on single numbers in
    XLA; otherwise it is a scan in XLA, and the text says why. So it does of the derivative of a
    kernel where that is a scan.

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
        ways = solvers.variants(problem.chosen, sde, state, jnp.asarray(1.0))[0]
        routes = [kernel.route(sde, way, problem.state) for way in ways]
    else:
        ways, routes = [], [f"{kernel.SCAN}: {SWITCH} = 0 turns kernels off"]
    slow = [
        kernel.reason_of_derivative(sde, way, problem.state)
        for way, route in zip(ways, routes, strict=False)
        if not route.startswith(kernel.SCAN)
    ]
    slow = [reason for reason in slow if reason is not None]
    derivative = f" Its derivative is a scan in XLA: {slow[0]}." if slow else ""
    if all(route.startswith(kernel.SCAN) for route in routes):
        del routes[1:]
    route = " or, for long steps, ".join(dict.fromkeys(routes))
    return f"{chosen} on {platform}; each save interval is {route}.{derivative}"
