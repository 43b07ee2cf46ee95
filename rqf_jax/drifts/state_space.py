"""Tokens of a selective state-space model (Mamba), depth as time."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import finite, scalar
from ..recurrences import state_space
from ._abstract import AbstractDrift


class SelectiveStateSpace(AbstractDrift):
    """Tokens in a sequence, moved by a recurrence over the tokens before them.

        Δ_l = softplus(S_Δ x_l + b),   h_l = exp(-a Δ_l) h_{l-1} + Δ_l x_l ⊗ (S_B x_l),
        f_l = h_l (S_C x_l)

    Tokens l = 0, 1, … are the rows of x (tokens, dim); Δ_l acts channel by channel and the hidden
    state h is (dim, states). Token l does not see later ones. In one dimension the sign of
    μ = S_C S_B decides between decay as t^(-1/2) and divergence, in finite time where some
    S_Δ x_l > 0.

    **Arguments**

    - `step`: S_Δ (dim, dim), and `step_bias`: b (dim,).
    - `inputs`, `outputs`: S_B and S_C (states, dim).
    - `decay`: a ≥ 0.

    **Raises** ValueError for arrays of other shapes, entries that are not finite, and a < 0.

    **Example**

    >>> one = jnp.eye(1)
    >>> drift = rqf.drifts.SelectiveStateSpace(0 * one, jnp.zeros(1), one, one)
    >>> drift(0.0, jnp.array([[1.0], [0.0]])).shape
    (2, 1)

    Source: a reconstruction from the S6 layer (Gu & Dao, arXiv:2312.00752, recalled) of the flow of
    arXiv:2410.03292, whose summary was read but not its equations.
    """

    step: Float[Array, "dim dim"]
    step_bias: Float[Array, " dim"]
    inputs: Float[Array, "states dim"]
    outputs: Float[Array, "states dim"]
    decay: Float[Array, ""]

    def __init__(self, step: Any, step_bias: Any, inputs: Any, outputs: Any, decay: Any = 1.0):
        self.step, self.step_bias = finite("step", step), finite("step_bias", step_bias)
        self.inputs, self.outputs = finite("inputs", inputs), finite("outputs", outputs)
        self.decay = scalar("decay", minimum=0)(decay)
        if self.step.ndim != 2 or self.step.shape[0] != self.step.shape[1]:
            raise ValueError(f"`step` must be one square matrix; got shape {self.step.shape}.")
        dim = self.step.shape[0]
        if self.step_bias.shape != (dim,):
            raise ValueError(
                f"`step_bias` must have shape ({dim},), as `step` has {dim} rows; got shape "
                f"{self.step_bias.shape}."
            )
        for name, array in (("inputs", self.inputs), ("outputs", self.outputs)):
            if array.ndim != 2 or array.shape[1] != dim or array.shape != self.inputs.shape:
                raise ValueError(
                    f"`{name}` must have shape (states, {dim}), the same for inputs and outputs; "
                    f"got shape {array.shape}."
                )

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """h_l (S_C x_l) for every token l."""
        if x.shape[-1] != self.step.shape[0]:
            raise ValueError(
                f"`step` must be {x.shape[-1]} x {x.shape[-1]} for tokens in dimension "
                f"{x.shape[-1]}; got shape {self.step.shape}."
            )

        def project(matrix):
            return jnp.matmul(x, matrix.T, precision="highest")

        steps = jax.nn.softplus(project(self.step) + self.step_bias[None, :])
        inputs, outputs = project(self.inputs), project(self.outputs)
        return state_space(steps, inputs, outputs, x, decay=self.decay).outputs()
