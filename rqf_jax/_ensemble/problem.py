"""What is simulated: an equation from an initial law, at given times, with the noise of one key."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from .. import solvers
from .._arguments import (
    Key,
    closes_over_traced,
    function_of,
    hurried,
    integer,
    is_concrete,
    part,
)
from .._fused.switch import wanted
from .._norm import check_directions
from .._sde import SDE, state_dtype
from ..laws import AbstractLaw
from ..manifolds import AbstractManifold
from ..solvers._step_size import warn, warn_of_long_steps
from .abstract import AbstractProblem, is_finite, shape_of_start
from .interval import CACHE_BYTES, Batch
from .kinds import once_for_each_kind
from .members import member_keys, typed_key, whole_state
from .times import SaveTimes
from .validity import (
    check_parts,
    check_span,
    hides_traced,
    knows_time,
    noise_shape,
    path_name,
    shapes_of,
)

TOLERANCE = 1e-5
"""How far off the manifold an initial state may be (rounding of float32 data): | |x_a| - 1 |."""


class Problem(AbstractProblem):
    """An ensemble of an equation: the arguments of `simulate`.

    Making one is cheap and checks the times alone; `checked` checks everything that can be found
    without compiling, and `look_at` the values of an initial state. Without a `solver`, the default
    one is meant.
    """

    sde: SDE
    law: AbstractLaw
    times: SaveTimes = eqx.field(converter=SaveTimes.of)
    key: Array
    save: Callable[[PyTree], PyTree]
    substeps: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver | None
    points: int | None = eqx.field(static=True)
    fused: str = eqx.field(static=True)

    def __init__(
        self,
        sde: SDE,
        law: AbstractLaw,
        times: Any,
        key: Array,
        save: Callable[[PyTree], PyTree] = whole_state,
        substeps: int = 1,
        solver: diffrax.AbstractSolver | None = None,
        points: int | None = None,
        fused: str | None = None,
    ):
        self.sde, self.law, self.times, self.key = sde, law, times, key
        self.save, self.substeps, self.solver, self.points = save, substeps, solver, points
        self.fused = wanted() if fused is None else fused

    def checked(self) -> "Problem":
        """The same with its solver; ValueError for parts that break a rule or do not fit together.

        The rules are those of `simulate`; nothing is compiled.
        """
        part(SDE)("sde", self.sde)
        part(AbstractLaw)("law", self.law)
        function_of("one state")("save", self.save)
        substeps, key = integer("substeps", self.substeps), typed_key(self.key)
        steps = self.times.intervals * substeps
        if steps >= 2**31:
            raise ValueError(f"`ts` and `substeps` must make fewer than 2³¹ steps; got {steps}.")
        state = state_shape(self.sde.manifold, self.law, key)
        solver = self.solver
        if solver is not None and not isinstance(solver, diffrax.AbstractSolver):
            raise ValueError(f"`solver` must be a diffrax solver; got {solver!r}.")
        found = dataclasses.replace(self, key=key, substeps=substeps).solved()
        if self.solver is not None:
            solvers.check(self.solver, self.sde)
        check_span(self.law, self.sde)
        check_parts(self.sde, self.save, found.chosen, state)
        return found

    @property
    def chosen(self) -> diffrax.AbstractSolver:
        """The solver that was given, or the default one of the equation."""
        return solvers.default(self.first.sde) if self.solver is None else self.solver

    def solved(self) -> "Problem":
        """The same with the default solver in the place of None."""
        return self if self.solver is not None else dataclasses.replace(self, solver=self.chosen)

    def closed(self) -> "Problem":
        """The same, with all that `save` closes over a part of it, so that it is differentiated."""
        save = eqx.filter_closure_convert(self.save, eqx.filter_eval_shape(self.law, self.key))
        return eqx.tree_at(lambda p: p.save, self, save)

    @property
    def hides_traced(self) -> bool:
        """True if a part closes over a traced array: it is no part of this problem."""
        return hides_traced(self.sde, self.law, self.key, self.state)

    def batch(self, noise_keys: Array) -> Batch:
        """Members with these keys, together."""
        model = self.sde, self.chosen
        options = {"substeps": self.substeps, "fused": self.fused}
        return Batch(model, self.times, noise_keys, like=self.state, **options)

    def sound(self, x: PyTree[Array]) -> Bool[Array, ""]:
        """True for an initial state that is finite and on the manifold."""
        return is_finite(x) & ~(self.sde.manifold.defect(x) > TOLERANCE)

    def batch_size(self, members: int) -> int:
        """Equal batches of members, as few as let the noise of one step fit a CPU's cache."""
        if jax.default_backend() != "cpu":
            return members
        one, state = self.first, self.state
        noise = math.prod(noise_shape(one.sde.noise, state)) * state_dtype(state).itemsize
        limit = max(1, CACHE_BYTES // max(1, noise))
        return math.ceil(members / math.ceil(members / limit))

    def look_at(self, member: int) -> None:
        """Look at the initial state of one member, and at the longest step.

        Raises ValueError for a state off the manifold or not finite, and warns of a step that is
        too long for the noise or the drift. Values that are being traced are not looked at.
        """
        sde = self.sde
        x0 = check_start(sde.manifold, self.law, self.key, member, (sde, self.law, self.key))
        if not is_concrete((sde, self.times)) or self.hides_traced:
            return
        at, lengths = np.asarray(self.times.at, float), np.asarray(self.times.lengths, float)
        steps = [(at[k], lengths[k] / self.substeps) for k in {0, int(np.argmax(lengths))}]
        like = self.state if x0 is None else x0
        h, last, dtype = lengths.min() / self.substeps, np.abs(at).max(), state_dtype(like)
        blur = float(np.spacing(last.astype(dtype))) / 2
        if blur > h / 2 and knows_time(sde, self.state):
            warn(
                f"times up to {last:g} are rounded by {blur:.2g} in {dtype}, more than half of the "
                f"step h = {h:.2g}, and this equation depends on time. Let time begin at 0, or "
                "take states in float64."
            )
        warn_of_long_steps(self.chosen, sde, steps, like, x0)


@once_for_each_kind
def state_shape(
    manifold: AbstractManifold, law: AbstractLaw, key: Key
) -> PyTree[jax.ShapeDtypeStruct]:
    """Shape and dtype of one state that `law` draws.

    Raises ValueError unless it is what `manifold` holds, in one float type of 32 or 64 bits.
    """
    state = shape_of_start(law, key)
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        floats = isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.floating)
        if not floats:
            name = f" at `{path_name(path)}`" if path else ""
            raise ValueError(f"`law` must draw one array of floats{name}; got {shapes_of(leaf)}.")
    rule = manifold.misfit(state)
    if rule is not None:
        one = "" if isinstance(state, jax.ShapeDtypeStruct) else "one array of floats, "
        raise ValueError(f"`law` must draw {one}{rule}; got {shapes_of(state)}.")
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
    if len(kinds) > 1:
        raise ValueError(f"`law` must draw arrays of one dtype; got {shapes_of(state)}.")
    if kinds - {np.dtype("float32"), np.dtype("float64")}:
        raise ValueError(
            "`law` must draw float32 or float64: times and noise need that much; got "
            f"{shapes_of(state)}. Convert what you save instead."
        )
    return state


def check_start(
    manifold: AbstractManifold, law: AbstractLaw, key: Key, member: int, given: PyTree
) -> PyTree[Array] | None:
    """The initial state of a member, if `given` can be looked at; None otherwise.

    Raises ValueError unless it is finite and on the manifold, and has directions where a norm asks
    for them.
    """
    number = np.asarray(member, np.uint32)
    if not is_concrete(given) or closes_over_traced(_start, manifold, law, key, number):
        return None
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        x0, finite, defect = _start(manifold, law, key, number)
        if not finite:
            raise ValueError(f"`law` must draw finite states; got {x0}.")
        if float(defect) > TOLERANCE:
            raise ValueError(f"`law` must draw {manifold.stray(x0, TOLERANCE)}")
        check_directions(given, x0)
    return x0


@hurried
def _start(manifold: AbstractManifold, law: AbstractLaw, key: Key, member: Any):
    """A member's initial state, whether it is finite, and how far it is off the manifold.

    One program: JAX compiles each operation on known arrays by itself.
    """
    x0 = law(member_keys(key, member)[0])
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(x0)]
    return x0, jnp.all(jnp.stack(finite)), manifold.defect(x0)
