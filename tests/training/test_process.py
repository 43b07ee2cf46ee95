"""Theorems about the general process: any loss, weights, data, optimiser and noise."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _ensembles import assert_mean

from rqf_jax.laws import Fixed, Normal, Product, Zeros
from rqf_jax.training import LeastSquares, Process, Subspace, data, train
from rqf_jax.training.injections import (
    AbstractIndependentInjection,
    AntiCorrelated,
    DropConnect,
    Dropout,
    InOrder,
    LabelNoise,
    Langevin,
    ParameterNoise,
    Reshuffled,
    WithoutReplacement,
    WithReplacement,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((6, 2))
TARGETS = RNG.standard_normal(6)
LINE = (INPUTS, TARGETS)
SQUARES = LeastSquares(lambda w, batch: batch[0] @ w - batch[1])
WELL = LeastSquares(lambda w, batch: (w - batch)[:, None])
SGD = optax.sgd(0.1)


def ends(process, updates=1, seeds=1, **options):
    """The weights of all seeds after their last update."""
    runs = train(process, [0, updates], seeds=seeds, key=KEY, **options)
    return jax.tree.map(lambda y: np.asarray(y[:, 1]), runs.ys)


# ---- optimisers and weights


def test_weights_without_numbers_are_left_as_they_are():
    def law(key):
        return {"w": jnp.ones(2), "none": jnp.zeros((0, 3))}

    loss = LeastSquares(lambda w, batch: batch[0] @ w["w"] - batch[1])
    found = ends(Process(loss, law, LINE, optimiser=SGD), seeds=2)
    assert found["none"].shape == (2, 0, 3)
    np.testing.assert_allclose(
        found["w"], ends(Process(SQUARES, Fixed(np.ones(2)), LINE, optimiser=SGD), seeds=2)
    )


@pytest.mark.parametrize(
    "optimiser",
    [
        SGD,
        pytest.param(optax.sgd(0.1, momentum=0.9, nesterov=True), marks=pytest.mark.slow),
        optax.adamw(optax.cosine_decay_schedule(0.1, 20), weight_decay=0.1),
        pytest.param(optax.lbfgs(), marks=pytest.mark.slow),
    ],
    ids=["sgd", "momentum", "adamw with a schedule", "lbfgs"],
)
def test_an_update_is_that_of_the_optimiser(optimiser):
    process = Process(SQUARES, Fixed(np.ones(2)), LINE, optimiser=optimiser)

    def loss(w):
        return jnp.mean((INPUTS @ w - TARGETS) ** 2) / 2

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        w = jnp.ones(2)
        state = optimiser.init(w)
        for _ in range(5):
            value, gradient = jax.value_and_grad(loss)(w)
            change, state = optax.with_extra_args_support(optimiser).update(
                gradient, state, w, value=value, grad=gradient, value_fn=loss
            )
            w = optax.apply_updates(w, change)
    np.testing.assert_allclose(ends(process, 5)[0], w, rtol=1e-10)


def test_weights_may_be_a_module_and_its_functions_stay_as_they_are():
    def law(key):
        return eqx.nn.MLP(2, "scalar", 4, 1, activation=jnp.tanh, key=key)

    def loss(net, batch):
        return jnp.mean((jax.vmap(net)(batch[0]) - batch[1]) ** 2) / 2

    process = Process(loss, law, LINE, optimiser=optax.adam(0.05), injections=[WithReplacement(3)])
    runs = train(process, [0, 200], seeds=3, key=KEY, batch_size=3)
    net = process.weights(process.start(KEY))
    assert net.activation is jnp.tanh
    assert runs.ys.layers[0].weight.shape == (3, 2, 4, 2)
    assert runs.ys.activation is None

    def of_seed(save):
        return eqx.combine(jax.tree.map(lambda y: y[0, save], runs.ys), net)

    assert loss(of_seed(1), LINE) < 0.5 * loss(of_seed(0), LINE)


def test_weights_may_be_a_dictionary_of_laws():
    law = Product({"a": Fixed(np.ones(1)), "b": Zeros(())})
    process = Process(lambda w, _: jnp.sum((w["a"] + w["b"]) ** 2) / 2, law, optimiser=SGD)
    found = ends(process)
    np.testing.assert_allclose(found["a"], [[0.9]])
    np.testing.assert_allclose(found["b"], [-0.1])


def test_one_seed_that_diverges_is_marked_and_no_other():
    # Positive weights are multiplied by five in every update, to infinity.
    process = Process(
        lambda w, _: -2 * jnp.sum(jnp.maximum(w, 0) ** 2), Normal((1,)), optimiser=optax.sgd(1.0)
    )
    runs = train(process, [0, 1, 500], seeds=20, key=KEY, throw=False)
    above = np.asarray(runs.ys[:, 0, 0]) > 0
    np.testing.assert_array_equal(runs.status, 2 * above)
    assert 0 < above.sum() < 20
    assert np.isfinite(np.asarray(runs.ys)[~above]).all()


# ---- data


def test_fresh_examples_are_new_in_every_update_and_common_ones_the_same_for_all_seeds():
    for common in (None, jax.random.key(5)):
        process = Process(
            WELL, Zeros((1,)), data.Fresh(lambda key: Normal((2, 1))(key)[:, 0], common=common),
            optimiser=optax.sgd(1.0),
        )  # fmt: skip
        moved = np.asarray(train(process, [0, 1, 2], seeds=4, key=KEY).ys[:, 1:, 0])
        assert len(np.unique(moved)) == (8 if common is None else 2)


def test_every_seed_may_have_a_data_set_of_its_own():
    process = Process(WELL, Zeros((1,)), data.Sampled(Normal((5,))), optimiser=optax.sgd(1.0))
    first, second = np.asarray(train(process, [0, 1, 9], seeds=3, key=KEY).ys)[:, 1:, 0].T
    assert len(np.unique(first)) == 3
    np.testing.assert_allclose(first, second)


def test_a_task_gives_way_to_the_next_at_its_update():
    process = Process(
        WELL,
        Zeros((1,)),
        data.Tasks([np.ones(2), np.full(2, 5.0)], [0, 3]),
        optimiser=optax.sgd(1.0),
    )
    runs = train(process, [0, 1, 3, 4], seeds=1, key=KEY)
    np.testing.assert_allclose(runs.ys[0, :, 0], [0, 1, 1, 5])


@pytest.mark.slow
def test_a_switch_of_tasks_costs_the_old_one_half_t_squared_at_first():
    # L_A(t) = ½ t² ∇L_Bᵀ H_A ∇L_B after the switch from the minimum of A to A + B.
    a, b = np.diag([2.0, 1.0]), np.array([[1.0, 0.3], [0.3, 0.5]])

    def loss(w, batch):
        return (w @ a @ w + batch[0] * (w - 1.0) @ b @ (w - 1.0)) / 2

    rate, steps = 1e-4, 100
    process = Process(
        loss, Zeros((2,)), data.Tasks([np.zeros(1), np.ones(1)], [0, 50]), optimiser=optax.sgd(rate)
    )
    w = ends(process, 50 + steps)[0]
    slope = b @ np.ones(2)
    expected = (rate * steps) ** 2 / 2 * slope @ a @ slope
    assert w @ a @ w / 2 == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "batch",
    [
        Reshuffled,
        pytest.param(WithReplacement, marks=pytest.mark.slow),
        pytest.param(WithoutReplacement, marks=pytest.mark.slow),
    ],
)
def test_seeds_with_common_batches_from_one_start_are_one(batch):
    options = {"optimiser": SGD, "injections": [batch(2, common=jax.random.key(7))]}
    same = ends(Process(SQUARES, Zeros((2,)), LINE, **options), 4, seeds=3)
    np.testing.assert_array_equal(same, same[:1].repeat(3, 0))
    # From two starts, batches are the same linear maps: differences of seeds are too.
    x = ends(Process(SQUARES, Normal((2,)), LINE, **options), 4, seeds=4)
    starts = np.asarray(
        train(Process(SQUARES, Normal((2,)), LINE, **options), [0, 1], seeds=4, key=KEY).ys[:, 0]
    )
    d, e = starts[1:] - starts[0], x[1:] - x[0]
    np.testing.assert_allclose(np.linalg.solve(d[:2], e[:2]).T @ d[2], e[2], rtol=1e-8)


def test_batches_in_order_go_round():
    process = Process(
        WELL, Zeros((1,)), np.arange(5.0), optimiser=optax.sgd(1.0), injections=[InOrder(2)]
    )
    runs = train(process, [0, 1, 2, 3], seeds=1, key=KEY)
    np.testing.assert_allclose(runs.ys[0, 1:, 0], [0.5, 2.5, 0.5])


# ---- noise


def test_noise_that_is_taken_back_never_adds_up():
    # On a flat loss w_k = -α σ ξ_{k-1}, whatever k.
    process = Process(
        lambda w, _: 0.0 * jnp.sum(w), Zeros((3,)), optimiser=SGD, injections=[AntiCorrelated(2.0)]
    )
    moved = ends(process, 50, seeds=2000)
    assert_mean(moved**2, (0.1 * 2.0) ** 2)


@pytest.mark.slow
def test_parameter_noise_descends_the_smoothed_loss():
    # E (w + σξ)³ = w³ + 3 σ² w, the gradient of w⁴/4 where it is smoothed.
    process = Process(
        lambda w, _: jnp.sum(w**4) / 4, Fixed(np.ones(1)), optimiser=optax.sgd(1.0),
        injections=[ParameterNoise(0.5)],
    )  # fmt: skip
    assert_mean(ends(process, seeds=8000)[:, 0], 1 - (1 + 3 * 0.25))


@pytest.mark.slow
def test_langevin_noise_passes_by_the_loss_and_through_the_optimiser():
    process = Process(
        lambda w, _: 0.0 * jnp.sum(w["a"]), Product({"a": Zeros((4, 3)), "b": Zeros((2,))}),
        optimiser=SGD, injections=[Langevin(3.0)],
    )  # fmt: skip
    moved = ends(process, seeds=1000)
    flat = np.concatenate([moved["a"].reshape(1000, -1), moved["b"]], 1)
    assert_mean(np.einsum("si,sj->sij", flat, flat), 0.09 * np.eye(14))


@pytest.mark.slow
def test_label_noise_and_dropout_reach_the_parts_they_are_told():
    batch = {"x": np.ones((1, 2)), "y": np.zeros(1)}
    loss = LeastSquares(lambda w, one: one["x"] @ w - one["y"])
    options = {"optimiser": optax.sgd(1.0)}
    noise = LabelNoise(0.5, where=lambda one: one["y"])
    moved = ends(Process(loss, Zeros((2,)), batch, injections=[noise], **options), seeds=4000)
    assert_mean(moved[:, 0] ** 2, 0.25)
    mask = Dropout(0.25, where=lambda one: one["x"])
    moved = ends(Process(loss, Fixed(np.ones(2)), batch, injections=[mask], **options), seeds=4000)
    # E x_1 (x_1 + x_2) = 1 + p/(1 - p) + 1.
    assert_mean(1 - moved[:, 0], 2 + 1 / 3)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_weights_of_half_precision_take_noise_and_keep_their_dtype(dtype):
    process = Process(
        lambda w, _: 0.0 * jnp.sum(w), lambda key: jnp.zeros(500, dtype), optimiser=optax.sgd(1.0),
        injections=[Langevin(0.5), ParameterNoise(0.1), AntiCorrelated(0.5)],
    )  # fmt: skip
    runs = train(process, [0, 1], seeds=4, key=KEY)
    assert runs.ys.dtype == dtype
    assert_mean(np.asarray(runs.ys[:, 1], float).reshape(-1) ** 2, 0.5, bias=0.01)


# ---- subspaces


@pytest.mark.slow
def test_a_task_of_ten_constraints_is_learnt_in_ten_dimensions_and_not_in_nine():
    # 200 weights whose ten sums of twenty have targets: solvable iff the dimension is 10.
    targets = np.arange(1.0, 11.0)

    def loss(w, _):
        return jnp.sum((w["a"].reshape(5, 20).sum(1) - targets[:5]) ** 2) + jnp.sum(
            (w["b"].reshape(5, 20).sum(1) - targets[5:]) ** 2
        )

    law = Product({"a": Normal((100,)), "b": Normal((100,))})
    least = {}
    for dimension in (9, 10):
        process = Process(loss, Subspace(law, dimension), optimiser=optax.lbfgs())
        w = ends(process, 60, seeds=1)
        assert w["a"].shape == (1, 100)
        least[dimension] = loss(jax.tree.map(lambda leaf: leaf[0], w), ())
    assert least[10] < 1e-8 < 1e-3 < least[9]


def test_weights_in_a_subspace_stay_in_it():
    law = Subspace(Normal((4, 5)), 3)
    process = Process(lambda w, _: jnp.sum(jnp.cos(w)), law, optimiser=SGD)
    state = process.start(KEY)
    start = law(KEY)
    moved = process.weights(process.update(KEY, jnp.array(0), state)) - start.start
    p = np.asarray(start.directions)
    off = moved.reshape(-1) - p @ np.linalg.lstsq(p, np.asarray(moved).reshape(-1))[0]
    assert np.abs(off).max() < 1e-12 < np.abs(np.asarray(moved)).max()
    gradient = -np.sin(np.asarray(start.start)).reshape(-1)
    np.testing.assert_allclose(moved.reshape(-1), -0.1 * p @ p.T @ gradient, atol=1e-12)


# ---- bad input


def make(**changes):
    """A process with one argument changed."""
    options = {"loss": SQUARES, "law": Zeros((2,)), "data": LINE, "optimiser": SGD} | changes
    loss, law, examples = (options.pop(name) for name in ("loss", "law", "data"))
    return Process(loss, law, examples, **options)


STRANGE = optax.GradientTransformation(lambda _: "nothing", lambda g, s, p=None: (g, s))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": 3}, "`loss` must be a function of weights and a batch"),
        ({"loss": lambda w, b: b[0] @ w}, "`loss` must return one real number; got .*shape=.6"),
        ({"loss": lambda w, b: 1.0}, "`loss` must return one real number; got 1.0"),
        (
            {"loss": lambda w, b: jnp.sum(w).astype(complex)},
            "`loss` must return one real number; got",
        ),
        (
            {"loss": lambda w, b: jnp.log(jnp.sum(w) - 1)},
            "`loss` must be finite at a draw of `law`",
        ),
        (
            {"loss": lambda w: 1.0},
            "`loss` must be a function of weights and a batch; it raised TypeError",
        ),
        (
            {"loss": lambda w, b: b[0] @ jnp.ones(5)},
            "`loss` must be a function of .*contracting dimensions",
        ),
        (
            {"loss": lambda w, b: w[0] if w[0] > 0 else w[1]},
            "`loss` must be a function of .*boolean conv",
        ),
        ({"loss": lambda w, b: b["x"] @ w}, "`loss` must be a function of .* raised TypeError"),
        ({"loss": LeastSquares(lambda w, b: jnp.sum(w))}, "`residuals` must return an array of fl"),
        (
            {"loss": LeastSquares(lambda w, b: (b[0] @ w)[None])},
            r"whose first axis is the 6 examples; got .*shape.*\(1, 6\)|\[1,6\]",
        ),
        ({"law": 3}, "`law` must be a function of one key"),
        ({"law": lambda key: jnp.zeros(2, int)}, "`law` must draw arrays of floats; got dtype int"),
        ({"law": lambda key: jnp.zeros(2, complex)}, "arrays of floats; got dtype complex128"),
        ({"law": lambda key: 3}, "`law` must draw arrays of floats; got 3"),
        ({"data": (INPUTS, TARGETS[:5])}, r"one first axis.*got shapes \[\(6, 2\), \(5,\)\]"),
        ({"data": (INPUTS * np.nan, TARGETS)}, "`data` must be finite"),
        ({"data": (INPUTS + 0j, TARGETS)}, "`data` must be real numbers; got dtype complex128"),
        ({"data": "text"}, "`data` must be a pytree of arrays; got 'text'"),
        ({"optimiser": 0.1}, "`optimiser` must be a gradient transformation of optax"),
        ({"optimiser": lambda: 3}, "`optimiser` must be a gradient transformation of optax"),
        ({"optimiser": STRANGE}, "`optimiser` must have a state that is a pytree of arrays"),
        ({"injections": [WithReplacement(7)]}, "`batch` must be at most the 6 examples there are"),
        ({"injections": [InOrder(2), InOrder(3)]}, "must choose batches at most once; got 2"),
        (
            {"injections": [Reshuffled(2)], "data": data.Fresh(lambda key: LINE)},
            "`injections` must choose no batch of examples that are drawn afresh",
        ),
        (
            {"injections": [Reshuffled(2)], "data": ()},
            "`injections` must choose no batch of examples that are drawn afresh, or of none",
        ),
        (
            {"injections": [LabelNoise(0.1)], "data": (INPUTS, np.arange(6))},
            r"`data` must hold floats where LabelNoise acts; got int64 \(6,\)",
        ),
        (
            {"injections": [Dropout(0.1)], "data": (*LINE, np.ones((6, 2), int))},
            r"`data` must hold floats where Dropout acts; got int64 \(6, 2\)",
        ),
        ({"injections": [LabelNoise(0.1)], "data": INPUTS}, "the part where LabelNoise acts, by"),
        ({"injections": [Dropout(0.1)]}, r"Dropout acts, .*got 0 float64 \(6, 2\), 1 float64 \(6,"),
        ({"injections": [DropConnect(0.1), 3]}, r"`injections\[1\]` must be an injection of"),
    ],
)
def test_a_bad_process_has_one_clear_error(changes, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.Tasks([np.ones(2), np.ones(3)], [0, 1]), "`tasks` must be data sets of one"),
        (lambda: data.Tasks([np.ones(2)], [1]), "`starts` must be 1 increasing numbers"),
        (lambda: data.Fresh(3), "`law` must be a function of one key"),
        (lambda: WithReplacement(2, common=3), "`common` must be a JAX key"),
        (lambda: Subspace(Zeros((3,)), 4), "`dimension` must be at most 3; got 4"),
        (lambda: AntiCorrelated(math.inf), "`sigma` must be finite"),
    ],
)
def test_a_bad_part_of_a_process_has_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


class Push(AbstractIndependentInjection):
    """Standard normals on the gradient, drawn as `fresh` draws them."""

    def change(self, key, draw, point):
        return draw.tilted(jnp.ones(()), fresh(key)[0])


def fresh(key):
    return jax.random.normal(key, (1, 2000))


@pytest.mark.parametrize(
    ("source", "pushes"),
    [
        pytest.param(True, 1, marks=pytest.mark.slow, id="data and injection"),
        pytest.param(False, 2, id="injections"),
    ],
)
def test_parts_of_a_process_that_share_a_key_draw_different_numbers(source, pushes):
    # Two equal draws would make a variance of 4.
    common = jax.random.key(11)
    process = Process(
        (lambda w, batch: jnp.vdot(w, batch[0])) if source else (lambda w, _: 0.0 * jnp.sum(w)),
        Zeros((2000,)), data.Fresh(fresh, common=common) if source else (),
        optimiser=optax.sgd(1.0), injections=[Push(common=common) for _ in range(pushes)],
    )  # fmt: skip
    moved = train(process, [0, 1], seeds=2, key=KEY).ys[:, 1]
    np.testing.assert_array_equal(moved[0], moved[1])
    assert_mean(moved[0] ** 2, 2.0)


def test_a_network_whose_functions_were_not_saved_is_observed_with_advice():
    def law(key):
        return eqx.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=key)

    loss = LeastSquares(lambda net, batch: jax.vmap(net)(batch[0]) - batch[1])
    runs = train(Process(loss, law, LINE, optimiser=SGD), [0, 1], seeds=1, key=KEY)
    assert runs.observe(lambda net: net.layers[0].weight).shape == (1, 2, 3, 2)
    with pytest.raises(ValueError, match="were not saved; to call the network give `save`"):
        runs.observe(lambda net: net(jnp.ones(2)))
