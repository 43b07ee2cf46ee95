"""The training processes that a config may name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree
from pydantic import Field
from scipy.interpolate import CubicSpline

from ... import io, laws, training
from ...analysis import curvature
from ...theory import sgd
from ...training import injections
from ._section import AbstractProcess, Fact, Learning, NonNegative, Size

_ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "gelu": jax.nn.gelu}
_BATCHES = {
    "with_replacement": injections.WithReplacement,
    "without_replacement": injections.WithoutReplacement,
    "reshuffled": injections.Reshuffled,
    "in_order": injections.InOrder,
}
# The key of the random vectors of Lanczos and Hutchinson, the same for all seeds.
_PROBES = 0

Rate = Annotated[NonNegative, Field(examples=[0.1])]
Layers = list[tuple[Array, Array]]


class Network(eqx.Module):
    """Layers of units with one activation, the last of them logits, and the loss of their labels.

    `decay` adds decay/2 times the squared norm of all weights to the mean cross entropy.
    """

    widths: tuple[int, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    decay: float = eqx.field(static=True)

    def law(self, key: Array) -> Layers:
        """First weights: normal with variance 1/(units below), and zeros."""
        keys = jax.random.split(key, len(self.widths) - 1)
        sizes = zip(self.widths, self.widths[1:], keys, strict=False)
        return [(jax.random.normal(k, (n, m)) / jnp.sqrt(n), jnp.zeros(m)) for n, m, k in sizes]

    def logits(
        self, weights: Layers, inputs: Float[Array, "batch features"]
    ) -> Float[Array, "batch classes"]:
        """The outputs for some inputs."""
        x, act = inputs, _ACTIVATIONS[self.activation]
        for place, (matrix, bias) in enumerate(weights):
            x = (act(x) if place else x) @ matrix + bias[None]
        return x

    def __call__(self, weights: Layers, batch: PyTree) -> Float[Array, ""]:
        """The loss of weights on a batch of inputs and labels."""
        losses = optax.softmax_cross_entropy_with_integer_labels(
            self.logits(weights, batch[0]), batch[1]
        )
        return jnp.mean(losses) + self.decay / 2 * square_norm(weights)


def square_norm(weights: PyTree) -> Float[Array, ""]:
    """|w|², of all weights."""
    return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights)), start=jnp.zeros(()))


class _Loss(eqx.Module):
    network: Network
    examples: PyTree

    def __call__(self, weights: Layers) -> Float[Array, ""]:
        return self.network(weights, self.examples)


class _Accuracy(eqx.Module):
    network: Network
    examples: PyTree

    def __call__(self, weights: Layers) -> Float[Array, ""]:
        inputs, labels = self.examples
        found = jnp.argmax(self.network.logits(weights, inputs), -1).astype(labels.dtype)
        return jnp.mean((found == labels).astype(inputs.dtype))


class _Hessian(eqx.Module):
    loss: _Loss
    count: int = eqx.field(static=True)

    def __call__(self, weights: Layers) -> Float[Array, " count"]:
        key = jax.random.key(_PROBES)
        return curvature.hessian_eigenvalues(self.loss, weights, self.count, key=key).values


class Classifier(AbstractProcess):
    """`rqf_jax.training.Process`: a network that learns to classify, by an optimiser of optax."""

    saves: ClassVar[tuple[str, ...]] = (
        "loss",
        "accuracy",
        "held_out",
        "square_norm",
        "curvature",
        "hessian",
    )

    name: Literal["classifier"]
    """The process."""
    file: str | None = None
    """An npz file with arrays `inputs` (examples, features) and `labels` (examples,), whole numbers
    from 0; by default the handwritten digits of scikit-learn, 1797 images of 8 x 8 from 0 to 1. A
    relative path starts at the config's folder."""
    examples: Size | None = None
    """Learn so many of the examples, equally spaced among all, and hold out the rest; by default
    all are learnt."""
    hidden: Annotated[tuple[Size, ...], Field(strict=False)] = (16,)
    """Numbers of units in the layers between inputs and classes."""
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    """The activation of these units."""
    decay: NonNegative = 0.0
    """The loss has decay/2 times the squared norm of all weights besides the mean cross entropy."""
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    """The optimiser, of optax."""
    learning_rate: Rate
    """Its learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The momentum of "sgd"."""
    batch: Annotated[Size, Field(examples=[16])]
    """Examples in an update."""
    batches: Literal["with_replacement", "without_replacement", "reshuffled", "in_order"] = (
        "with_replacement"
    )
    """The choice of these examples."""
    parameter_noise: NonNegative = 0.0
    """Strength of noise on the weights at which the gradient is taken."""
    gradient_noise: NonNegative = 0.0
    """Strength of noise on the gradient."""
    eigenvalues: Annotated[Size, Field(ge=3)] = 20
    """The number of largest eigenvalues of the Hessian in "hessian"."""

    def learning(self) -> Learning:
        """The network on its examples."""
        learnt, rest, classes = self._data()
        network = Network(
            (learnt[0].shape[1], *self.hidden, classes), self.activation, float(self.decay)
        )
        seeds = [_BATCHES[self.batches](self.batch)]
        if self.parameter_noise:
            seeds.append(injections.ParameterNoise(self.parameter_noise))
        if self.gradient_noise:
            seeds.append(injections.Langevin(self.gradient_noise))
        loss = _Loss(network, learnt)
        bent = curvature.Curvature(
            network,
            learnt,
            learning_rate=self.learning_rate,
            batch=self.batch,
            key=jax.random.key(_PROBES),
        )
        observables: dict[str, Callable[[Any], Any]] = {
            "loss": loss,
            "accuracy": _Accuracy(network, learnt),
            "held_out": _Accuracy(network, rest if len(rest[0]) else learnt),
            "square_norm": square_norm,
            "curvature": bent,
            "hessian": _Hessian(loss, self.eigenvalues),
        }
        process = training.Process(
            network, network.law, learnt, optimiser=self._optimiser(), injections=seeds
        )
        title = (
            f"classifier: {'-'.join(map(str, network.widths))} units, {len(learnt[0]):,} examples"
        )
        return Learning(
            title, process, observables, {} if self.file is None else {"process.file": self.file}
        )

    def means(self, counts: np.ndarray) -> Mapping[str, np.ndarray]:
        """Nothing."""
        return {}

    def facts(self, counts: np.ndarray, seen: Mapping[str, np.ndarray]) -> list[Fact]:
        """The balance of |w|² over the later half of a plain descent with replacement.

            E |w|² changes by -2α (E w·∇L - (α/2) E|g|²) an update

        with the gradient g of a batch; the means of a stationary state are equal. The sum over
        updates is the integral of a spline through the saves.
        """
        names = ("curvature.dissipation", "curvature.fluctuation", "square_norm")
        plain = self.optimiser == "sgd" and not (
            self.momentum or self.parameter_noise or self.gradient_noise
        )
        half = len(counts) // 2
        known = plain and self.batches == "with_replacement" and self.learning_rate > 0
        if not known or any(name not in seen for name in names) or len(counts) - half < 3:
            return []
        spent, gained, norm = (np.asarray(seen[name], float)[:, half:] for name in names)
        late = counts[half:].astype(float)
        count = late[-1] - late[0]
        spent, gained = (
            CubicSpline(late, y, axis=1).integrate(late[0], late[-1]) / count
            for y in (spent, gained)
        )
        drift = (norm[:, -1] - norm[:, 0]) / (2 * self.learning_rate * count)
        theory = float((gained - drift).mean())
        return [Fact("E w·∇L", f"from {counts[half]} on", theory, spent - gained + drift + theory)]

    def bounds(self) -> Mapping[str, float]:
        """Of descent: η λ_max < 2 (1 + momentum) for whole batches, and for single examples of a
        loss that is fitted exactly η tr H < 2 without momentum. None of Adam, which divides every
        gradient by its own scale.
        """
        if self.optimiser != "sgd":
            return {}
        top = {"curvature.rate_sharpness": 2 * (1 + self.momentum)}
        return top if self.momentum else top | {"curvature.rate_trace": 2.0}

    def _optimiser(self) -> Any:
        # A part of what is moved, so that other rates are not compiled anew.
        rate = jnp.asarray(self.learning_rate)
        if self.optimiser != "sgd":
            return jax.tree_util.Partial(getattr(optax, self.optimiser), rate)
        if self.momentum:
            return jax.tree_util.Partial(optax.sgd, rate, jnp.asarray(self.momentum))
        return jax.tree_util.Partial(optax.sgd, rate)

    def _data(self) -> tuple[tuple[Array, Array], tuple[Array, Array], int]:
        """The examples to learn, those held out, and the number of classes."""
        inputs, labels = _digits() if self.file is None else _read(Path(self.file))
        count = len(inputs) if self.examples is None else self.examples
        if count > len(inputs):
            raise ValueError(f"examples must be at most the {len(inputs)} there are; got {count}.")
        chosen = np.zeros(len(inputs), bool)
        chosen[np.arange(count) * len(inputs) // count] = True
        learnt, rest = (
            (jnp.asarray(inputs[some], float), jnp.asarray(labels[some]))
            for some in (chosen, ~chosen)
        )
        return learnt, rest, int(labels.max()) + 1


class LinearRegression(AbstractProcess):
    """`rqf_jax.training.Process`: least squares on fresh Gaussian examples, with its exact risk."""

    saves: ClassVar[tuple[str, ...]] = ("loss", "weights")

    name: Literal["linear_regression"]
    """The process."""
    dim: Annotated[Size, Field(examples=[10])]
    """Number of weights, which start at 0 and learn to be 1."""
    power: NonNegative = 1.0
    """The eigenvalues of the inputs' covariance are 1, 2^-power, 3^-power, ..."""
    noise: NonNegative = 0.0
    """Standard deviation of the labels' noise."""
    learning_rate: Rate
    """Learning rate of plain descent."""
    batch: Annotated[Size, Field(examples=[4])]
    """Examples in an update, drawn afresh."""

    def learning(self) -> Learning:
        """The descent from zero."""
        scales = jnp.sqrt(jnp.asarray(self._eigenvalues(), float))
        process = training.Process(
            training.LeastSquares(_misfit),
            laws.Zeros((self.dim,)),
            training.data.Fresh(Examples(scales, jnp.asarray(float(self.noise)), self.batch)),
            optimiser=jax.tree_util.Partial(optax.sgd, jnp.asarray(self.learning_rate)),
        )
        title = f"linear regression: {self.dim} weights"
        return Learning(title, process, {"loss": _Excess(scales), "weights": _whole})

    def means(self, counts: np.ndarray) -> Mapping[str, np.ndarray]:
        """The mean excess loss, from the exact recursion of its second moments."""
        values, options = self._eigenvalues(), {"batch": self.batch, "noise": self.noise**2}
        try:
            moments = sgd.moments(
                values,
                np.ones(self.dim),
                counts.tolist(),
                learning_rate=self.learning_rate,
                **options,
            )
        except ValueError:  # beyond all numbers, for a learning rate that is not stable
            return {}
        return {"loss": moments @ values / 2}

    def _eigenvalues(self) -> np.ndarray:
        return np.arange(1, self.dim + 1) ** -float(self.power)


class Examples(eqx.Module):
    """A batch of Gaussian inputs, and labels of a teacher whose weights are 1."""

    scales: Float[Array, " dim"]
    noise: Float[Array, ""]
    batch: int = eqx.field(static=True)

    def __call__(self, key: Array) -> tuple[Float[Array, "batch dim"], Float[Array, " batch"]]:
        """A draw."""
        rows = jax.random.normal(key, (self.batch, self.scales.size + 1), self.scales.dtype)
        x = rows[:, 1:] * self.scales[None]
        return x, jnp.sum(x, 1) + self.noise * rows[:, 0]


class _Excess(eqx.Module):
    scales: Float[Array, " dim"]

    def __call__(self, weights: Float[Array, " dim"]) -> Float[Array, ""]:
        return jnp.sum((self.scales * (weights - 1)) ** 2) / 2


def _misfit(weights: Array, batch: PyTree) -> Array:
    return jnp.sum(batch[0] * weights[None], 1) - batch[1]


def _whole(weights: Array) -> Array:
    return weights


def _digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "file must be given, since scikit-learn, which has the digits, is not installed: "
            "pip install scikit-learn."
        ) from error
    found = cast(Any, load_digits())
    return (found.data / 16).astype(np.float32), found.target.astype(np.int32)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays `inputs` and `labels` of an npz file; DataFileError for other files."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inputs, labels = np.asarray(arrays["inputs"]), np.asarray(arrays["labels"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise io.DataFileError(
            f"{path}: must be an npz file with inputs and labels ({error})."
        ) from error
    if inputs.ndim != 2 or labels.shape != inputs.shape[:1] or not inputs.size:
        raise io.DataFileError(
            f"{path}: must hold inputs (examples, features) and labels (examples,); got shapes "
            f"{inputs.shape} and {labels.shape}."
        )
    if inputs.dtype.kind not in "biuf" or not np.isfinite(inputs).all():
        raise io.DataFileError(f"{path}: inputs must be finite real numbers.")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= 2**20:
        raise io.DataFileError(f"{path}: labels must be whole numbers from 0 to 2²⁰ - 1.")
    return inputs.astype(np.float32), labels.astype(np.int32)
