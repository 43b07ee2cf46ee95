"""Order parameters: how far the tokens share a direction, or an axis, or a subspace."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._state import for_all, one_state, safe_sqrt


def polar_order(x: Float[Array, "tokens dim"]) -> Float[Array, ""]:
    """The length of the mean token: 1 for one cluster, 0 for balanced tokens (Kuramoto's r).

    r = |(1/N) sum_a x_a|,  r^2 = mean of the Gram matrix over all N^2 entries

    Independent uniform tokens have E r^2 = 1/N. The gradient at r = 0, where r has a cone's tip,
    is returned as 0 (a subgradient).

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    mean = jnp.mean(one_state(x), 0)
    return safe_sqrt(jnp.sum(mean * mean))


def nematic_order(x: Float[Array, "tokens dim"]) -> Float[Array, ""]:
    """The nematic order parameter: 1 for tokens on one line (either sign), 0 for isotropic ones.

    S = sqrt( n/(n-1) (tr M^2 - 1/n) ),  M = X^T X / N,  tr M^2 = mean of G_ab^2

    This is the Frobenius norm of the traceless part of M, scaled. For uniaxial order it equals
    the usual (n lambda_max - 1)/(n - 1), and unlike that it is smooth where eigenvalues of M
    cross. Independent uniform tokens have E S^2 = 1/N for every n (derived here). In coordinates
    of the tokens' span, n is min(N, n), and S differs from S in the ambient space. For n = 1 all
    tokens are on one line and S = 1. The gradient at S = 0 is returned as 0 (a subgradient).

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    x = one_state(x)
    tokens, dim = x.shape
    if dim == 1:
        return for_all(1.0, x)
    # tr M^2 is taken from the smaller of M and G/N, minus its multiple of the identity, so that
    # nothing cancels near S = 0; the identities of the two sides differ by 1/N - 1/n.
    side = min(tokens, dim)
    small = (
        jnp.matmul(x.T, x, precision="highest")
        if dim <= tokens
        else jnp.matmul(x, x.T, precision="highest")
    ) / tokens
    traceless = small - jnp.trace(small) / side * jnp.eye(side, dtype=x.dtype)
    square = jnp.sum(traceless * traceless) + (1 / side - 1 / dim)
    return safe_sqrt(dim / (dim - 1) * square)


def effective_rank(x: Float[Array, "tokens dim"]) -> Float[Array, ""]:
    """The number of directions that tokens fill: 1 for tokens on one line, n for isotropic ones.

    e^S,  S = -sum_i p_i ln p_i,  p the eigenvalues of X^T X / tr(X^T X)

    S is the von Neumann entropy of the uncentred covariance (Roy and Vetterli's effective rank
    has singular values in place of their squares). The spectrum enters through a symmetric
    function, so that the gradient is finite where eigenvalues meet; at an eigenvalue that is
    exactly 0 its infinite slope is returned as 0.

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    x = one_state(x)
    tokens, dim = x.shape
    small = (
        jnp.matmul(x.T, x, precision="highest")
        if dim <= tokens
        else jnp.matmul(x, x.T, precision="highest")
    )
    p = jnp.linalg.eigvalsh(small / jnp.trace(small))
    # Not p > 0: a NaN must not become a rank.
    positive = ~(p <= 0)
    p = jnp.where(positive, p, 1.0)
    return jnp.exp(-jnp.sum(jnp.where(positive, p * jnp.log(p), 0.0)))
