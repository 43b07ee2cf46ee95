"""The sections that every config has: the ensemble, its times, the comparison, the companion."""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator

from ._section import MOST, Floats, Section, Size
from .laws import Token

# Seeds beyond 32 bits would lose their upper half on a machine without 64-bit integers.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# The last number of 32 bits is that of the companion run, which no ensemble has.
Members = Annotated[int, Field(ge=1, lt=2**32)]
Time = Annotated[float, Field(ge=0)]
Whole = tuple[Annotated[int, Field(ge=0, le=MOST)], ...]
_DRAWN, _TIMES = 10_000, 10_000_000


class Ensemble(Section):
    """An ensemble of members, and how it is divided and kept."""

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({"checkpoint": "segment"})

    seed: Seed = 0
    """Seed of the run's one key; member i depends on it and on i alone."""
    members: Annotated[Members, Field(examples=[1000])]
    """Number of members of the ensemble."""
    chunk: Size | None = None
    """Members that are written to disk together: a run that is killed loses at most these. By
    default the free memory decides. It changes results by rounding at most."""
    segment: Size | None = None
    """Write a checkpoint every this many save intervals, so that a path may outlast a job. By
    default paths have no checkpoints. It changes results by rounding at most."""
    keep: Literal["trajectories", "summaries"] = "trajectories"
    """The values that are stored: "trajectories" of every member, or only "summaries", which are
    the mean, variance and histogram over members. Summaries are stored in any case."""
    failures: Literal["stop", "mark"] = "stop"
    """If members become NaN or infinite: "stop" ends the run; "mark" marks them in `status`, leaves
    them out of the summaries, and counts them."""


class Run(Ensemble):
    """The ensemble of an equation."""

    substeps: Annotated[Size, Field(examples=[16])]
    """Steps per save interval; keep dim * sigma² * step at 1 or below."""
    coordinates: Literal["overlaps", "full"] = "overlaps"
    """The axes of tokens: "overlaps" takes an orthonormal basis of their span, far cheaper in high
    dimensions, for models where that keeps the law of overlaps; "full" takes the axes of the space.
    """
    save: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = (
        "overlaps",
        "log_det_gram",
    )
    """The values that are saved of each state. Of tokens: "state", "overlaps", "angles", "gram",
    "polar_order", "nematic_order", "log_det_gram", "cluster_signs", and of tokens with radii
    "cosines", "radii", "squared_radii", "log_radius_ratio". Of matrices: "spectrum" if
    they are square, else "singular_values". Of particles: "q", "p", "q_squared", "p_squared". Of
    other numbers: "x", "x_squared". The comparison and the figures of tokens need "overlaps", its
    volumes "log_det_gram"."""


class Seeds(Ensemble):
    """The seeds of a training process, which are the members of its ensemble."""

    save: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """The values that are saved of the weights of each seed; by default all that the process
    names."""


class Updates(Section):
    """The numbers of updates at which seeds are saved: `stop` and `points`, or `values`."""

    stop: Annotated[int, Field(ge=1, le=MOST, examples=[1000])] | None = None
    """The last of `points` equally spaced numbers that start at 0, rounded to whole ones."""
    points: Annotated[int, Field(ge=2, le=_TIMES, examples=[11])] | None = None
    """The number of these."""
    values: Annotated[Whole, Field(strict=False)] | None = None
    """The numbers themselves, increasing from 0."""

    @model_validator(mode="after")
    def _one_way(self) -> "Updates":
        given = {name for name in ("stop", "points", "values") if getattr(self, name) is not None}
        if given not in ({"stop", "points"}, {"values"}):
            have = " and ".join(sorted(given)) or "neither"
            raise ValueError(f"must have stop and points, or values alone; got {have}")
        if self.stop is not None and self.points is not None and self.points > self.stop + 1:
            raise ValueError(
                f"points must be at most stop + 1 = {self.stop + 1}; got {self.points}"
            )
        if self.values is not None and (
            len(self.values) < 2
            or self.values[0] != 0
            or any(b <= a for a, b in pairwise(self.values))
        ):
            raise ValueError(
                f"values must be at least two numbers that increase from 0; got {self.values}"
            )
        return self

    def grid(self) -> Int[np.ndarray, " saves"]:
        """The numbers of updates."""
        if self.values is not None:
            return np.array(self.values)
        assert self.stop is not None and self.points is not None
        return self.stop * np.arange(self.points) // (self.points - 1)


class Times(Section):
    """The save times: `stop` and `points`, or `values`."""

    stop: Annotated[float, Field(gt=0, examples=[4.0])] | None = None
    """The last of `points` equally spaced times that start at 0."""
    points: Annotated[int, Field(ge=2, le=_TIMES, examples=[17])] | None = None
    """Number of these times."""
    values: Annotated[Floats, Field(min_length=2)] | None = None
    """The times themselves, increasing; the first is the time of the initial state."""

    @model_validator(mode="after")
    def _one_way(self) -> "Times":
        given = {name for name in ("stop", "points", "values") if getattr(self, name) is not None}
        if given not in ({"stop", "points"}, {"values"}):
            have = " and ".join(sorted(given)) or "neither"
            raise ValueError(f"must have stop and points, or values alone; got {have}")
        if self.values and any(b <= a for a, b in pairwise(self.values)):
            place = next(i for i, (a, b) in enumerate(pairwise(self.values)) if b <= a)
            raise ValueError(
                f"values must increase; got {self.values[place]} then {self.values[place + 1]} at "
                f"index {place}"
            )
        return self

    def grid(self) -> Float[np.ndarray, " times"]:
        """The save times."""
        if self.values is not None:
            return np.array(self.values)
        assert self.stop is not None and self.points is not None
        return self.stop * np.arange(self.points) / (self.points - 1)


class Report(Section):
    """The times and pairs of the comparison with closed forms and of the figures."""

    log_det_times: Floats = ()
    """Save times at which E ln det G is compared; early ones, before tokens collapse. Most models
    have a closed form only for two tokens while they are close (0.1 radians)."""
    one_point_times: Floats = ()
    """Save times at which E<x(t), x(0)> is compared; needs the "state" in "full" coordinates."""
    spectrum_times: Floats = ()
    """Save times at which eigenvalues are compared; by default the last."""
    angle_pair: Annotated[tuple[Token, Token], Field(strict=False)] = (0, 1)
    """The two tokens, by text or by number, of the figure of angles."""
    angle_time: Time | None = None
    """The save time of the figure of angles; without it there is none."""

    exponents: Annotated[int, Field(ge=0, le=_DRAWN)] = 0
    """Number of Lyapunov exponents to compute, the largest first; needs "full" coordinates. It
    takes the first members once more, each with its tangent vectors. A sweep has none."""
    exponent_members: Annotated[Members, Field(le=_DRAWN)] = 64
    """The exponents are those of so many members, or of all if there are fewer."""
    exponents_from: Time | None = None
    """The save time from which on exponents count, when states have found their attractor; by
    default the first."""


class Companion(Section):
    """Uniform tokens in 3 dimensions under the same model, one member: the figure of the sphere."""

    tokens: Annotated[int, Field(ge=2, le=_DRAWN, examples=[60])]
    """Number of tokens."""


class Sweep(Section):
    """The values of some keys at which the config is run, instead of once."""

    zipped: bool = False
    """Change all keys together, value by value, instead of taking every combination."""
    axes: Annotated[Mapping[str, Annotated[Floats, Field(min_length=1)]], Field(min_length=1)]
    """The values of every key, by its full name in quotes."""
