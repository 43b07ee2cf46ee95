"""What a fit says: numbers, how sure they are, and whether the model fits."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from .._arguments import real, table


class IdentifiabilityError(ValueError):
    """The data say nothing about a parameter; the message names the combination they do fix."""


@dataclass(frozen=True)
class FitResult:
    """Estimates with their errors.

    `estimate`, `stderr`, `bound` and `interval(level)` are dicts by parameter name. `bound` is the
    Cramér–Rao bound of the law of first order with all that could be observed, `stderr` the error
    of this fit. `covariance` and `fisher` (the information used) have the order of `estimate`.
    `dof_used` of `dof_available` degrees of freedom entered. `goodness` holds ratios that should be
    1 (or 0, for a correlation) with their distance from it in standard errors. `null_ratio` is the
    motion in directions that symmetric noise leaves free, relative to what its commutators cause:
    about 1; near 0 if a path was made with one step per observation; large if the noise is not
    common or not symmetric. `print(fit)` shows it all.
    """

    estimate: dict[str, float]
    covariance: Float[np.ndarray, "parameters parameters"]
    fisher: Float[np.ndarray, "parameters parameters"]
    bound: dict[str, float]
    method: str
    intervals: Callable[[float], dict[str, tuple[float, float]]] = field(repr=False)
    density: Callable[[Mapping[str, Any]], Any] | None = field(default=None, repr=False)
    dof_used: float = math.nan
    dof_available: float = math.nan
    steps_used: int = 0
    steps_dropped: int = 0
    tokens_used: float = math.nan
    tokens_available: int = 0
    null_ratio: float = math.nan
    goodness: dict[str, tuple[float, float]] = field(default_factory=dict)
    identifiability: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def stderr(self) -> dict[str, float]:
        """Standard errors."""
        errors = np.sqrt(np.diagonal(self.covariance))
        return dict(zip(self.estimate, map(float, errors), strict=True))

    def interval(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Confidence intervals (low, high). Raises ValueError unless 0 < level < 1."""
        level = real("level", level)
        if not 0 < level < 1:
            raise ValueError(f"`level` must lie strictly between 0 and 1; got {level}.")
        return self.intervals(level)

    def log_density(self) -> Callable[[Mapping[str, Any]], Any]:
        """The log likelihood as a function of a dict like `estimate`, for a sampler.

        It is a JAX function, differentiable, with no prior in it. Its maximum is the estimate and
        its curvature there that of the covariance, but for what a fit says of its bias: steps of
        finite length are corrected, and pairs that share their noise are weighted down. That of
        `fit_noise` is a pytree of its data, so that those of many fits stack under `jax.vmap`.
        Raises ValueError for fits that have no likelihood.
        """
        if self.density is None:
            raise ValueError(f"`method` {self.method} has no likelihood.")
        return self.density

    def _repr_html_(self) -> str:
        errors, intervals = self.stderr, self.interval()
        rows = {
            name: f"{value:.5g} ± {errors[name]:.2g}, 95 %: {intervals[name][0]:.5g} … "
            f"{intervals[name][1]:.5g}"
            for name, value in self.estimate.items()
        }
        warned = {f"warning {i + 1}": text for i, text in enumerate(self.warnings)}
        return table(f"Fit by {self.method}", rows | warned)

    def __str__(self) -> str:
        intervals, errors = self.interval(), self.stderr
        rows = [("", "estimate", "std. error", "bound", "95 % interval")]
        for name, value in self.estimate.items():
            low, high = intervals[name]
            digits = _digits(errors[name])
            rows.append(
                (
                    name,
                    f"{value:.{digits}f}",
                    f"{errors[name]:.2g}",
                    f"{self.bound[name]:.2g}",
                    f"{low:.{digits}f} … {high:.{digits}f}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        lines += ["", f"method              {self.method}"]
        if not math.isnan(self.dof_used):
            lines.append(
                f"degrees of freedom  {self.dof_used:.0f} of {self.dof_available:.0f} used"
            )
        dropped = f", {self.steps_dropped} dropped" if self.steps_dropped else ""
        lines.append(f"steps               {self.steps_used} used{dropped}")
        if not math.isnan(self.tokens_used):
            lines.append(
                f"tokens in a step    {self.tokens_used:.2f} of {self.tokens_available} used (mean)"
            )
        if not math.isnan(self.null_ratio):
            lines.append(f"null ratio          {self.null_ratio:.3g} (1 for common noise)")
        for name, (value, score) in self.goodness.items():
            lines.append(f"{name:<18}  {value:.3g} (z = {score:+.1f})")
        scores = [abs(z) for _, z in self.goodness.values() if not math.isnan(z)]
        if len(scores) > 1:
            lines.append(
                f"largest |z|         {max(scores):.1f} of {len(scores)} "
                f"(p = {_largest_of(max(scores), len(scores)):.2g})"
            )
        if self.identifiability:
            lines.append(f"identifiability     {self.identifiability}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _largest_of(z: float, count: int) -> float:
    """How often the largest |z| of `count` independent ones is as large as this."""
    # 1 - (1 - tail)^count, also where the tail is lost beside 1.
    return -math.expm1(count * math.log1p(-min(math.erfc(z / math.sqrt(2)), 1 - 1e-16)))


def _digits(error: float) -> int:
    """Decimals that show two digits of an error."""
    if not 0 < error < math.inf:
        return 4
    return max(0, 1 - math.floor(math.log10(error)))


def normal(names, values, errors, level, *, dof=math.inf) -> dict[str, tuple[float, float]]:
    """Normal intervals of parameters with standard errors `errors`, or Student's where these are
    known with `dof` degrees of freedom."""
    from scipy.special import ndtri, stdtrit

    above = (1 + level) / 2
    reach = (ndtri(above) if math.isinf(dof) else stdtrit(dof, above)) * errors
    return {
        name: (float(value - d), float(value + d))
        for name, value, d in zip(names, values, reach, strict=True)
    }


def log_normal(names, values, errors, level) -> dict[str, tuple[float, float]]:
    """Intervals of positive parameters, normal in ln with standard errors `errors` there."""
    logs = normal(names, np.log(values), errors, level)
    with np.errstate(over="ignore"):  # an error without end has an interval without end
        return {
            name: (float(np.exp(low)), float(np.exp(high))) for name, (low, high) in logs.items()
        }


def chi_square(name, square, dof, level) -> dict[str, tuple[float, float]]:
    """The interval of a σ whose estimate has the square `square`, σ² χ²/dof in law.

    Exact for short steps, where the degrees of freedom `dof` are their number.
    """
    from scipy.special import chdtri  # the inverse of the upper tail

    tail = (1 - level) / 2
    low, high = dof / chdtri(dof, tail), dof / chdtri(dof, 1 - tail)
    return {name: (math.sqrt(square * low), math.sqrt(square * high))}
