"""Models of tokens: common noise and attention."""

import math
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from ... import models
from ..._sde import SDE
from ...kernels import MLP
from ...theory import attention, fields, forcing, meanfield, multistability, sphere, value_noise
from ...theory.attention import Weight, softmax_weight, unnormalised_weight
from ._section import AbstractModel, Matrix, NonNegative, Row, State
from .closed_forms import SYNCHRONISED, ClosedForms
from .states import TOKENS

_DIMENSION = "the law of its overlaps depends on the dimension"
_AXES = "its matrices are written in those axes"


# ---- common noise


class RandomQuadraticForm(AbstractModel):
    """`rqf_jax.models.random_quadratic_form`: dX = -sigma P_X ∂Q X."""

    state: ClassVar[State] = TOKENS

    name: Literal["random_quadratic_form"]
    """The model."""
    sigma: Annotated[NonNegative, Field(examples=[1.0])]
    """Noise strength; sigma² is the synchronisation rate, a variance per unit time."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.random_quadratic_form(self.sigma)

    def closed_forms(self, dim: int) -> ClosedForms:
        """Everything in `theory.sphere`."""
        rate = self.sigma**2
        return ClosedForms(
            hyperplane_time=SYNCHRONISED / rate if rate > 0 else math.inf,
            volume_rate=rate,
            one_point=partial(sphere.one_point_correlation, symmetric=self.sigma, dim=dim),
            moments=partial(_sphere_moments, sigma=self.sigma),
            angle_density=partial(sphere.angle_density, sigma=self.sigma) if rate > 0 else None,
        )


class ForcedRQF(AbstractModel):
    """`rqf_jax.models.forced_rqf`: dX = P_X (-sigma ∂Q X + forcing ∂W), W the same for all."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = _DIMENSION

    name: Literal["forced_rqf"]
    """The model."""
    sigma: Annotated[NonNegative, Field(examples=[1.0])]
    """Strength of the random quadratic form; sigma² is a variance per unit time."""
    forcing: Annotated[NonNegative, Field(examples=[0.1])]
    """Strength of the common bias; forcing² is a variance per unit time."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.forced_rqf(self.sigma, self.forcing)

    def closed_forms(self, dim: int) -> ClosedForms:
        """One token, a close pair, and the mean time in which opposite tokens merge."""
        sigma, bias = self.sigma, self.forcing
        notes = ()
        if bias > 0:
            merge = forcing.mean_merge_time(sigma=sigma, forcing=bias, dim=dim)
            notes = (f"Opposite tokens meet (overlap 0.999) after a mean time of {merge:.4g}.",)
        return ClosedForms(
            close_pair_rate=-forcing.lyapunov_spectrum(dim, sigma=sigma, forcing=bias)[0],
            one_point=partial(
                forcing.one_point_correlation, symmetric=sigma, forcing=bias, dim=dim
            ),
            notes=notes,
        )


class MLPFlow(AbstractModel):
    """`rqf_jax.models.mlp_flow`: dX = P_X F(X), F the layers of a wide random perceptron (Itô)."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = _DIMENSION

    name: Literal["mlp_flow"]
    """The model."""
    activation: Annotated[
        Literal["relu", "tanh", "gelu", "silu", "sigmoid"], Field(examples=["gelu"])
    ]
    """The activation; odd ones without biases keep antipodal tokens antipodal."""
    bias_in: NonNegative = 0.0
    """Standard deviation of the biases of the hidden layer."""
    bias_out: NonNegative = 0.0
    """Standard deviation of the biases of the output."""

    def sde(self, dim: int) -> SDE:
        """The kernel is scaled to the dimension."""
        return models.mlp_flow(self.activation, dim, bias_in=self.bias_in, bias_out=self.bias_out)

    def closed_forms(self, dim: int) -> ClosedForms:
        """One token and a close pair."""
        kernel, one = MLP(self.activation, dim, self.bias_in, self.bias_out), jnp.asarray(1.0)
        value, slope = float(kernel(one)), float(jax.grad(kernel)(one))
        exponent = float(fields.lyapunov_spectrum(dim, value=value, slope=slope)[0])
        fate = "tokens gather" if exponent < 0 else "tokens never gather in one point"
        return ClosedForms(
            close_pair_rate=-exponent,
            one_point=partial(fields.one_point_correlation, value=value, dim=dim),
            notes=(f"The largest Lyapunov exponent is {exponent:.4g}: {fate}.",),
        )


# ---- attention


class NoisyAttention(AbstractModel):
    """`rqf_jax.models.noisy_attention`: softmax attention and a random quadratic form."""

    state: ClassVar[State] = TOKENS

    name: Literal["noisy_attention"]
    """The model."""
    beta: Annotated[float, Field(examples=[1.0])]
    """Inverse temperature."""
    sigma: Annotated[NonNegative, Field(examples=[1.0])]
    """Strength of the noise; sigma² is a variance per unit time."""
    strength: float = 1.0
    """Strength of attention, per unit time; negative for repulsion."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.noisy_attention(self.beta, self.sigma, self.strength)

    def closed_forms(self, dim: int) -> ClosedForms:
        """The fate of two tokens, and equiangular tokens without noise."""
        return _attention_forms(softmax_weight, self.beta, self.strength, self.sigma)


class NoisyUnnormalisedAttention(AbstractModel):
    """`rqf_jax.models.noisy_unnormalised_attention`: attention without the softmax's sum."""

    state: ClassVar[State] = TOKENS

    name: Literal["noisy_unnormalised_attention"]
    """The model."""
    beta: Annotated[float, Field(examples=[1.0])]
    """Inverse temperature."""
    sigma: Annotated[NonNegative, Field(examples=[1.0])]
    """Strength of the noise; sigma² is a variance per unit time."""
    strength: float = 1.0
    """Strength of attention, per unit time; negative for repulsion."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.noisy_unnormalised_attention(self.beta, self.sigma, self.strength)

    def closed_forms(self, dim: int) -> ClosedForms:
        """The fate of two tokens, and equiangular tokens without noise."""
        return _attention_forms(unnormalised_weight, self.beta, self.strength, self.sigma)


class StochasticTransformer(AbstractModel):
    """`rqf_jax.models.stochastic_transformer`: attention with fresh value matrices (Itô)."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = _DIMENSION

    name: Literal["stochastic_transformer"]
    """The model."""
    beta: Annotated[float, Field(examples=[1.0])]
    """Inverse temperature."""
    variance: NonNegative = 1.0
    """Variance of an entry of the value matrix per unit time."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.stochastic_transformer(self.beta, self.variance)

    def closed_forms(self, dim: int) -> ClosedForms:
        """The fate of two tokens, in `theory.value_noise`."""
        sigma = math.sqrt(self.variance)
        # At the smallest of it antipodal tokens attract in two dimensions.
        threshold = value_noise.critical_beta(dim) if dim > 2 else 0.0
        fate = "may end opposite" if abs(self.beta) > threshold or dim == 2 else "always meet"
        return ClosedForms(
            close_pair_rate=float(
                value_noise.rapidity_drift(1.0, beta=self.beta, dim=dim, sigma=sigma)
            ),
            antipodal_probability=partial(
                value_noise.antipodal_probability, beta=self.beta, dim=dim
            ),
            notes=(f"Two tokens {fate}: beta is {self.beta:g}, its threshold {threshold:.4g}.",),
        )


class RandomLayers(AbstractModel):
    """`rqf_jax.models.random_layers`: every step is one residual layer with a random matrix."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = _DIMENSION

    name: Literal["random_layers"]
    """The model."""
    variance: NonNegative = 1.0
    """Variance of an entry of the matrix per unit time, of which a layer has a step."""
    beta: float | None = None
    """Inverse temperature of the attention that the matrix acts on; without it, it acts on the
    tokens."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.random_layers(self.variance, self.beta)

    def closed_forms(self, dim: int) -> ClosedForms:
        """Of layers without attention what holds at every depth; the limit's fate of attention."""
        if self.beta is not None:
            limit = StochasticTransformer(
                name="stochastic_transformer", beta=self.beta, variance=self.variance
            ).closed_forms(dim)
            note = "Theory is that of many layers: with few, z says how far they are from it."
            return replace(limit, notes=(note, *limit.notes))
        rate = 5 - 1.5 * dim
        return ClosedForms(
            hyperplane_time=SYNCHRONISED / self.variance if self.variance > 0 else math.inf,
            notes=(
                f"A layer contracts at 1 {'+' if rate > 0 else '-'} {abs(rate):g} h + O(h²) times "
                "the limit's rate, h its step times variance. Once pairs have ended the rows of "
                "their fate hold at every depth; layers with n h not far below 1 need longer.",
            ),
        )


class MeanFieldAttention(AbstractModel):
    """`rqf_jax.models.mean_field_attention`: attention against noise of each token's own."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = _DIMENSION

    name: Literal["mean_field_attention"]
    """The model."""
    beta: Annotated[float, Field(examples=[1.0])]
    """Inverse temperature."""
    diffusion: Annotated[NonNegative, Field(examples=[0.1])]
    """Diffusion of each token, per unit time; its generator is diffusion times the Laplacian."""
    strength: float = 1.0
    """Strength of attention, per unit time."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.mean_field_attention(self.beta, self.diffusion, self.strength)

    def closed_forms(self, dim: int) -> ClosedForms:
        """The threshold of order for many tokens."""
        critical = meanfield.critical_noise(beta=self.beta, coupling=self.strength, dim=dim)
        fate = "uniform tokens stay so" if self.diffusion > critical else "a mean direction grows"
        return ClosedForms(
            notes=(
                f"Of many tokens {fate}: diffusion is {self.diffusion:g}, its threshold "
                f"{critical:.4g}.",
            )
        )


class SelfAttention(AbstractModel):
    """`rqf_jax.models.self_attention`: the same softmax attention in every layer, no noise."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = _AXES

    name: Literal["self_attention"]
    """The model."""
    beta: Annotated[float, Field(examples=[1.0])]
    """Inverse temperature."""
    query_key: Matrix | None = None
    """The matrix QᵀK, a list of rows; the identity if left out."""
    value: Matrix | None = None
    """The value matrix V, a list of rows; the identity if left out."""

    def sde(self, dim: int) -> SDE:
        """The matrices must be dim x dim."""
        query_key = None if self.query_key is None else _sized("query_key", self.query_key, dim)
        value = None if self.value is None else _sized("value", self.value, dim)
        return models.self_attention(self.beta, query_key, value)

    def closed_forms(self, dim: int) -> ClosedForms:
        """Equiangular tokens, if both matrices are the identity; else which splits are stable."""
        if self.query_key is None and self.value is None:
            return _attention_forms(softmax_weight, self.beta, 1.0, 0.0)
        if self.value is None:
            return ClosedForms()
        value, logits = (
            np.asarray(self.value),
            self.beta * np.asarray(self.query_key or np.eye(dim)),
        )
        rates, vectors = np.linalg.eig(value)
        axes = [(rates[i].real, vectors[:, i].real) for i in np.flatnonzero(rates.imag == 0)]  # pyright: ignore[reportAttributeAccessIssue]

        def stable(plus: int, minus: int) -> bool:
            return any(
                multistability.pattern_spectrum(value, logits, v, plus=plus, minus=minus).real.max()  # pyright: ignore[reportAttributeAccessIssue]
                < 0
                for _, v in axes
            )

        if not axes:
            return ClosedForms()
        rate, v = max(axes, key=lambda axis: axis[0])
        kappa, others = float(v @ logits @ v), np.delete(rates, np.argmin(np.abs(rates - rate)))
        threshold = multistability.critical_alignment(rate, others)
        beyond = kappa > threshold if rate > 0 else kappa < threshold
        note = (
            f"A balanced split along the leading eigenvector of V is {'' if beyond else 'not '}"
            f"stable: κ = β vᵀMv is {kappa:.4g}, its threshold {threshold:.4g}."
        )
        return ClosedForms(stable_split=stable, notes=(note,))


class OjaFlow(AbstractModel):
    """`rqf_jax.models.oja`: every token by itself towards the leading eigenvector of a matrix."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = _AXES

    name: Literal["oja"]
    """The model."""
    value: Annotated[Matrix, Field(examples=[[[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, -1.0]]])]
    """The matrix, a list of rows."""

    def sde(self, dim: int) -> SDE:
        """The matrix must be dim x dim."""
        return models.oja(_sized("value", self.value, dim))

    def closed_forms(self, dim: int) -> ClosedForms:
        """The rate at which tokens turn to the leading eigenvector."""
        rates = np.sort(np.linalg.eigvals(np.asarray(self.value, float)).real)[::-1]
        gap = rates[0] - rates[1] if dim > 1 else math.inf
        return ClosedForms(
            notes=(f"Tokens turn to the leading eigenvector at the spectral gap, {gap:.4g}.",)
        )


def _sized(name: str, rows: tuple[Row, ...], dim: int) -> np.ndarray:
    if len(rows) != dim:
        size = len(rows)
        raise ValueError(
            f"{name} must be {dim} x {dim} for tokens in R^{dim}; got {size} x {size}."
        )
    return np.asarray(rows, float)


def _sphere_moments(
    time: np.ndarray, starts: np.ndarray, *, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """E r and E r² of every pair, averaged over the members' starts."""
    clock = time[:, None, None]
    return (
        np.mean(sphere.mean_overlap(clock, starts, sigma=sigma), 1),
        np.mean(sphere.mean_squared_overlap(clock, starts, sigma=sigma), 1),
    )


def _attention_forms(weight: Weight, beta: float, strength: float, sigma: float) -> ClosedForms:
    """What is known of attention with identity matrices and a random quadratic form."""
    if sigma == 0:
        return ClosedForms(
            moments=partial(_equiangular_moments, weight=weight, beta=beta, strength=strength)
        )
    parameters = {"beta": beta, "strength": strength, "sigma": sigma}
    threshold = float(attention.critical_strength(weight, beta=beta, sigma=sigma))
    fate = "may end opposite" if strength < threshold else "always meet"
    return ClosedForms(
        close_pair_rate=float(attention.rapidity_drift(1.0, weight, **parameters)),
        antipodal_probability=partial(attention.antipodal_probability, weight=weight, **parameters),
        notes=(f"Two tokens {fate}: strength is {strength:g}, its threshold {threshold:.4g}.",),
    )


def _equiangular_moments(
    time: np.ndarray, starts: np.ndarray, *, weight: Weight, beta: float, strength: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The common overlap and its square, if all pairs of all members start with one overlap."""
    pairs = starts.shape[1]
    overlap = float(starts.mean())
    if np.abs(starts - overlap).max() > 1e-5:
        return None
    tokens = round((1 + math.sqrt(1 + 8 * pairs)) / 2)
    gamma = attention.equiangular_overlap(
        time - time[0], overlap, weight, beta=beta, strength=strength, tokens=tokens
    )
    gamma = np.repeat(np.asarray(gamma)[:, None], pairs, axis=1)
    return gamma, gamma**2
