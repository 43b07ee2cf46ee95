"""Models of weights: symmetric matrices, their eigenvalues, and rectangular matrices."""

import math
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.special import chndtr, gammaincc

from ... import models
from ..._sde import SDE
from ...theory import dyson, outliers, spectra
from ._section import AbstractModel, NonNegative, State
from .closed_forms import ClosedForms, Statistic
from .states import EIGENVALUES, RECTANGULAR, SQUARE

_NO_TOKENS = "its state has no tokens"


class Dyson(AbstractModel):
    """`rqf_jax.models.dyson`: a random symmetric matrix whose eigenvalues repel each other."""

    needs_space: ClassVar[str | None] = _NO_TOKENS
    state: ClassVar[State] = SQUARE

    name: Literal["dyson"]
    """The model."""
    g: Annotated[NonNegative, Field(examples=[1.0])]
    """Strength of the noise; g² is a variance per unit time, of the entries off the diagonal."""
    rate: NonNegative = 0.0
    """Rate of the pull to zero, per unit time."""

    def sde(self, dim: int) -> SDE:
        """The same for every size."""
        return models.dyson(self.g, self.rate)

    def closed_forms(self, dim: int) -> ClosedForms:
        """Power sums of the eigenvalues from zero, the gap of two of them, and the semicircle."""
        return _of_eigenvalues(dim, self.g, self.rate, beta=1.0)


class DysonEigenvalues(AbstractModel):
    """`rqf_jax.models.dyson_eigenvalues`: eigenvalues that repel each other, of any Dyson index."""

    needs_space: ClassVar[str | None] = _NO_TOKENS
    state: ClassVar[State] = EIGENVALUES

    name: Literal["dyson_eigenvalues"]
    """The model."""
    g: Annotated[NonNegative, Field(examples=[1.0])]
    """Strength of the noise; g² is a variance per unit time."""
    rate: NonNegative = 0.0
    """Rate of the pull to zero, per unit time."""
    beta: Annotated[float, Field(ge=1)] = 1.0
    """The Dyson index: 1 for symmetric matrices and 2 for Hermitian ones, whose steps are exact;
    others need short steps."""

    def sde(self, dim: int) -> SDE:
        """The same for every number of eigenvalues."""
        return models.dyson_eigenvalues(self.g, self.rate, self.beta)

    def closed_forms(self, dim: int) -> ClosedForms:
        """Power sums of the eigenvalues and their mean characteristic polynomial."""
        return _of_eigenvalues(dim, self.g, self.rate, self.beta)


class WeightOU(AbstractModel):
    """`rqf_jax.models.weight_ou`: a matrix of weights that learns a teacher under noise."""

    needs_space: ClassVar[str | None] = _NO_TOKENS
    state: ClassVar[State] = RECTANGULAR

    name: Literal["weight_ou"]
    """The model."""
    s: Annotated[NonNegative, Field(examples=[1.0])]
    """Strength of the noise; s² is a variance per unit time, of every entry."""
    rate: NonNegative = 0.0
    """Rate of the pull to the teacher, per unit time."""
    teacher: Annotated[tuple[NonNegative, ...], Field(strict=False)] = ()
    """Singular values of the teacher, the others being zero; its singular vectors are axes, which
    no law of singular values depends on."""

    def sde(self, dim: int, rows: int | None = None) -> SDE:
        """Of `rows` rows, as many as columns if left out; not fewer than the teacher's rank."""
        if len(self.teacher) > dim:
            raise ValueError(
                f"teacher must have at most {dim} singular values for {dim} columns; got "
                f"{len(self.teacher)}."
            )
        target = np.zeros((rows or dim, dim))
        np.fill_diagonal(target[: len(self.teacher)], self.teacher)
        return models.weight_ou(self.s, self.rate, target)

    def closed_forms(self, dim: int, rows: int | None = None) -> ClosedForms:
        """Sums of powers of the singular values from zero, and the law of many of them."""
        if self.s == 0:
            return ClosedForms()
        shape, notes = (rows or dim, dim), ()
        strongest = max(self.teacher, default=0.0)
        if strongest > 0 and self.rate > 0:
            time = outliers.rectangular_emergence_time(
                strongest, s=self.s, rate=self.rate, rows=shape[0], columns=dim
            )
            when = f"at t = {time:.4g}" if math.isfinite(time) else "never"
            notes = (f"In large matrices the strongest direction of the teacher shows {when}.",)
        known = partial(_known, s=self.s, rate=self.rate, teacher=np.asarray(self.teacher, float))
        return ClosedForms(
            spectrum=lambda time, _: _singular_statistics(shape, *known(time)),
            square_sum=lambda times, _: [_square_sum(shape, *known(time)) for time in times],
            density=lambda time: _singular_density(shape, *known(time)),
            notes=notes,
        )


def _of_eigenvalues(n: int, g: float, rate: float, beta: float) -> ClosedForms:
    if g == 0:
        return ClosedForms()
    options = {"g": g, "rate": rate, "beta": beta}
    notes = ()
    if rate > 0:
        edge = float(dyson.edge(math.inf, n=n, **options))
        notes = (f"In the end a large matrix has the eigenvalues of a semicircle to {edge:.4g}.",)
    return ClosedForms(
        spectrum=partial(_eigenvalue_statistics, **options),
        square_sum=lambda time, starts: np.mean(
            dyson.square_sum_mean(time[:, None], np.sum(starts**2, -1), n=n, **options), -1
        ),
        edge=partial(dyson.edge, n=n, **options),
        notes=notes,
    )


def _eigenvalue_statistics(
    time: float, starts: np.ndarray, *, g: float, rate: float, beta: float
) -> list[Statistic]:
    """What is known of eigenvalues, each member's from its own start."""
    n, zero = starts.shape[1], not starts.any()
    pull, index = {"g": g, "rate": rate}, {"beta": beta}
    tau, kept = dyson.effective_time(time, rate), math.exp(-rate * time)
    before, squares = kept * starts.sum(-1), np.sum(starts**2, -1)
    excess = kept**2 * (squares - squares.mean())

    def rank(x):
        return dyson.square_sum_cdf(np.sum(x**2, -1), time, squares, n=n, **pull, **index)

    statistics = [
        Statistic(
            "Var Σλ",
            dyson.trace_variance(time, n=n, **pull),
            lambda x: (x.sum(-1) - before) ** 2,
        ),
        Statistic(
            "E Σλ²",
            dyson.square_sum_mean(time, squares.mean(), n=n, **pull, **index),
            lambda x: np.sum(x**2, -1) - excess,
        ),
        Statistic("P(Σλ² < median)", 0.5, lambda x: np.asarray(rank(x) < 0.5)),
    ]
    if zero:
        fourth = dyson.fourth_moment(time, n=n, **pull, **index)
        statistics.append(Statistic("E Σλ⁴", fourth, lambda x: np.sum(x**4, -1)))
    else:
        # The mean over starts of the polynomials; most often all are the same.
        distinct, counts = np.unique(starts, axis=0, return_counts=True)
        means = [dyson.mean_characteristic_polynomial(x, time, **pull, **index) for x in distinct]
        mean = counts @ np.array(means) / counts.sum()
        for k in range(2, min(n, 4) + 1):
            statistics.append(
                Statistic(f"E e{'₂₃₄'[k - 2]}(λ)", (-1) ** k * mean[n - k], partial(_elementary, k))
            )
    if zero and n == 2:
        # The gap over 2g√τ has the law of χ with β + 1 degrees of freedom.
        typical = float(dyson.mean_gap(time, **pull, **index))
        above = gammaincc((beta + 1) / 2, typical**2 / (8 * g**2 * tau))
        statistics += [
            Statistic("E gap", typical, lambda x: x[:, 1] - x[:, 0]),
            Statistic("P(gap > mean)", above, lambda x: x[:, 1] - x[:, 0] > typical),
        ]
    return statistics


def _elementary(k: int, x: np.ndarray) -> np.ndarray:
    """The sum of all products of k of the values."""
    sums = np.zeros((k + 1, len(x)))
    sums[0] = 1
    for column in x.T:
        sums[1:] = sums[1:] + column * sums[:-1]
    return sums[k]


def _known(time: float, *, s: float, rate: float, teacher: np.ndarray) -> tuple[float, np.ndarray]:
    """The variance of an entry that started at zero, and the singular values of the mean."""
    variance = s**2 * float(dyson.effective_time(time, rate))
    return variance, -math.expm1(-rate * time) * teacher


def _square_sum(shape: tuple[int, int], variance: float, signals: np.ndarray) -> float:
    return float(spectra.square_sum_mean(*shape, variance)) + float(signals @ signals)


def _singular_statistics(
    shape: tuple[int, int], variance: float, signals: np.ndarray
) -> list[Statistic]:
    """What is known of the singular values of a Gaussian matrix."""
    rows, columns = shape
    signal = float(signals @ signals)

    def rank(x):
        squares = np.sum(x**2, -1)
        return chndtr(squares / variance, rows * columns, signal / variance)

    fourth = spectra.fourth_moment_about(signals, rows, columns, variance)
    statistics = [
        Statistic("E Σσ²", _square_sum(shape, variance, signals), lambda x: np.sum(x**2, -1)),
        Statistic("P(Σσ² < median)", 0.5, lambda x: np.asarray(rank(x) < 0.5)),
        Statistic("E Σσ⁴", fourth, lambda x: np.sum(x**4, -1)),
    ]
    if signal == 0:
        mean = spectra.mean_log_det(rows, columns, variance)
        statistics.append(Statistic("E ln det WᵀW", mean, lambda x: 2 * np.sum(np.log(x), -1)))
    return statistics


def _singular_density(
    shape: tuple[int, int], variance: float, signals: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Marchenko and Pastur's law of the squares, as the density of many singular values.

    Its area is the share of the values that are in the bulk: signals above their threshold have
    left it.
    """
    if variance == 0:
        return None
    gone = np.sum(signals > outliers.rectangular_threshold(*shape, variance))
    low, high = np.sqrt(spectra.marchenko_pastur_edges(*shape, variance))
    x = np.linspace(max(low, 1e-3 * high), high, 400)
    law = 2 * x * spectra.marchenko_pastur_density(x**2, *shape, variance)
    return x, (1 - gone / min(shape)) * law
