"""How gradient noise scales with learning rate and batch size, from the noise of many runs."""

import math
from functools import partial
from typing import Any

import numpy as np

from .._arguments import data, integer
from ._result import FitResult, IdentifiabilityError, normal


def fit_scaling(
    noise: Any,
    dof: Any,
    learning_rate: Any,
    batch_size: Any,
    *,
    dataset_size: int | None = None,
) -> FitResult:
    """The exponents with which a variance scales with learning rate and batch size.

        noise = C · learning_rate^p · batch_size^-q

    **Arguments**

    - `noise`: the estimated variances (runs,), each from `dof` degrees of freedom (a number, or one
      for every run). Take residuals of one-step regressions over the learning rate, for which
      p = 1; increments as they are have p = 2, and stationary variances α/(B h (2 - αh)), which is
      no power.
    - `learning_rate`, `batch_size`: those of every run.
    - `dataset_size`: D, if batches are drawn without replacement; 1/B - 1/D then has the place of
      1/B.

    **Returns** a `FitResult` with the names "learning_rate" (p), "batch_size" (q) and "ratio", the
    exponent of α/B if both are the same. Logarithms of χ² variables have the mean
    digamma(ν/2) - ln(ν/2) and the variance trigamma(ν/2), which makes this weighted least squares
    with known weights. `goodness` has the mean square of the residuals of the separate fit, in
    standard errors from 1.

    **Raises** ValueError for arguments that break a rule; `IdentifiabilityError` if learning rate
    and batch size never vary apart.

    **Example**

    >>> rates, sizes = np.array([0.1, 0.2, 0.1, 0.2]), np.array([8, 8, 32, 32])
    >>> fit = rqf.inference.fit_scaling(3.0 * rates / sizes, 1000, rates, sizes)
    >>> round(fit.estimate["learning_rate"], 2), round(fit.estimate["batch_size"], 2)
    (1.0, 1.0)

    Source: classical; derived for this library.
    """
    from scipy.special import digamma, polygamma

    variances, rates, batches = (
        _positive(name, value)
        for name, value in (
            ("noise", noise),
            ("learning_rate", learning_rate),
            ("batch_size", batch_size),
        )
    )
    freedom = data("dof", dof)
    freedom = _positive("dof", np.full_like(variances, freedom) if freedom.ndim == 0 else freedom)
    if not np.all(freedom >= 1):
        raise ValueError(f"`dof` must be at least 1, that of one number; got {freedom.min():g}.")
    for name, value in (("learning_rate", rates), ("batch_size", batches), ("dof", freedom)):
        if value.shape != variances.shape:
            raise ValueError(
                f"`{name}` must have the shape of `noise`, {variances.shape}; got {value.shape}."
            )
    if variances.size < 4:
        raise ValueError(f"`noise` must have at least 4 runs; got {variances.size}.")
    inverse_batch = 1 / batches
    if dataset_size is not None:
        integer("dataset_size", dataset_size, minimum=2)
        if not np.all(batches < dataset_size):
            raise ValueError(
                f"`batch_size` must be below `dataset_size`, {dataset_size}; got {batches.max():g}."
            )
        inverse_batch = inverse_batch - 1 / dataset_size
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    weights = 1 / polygamma(1, freedom / 2)
    one, alpha, batch = np.ones_like(logs), np.log(rates), np.log(inverse_batch)
    design = np.stack([one, alpha, batch], 1)
    if np.linalg.matrix_rank(design, tol=1e-8 * np.abs(design).max()) < 3:
        raise IdentifiabilityError(
            "`learning_rate` and `batch_size` never vary apart, so only the exponent of the "
            "combination that was varied is identified. Add runs."
        )
    apart, fisher, residuals = _regression(design, logs, weights)
    together, fisher_ratio, _ = _regression(np.stack([one, alpha + batch], 1), logs, weights)
    # One sample, three exponents: the ratio's estimate is linear in the same logarithms.
    maps = [
        np.linalg.solve(fisher, (design * weights[:, None]).T)[1:],
        np.linalg.solve(fisher_ratio, (np.stack([one, alpha + batch], 1) * weights[:, None]).T)[1:],
    ]
    linear = np.concatenate(maps)
    covariance = (linear / weights) @ linear.T
    names = ("learning_rate", "batch_size", "ratio")
    values = np.array([apart[1], apart[2], together[1]])
    errors = np.sqrt(np.diagonal(covariance))
    excess = float(np.sum(weights * residuals**2)), variances.size - 3

    errors_of: dict[str, float] = dict(zip(names, map(float, errors), strict=True))
    return FitResult(
        estimate=dict(zip(names, map(float, values), strict=True)),
        covariance=covariance,
        fisher=np.linalg.pinv(covariance),
        bound=errors_of,
        method="weighted least squares of logarithms",
        intervals=partial(normal, names, values, errors),
        dof_used=float(freedom.sum()),
        dof_available=float(freedom.sum()),
        steps_used=variances.size,
        goodness={
            "residual": (excess[0] / excess[1], (excess[0] - excess[1]) / math.sqrt(2 * excess[1]))
        },
    )


def _regression(design, logs, weights):
    fisher = (design * weights[:, None]).T @ design
    found = np.linalg.solve(fisher, (design * weights[:, None]).T @ logs)
    return found, fisher, logs - design @ found


def _positive(name: str, value: Any) -> np.ndarray:
    array = data(name, value)
    if array.ndim != 1:
        raise ValueError(f"`{name}` must be one axis of runs; got shape {array.shape}.")
    if not np.all(array > 0):
        raise ValueError(f"`{name}` must be positive; got {array.min():g}.")
    return array
