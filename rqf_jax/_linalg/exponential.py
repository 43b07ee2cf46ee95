"""exp(A) of a small matrix, and its action on rows: orthogonal where A is antisymmetric.

A polynomial of low degree is cheaper, and turns an antisymmetric matrix into a map that changes
lengths and angles: degree 4 changes |x|² by a part θ⁶/72, θ the angle. The forms here change them
by rounding, whatever the angle.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .lanes import transform
from .unrolled import Unrolled

_MOST = 8
"""At most so many squarings or repetitions: norms up to 200 (as a matrix) and 20 (as an action)."""


def expm1(matrix: Float[Array, "n n"], size: Float[Array, ""]) -> Float[Array, "n n"]:
    """exp(A) - 1, where `size` bounds the norm of A; small for small A, so that little is rounded.

    Taylor's polynomial of A/2^s, accurate to rounding, and s squarings (classical).
    """
    degree, block, reach = (16, 4, 0.75) if _is_double(matrix.dtype) else (12, 3, 1.5)
    squarings = _count(jnp.log2(jnp.maximum(size / reach, 1.0)))
    part = matrix * jnp.exp2(-squarings.astype(matrix.dtype))
    return _repeated(lambda p: p @ p + p * 2.0, _polynomial(part, degree, block), squarings)


def directions(matrix: Unrolled, x: Float[Array, "rows n"]) -> Float[Array, "rows n"]:
    """exp(A) x / |exp(A) x| for every row x, of a matrix in rows of scalars.

    By the theorem of Cayley and Hamilton exp(A) = Σ c_k A^k with k < n, and Taylor's series and its
    squarings are those of n numbers. They cost so little that they are taken for norms up to 12
    (float64: 20), to rounding.
    """
    change = _by_characteristic(matrix)
    # Normalised before it is one array: XLA would compute the exponential again for each use.
    columns = [x[:, i] + column for i, column in enumerate(change.columns(x))]
    scale = lax.rsqrt(_sum(column * column for column in columns))
    return jnp.stack([column * scale for column in columns], axis=-1)


def act(
    matrix: Float[Array, "n n"],
    shift: Float[Array, ""],
    x: Float[Array, "rows n"],
    size: Float[Array, ""],
) -> Float[Array, "rows n"]:
    """exp(A - τ) applied to every row of `x`, where τ is `shift` and `size` bounds the norm of A.

    Taylor's polynomial of (A - τ)/k, accurate to rounding, k times over.
    """
    degree = 26 if _is_double(x.dtype) else 16
    count = jnp.maximum(_count(size / 2.5), 1)
    part = 1 / count.astype(x.dtype)
    return _repeated(lambda y: taylor(matrix, shift, y, degree, part), x, count)


def flow(
    matrix: Float[Array, "n n"],
    x: Float[Array, "rows n"],
    project: Callable[[Float[Array, "rows n"]], Float[Array, "rows n"]],
) -> Float[Array, "rows n"]:
    """exp(A) applied to every row of `x`, in parts between which `project` may rescale the rows."""
    size = jnp.sqrt(jnp.sum(matrix * matrix))
    count = jnp.maximum(_count(size / 20), 1)
    part = 1 / count.astype(x.dtype)
    change = expm1(matrix * part, size * part)
    return _repeated(lambda y: project(y + transform(change, y)), x, count)


def taylor(
    matrix: Float[Array, "n n"],
    shift: Float[Array, ""],
    x: Float[Array, "rows n"],
    degree: int,
    part: Float[Array, ""] | float = 1.0,
) -> Float[Array, "rows n"]:
    """Σ_k (part · (A - τ))^k x / k! for k up to `degree`."""
    total = term = x
    for k in range(1, degree + 1):
        term = (transform(matrix, term) - shift * term) * (part / k)
        total = total + term
    return total


def _is_double(dtype) -> bool:
    return float(jnp.finfo(dtype).eps) < 1e-10


def _count(number: Float[Array, ""]) -> Int[Array, ""]:
    return jnp.clip(jnp.ceil(number), 0, _MOST).astype(jnp.int32)


def _repeated(function, x: Float[Array, "..."], count: Int[Array, ""]) -> Float[Array, "..."]:
    """`function` applied `count` times: a loop with an end that has a reverse derivative."""

    def step(x, k):
        return lax.cond(k < count, function, lambda same: same, x), None

    return lax.scan(step, x, jnp.arange(_MOST, dtype=jnp.int32))[0]


def _polynomial(a: Float[Array, "n n"], degree: int, block: int) -> Float[Array, "n n"]:
    """Σ_k A^k / k! for k from 1 to `degree`, a multiple of `block`.

    In block + degree/block - 2 products. Source: Paterson & Stockmeyer (1973), recalled.
    """
    powers = [a]
    while len(powers) < block:
        powers.append(powers[-1] @ a)
    total = powers[-1] * (1 / math.factorial(degree))
    for first in range(degree - block, -1, -block):
        for j, power in enumerate(powers[:-1], 1):
            total = total + power * (1 / math.factorial(first + j))
        if first:
            total = total @ powers[-1] + powers[-1] * (1 / math.factorial(first))
    return total


def _by_characteristic(a: Unrolled) -> Unrolled:
    """exp(A) - 1, computed with polynomials in B = A/2^s modulo its characteristic polynomial."""
    n = a.shape[0]
    degree, squarings = (18, 4) if _is_double(a.rows[0][0].dtype) else (12, 3)
    b = a * 2.0**-squarings
    powers = [b]
    while len(powers) < n - 1:
        powers.append(powers[-1] @ b)
    top = _characteristic(powers, n)

    def reduced(numbers):
        *lower, last = numbers
        if len(lower) < n:
            return numbers
        head = len(lower) - n
        return reduced(
            lower[:head] + [p + last * q for p, q in zip(lower[head:], top, strict=True)]
        )

    # Horner's rule for Σ_k B^k/k!, k from `degree` to 1, n terms at first.
    numbers = [1 / math.factorial(k) for k in range(degree - n + 1, degree + 1)]
    for k in range(degree - n, -1, -1):
        numbers = reduced([1 / math.factorial(k) if k else 0.0, *numbers])
    for _ in range(squarings):
        square = [
            _sum(numbers[i] * numbers[k - i] for i in range(max(0, k - n + 1), min(k, n - 1) + 1))
            for k in range(2 * n - 1)
        ]
        numbers = [p + 2.0 * q for p, q in zip(reduced(square), numbers, strict=True)]
    first, *rest = numbers
    result = b * rest[0] if rest else b * 0.0
    for power, number in zip(powers[1:], rest[1:], strict=False):
        result = result + power * number
    for i, row in enumerate(result.rows):
        row[i] = row[i] + first
    return result


def _characteristic(powers: list[Unrolled], n: int) -> list[Float[Array, ""]]:
    """The numbers q_k of B^n = Σ_k q_k B^k, k < n, by Newton's identities from traces of powers."""

    def trace(k):
        if k == 1:
            return _sum(row[i] for i, row in enumerate(powers[0].rows))
        left, right = powers[(k + 1) // 2 - 1], powers[k // 2 - 1]
        return _sum(left.rows[i][j] * right.rows[j][i] for i in range(n) for j in range(n))

    traces = [trace(k) for k in range(1, n + 1)]
    signed: list[Any] = [-1.0]
    for k in range(1, n + 1):
        signed.append(_sum(-signed[k - i] * traces[i - 1] for i in range(1, k + 1)) * (1 / k))
    return signed[:0:-1]


def _sum(terms):
    first, *rest = terms
    return sum(rest, first)
