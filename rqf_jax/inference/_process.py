"""A layer as one Gaussian process over tokens: strengths, their errors, and new sentences.

Every output coordinate of the tokens is an independent draw of N(Σ_a c_a f_a, S), S = Σ_m ψ_m K_m,
with features f_a of the mean and kernels K_m between tokens, so that d coordinates say

    -ln L = (d/2)(ln|S| + tr(S⁻¹R)/d),   R = (Y - Σ c f)(Y - Σ c f)ᵀ,

and all work is on matrices tokens × tokens. Scoring steps are weighted least squares of R/d by the
kernels, F ψ = q with F_mn = ½ tr(S⁻¹K_mS⁻¹K_n) and q_m = ½ tr(S⁻¹K_mS⁻¹R)/d, with strengths of at
least 0; the errors of the strengths are those of F. Linear algebra is NumPy's alone: a second
library would keep threads of its own, and those that wait take cores from those that work.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.linalg import LinAlgError

_STEPS = 100
_CLOSE = 1e-8
_LEAST_PRIVATE = 1e-7
_TIE = 1e-9
_TRIALS = 12
_NAT = 0.5

Square = Float[np.ndarray, "tokens tokens"]


class Moments(NamedTuple):
    """All that a likelihood needs: `kernels` (K, tokens, tokens), the first of them the identity;
    `products` of outputs (index 0) and features, summed over the `dim` coordinates."""

    kernels: Float[np.ndarray, "kernels tokens tokens"]
    products: Float[np.ndarray, "parts parts tokens tokens"]
    dim: int

    @classmethod
    def of(cls, kernels, outputs, features) -> "Moments":
        """From kernels, and arrays (tokens, dim) of outputs and of every feature."""
        parts = np.stack([outputs, *features])
        products = np.einsum("atd,bsd->abts", parts, parts, optimize=True)
        return cls(np.stack(kernels), products, outputs.shape[1])

    def among(self, tokens: Int[np.ndarray, " _"]) -> "Moments":
        """Those of some of the tokens, by index."""
        grid = np.ix_(tokens, tokens)
        return Moments(self.kernels[:, *grid], self.products[:, :, *grid], self.dim)


class Process(NamedTuple):
    """A fitted process: strengths ψ, coefficients c, S⁻¹, F, R and -ln L per number."""

    strengths: Float[np.ndarray, " kernels"]
    coefficients: Float[np.ndarray, " features"]
    inverse: Square
    fisher: Float[np.ndarray, "kernels kernels"]
    residual: Square
    loss: float

    @property
    def columns(self) -> float:
        """Output coordinates that are independent, (tr Ω)²/tr Ω², where Ω is their covariance.

        The sampling error of Ω itself, from as many tokens, is taken off.
        """
        weighted = self.inverse @ self.residual
        tokens = len(weighted)
        first = np.trace(weighted) / tokens
        second = np.sum(weighted * weighted.T) / tokens**2 - first**2 / tokens
        return float(first**2 / max(second, 1e-300))


def maximise(moments: Moments, start: Process | None = None) -> Process:
    """The strengths of greatest likelihood, by scoring from those of `start`."""
    return _maximise(moments, start, _LEAST_PRIVATE)


def allowed(moments: Moments, start: Process | None = None) -> Process:
    """As `maximise`, but with as much private noise as the tokens allow where they show none.

    Tokens whose overlaps are small say little of the noise between two that are equal, and the
    likelihood can be greatest without any. A prediction from it would be certain where it has no
    reason. So private noise grows, and the other strengths with it, until ln L falls by half a nat,
    as it does within a standard error of a maximum inside. A quadratic at the boundary, with the
    score and the Fisher information of what is free, says where to begin.
    """
    found = maximise(moments, start)
    size, scale = _sizes(moments), _scale(moments)
    psi = found.strengths * size / scale
    if psi[0] > 2 * _LEAST_PRIVATE:
        return found
    columns = min(found.columns, float(moments.dim))
    fisher, target = _scoring(found, moments.kernels / size[:, None, None] * scale, moments.dim)
    free = np.flatnonzero(psi > 0)
    error = np.sqrt(np.linalg.pinv(fisher[np.ix_(free, free)] * columns, hermitian=True)[0, 0])
    slope = error * columns * max(float(fisher[0] @ psi - target[0]), 0.0)
    most = min(error / (np.sqrt(1 + slope**2) + slope), psi.sum())
    for _ in range(_TRIALS):
        if most < 2 * _LEAST_PRIVATE:
            break
        more = _maximise(moments, found, most)
        fall = (more.loss - found.loss) * moments.kernels.shape[1] * columns
        if fall <= _NAT:
            return more
        most *= max(0.8 * np.sqrt(_NAT / fall), 0.1)
    return found


def _sizes(moments: Moments) -> Float[np.ndarray, " kernels"]:
    """The mean diagonals of the kernels, 1 for a kernel of zeros."""
    size = np.trace(moments.kernels, axis1=1, axis2=2) / moments.kernels.shape[1]
    return np.where(size > 0, size, 1.0)


def _scale(moments: Moments) -> float:
    """The mean square of outputs less their mean."""
    tokens = moments.kernels.shape[1]
    _, plain = _mean(np.eye(tokens), moments)
    return max(np.trace(plain) / (tokens * moments.dim), 1e-300)


def _maximise(moments: Moments, start: Process | None, least_private: float) -> Process:
    size, scale = _sizes(moments), _scale(moments)
    kernels = moments.kernels / size[:, None, None]
    count, tokens = kernels.shape[:2]
    least = np.zeros(count)
    least[0] = least_private * scale
    psi = np.full(count, scale / count) if start is None else start.strengths * size
    psi = np.maximum(psi, least)
    here = _at(psi, kernels, moments)
    for _ in range(_STEPS):
        fisher, target = _scoring(here, kernels, moments.dim)
        best = _least_squares(fisher, target, least)
        move = best - here.strengths
        gain = move @ (target - fisher @ here.strengths) / tokens
        if gain < _CLOSE:
            break
        share, found = 1.0, None
        while share > 1e-4:
            found = _at(here.strengths + share * move, kernels, moments)
            if found.loss < here.loss - 0.1 * share * gain:
                break
            share, found = share / 2, None
        if found is None:
            break
        here = found
    fisher, _ = _scoring(here, kernels, moments.dim)
    return here._replace(strengths=here.strengths / size, fisher=fisher * np.outer(size, size))


def predict(
    process: Process,
    kernels: Float[np.ndarray, "kernels tokens tokens"],
    parts: Float[np.ndarray, "parts tokens dim"],
    seen: Int[np.ndarray, " seen"],
    new: Int[np.ndarray, " new"],
) -> tuple[Float[np.ndarray, "new dim"], Float[np.ndarray, "new new"]]:
    """Mean and covariance of the outputs of `new` tokens, given those of the tokens `seen`.

    `kernels` and `parts` (outputs, then features) are those of all tokens.
    """
    across = np.tensordot(process.strengths, kernels[:, *np.ix_(new, seen)], 1)
    own = np.tensordot(process.strengths, kernels[:, *np.ix_(new, new)], 1)
    weights = across @ process.inverse
    mean = np.tensordot(process.coefficients, parts[1:], 1)
    # At least their private noise; where there is next to none, the difference is rounding.
    values, vectors = np.linalg.eigh(own - weights @ across.T)
    covariance = (vectors * np.maximum(values, process.strengths[0])) @ vectors.T
    return mean[new] + weights @ (parts[0] - mean)[seen], covariance


def log_density(mean, covariance, outputs) -> float:
    """ln of the density of `outputs`, per number."""
    tokens, dim = outputs.shape
    values, vectors = np.linalg.eigh(covariance)
    square = np.sum((vectors.T @ (outputs - mean)) ** 2 / values[:, None]) / (tokens * dim)
    log_det = np.sum(np.log(values)) / tokens
    return float(-0.5 * (log_det + square + np.log(2 * np.pi)))


def whitened(process: Process, dim: int, ties: Square) -> Float[np.ndarray, " tokens"]:
    """g_k = |v_kᵀ(Y - mean)|²/(d w_k) of S = V w Vᵀ: 1 ± √(2/columns) if the process is right.

    Where eigenvalues w are equal, the v_k are those of `ties`, so that g is the same everywhere.
    """
    inverse = process.inverse
    small = _TIE * np.abs(inverse).max() / max(np.abs(ties).max(), 1e-300)
    _, vectors = np.linalg.eigh(inverse + small * ties)
    squares, weights = (np.sum(vectors * (x @ vectors), 0) for x in (process.residual, inverse))
    return squares * weights / dim


def _at(psi, kernels, moments: Moments) -> Process:
    """S⁻¹, c, R and the loss at strengths ψ of normalised kernels."""
    tokens = kernels.shape[1]
    total = np.tensordot(psi, kernels, 1)
    try:
        factor = np.linalg.cholesky(total)
    except LinAlgError:
        return Process(psi, psi[:0], total, total[:0], total, np.inf)
    inverse = np.linalg.inv(total)
    inverse = (inverse + inverse.T) / 2
    coefficients, residual = _mean(inverse, moments)
    log_det = 2 * np.sum(np.log(np.diag(factor)))
    loss = 0.5 * (log_det + np.sum(inverse * residual) / moments.dim) / tokens
    return Process(psi, coefficients, inverse, total[:0], residual, float(loss))


def _mean(inverse, moments: Moments):
    """c by generalised least squares, and R."""
    sums = np.einsum("abts,ts->ab", moments.products, inverse, optimize=True)
    sums = (sums + sums.T) / 2
    coefficients = np.linalg.lstsq(sums[1:, 1:], sums[1:, 0], rcond=1e-13)[0]
    weights = np.append(1.0, -coefficients)
    residual = np.einsum("a,b,abts->ts", weights, weights, moments.products, optimize=True)
    return coefficients, (residual + residual.T) / 2


def _scoring(process: Process, kernels, dim: int):
    """F and q."""
    count = len(kernels)
    products = np.matmul(process.inverse, kernels)
    flat = products.reshape(count, -1)
    turned = products.transpose(0, 2, 1).reshape(count, -1)
    explained = process.inverse @ process.residual / dim
    return flat @ turned.T / 2, turned @ explained.reshape(-1) / 2


def _least_squares(fisher, target, least):
    """The strengths of at least `least` nearest to F⁻¹q in the metric F."""
    from scipy.optimize import nnls

    size = np.sqrt(np.maximum(np.diag(fisher), 1e-300))
    scaled = fisher / np.outer(size, size) + 1e-10 * np.eye(len(size))
    lower = np.linalg.cholesky(scaled)
    right = np.linalg.solve(lower, (target - fisher @ least) / size)
    return least + nnls(lower.T, right)[0] / size
