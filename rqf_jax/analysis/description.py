"""One weight matrix in a few numbers: bulk, outliers, repulsion of levels, tail, stable rank."""

import importlib.util
import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._arguments import data, integer
from ..observables import spacing_ratios
from .levels import MarchenkoPasturFit, TailExponent, fit_marchenko_pastur, tail_exponent


class SpectrumDescription(eqx.Module):
    """Numbers of one spectrum of singular values.

    `bulk` is `fit_marchenko_pastur` of it: variance, edges, outliers, distance. `spacing_ratio` is
    the mean of min(r, 1/r) over neighbouring gaps (.5307 for matrices of noise, .3863 for
    independent levels) with `spacing_stderr`, from the scatter of the ratios and the correlation of
    neighbours. `tail` is `tail_exponent` of the squares, None without the package `powerlaw` or
    with fewer than 10 positive values. `stable_rank` is the sum of squares over the largest.
    """

    bulk: MarchenkoPasturFit
    spacing_ratio: float
    spacing_stderr: float
    tail: TailExponent | None
    stable_rank: float

    @property
    def outliers(self) -> int:
        """The number of squares above the bulk."""
        return self.bulk.outliers.size

    def __repr__(self) -> str:
        return (
            f"SpectrumDescription(outliers={self.outliers}, distance={self.bulk.distance:.3g}, "
            f"spacing_ratio={self.spacing_ratio:.3f} ± {self.spacing_stderr:.3f}, "
            f"stable_rank={self.stable_rank:.4g}, tail={self.tail})"
        )


def describe_spectrum(values: Any, rows: int) -> SpectrumDescription:
    """Describe the n singular `values` of a matrix of `rows` × n, rows ≥ n.

    Raises ValueError as `fit_marchenko_pastur`, and for fewer than 4 values.
    """
    sizes = np.sort(np.abs(data("values", values)), axis=None)
    if np.ndim(values) != 1 or sizes.size < 4:
        raise ValueError(
            f"`values` must be at least 4 singular values along one axis; got shape "
            f"{np.shape(values)}."
        )
    bulk = fit_marchenko_pastur(values, integer("rows", rows, minimum=sizes.size))
    ratios = np.asarray(spacing_ratios(jnp.asarray(sizes - sizes.mean(), float)), float)
    off = ratios - ratios.mean()
    variance, neighbours = np.mean(off**2), np.mean(off[1:] * off[:-1]) if off.size > 1 else 0.0
    squares = sizes**2
    positive = squares[squares > squares[-1] * np.finfo(float).eps]
    known = importlib.util.find_spec("powerlaw") is not None and positive.size >= 10
    return SpectrumDescription(
        bulk,
        float(ratios.mean()),
        math.sqrt(max(variance + 2 * neighbours, variance / 4) / ratios.size),
        tail_exponent(positive) if known else None,
        float(squares.sum() / squares[-1]),
    )
