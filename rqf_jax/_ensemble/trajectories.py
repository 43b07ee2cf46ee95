"""What comes out of a simulation: times, values, and what became of each member."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from .._arguments import each, function_of, is_concrete, shown, table, words
from .validity import taking

if TYPE_CHECKING:
    import xarray


# Time and all that is saved are dimensionless.
_UNITS = {"units": "1"}


class NonFiniteError(ArithmeticError):
    """Some members of an ensemble became NaN or infinite."""


class Trajectories(eqx.Module):
    """An ensemble of trajectories: save times, saved values, and what became of each member.

    `ts` (times,), on the host as they were asked for, which may be more exact than the dtype of the
    states; `ys` a pytree of arrays (members, times, ...): whole states, or what `save` made of
    them; `status` (members,): 0 if the member stayed finite to the end, otherwise the index in `ts`
    of the first save after the initial one at which its state, or what is saved of it, is NaN or
    infinite.
    """

    ts: Float[Array | np.ndarray, " times"]
    ys: PyTree[Array, "T"]
    status: Int[Array, " members"]

    def observe(self, observable: Callable[[PyTree], PyTree]) -> PyTree[Array]:
        """`observable`, a function of one saved value, for all members and times.

        Returns a pytree of arrays (members, times, ...). Raises ValueError for an `observable`
        that does not take what was saved.
        """
        return _observed("observable", observable, self.ys)

    def to_xarray(
        self,
        dims: dict[str, tuple[str, ...]] | None = None,
        observables: Mapping[str, Callable[[PyTree], Array]] | None = None,
    ) -> "xarray.Dataset":
        """A labelled dataset with dimensions member and time and the coordinate `time`.

        Every array of `ys` becomes one variable, see `variables_of` for its name: a bare array of
        whole states (tokens, dim) is `state` with dimensions (member, time, token, dim). Each of
        the `observables`, functions of one saved value, becomes a variable too. `dims` names the
        remaining dimensions of a variable; without a name they are called `<variable>_<axis>`.
        Raises ValueError for names that a dataset or a file cannot have, and for observables that
        do not take what was saved.
        """
        import xarray

        for argument, value in {"dims": dims, "observables": observables}.items():
            if not isinstance(value, Mapping | None):
                raise ValueError(f"`{argument}` must be a dict by name; got {shown(value)}.")
        given = {
            name: each(words, least=0)(f"dims[{name!r}]", one) for name, one in (dims or {}).items()
        }
        named = {"state": ("token", "dim")} | given
        values = variables_of(self.ys)
        taken = {*RESERVED, *values} & {*(observables or {})}
        if taken:
            raise ValueError(
                f"`observables` must have names of their own; got {min(taken)!r}, which is a "
                "variable of the dataset already."
            )
        seen = {
            name: _observed(f"observables[{name!r}]", one, self.ys)
            for name, one in (observables or {}).items()
        }
        variables = {}
        for name, value in (values | variables_of(seen)).items():
            array = np.asarray(value)
            rest = named.get(name, ())
            if len(rest) != array.ndim - 2:
                rest = tuple(f"{name}_{axis}" for axis in range(array.ndim - 2))
            variables[name] = (("member", "time", *rest), array, _UNITS)
        variables["status"] = (("member",), np.asarray(self.status))
        return xarray.Dataset(variables, coords={"time": ("time", np.asarray(self.ts), _UNITS)})

    def _repr_html_(self) -> str:
        rows = {"members": str(self.status.size), "times": str(self.ts.size)}
        if is_concrete(self):
            rows["times"] += f", from {float(self.ts[0]):g} to {float(self.ts[-1]):g}"
            rows["failed"] = str(int(jnp.sum(self.status > 0)))
        leaves = jax.tree_util.tree_flatten_with_path(self.ys)[0]
        for path, y in leaves:
            name = jax.tree_util.keystr(path, simple=True, separator=".") if path else "state"
            rows[name] = f"{y.dtype}{list(y.shape[2:])}"
        return table("An ensemble of trajectories", rows)

    def __repr__(self) -> str:
        shapes = jax.tree.map(lambda y: f"{y.dtype}{list(y.shape[2:])}", self.ys)
        if not is_concrete(self):
            return f"Trajectories(members={self.status.size}, times={self.ts.size}, ys={shapes})"
        failed = int(jnp.sum(self.status > 0))
        return (
            f"Trajectories(members={self.status.size}, times={self.ts.size}, "
            f"t={float(self.ts[0]):g}…{float(self.ts[-1]):g}, ys={shapes}, failed={failed})"
        )


def _observed(name: str, observable: Callable[[PyTree], PyTree], ys: PyTree) -> PyTree[Array]:
    """`observable` of all members and times; ValueError in the name of the argument `name`."""
    function_of("one saved value")(name, observable)
    one = jax.tree.map(lambda y: jax.ShapeDtypeStruct(y.shape[2:], y.dtype), ys)
    try:
        with taking(name, one):
            return _mapped(observable, ys)
    except ValueError as error:
        if not any(leaf is None for leaf in jax.tree.leaves(ys, is_leaf=lambda x: x is None)):
            raise
        raise ValueError(
            f"{error} Functions in a network, such as activations, were not saved; to call the "
            "network give `save` to `train`."
        ) from error.__cause__


@eqx.filter_jit
def _mapped(observable, ys):
    return jax.vmap(jax.vmap(observable))(ys)


RESERVED = ("member", "time", "status")
"""Names in a dataset that are not of what was saved."""


def variables_of(ys: PyTree[Any]) -> dict[str, Any]:
    """The arrays of a pytree by name: keys, fields and indices on the way to each, with dots.

    A bare array is `state`; {"q": a, "p": (b, c)} is q, p.0 and p.1. Raises ValueError for names
    that are empty, start with a dot, hold a slash, differ in nothing, or mean something else in a
    dataset: `member`, `time`, `status`.
    """
    variables = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(ys)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".") if path else "state"
        if name in RESERVED:
            rule = f"be other than {', '.join(RESERVED)}, which the dataset has besides"
        elif name in variables:
            rule = "differ from each other"
        elif not name or name.startswith(".") or "/" in name or not name.isprintable():
            rule = "be printable, without a slash or a leading dot"
        else:
            variables[name] = leaf
            continue
        raise ValueError(
            f"`save` must give what it keeps names that {rule}, to be written; got {name!r}. Use "
            "another key in the dict that it returns."
        )
    return variables
