"""What a gradient costs: memory and time of reverse mode beside those of the simulation.

A part of `benchmark.py`: attention with general matrices and a random quadratic form, the gradient
of a mean overlap with respect to β, strength, V, QᵀK and σ. Memory is what the compiled programs of
200 steps hold beside arguments and results, by the compiler's account; it does not depend on the
machine. Time is of 32 steps, medians over rounds.
"""

import jax
import jax.numpy as jnp
from accuracy import table
from racing import Contender, race, ratio

import rqf_jax as rqf

STEPS, TIMED = 200, 32
FORWARD, REVERSE = "forward", "reverse"
MOST = 3.0


def loss(parameters: dict, members: int, tokens: int, steps: int):
    """The mean overlap at five times."""
    attention = rqf.drifts.Attention(*(parameters[n] for n in ("beta", "strength", "qk", "v")))
    noise = rqf.noises.IsotropicNoise(parameters["sigma"], jnp.zeros(()))
    runs = rqf.simulate(
        rqf.SDE(attention, noise, rqf.manifolds.Sphere()),
        rqf.laws.Uniform(tokens, parameters["v"].shape[0]),
        jnp.linspace(0.0, 0.005 * steps, 5),
        substeps=steps // 4,
        members=members,
        key=jax.random.key(0),
        save=lambda x: jnp.mean(rqf.observables.overlaps(x)),
        throw=False,
    )
    return jnp.mean(runs.ys)


def race_gradients(rounds: int, sizes) -> list[dict]:
    """Bytes and seconds a step, forward and reverse, for each (members, tokens, dim)."""
    results = []
    for members, tokens, dim in sizes:
        memory, contenders = {}, []
        for name, transform in ((FORWARD, lambda f: f), (REVERSE, jax.grad)):
            whole = compiled(transform, members, tokens, dim, STEPS)[0]
            memory[name] = whole.memory_analysis().temp_size_in_bytes
            contenders.append(contender(name, *compiled(transform, members, tokens, dim, TIMED)))
        seconds = race(contenders, rounds)
        results.append(
            {"size": [members, tokens, dim], "bytes": memory, "seconds_per_step": seconds}
        )
        jax.clear_caches()
    return results


def compiled(transform, members: int, tokens: int, dim: int, steps: int):
    """The program of a transformed `loss`, and parameters to call it with."""
    start = {"beta": jnp.ones(()), "strength": jnp.ones(()), "sigma": jnp.asarray(0.5)}
    start |= {"qk": 0.3 * jnp.eye(dim), "v": 0.9 * jnp.eye(dim)}
    f = transform(lambda parameters: loss(parameters, members, tokens, steps))
    return jax.jit(f).lower(start).compile(), start


def contender(name: str, program, start: dict) -> Contender:
    """One that is called with a new sigma each time."""
    return Contender(
        name, TIMED, lambda number, sigma: program(start | {"sigma": jnp.float32(sigma / 2)})
    )


def show_gradients(results: list[dict]) -> list[list[str]]:
    """Print the table of `race_gradients`; returns the goals."""
    rows, goals = [], []
    for result in results:
        name = "({}, {}, {})".format(*result["size"])
        forward, reverse = (result["bytes"][key] / 1e6 for key in (FORWARD, REVERSE))
        seconds = result["seconds_per_step"]
        times = ratio(seconds[REVERSE], seconds[FORWARD])
        rows.append(
            [name, f"{forward:.3g}", f"{reverse:.3g}", f"{reverse / forward:.3g}", f"{times:.3g}"]
        )
        met = "yes" if reverse <= MOST * forward else "**no**"
        goals.append(
            [
                f"{name} memory of reverse over forward",
                f"≤ {MOST:g}",
                f"{reverse / forward:.3g}",
                met,
            ]
        )
    print("## Gradients through attention and noise\n")
    head = ["(members, tokens, dim)", "forward, MB", "reverse, MB", "ratio", "time, ratio"]
    print(table(head, rows), "\n")
    return goals
