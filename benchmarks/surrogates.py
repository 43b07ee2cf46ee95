"""Surrogates of one system side by side: forecasts and laws, each with its error over seeds.

    python benchmarks/surrogates.py [--system lorenz|wells] [--seeds 5] [--only NAME]

Every contender learns from the same paths in standard units, continues held-out paths from their
own first states, and is measured by `rqf_jax.analysis.surrogates`:

    D_stsp       divergence of the occupation of cells
    Hellinger    distance of power spectra
    valid        how long a forecast holds, in Lyapunov times (Lorenz)
    λ_max        the largest exponent of the learned map or of the mean of the learned law (Lorenz)
    E x²         of the stationary law (double well)
    rate         passages from bottom to bottom per unit time (double well)
    seconds      of the processor, to train one seed, compilation included

The row `truth` is the null, one half of the truth against the other, and the closed forms.
`--updates` is a factor for all numbers of updates; `--figure` draws the attractors.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import rqf_jax as rqf
from rqf_jax import surrogates
from rqf_jax.analysis import surrogates as judge
from rqf_jax.theory import wells

CONTEXT, SIGMA = 8, 0.5  # states of the past that are given; strength of the noise in wells
EXPONENT = rqf.systems.Lorenz63.reference.values[0]
FLAT, HEUN = rqf.manifolds.Euclidean(), rqf.solvers.GeodesicHeun()


class System(NamedTuple):
    """An equation, its initial law, the time between states, and the size of its ensembles."""

    sde: rqf.SDE
    law: rqf.laws.AbstractLaw
    step: float
    before: float
    members: int
    times: int
    bins: int
    degree: int

    def paths(self, seed: int) -> np.ndarray:
        """Paths (members, times, size) on the attractor, or of the stationary law."""
        first = round(self.before / self.step)
        runs = rqf.simulate(
            self.sde,
            self.law,
            self.step * np.arange(first + self.times),
            substeps=20,
            members=self.members,
            key=jax.random.key(seed),
        )
        return np.asarray(runs.ys)[:, first:]


def systems() -> dict[str, System]:
    flow, well = rqf.systems.Lorenz63(), rqf.systems.DoubleWell()
    silent, noise = rqf.noises.NoNoise(), rqf.noises.TokenNoise(SIGMA)
    lorenz, jumping = rqf.SDE(flow, silent, FLAT), rqf.SDE(well, noise, FLAT)
    broad = rqf.laws.Normal((1,))
    return {
        "lorenz": System(lorenz, flow.law(1.0), 0.05, 100.0, 60, 800, 10, 3),
        "wells": System(jumping, broad, 0.2, 20.0, 240, 600, 30, 5),
    }


class Data(NamedTuple):
    """Paths to learn from and to be judged by, in standard units, and the units."""

    truth: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    step: float
    degree: int


def measured(system: System) -> Data:
    # Settings of the contenders were chosen on paths of seed 1, which nothing here is told on.
    truth, test = (system.paths(seed) for seed in (0, 2))
    mean, scale = truth.mean((0, 1)), truth.std((0, 1))
    truth, test = (truth - mean) / scale, (test - mean) / scale
    return Data(truth, test, mean, scale, system.step, system.degree)


@functools.cache
def optimiser(rate: float, updates: int) -> optax.GradientTransformation:
    """Adam at a rate that rises and falls to 0; one object, so that nothing is compiled anew."""
    rates = optax.warmup_cosine_decay_schedule(0.0, rate, min(200, updates // 5), updates)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates))


def trained(loss, law, examples, batch, rate, updates, seeds) -> list[Any]:
    """The weights of each seed after training."""
    process = rqf.training.Process(
        loss,
        law,
        examples,
        optimiser=optimiser(rate, updates),
        injections=[rqf.training.injections.WithReplacement(batch)],
    )
    key = jax.random.key(7)
    found = rqf.training.train(process, [0, updates], seeds=seeds, key=key).ys
    weights = [jax.tree.map(lambda leaf, i=i: leaf[i, -1], found) for i in range(seeds)]
    return [eqx.combine(one, law(key)) for one in weights]


class Surrogate(NamedTuple):
    """A network of `rqf_jax.surrogates`; between `stages` of training its grid is refined."""

    law: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], Any]
    length: int
    batch: int
    rate: float
    updates: int
    stages: int = 1

    def train(self, data: Data, seeds: int, factor: float) -> list[Any]:
        """The weights of every seed."""
        examples = surrogates.windows(data.truth, self.length, every=3)
        updates = max(1, round(factor * self.updates / self.stages))
        given = examples, self.batch, self.rate, updates
        models = trained(self.loss, self.law, *given, seeds)
        for _ in range(self.stages - 1):
            models = [
                trained(self.loss, jax.tree_util.Partial(_given, one.refined()), *given, 1)[0]
                for one in models
            ]
        return models

    def paths(self, model: Any, data: Data, seed: int) -> np.ndarray:
        """Test paths that are continued from their own starts."""
        past, steps = data.test[:, :CONTEXT], data.test.shape[1] - CONTEXT
        runs = surrogates.sample(
            model, past, steps, members=len(past), key=jax.random.key(seed), throw=False
        )
        return np.asarray(runs.ys)

    def exponent(self, model: Any, data: Data) -> float:
        """λ_max, NaN where there is none."""
        past = jnp.asarray(data.test[:16, :CONTEXT])
        if isinstance(model, surrogates.AbstractRecurrent):
            return _largest(model, jax.vmap(model.begin)(past), data.step)
        if isinstance(model.head, surrogates.CellHead):
            return np.nan  # a law of cells has no tangent
        move = jax.tree_util.Partial(_mean_step, model)
        return _largest(move, past[:, -model.context :], data.step)


def _mean_step(model: surrogates.Transformer, window: jax.Array) -> jax.Array:
    """The window one step later, along the mean of the law."""
    centre, _ = model.head.law(model.begin(window).hidden)
    return jnp.concatenate([window[1:], window[-1:] + centre * jnp.asarray(model.head.scale)])


def _given(model, key):
    return model


def _largest(move: Any, start: Any, step: float) -> float:
    try:
        found = judge.map_exponents(move, start, steps=2000, step=step, exponents=1, discard=400)
    except rqf.NonFiniteError:
        return np.nan
    return float(found.exponents[0])


class Equation(NamedTuple):
    """A neural stochastic differential equation, by the likelihood of single steps."""

    law: Callable[[jax.Array], rqf.SDE]
    updates: int

    def train(self, data: Data, seeds: int, factor: float) -> list[Any]:
        """The weights of every seed."""
        times = np.array([0.0, data.step])

        def loss(sde, batch):
            return rqf.losses.TransitionLikelihood(batch, times)(sde, jax.random.key(0))

        examples, updates = surrogates.windows(data.truth, 2), max(1, round(factor * self.updates))
        return trained(loss, self.law, examples, 64, 3e-3, updates, seeds)

    def paths(self, sde: rqf.SDE, data: Data, seed: int) -> np.ndarray:
        """Test paths that are continued from their own starts."""
        start = jnp.asarray(data.test[:, CONTEXT - 1])
        count = data.test.shape[1] - CONTEXT + 1
        keys = jax.random.split(jax.random.key(seed), len(start))
        return np.asarray(_moved(sde, start, data.step, count, keys))

    def exponent(self, sde: rqf.SDE, data: Data) -> float:
        """λ_max, NaN where there is none."""
        spectrum = rqf.analysis.lyapunov_spectrum(
            sde,
            rqf.laws.Normal((len(data.mean),)),
            np.arange(0.0, 101.0, 2.0),
            substeps=320,
            members=16,
            key=jax.random.key(0),
            exponents=1,
            discard=10,
            solver=HEUN,
        )
        return float(spectrum.exponents[0])


@eqx.filter_jit
def _moved(sde, starts, step, count, keys):
    """A path of the equation from every start."""
    times = step * np.arange(count)

    def path(x, key):
        law, options = rqf.laws.Fixed(x), {"substeps": 8, "solver": HEUN, "throw": False}
        return rqf.simulate(sde, law, times, members=1, key=key, **options).ys[0]

    return jax.vmap(path)(starts, keys)


class Linear(NamedTuple):
    """Koopman modes: of the coordinates (DMD) or of their products (EDMD). It has no seeds."""

    products: bool

    def train(self, data: Data, seeds: int, factor: float) -> list[Any]:
        """One model for all seeds: least squares draw no random numbers."""
        size, times = len(data.mean), data.step * np.arange(data.truth.shape[1])
        made = rqf.analysis.Monomials(size, data.degree) if self.products else None
        return [rqf.analysis.koopman_modes(data.truth, times, dictionary=made)]

    def paths(self, modes: Any, data: Data, seed: int) -> np.ndarray:
        """Test paths that are continued from their own starts."""
        steps = data.test.shape[1] - CONTEXT
        return np.stack([modes.forecast(x, steps) for x in data.test[:, CONTEXT - 1]])

    def exponent(self, modes: Any, data: Data) -> float:
        """λ_max, NaN where there is none."""
        return np.nan


class Persistence(NamedTuple):
    """The present state for ever."""

    def train(self, data: Data, seeds: int, factor: float) -> list[Any]:
        """No weights: nothing is learnt."""
        return [None]

    def paths(self, model: Any, data: Data, seed: int) -> np.ndarray:
        """Test paths that are continued from their own starts."""
        rest = data.test[:, CONTEXT - 1 :]
        return np.broadcast_to(rest[:, :1], rest.shape)

    def exponent(self, model: Any, data: Data) -> float:
        """λ_max, NaN where there is none."""
        return np.nan


def contenders(data: Data) -> dict[str, Any]:
    """Every contender by its name."""
    size = len(data.mean)
    grid = surrogates.grid_of(data.truth, 16, margin=0.02)

    def normal(key):
        first, second = jax.random.split(key)
        head = surrogates.GaussianHead(np.zeros(size), np.ones(size), width=32, key=first)
        return surrogates.Transformer(head, blocks=2, context=2, key=second)

    def cells(key):
        first, second = jax.random.split(key)
        head = surrogates.CellHead(grid, width=32, key=first)
        return surrogates.Transformer(head, blocks=2, context=CONTEXT, key=second)

    def almost_linear(key):
        return surrogates.AlmostLinear(size, latent=20, pieces=8, forcing=0.2, key=key)

    def shallow(key):
        return surrogates.ShallowPiecewise(size, latent=size, hidden=200, key=key)

    def equation(key):
        return rqf.models.neural_langevin(
            (size,), rate=1.0, sigma=0.3, bound=40.0 if size > 1 else 5.0, width=48, key=key
        )

    plain, forced = surrogates.loss, surrogates.forced_loss
    return {
        "persistence": Persistence(),
        "DMD": Linear(False),
        "EDMD": Linear(True),
        "transformer, normal law": Surrogate(normal, plain, 5, 64, 1e-2, 6000),
        "shallow piecewise": Surrogate(shallow, forced, 11, 64, 3e-3, 5000),
        "almost linear": Surrogate(almost_linear, plain, 21, 32, 3e-3, 5000),
        "neural equation": Equation(equation, 2000),
        "transformer, cells": Surrogate(cells, plain, CONTEXT + 1, 64, 5e-3, 4000, 2),
    }


def passages(paths: np.ndarray, step: float) -> float:
    """Passages of a path from one well's bottom to the other's, for each unit of time."""
    total = 0
    for path in paths[:, :, 0]:
        total += np.count_nonzero(np.diff(np.sign(path[np.abs(path) >= 1])))
    return total / (paths.shape[0] * (paths.shape[1] - 1) * step)


def seen_rate(step: float) -> float:
    """The rate of passages in theory, of paths that are seen at times `step` apart.

    They seem to reach a barrier that is farther away (Broadie, Glasserman & Kou 1997, recalled).
    """
    far = 1 + 0.5826 * SIGMA * np.sqrt(step)
    return 1 / wells.passage_time(-far, far, SIGMA)


def shown(values: Sequence[float]) -> str:
    known = np.asarray([value for value in values if np.isfinite(value)])
    if not known.size:
        return "-"
    lost = f" ({len(values) - known.size} lost)" if known.size < len(values) else ""
    error = f" ± {known.std(ddof=1) / np.sqrt(known.size):.1g}" if known.size > 1 else ""
    return f"{known.mean():.3g}{error}{lost}"


def judged(data: Data, system: System, chaotic: bool, paths: list, models: list, one: Any) -> list:
    """The cells of a row."""
    rest = data.test[:, CONTEXT - 1 :]
    law = judge.state_space_divergence(rest, paths, bins=system.bins)
    power = judge.spectral_distance(rest, paths)
    cells = [shown(law.seeds), shown(power.seeds)]
    if chaotic:
        clock = data.step * np.arange(rest.shape[1])
        valid = judge.valid_prediction_time(rest, paths, clock, exponent=EXPONENT)
        return [*cells, shown(valid.seeds), shown([one.exponent(model, data) for model in models])]
    states = [data.mean + data.scale * path for path in paths]
    squares = [float(np.mean(x**2)) for x in states]
    return [*cells, shown(squares), shown([passages(x, data.step) for x in states])]


def truth_row(data: Data, system: System, chaotic: bool) -> list:
    rest = data.test[:, CONTEXT - 1 :]
    law = judge.state_space_divergence(rest, rest, bins=system.bins)
    power = judge.spectral_distance(rest, rest)
    cells = [f"{one.null:.3g} ± {one.null_stderr:.1g}" for one in (law, power)]
    if chaotic:
        return [*cells, "-", f"{EXPONENT:.3g}"]
    print(f"exact rate {1 / wells.passage_time(-1.0, 1.0, SIGMA):.3g}, seen now and then "
          f"{seen_rate(data.step):.3g}, Kramers {wells.kramers_rate(SIGMA):.3g}")  # fmt: skip
    states = data.mean + data.scale * rest
    square = f"{wells.moment(2, SIGMA):.3g} (data {np.mean(states**2):.3g})"
    return [*cells, square, f"{seen_rate(data.step):.3g} (data {passages(states, data.step):.3g})"]


def draw(paths: dict[str, np.ndarray], data: Data, place: str) -> None:
    """The attractors side by side: one member of the first seed of every contender."""
    import matplotlib.pyplot as plt

    with rqf.plot.style():
        columns = 4
        rows = -(-len(paths) // columns)
        figure, axes = plt.subplots(
            rows, columns, figsize=(10.0, 2.6 * rows), sharex=True, sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axis, (name, path) in zip(axes.flat, paths.items(), strict=False):
            states = data.mean + data.scale * path[:3]
            for one in states:
                still = not np.ptp(one, axis=0).any()  # one point, that no line shows
                axis.plot(one[:, 0], one[:, 2], "." if still else "-", linewidth=0.5)
            axis.set(title=name, xlim=(-25, 25), ylim=(0, 55))
        for axis in axes.flat[len(paths) :]:
            axis.axis("off")
        figure.supxlabel("x")
        figure.supylabel("z")
        figure.savefig(place, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", choices=list(systems()), default="lorenz")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=float, default=1.0)
    parser.add_argument("--only", action="append")
    parser.add_argument("--figure")
    given = parser.parse_args(arguments)
    system, chaotic = systems()[given.system], given.system == "lorenz"
    data = measured(system)
    last = ["valid", "λ_max"] if chaotic else ["E x²", "rate"]
    titles = [given.system, "D_stsp", "Hellinger", *last, "seconds"]
    truth = truth_row(data, system, chaotic)
    for row in (titles, ["---"] * len(titles), ["truth", *truth, "-"]):
        print(f"| {' | '.join(row)} |", flush=True)
    drawn = {"truth": data.test[:, CONTEXT - 1 :]}
    for name, one in contenders(data).items():
        if given.only and name not in given.only:
            continue
        begun = time.process_time()
        models = one.train(data, given.seeds, given.updates)
        took = (time.process_time() - begun) / len(models)
        paths = [one.paths(model, data, seed) for seed, model in enumerate(models)]
        drawn[name] = paths[0]
        cells = judged(data, system, chaotic, paths, models, one)
        print(f"| {' | '.join([name, *cells, f'{took:.0f}'])} |", flush=True)
        if given.figure and chaotic:
            draw(drawn, data, given.figure)


if __name__ == "__main__":
    main()
