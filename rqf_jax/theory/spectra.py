"""Singular values of rectangular matrices in Brownian motion: Laguerre's process and its limits.

    dW = s dB (β = 1: real, β = 2: complex, E|dW_ij|² = β s² dt),   W of shape (m, n), m ≥ n

From W = 0 at time t the entries have variance β v with v = s²t, or v = s²τ under a pull
(`dyson.effective_time`). The eigenvalues x_i of WᵀW, squares of the singular values, obey

    dx_i = 2s √x_i dB_i + β s² [m - n + 1 + Σ_{j≠i} 2x_i/(x_i - x_j)] dt.

Moments hold for every β > 0 (with the bidiagonal model in place of W). Functions compute in
float64 and return float64 numbers or arrays; a bad argument raises ValueError.

Sources. Bru's equation, Wishart moments and the Marchenko-Pastur law are classical and recalled;
the moments for every β, the mean polynomial and the drift under a general covariance were derived
for this library. All are checked in its tests.
"""

import numpy as np
from jaxtyping import Float
from numpy.polynomial import polynomial
from scipy.linalg import expm
from scipy.special import digamma

from .._arguments import fitting, host
from ._contract import finite
from ._numbers import Real, check, count, nonnegative, positive, real, scalar, vector
from ._rapidity import Values


@finite
def shape(rows: int, columns: int) -> tuple[int, int]:
    """`rows` and `columns` as integers; ValueError unless rows ≥ columns ≥ 1."""
    rows, columns = count("rows", rows), count("columns", columns)
    if rows < columns:
        raise ValueError(
            f"`rows` must be at least `columns`; got {rows} and {columns}. Transpose the matrix."
        )
    return rows, columns


# ---- large matrices


@finite
def marchenko_pastur_edges(rows: int, columns: int, variance: Real) -> Float[np.ndarray, "... 2"]:
    """v (√m ∓ √n)², the edges of the eigenvalues of WᵀW for entries of `variance` v (β = 1)."""
    m, n = shape(rows, columns)
    v, total = np.asarray(nonnegative("variance", variance)), np.sqrt(m) + np.sqrt(n)
    return v[..., None] * np.array([((m - n) / total) ** 2, total**2])


@finite
def marchenko_pastur_density(value: Real, rows: int, columns: int, variance: Real) -> Values:
    """√((x₊ - x)(x - x₋))/(2π n v x) between the edges x∓, 0 outside; for m ≥ n it has mass 1.

    **Arguments** `value`: x, any real number; `rows`: m, an integer; `columns`: n, an integer of at
    most m; `variance`: v > 0, of an entry. **Returns** a number or an array. **Raises** ValueError
    for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.spectra.marchenko_pastur_density(2.0, 5, 3, 0.5), 6))
    0.175952
    """
    m, n = shape(rows, columns)
    v = positive("variance", variance)
    x = np.asarray(real("value", value)) / v
    low, high = marchenko_pastur_edges(m, n, 1.0)
    inside = (x > low) & (x < high) & (x > 0)
    safe = np.where(inside, x, 1.0)
    root = np.sqrt(np.where(inside, (high / safe - 1) * (1 - low / safe), 0.0))
    return np.where(inside, root / (2 * np.pi * n), 0.0)[()] / v


@finite
def marchenko_pastur_cdf(value: Real, rows: int, columns: int, variance: float) -> Values:
    """The share of eigenvalues of WᵀW below `value`: the integral of `marchenko_pastur_density`.

    By the midpoint rule in the angle φ of x = (x₊ + x₋)/2 - (x₊ - x₋)/2 cos φ, in which the
    integrand is smooth also at m = n; the error is below 1e-6.

    **Arguments** `value`: x, any real number; `rows`: m, an integer; `columns`: n, an integer of at
    most m; `variance`: v > 0, of an entry. **Returns** a number or an array. **Raises** ValueError
    for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.spectra.marchenko_pastur_cdf(2.0, 5, 3, 0.5), 6))
    0.501883
    """
    m, n = shape(rows, columns)
    x = real("value", value) / scalar(positive, "variance", variance)
    centre, half = float(m + n), 2 * np.sqrt(float(m) * n)
    angle, width = np.linspace(0, np.pi, 4097, retstep=True)
    middle = angle[:-1] + width / 2
    height = (half * np.sin(middle)) ** 2 / (centre - half * np.cos(middle))
    mass = np.concatenate([[0.0], np.cumsum(height)])
    at = np.arccos(np.clip((centre - x) / half, -1, 1))
    return np.interp(at, angle, mass / mass[-1])


@finite
def largest_singular_square(rows: int, columns: int) -> tuple[float, float]:
    """Centre μ and scale σ with x_max = v (μ + σ TW_1), for entries of variance v (β = 1).

        μ = (√(m - 1/2) + √(n - 1/2))²,   σ = √μ (1/√(m - 1/2) + 1/√(n - 1/2))^{1/3}

    Source: Johnstone and Ma's centring (recalled).
    """
    m, n = shape(rows, columns)
    a, b = np.sqrt(m - 0.5), np.sqrt(n - 0.5)
    return float((a + b) ** 2), float((a + b) * (1 / a + 1 / b) ** (1 / 3))


# ---- moments from W = 0, for every n and β


@finite
def square_sum_mean(rows: int, columns: int, variance: Real, beta: Real = 1) -> Values:
    """E Σx = βmn v: Σx/v is χ² with βmn degrees of freedom.

    **Arguments** `rows`: m, an integer; `columns`: n, an integer of at most m; `variance`: v ≥ 0,
    of an entry; `beta`: β > 0: 1 for real matrices, 2 for complex ones. **Returns** a number or an
    array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.spectra.square_sum_mean(5, 3, 0.5), 6))
    7.5
    """
    m, n = shape(rows, columns)
    return positive("beta", beta) * m * n * nonnegative("variance", variance)


@finite
def square_sum_variance(rows: int, columns: int, variance: Real, beta: Real = 1) -> Values:
    """Var Σx = 2βmn v².

    **Arguments** `rows`: m, an integer; `columns`: n, an integer of at most m; `variance`: v ≥ 0,
    of an entry; `beta`: β > 0: 1 for real matrices, 2 for complex ones. **Returns** a number or an
    array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.spectra.square_sum_variance(5, 3, 0.5), 6))
    7.5
    """
    return 2 * nonnegative("variance", variance) * square_sum_mean(rows, columns, variance, beta)


@finite
def fourth_moment(rows: int, columns: int, variance: Real, beta: Real = 1) -> Values:
    """E Σx² = βmn [β(m+n-1) + 2] v², the sum of fourth powers of singular values.

    **Arguments** `rows`: m, an integer; `columns`: n, an integer of at most m; `variance`: v ≥ 0,
    of an entry; `beta`: β > 0: 1 for real matrices, 2 for complex ones. **Returns** a number or an
    array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.spectra.fourth_moment(5, 3, 0.5), 6))
    33.75
    """
    m, n = shape(rows, columns)
    b, v = positive("beta", beta), nonnegative("variance", variance)
    return b * m * n * (b * (m + n - 1) + 2) * v**2


@finite
def fourth_moment_about(signals: Real, rows: int, columns: int, variance: Real) -> Values:
    """E Σx² = Σℓ⁴ + 2(m+n+1) v Σℓ² + mn(m+n+1) v², entries about a mean of singular values ℓ.

    `signals` are those that are not zero, any number of them (derived, β = 1).

    **Arguments** `signals`: the singular values ℓ ≥ 0 of the mean that are not 0; `rows`: m, an
    integer; `columns`: n, an integer of at most m; `variance`: v ≥ 0, of an entry. **Returns** a
    number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.spectra.fourth_moment_about([2.0], 5, 3, 0.5), 6))
    85.75
    """
    m, n = shape(rows, columns)
    squares, v = np.asarray(nonnegative("signals", signals)) ** 2, nonnegative("variance", variance)
    about = 2 * (m + n + 1) * v * np.sum(squares)
    return np.sum(squares**2) + about + fourth_moment(m, n, v)


@finite
def mean_log_det(rows: int, columns: int, variance: Real, beta: Real = 1) -> Values:
    """E ln det WᵀW = Σ_{i<n} [ψ(β(m-i)/2) + ln 2v].

    **Arguments** `rows`: m, an integer; `columns`: n, an integer of at most m; `variance`: v > 0,
    of an entry; `beta`: β > 0: 1 for real matrices, 2 for complex ones. **Returns** a number or an
    array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.spectra.mean_log_det(5, 3, 0.5), 6))
    1.162431
    """
    m, n = shape(rows, columns)
    fitting("columns", (n,), 8)
    b, v = np.asarray(positive("beta", beta)), np.asarray(positive("variance", variance))
    each = digamma(b[..., None] * (m - np.arange(n)) / 2) + np.log(2 * v)[..., None]
    return np.sum(each, -1)


@finite
def mean_characteristic_polynomial(
    start: Real, rows: int, variance: float, beta: float = 1
) -> Float[np.ndarray, " coefficients"]:
    """Coefficients of E Π(z - x_i), lowest power first, from the squares `start`; no pull.

    ∂_v E P = -β [z ∂_z² + (m - n + 1) ∂_z] E P   (derived by Itô's formula)

    **Arguments** `start`: the squares x_i ≥ 0 of the singular values at variance 0, along one axis;
    `rows`: m, an integer; `variance`: v ≥ 0, of an entry; `beta`: β > 0: 1 for real matrices, 2 for
    complex ones. **Returns** an array (n + 1,). **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.spectra.mean_characteristic_polynomial([1.0, 2.0], 5, 0.5), 6))
    [13. -8.  1.]
    """
    x = vector("start", start)
    check("start", x, x >= 0, "be at least 0")
    m, n = shape(rows, x.size)
    k = np.arange(1, n + 1)
    generator = np.diag(-scalar(positive, "beta", beta) * k * (k - 1 + m - n + 1.0), 1)
    return expm(generator * scalar(nonnegative, "variance", variance)) @ polynomial.polyfromroots(x)


# ---- one step


@finite
def singular_value_drift(
    values: Real, covariance: Float[np.ndarray, "m n m n"]
) -> Float[np.ndarray, " n"]:
    """The Itô drift that noise of any covariance gives to distinct singular values.

        Σ_{j≠i} [s_i (C_ij,ij + C_ji,ji) + 2 s_j C_ij,ji]/(2(s_i² - s_j²)) + Σ_{a>n} C_ai,ai/(2s_i)

    `covariance` is C_{ai,bj} = E dW_ai dW_bj/dt in the basis of the singular vectors, where W is
    diag(s) over m - n rows of zeros; the quadratic variation of s_i is C_ii,ii. Derived by second
    order perturbation. It is how gradient noise of any shape moves a spectrum: symmetric noise
    gives g²/(s_i - s_j), isotropic noise Laguerre's process.
    """
    s, c = vector("values", values), host("covariance", covariance)
    if c.ndim != 4 or c.shape[:2] != c.shape[2:] or c.shape[1] != s.size:
        raise ValueError(
            f"`covariance` must have shape (m, {s.size}, m, {s.size}) for {s.size} `values`; got "
            f"{c.shape}."
        )
    m, n = shape(c.shape[0], s.size)
    check("values", s, s > 0, "be positive")
    difference = (s[:, None] - s[None, :]) * (s[:, None] + s[None, :])
    np.fill_diagonal(difference, np.inf)
    check("values", difference, difference != 0, "differ, with nonzero gaps")
    own = np.einsum("aiai->ai", c)
    square, mixed = own[:n], np.einsum("ijji->ij", c[:n, :, :n, :])
    pairs = (s[:, None] * (square + square.T) + 2 * s[None, :] * mixed) / (2 * difference)
    return pairs.sum(1) + own[n:m].sum(0) / (2 * s)
