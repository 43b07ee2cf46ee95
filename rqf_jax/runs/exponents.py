"""Lyapunov exponents of a run: its first members once more, each with its tangent vectors."""

import re

import jax
import numpy as np
from jaxtyping import Float
from rich.console import Console

from .._ensemble.problem import Problem
from .._ensemble.trajectories import NonFiniteError
from ..analysis import lyapunov_spectrum
from ..analysis._flow import check_flow, dimension
from .catalogue import ConfigError, Report


def check(problem: Problem, report: Report) -> None:
    """ConfigError if the exponents that a config asks for do not exist."""
    if not report.exponents:
        return
    try:
        check_flow(problem.sde)
        most = dimension(problem.sde.manifold, problem.state)
    except ValueError as error:
        raise ConfigError(f"report.exponents: {re.sub('`sde`', 'model', str(error))}") from error
    if report.exponents > most:
        raise ConfigError(
            f"report.exponents: must be at most {most}, the dimension of a state; got "
            f"{report.exponents}."
        )


def rates(
    problem: Problem, report: Report, members: int, console: Console
) -> Float[np.ndarray, "members exponents"]:
    """The exponents of the first members, the largest first, one row each.

    If a member has none, because it or its growth became infinite, there is no row, and the reason
    is printed.
    """
    ts = np.asarray(problem.times.at, float)
    first = ts[0] if report.exponents_from is None else report.exponents_from
    discard = int(np.argmin(np.abs(ts - first)))
    count = min(members, report.exponent_members)
    console.print(f"Lyapunov exponents of {count} members.")
    try:
        found = lyapunov_spectrum(
            problem.sde, problem.law, ts, substeps=problem.substeps, members=count,
            key=problem.key, exponents=report.exponents, discard=discard, solver=problem.solver,
        )  # fmt: skip
    except NonFiniteError as error:
        console.print(f"No Lyapunov exponents: {error}", style="bold red")
        return np.zeros((0, report.exponents))
    growth = np.asarray(jax.device_get(found.growths), float).sum(1)
    return growth / (ts[-1] - ts[discard])
