"""Noise of minibatches in the learning of two views from each other."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import finite, scalar
from ..drifts.self_supervised import Networks, learned, moments
from ..manifolds import AbstractManifold
from ._abstract import AbstractNoise, Calculus


class MomentNoise(AbstractNoise):
    """The noise that batches of pairs (x_i, y_i) put into `drifts.SelfSupervised`.

        dX = √temperature Σ_i (x_i x_iᵀ - X) dB_i/√N,   dY with y_i x_iᵀ alike,
        dA = -Bᵀ (B A dX - C dY),   dB = -(B A dX - C dY) Aᵀ

    `temperature` is the learning rate over the batch. `x` and `y` are (samples, m). In Itô's sense.
    Raises ValueError for data of different shapes and a negative temperature.
    """

    x: Float[Array, "samples m"]
    y: Float[Array, "samples m"]
    temperature: Float[Array, ""]

    def __init__(self, x: Any, y: Any, temperature: Any):
        self.x, self.y = finite("x", x), finite("y", y)
        if self.x.ndim != 2 or self.x.shape != self.y.shape:
            raise ValueError(
                f"`x` and `y` must be of one shape (samples, m); got {self.x.shape} and "
                f"{self.y.shape}."
            )
        self.temperature = scalar("temperature", minimum=0)(temperature)

    def shape(self, x: Networks) -> tuple[int, ...]:
        """One number for each pair."""
        return self.x.shape[:1]

    def __call__(self, t: Float[Array, ""], x: Networks, dw: Float[Array, " samples"]) -> Networks:
        """The displacements of encoder and predictor; none of a teacher."""
        a, b = x["A"], x["B"]
        c = x.get("C", a)
        shares = jnp.sqrt(self.temperature) * (dw - dw.mean()) / math.sqrt(dw.size)
        inputs, cross = moments(self.x, self.y, shares)
        moved = learned(a, b, c, inputs, cross)
        return moved | {"C": jnp.zeros_like(c)} if "C" in x else moved

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Itô's: an update's batch is drawn for the weights before it."""
        return Calculus.ITO
