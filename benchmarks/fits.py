"""Time of noise fits: closed form, dense Gaussian likelihood, gradients through the solver.

A part of `benchmark.py`. All three find σ of the same paths of common symmetric noise:

- `inference.fit_noise`, with its interval, its report and, where it matters, the simulation that
  removes the error of finite steps;
- the dense likelihood: σ² = mean of vᵀ C⁺ v over the rank, C (N n × N n) the covariance of the
  half-angle increments v of all tokens at σ = 1. One eigendecomposition a step is all it takes,
  since one strength only scales C; a general optimiser would need one a trial;
- `rqf.fit`: Adam on ln σ until the mean squared displacement of simulated steps is that of the
  seen ones, with ten times as many simulated as seen steps, for which the error is the closest to
  that of the others.
"""

import functools
import math
import statistics
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from accuracy import table
from jaxtyping import Array, Float
from racing import Contender, goal, race, ratio
from scipy.special import chdtri

import rqf_jax as rqf
from rqf_jax import inference

FIT, DENSE, GRADIENT = "fit_noise", "dense likelihood", "gradient fit"
STEPS, OPTIMIZER_STEPS = 40, 60
LENGTHS = {"short": 5e-4, "long": 1e-2}
"""σ² dt of a step: below and above the length from which `fit_noise` simulates the step error."""


class Size(NamedTuple):
    """What is fitted in one call."""

    tokens: int
    dim: int
    members: int
    steps: int

    @property
    def rank(self) -> int:
        """The degrees of freedom of one step."""
        return rqf.theory.sphere.symmetric_rank(self.tokens, self.dim)

    @property
    def short(self) -> float:
        """Half the length from which `fit_noise` would simulate the step error."""
        error = math.sqrt(2 / (self.members * self.steps * self.rank))
        return 0.5 * 0.05 * error / (0.4 * self.dim)


SIZES = {Size(4, 8, 100, 40): 10.0, Size(16, 64, 50, 20): 40.0, Size(64, 512, 1, 16): 1500.0}
"""With the goal, microseconds a step. What a call costs at any length, 1 to 2 ms, is in it."""


@functools.cache
def paths(size: Size, length: float, count: int) -> list[Float[np.ndarray, "..."]]:
    """Different data for every call, made with sub-steps."""
    runs = rqf.simulate(
        rqf.models.random_quadratic_form(1.0),
        rqf.laws.Uniform(size.tokens, size.dim),
        times(size, length),
        substeps=2,
        members=count * size.members,
        key=jax.random.key(0),
    )
    return list(np.asarray(runs.ys).reshape(count, size.members, size.steps + 1, *size[:2]))


def times(size: Size, length: float) -> Float[np.ndarray, " times"]:
    """Equally spaced."""
    return length * np.arange(size.steps + 1.0, dtype=np.float32)


def closed(data: list, ts) -> Contender:
    """The estimate and the ends of its interval."""

    def call(number, _):
        result = inference.fit_noise(data[number % len(data)], ts)
        return result.estimate["symmetric"], result.interval()["symmetric"]

    return Contender(FIT, 1, call)


def dense(data: list, size: Size, length: float) -> Contender:
    """The maximum of the dense likelihood, and the ends of its χ² interval."""

    @jax.jit
    def estimate(ys):
        x, y = (part.reshape(-1, size.tokens, size.dim) for part in (ys[:, :-1], ys[:, 1:]))
        x, v = inference.half_angle(x, y)
        sides = size.tokens * size.dim

        def one(x, v):
            tangent = jnp.eye(size.dim) - x[:, :, None] * x[:, None, :]
            # P_a x_b for all pairs.
            across = jnp.einsum("aij,bj->abi", tangent, x)
            c = jnp.einsum("ab,aik,bkj->aibj", x @ x.T, tangent, tangent)
            c = (c + jnp.einsum("abi,baj->aibj", across, across)).reshape(sides, sides) / 2
            values, vectors = jnp.linalg.eigh(c)
            there = jnp.arange(sides) >= sides - size.rank
            return jnp.sum(jnp.where(there, (vectors.T @ v.ravel()) ** 2 / values, 0.0))

        return jnp.mean(jax.vmap(one)(x, v)) / (length * size.rank)

    def call(number, _):
        square = float(estimate(data[number % len(data)]))
        freedom = size.members * size.steps * size.rank
        return math.sqrt(square), interval(square, freedom)

    return Contender(DENSE, 1, call)


def interval(square: float, freedom: int) -> tuple[float, float]:
    """Of σ, where σ² χ²/freedom is the law of `square`."""
    low, high = (freedom / chdtri(freedom, tail) for tail in (0.025, 0.975))
    return math.sqrt(square * low), math.sqrt(square * high)


class Displacement(eqx.Module):
    """(ln of the mean squared displacement of simulated steps less that of seen ones)²."""

    seen: Float[Array, ""]
    law: rqf.laws.AbstractLaw
    ts: Float[Array, "2"]
    members: int = eqx.field(static=True)

    def __call__(self, sde, key):
        """The loss of an equation."""
        runs = rqf.simulate(
            sde, self.law, self.ts, substeps=4, members=self.members, key=key, throw=False
        )
        return (jnp.log(squared_displacement(runs.ys)) - self.seen) ** 2


def squared_displacement(ys: Float[Array, "members times tokens dim"]) -> Float[Array, ""]:
    """The mean of |P_x y|² over steps from x to y."""
    x, y = ys[:, :-1], ys[:, 1:]
    return jnp.mean(1 - jnp.sum(x * y, -1) ** 2)


def gradient(data: list, size: Size, length: float) -> Contender:
    """Adam through the solver from 0.7 σ on."""
    law, ts = rqf.laws.Uniform(size.tokens, size.dim), jnp.asarray([0.0, length])
    seen = [jnp.log(squared_displacement(jnp.asarray(ys))) for ys in data]

    def call(number, _):
        loss = Displacement(
            seen[number % len(data)], law, ts, members=10 * size.members * size.steps
        )
        start = rqf.models.random_quadratic_form(0.7)
        fit = rqf.fit(
            start,
            loss,
            where=lambda sde: sde.noise.symmetric,
            steps=OPTIMIZER_STEPS,
            key=jax.random.key(number),
        )
        return float(fit.sde.noise.symmetric), None

    return Contender(GRADIENT, 1, call)


def errors(contenders: list[Contender], size: Size, count: int) -> dict[str, float]:
    """The root mean square of σ²/truth - 1 over √(2/dof), from `count` data sets."""
    bound = math.sqrt(2 / (size.members * size.steps * size.rank))
    found = {}
    for contender in contenders:
        squares = [contender.call(number, 1.0)[0] ** 2 for number in range(count)]  # type: ignore[index]
        found[contender.name] = float(np.sqrt(np.mean((np.array(squares) - 1) ** 2)) / bound)
    return found


def race_fits(rounds: int, sizes=tuple(SIZES), lengths=LENGTHS, count: int = 64) -> dict:
    """Seconds of complete fits of one path, their errors, and seconds a step of long records."""
    small, whole = Size(4, 8, 1, STEPS), []
    for name, length in lengths.items():
        data = paths(small, length, count)
        contenders = [
            closed(data, times(small, length)),
            dense(data, small, length),
            gradient(data, small, length),
        ]
        # Many calls of the fast ones a round, since one is short beside what disturbs it.
        seconds = race([repeated(c, 1 if c.name == GRADIENT else 10) for c in contenders], rounds)
        whole.append(
            {
                "name": name,
                "length": length,
                "seconds": seconds,
                "error": errors(contenders, small, count),
            }
        )
        jax.clear_caches()
    steps = []
    for size in sizes:
        data = paths(size, size.short, 2)
        contenders = [closed(data, times(size, size.short))]
        if size.tokens * size.dim <= 1024:
            few = size if size.dim < 64 else size._replace(members=1, steps=4)
            some = [ys[: few.members, : few.steps + 1] for ys in data]
            contenders.append(dense(some, few, size.short)._replace(steps=few.members * few.steps))
        contenders[0] = contenders[0]._replace(steps=size.members * size.steps)
        steps.append({"size": list(size), "seconds_per_step": race(contenders, rounds)})
        jax.clear_caches()
    return {"whole": whole, "steps": steps}


def repeated(contender: Contender, times: int) -> Contender:
    """So many calls in a row, timed as that many steps."""

    def call(number, sigma):
        return [contender.call(times * number + i, sigma) for i in range(times)]

    return Contender(contender.name, times, call)


def milliseconds(seconds: list[float]) -> str:
    """Median and fastest."""
    return f"{1e3 * statistics.median(seconds):.3g} ({1e3 * min(seconds):.3g})"


def below(what: str, most: float, measured: float) -> list[str]:
    """A goal that is an upper limit."""
    return [what, f"≤ {most:g}", f"{measured:.3g}", "yes" if measured <= most else "**no**"]


def show_fits(result: dict) -> list[list[str]]:
    """Print the tables of `race_fits`; returns the goals."""
    goals, rows = [], []
    for one in result["whole"]:
        seconds, error = one["seconds"], one["error"]
        for name in seconds:
            faster = "" if name == FIT else f"{ratio(seconds[name], seconds[FIT]):.3g}"
            rows.append(
                [
                    f"{one['length']:g}",
                    name,
                    milliseconds(seconds[name]),
                    f"{error[name]:.2f}",
                    faster,
                ]
            )
        what = f"fit of {one['name']} steps"
        if one["name"] == "short":
            goals.append(below(f"{what}, milliseconds", 2, 1e3 * statistics.median(seconds[FIT])))
        for peer in (DENSE, GRADIENT):
            goals.append(goal(f"{what}, against {peer}", 100, ratio(seconds[peer], seconds[FIT])))
    print("## Fits of noise\n")
    print(
        f"Milliseconds for one path of {STEPS} steps of 4 tokens in dimension 8, after "
        "compilation, with the interval: median (fastest round). Errors are root mean squares of "
        "σ² over √(2/dof).\n"
    )
    print(table(["σ² dt", "way", "ms", "error", f"{FIT} is faster by"], rows))
    rows = []
    for one in result["steps"]:
        size, seconds = Size(*one["size"]), one["seconds_per_step"]
        own = 1e6 * statistics.median(seconds[FIT])
        name = f"({size.tokens}, {size.dim})"
        cells = [f"{size.members * size.steps}", f"{own:.4g} ({1e6 * min(seconds[FIT]):.4g})"]
        if DENSE in seconds:
            other = 1e6 * statistics.median(seconds[DENSE])
            times_faster = ratio(seconds[DENSE], seconds[FIT])
            cells += [f"{other:.4g} ({1e6 * min(seconds[DENSE]):.4g})", f"{times_faster:.3g}"]
            goals.append(goal(f"{name} a step, against {DENSE}", 100, times_faster))
        else:
            sides = size.tokens * size.dim
            cells += [f"does not fit: {sides} × {sides}", ""]
        rows.append([name, *cells])
        most = SIZES.get(size)
        if most is not None:
            goals.append(below(f"{name} a step, microseconds", most, own))
    print("\nMicroseconds a step of long records of short steps: median (fastest round).\n")
    print(table(["(tokens, dim)", "steps", f"{FIT} µs", f"{DENSE} µs", "times faster"], rows))
    print()
    return goals
