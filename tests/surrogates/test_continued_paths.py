"""Surrogates: two routes to one number, laws that sum to one, maps with known bounds."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import rqf_jax as rqf
from rqf_jax import surrogates

KEY = jax.random.key(0)


def cells(cells=4, size=2, width=8):
    grid = surrogates.Grid([-1.0] * size, [1.0] * size, cells)
    return surrogates.CellHead(grid, width=width, rank=3, key=jax.random.key(1))


def gaussian(size=2, width=8):
    mean, scale = np.arange(size) + 0.5, np.arange(size) + 1.0
    return surrogates.GaussianHead(mean, scale, width=width, key=jax.random.key(2))


def transformer(head, context=5, blocks=2):
    model = surrogates.Transformer(
        head, blocks=blocks, heads=2, context=context, key=jax.random.key(3)
    )
    # Biases of ages that are not all 0, as training makes them.
    biases = [
        0.5 * jax.random.normal(jax.random.key(i), block.bias.shape)
        for i, block in enumerate(model.blocks)
    ]
    return eqx.tree_at(lambda m: [block.bias for block in m.blocks], model, biases)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(cells(), id="cells", marks=pytest.mark.slow),
        pytest.param(gaussian(), id="gaussian"),
    ],
)
def test_a_ring_of_keys_gives_the_laws_that_reading_the_whole_path_gives(head):
    """Also once the path is several times as long as the ring."""
    model, steps = transformer(head), 17
    key = jax.random.key(5)
    start = jnp.full((2, 2), 0.2)
    path = surrogates.sample(model, start, steps, members=1, key=key).ys[0]
    own = rqf.member_keys(key, 0)[1]

    def step(memory, k):
        density = head.log_density(memory.hidden, memory.x, path[k + 1])
        memory, x = model.step(jax.random.fold_in(own, k), memory)
        return memory, (density, x)

    found, states = jax.lax.scan(step, eqx.filter_jit(model.begin)(start), jnp.arange(steps))[1]
    np.testing.assert_allclose(states, path[1:], rtol=1e-12)
    whole = jnp.concatenate([start[:1], path])
    laws = eqx.filter_jit(model.log_densities)(whole)
    np.testing.assert_allclose(found, laws[1:], rtol=1e-10)


def test_the_chain_of_cells_is_a_density_and_is_what_is_drawn():
    head, hidden = cells(), jax.random.normal(KEY, (8,))
    everywhere = jnp.asarray(list(itertools.product(range(4), repeat=2)))
    states = head.grid.centre(everywhere)
    density = jnp.exp(jax.jit(jax.vmap(lambda y: head.log_density(hidden, y, y)))(states))
    chance = np.asarray(density * jnp.prod(head.grid.width))
    np.testing.assert_allclose(np.sum(chance), 1, rtol=1e-12)
    many = 40_000
    draws = jax.jit(jax.vmap(lambda key: head.draw(key, hidden, states[0])))
    drawn = draws(jax.random.split(KEY, many))
    places = np.asarray(head.grid.cell(drawn)) @ np.array([4, 1])
    count = np.bincount(places, minlength=16)
    z = (count - many * chance) / np.sqrt(many * chance * (1 - chance))
    assert np.abs(z).max() < 5
    inside = np.asarray(drawn - head.grid.centre(head.grid.cell(drawn))) / np.asarray(
        head.grid.width
    )
    assert np.abs(inside.mean(axis=0)).max() < 5 / np.sqrt(12 * many)


def test_a_finer_grid_keeps_every_law_until_it_is_trained():
    coarse = transformer(cells())
    fine = coarse.refined(3)
    window = jax.random.uniform(KEY, (9, 2), minval=-1, maxval=1)
    assert fine.head.grid.cells == 12
    found, wanted = (eqx.filter_jit(model.log_densities)(window) for model in (fine, coarse))
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)
    slope = eqx.filter_grad(lambda head: head.log_density(jnp.ones(8), window[0], window[1]))
    gradient = eqx.filter_jit(slope)(fine.head)
    assert float(jnp.abs(gradient.logits[0]).sum()) > 0


def test_the_gaussian_head_has_the_density_and_the_moments_of_its_law():
    head, hidden, x = gaussian(), jax.random.normal(KEY, (8,)), jnp.array([0.3, -1.0])
    head = eqx.tree_at(lambda h: h.outward.weight, head, 30 * head.outward.weight)
    centre, lower = head.law(hidden)
    scale = np.array(head.scale)
    mean, root = np.asarray(x) + scale * np.asarray(centre), scale[:, None] * np.asarray(lower)
    law = scipy.stats.multivariate_normal(mean, root @ root.T)
    y = jnp.array([0.5, 0.1])
    np.testing.assert_allclose(head.log_density(hidden, x, y), law.logpdf(y), rtol=1e-10)
    many = 20_000
    drawn = jax.jit(jax.vmap(lambda key: head.draw(key, hidden, x)))(jax.random.split(KEY, many))
    rest = np.linalg.solve(root, (np.asarray(drawn) - mean).T)
    assert np.abs(rest.mean(axis=1)).max() < 5 / np.sqrt(many)
    products = np.array([rest[0] ** 2 - 1, rest[1] ** 2 - 1, rest[0] * rest[1]])
    assert (np.abs(products.mean(axis=1)) < 5 * np.sqrt(np.array([2, 2, 1]) / many)).all()


def test_an_almost_linear_network_is_affine_in_each_of_its_regions():
    network = surrogates.AlmostLinear(2, latent=6, pieces=2, key=KEY)
    states = jax.random.normal(jax.random.key(1), (50, 6))
    for z in states:
        bent = jnp.concatenate([jnp.ones(4), (z[4:] > 0).astype(z.dtype)])
        expected = jnp.diag(network.diagonal) + network.weights * bent[None]
        np.testing.assert_allclose(network.jacobian(z), expected, rtol=1e-12)
        np.testing.assert_allclose(network(z), expected @ z + network.offset, rtol=1e-10)


def test_a_clipped_network_stays_in_the_box_that_its_weights_bound():
    network = surrogates.ShallowPiecewise(2, latent=3, hidden=20, key=KEY)
    network = eqx.tree_at(lambda n: n.outer, network, 50 * network.outer)
    reach = jnp.abs(network.outer) @ jnp.abs(network.threshold) + jnp.abs(network.offset)
    bound = reach / (1 - jnp.tanh(network.diagonal))
    runs = surrogates.sample(network, [[1e3, -1e3]], 400, members=1, every=40, key=KEY)
    assert (np.abs(runs.ys[0, -1]) <= bound[:2]).all()


def test_forced_jacobians_have_products_of_norm_at_most_one():
    jacobians = jax.random.normal(KEY, (30, 5, 5))
    forcing = surrogates.teacher_forcing(jacobians)
    product = np.eye(5)
    for jacobian in np.asarray((1 - forcing) * jacobians):
        product = jacobian @ product
        assert np.linalg.norm(product, 2) <= 1 + 1e-12
    assert 0 < forcing < 1
    assert surrogates.teacher_forcing(0.5 * jnp.eye(3)) == 0


@pytest.mark.slow
def test_the_forced_loss_has_the_least_forcing_of_the_jacobians_at_the_states():
    network = surrogates.ShallowPiecewise(2, latent=2, hidden=9, key=KEY)
    network = eqx.tree_at(lambda n: n.outer, network, 8 * network.outer)
    batch = jax.random.normal(jax.random.key(1), (3, 5, 2))
    outer, inner, threshold = map(np.asarray, (network.outer, network.inner, network.threshold))
    inside = np.asarray(batch).reshape(-1, 2) @ inner.T
    bent = (inside + threshold > 0) * 1.0 - (inside > 0)
    jacobians = np.diag(np.tanh(network.diagonal)) + outer @ (bent[:, :, None] * inner)
    forcing = max(0.0, 1 - 1 / np.linalg.norm(jacobians, 2, (1, 2)).max())
    assert 0.1 < forcing < 1
    found = jax.value_and_grad(surrogates.forced_loss)(network, batch)
    expected = jax.value_and_grad(surrogates.loss)(network.forced(forcing), batch)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-10)
    np.testing.assert_allclose(found[1].outer, expected[1].outer, rtol=1e-8, atol=1e-10)


def test_forcing_is_no_weight_and_full_forcing_forgets_the_past():
    network = surrogates.AlmostLinear(2, latent=5, pieces=1, forcing=0.3, key=KEY)
    window = jax.random.normal(KEY, (6, 2))
    assert jax.grad(lambda n: n.objective(window))(network).forcing == 0
    rest = eqx.tree_at(
        lambda n: (n.weights, n.start),
        network.forced(1.0),
        (network.weights.at[:, 2:].set(0), jnp.zeros_like(network.start)),
    )
    one = [jnp.mean((rest(rest.lifted(a))[:2] - b) ** 2) for a, b in itertools.pairwise(window)]
    np.testing.assert_allclose(rest.objective(window), np.mean(one), rtol=1e-12)


def test_a_longer_sample_begins_as_a_shorter_one_and_failures_are_marked():
    model = transformer(gaussian())
    long = surrogates.sample(model, jnp.zeros((1, 2)), 8, members=3, key=KEY)
    short = surrogates.sample(model, jnp.zeros((1, 2)), 4, members=2, every=2, key=KEY)
    np.testing.assert_allclose(short.ys, long.ys[:2, :5:2], rtol=1e-12)
    network = surrogates.AlmostLinear(1, latent=2, pieces=1, key=KEY)
    explosive = eqx.tree_at(lambda n: n.diagonal, network, jnp.full(2, 1e80))
    with pytest.raises(rqf.NonFiniteError, match="2 of 2"):
        surrogates.sample(explosive, [[1.0]], 10, members=2, key=KEY)
    runs = surrogates.sample(explosive, [[1.0]], 10, members=2, key=KEY, throw=False)
    first = np.isfinite(np.asarray(runs.ys[0])).all(axis=1).argmin()
    assert np.asarray(runs.status).tolist() == [first, first]


def test_windows_leave_gaps_out_and_reach_from_no_path_into_the_next():
    path = np.arange(7.0)[:, None]
    gap = path.copy()
    gap[3] = np.nan
    assert surrogates.windows(gap, 3)[:, 0, 0].tolist() == [0, 4]
    assert surrogates.windows(np.stack([path, path]), 6).shape == (4, 6, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cells", "gaussian"])
def test_a_trained_transformer_has_the_entropy_rate_of_an_autoregression(name):
    """x' = a x + s ξ: no law has a smaller mean negative log-density than (ln 2πe s²)/2."""
    a, s, rng = 0.8, 0.6, np.random.default_rng(0)
    path = [0.0]
    for xi in rng.standard_normal(40_000):
        path.append(a * path[-1] + s * xi)
    path = np.array(path)[:, None]
    if name == "cells":
        grid = surrogates.grid_of(path, 24, margin=0.04)
        head = surrogates.CellHead(grid, width=16, key=KEY)
    else:
        head = surrogates.GaussianHead([0.0], [1.0], width=16, key=KEY)

    def law(key):
        return surrogates.Transformer(head, blocks=1, heads=2, context=4, key=key)

    process = rqf.training.Process(
        surrogates.loss,
        law,
        surrogates.windows(path[:30_000], 5, every=2),
        optimiser=optax.adam(optax.cosine_decay_schedule(1e-2, 1500)),
        injections=[rqf.training.injections.WithReplacement(64)],
    )
    test = jnp.asarray(surrogates.windows(path[30_000:], 5))

    def risk(model):
        return surrogates.loss(model, test)

    runs = rqf.training.train(process, [0, 1500], seeds=1, key=KEY, save=risk)
    floor = 0.5 * np.log(2 * np.pi * np.e * s**2)
    assert runs.ys[0, 0] > floor + 0.1
    stderr = np.sqrt(0.5 / 10_000)
    assert -5 * stderr < runs.ys[0, 1] - floor < 0.03 + 5 * stderr


HEAD = gaussian()
REFUSED = {
    "box": (lambda: surrogates.Grid([0.0], [0.0], 3), "`high` must be above `low`"),
    "cells": (lambda: surrogates.Grid([0.0], [1.0], 1), "`cells` must be at least 2"),
    "lengths": (lambda: surrogates.Grid([0.0], [1.0, 2.0], 3), "as long as each other"),
    "constant": (
        lambda: surrogates.grid_of(np.array([[0.0, 1.0], [1.0, 1.0]]), 4),
        "coordinate 1 is 1.0 in all states",
    ),
    "margin": (
        lambda: surrogates.grid_of(np.arange(9.0)[:, None], 40, margin=0.5),
        "`margin` must be at most one cell",
    ),
    "gaps": (lambda: surrogates.grid_of(np.full((4, 1), np.nan), 4), "a state without NaN"),
    "scale": (
        lambda: surrogates.GaussianHead([0.0], [0.0], width=4, key=KEY),
        "`scale` must be positive",
    ),
    "heads": (
        lambda: surrogates.Transformer(HEAD, heads=3, key=KEY),
        "`heads` must divide the width 8",
    ),
    "refined": (lambda: transformer(HEAD).refined(), "`head` must have a grid to refine"),
    "latent": (
        lambda: surrogates.AlmostLinear(3, latent=4, pieces=2, key=KEY),
        "`latent` must be at least 5",
    ),
    "forcing": (
        lambda: surrogates.AlmostLinear(1, latent=2, pieces=1, forcing=2.0, key=KEY),
        "`forcing` must be in \\[0, 1\\]",
    ),
    "short": (lambda: surrogates.windows(np.zeros((3, 1)), 4), "at least `length` = 4 times"),
    "flat": (lambda: surrogates.windows(np.zeros(3), 2), "One coordinate is a path of shape"),
    "all gaps": (lambda: surrogates.windows(np.full((3, 1), np.nan), 2), "without NaN"),
    "past": (
        lambda: surrogates.sample(transformer(HEAD), [[0.0]], 3, members=2, key=KEY),
        "`past` must have shape \\(times, 2\\)",
    ),
    "every": (
        lambda: surrogates.sample(transformer(HEAD), [[0.0, 0.0]], 3, members=2, every=2, key=KEY),
        "`every` must divide `steps`",
    ),
    "window": (lambda: transformer(HEAD).log_densities([[0.0, 0.0]]), "at least 2 times"),
    "batch": (
        lambda: surrogates.loss(transformer(HEAD), jnp.zeros((3, 4, 1))),
        "shape \\(batch, times, 2\\)",
    ),
    "width": (
        lambda: surrogates.CellHead(surrogates.Grid([0.0], [1.0], 4), width=10**12, key=KEY),
        "`grid` and `width` and `rank` must make arrays that fit the memory",
    ),
    "wide": (
        lambda: surrogates.GaussianHead([0.0], [1.0], width=10**12, key=KEY),
        "`width` must make arrays that fit the memory",
    ),
    "context": (
        lambda: surrogates.Transformer(HEAD, context=10**12, key=KEY),
        "`heads` and `context` must make arrays that fit the memory",
    ),
    "large latent": (
        lambda: surrogates.AlmostLinear(1, latent=10**9, pieces=1, key=KEY),
        "`latent` must make arrays that fit the memory",
    ),
    "hidden": (
        lambda: surrogates.ShallowPiecewise(1, latent=2, hidden=10**12, key=KEY),
        "`latent` and `hidden` must make arrays that fit the memory",
    ),
    "jacobians": (lambda: surrogates.teacher_forcing(jnp.zeros((3, 2))), "latent, latent"),
}


def test_a_law_is_not_forced(refused):
    refused(
        lambda: surrogates.forced_loss(transformer(HEAD), jnp.zeros((3, 4, 2))),
        "`surrogate` must be",
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("spread", [1e-6, 0.1, 1e3, 1e30])
def test_a_head_begins_with_the_spread_that_it_is_given(spread):
    head = surrogates.GaussianHead([0.0], [1.0], width=4, spread=spread, key=KEY)
    np.testing.assert_allclose(jax.nn.softplus(head.outward.bias[-1]), spread, rtol=1e-9)
