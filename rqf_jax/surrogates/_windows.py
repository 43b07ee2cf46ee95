"""Windows of paths: the examples that a surrogate learns from."""

from typing import Any

import numpy as np
from jaxtyping import Float

from .._arguments import host, integer


def states(name: str, value: Any) -> Float[np.ndarray, "..."]:
    """`value` as floats on the host, in which NaN stands for what was not observed."""
    array = np.asarray(host(name, value))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` must hold real numbers; got dtype {array.dtype}.")
    array = array if array.dtype.kind == "f" else array.astype(np.result_type(float))
    if np.isinf(array).any():
        where = tuple(np.argwhere(np.isinf(array))[0].tolist())
        raise ValueError(f"`{name}` must hold no infinite number; got one at index {where}.")
    return array


def windows(paths: Any, length: int, *, every: int = 1) -> Float[np.ndarray, "windows length size"]:
    """All pieces of `length` states in a row, of one path or of several.

    **Arguments**

    - `paths`: states (times, size) or (paths, times, size), equally spaced in time. NaN stands for
      a state that was not observed.
    - `length`: states in a window, at least 2.
    - `every`: how far apart windows start.

    **Returns** an array (windows, length, size) on the host. Windows that hold a NaN are left out;
    no window reaches from one path into the next.

    **Raises** ValueError for arrays of other shapes, for paths shorter than `length`, and if every
    window holds a NaN.

    **Example**

    >>> rqf.surrogates.windows(np.arange(10.0)[:, None], 4, every=2)[:, :, 0]
    array([[0., 1., 2., 3.],
           [2., 3., 4., 5.],
           [4., 5., 6., 7.],
           [6., 7., 8., 9.]])
    """
    array = states("paths", paths)
    length, every = integer("length", length, minimum=2), integer("every", every)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or not array.size:
        raise ValueError(
            "`paths` must have shape (times, size) or (paths, times, size); got shape "
            f"{np.shape(paths)}. One coordinate is a path of shape (times, 1)."
        )
    if array.shape[1] < length:
        raise ValueError(
            f"`paths` must have at least `length` = {length} times; got {array.shape[1]}."
        )
    pieces = np.lib.stride_tricks.sliding_window_view(array, length, axis=1)[:, ::every]
    pieces = np.moveaxis(pieces, -1, 2).reshape(-1, length, array.shape[2])
    whole = ~np.isnan(pieces).any(axis=(1, 2))
    if not whole.any():
        raise ValueError(
            f"`paths` must have {length} states in a row without NaN; there is no such window. "
            "Take a smaller `length`."
        )
    return pieces[whole]
