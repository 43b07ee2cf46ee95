"""Hidden states as steps of noise: found where it is so, and denied where it is not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic

import rqf_jax as rqf
from rqf_jax.cli.app import main
from rqf_jax.inference import HiddenStatesFit, Layer, fit_hidden_states
from rqf_jax.inference._layers import student
from rqf_jax.io import Sentence

SYMMETRIC, ANTISYMMETRIC, LAYERS, SENTENCES, TOKENS, DIM = 0.08, 0.03, 11, 6, 5, 12


@functools.cache
def states():
    """(sentences, layers, tokens, dim): noise that is a model of nothing else."""
    runs = rqf.simulate(
        isotropic(SYMMETRIC, ANTISYMMETRIC),
        rqf.laws.Equiangular(TOKENS, DIM, 0.1),
        jnp.arange(float(LAYERS)),
        substeps=4,
        members=SENTENCES,
        key=jax.random.key(0),
    )
    return np.asarray(runs.ys)


def sentences(hidden):
    """Directions with lengths, as a model has them."""
    lengths = np.random.default_rng(0).uniform(8, 12, (*hidden.shape[:3], 1))
    tokens = tuple("abcde"[: hidden.shape[2]])
    return [Sentence("text", tokens, x) for x in hidden * lengths]


@functools.cache
def fit():
    return fit_hidden_states(sentences(states()))


def test_a_printed_fit_has_a_line_for_each_layer_and_the_verdict():
    layer = Layer(0.5, False, 0.1, 0.01, (0.01, 0.02), 0.9, 1.1, 0.1, 0.05, 0.2, 0.1)
    jump = dataclasses.replace(layer, jump=True, null_ratio=np.nan)
    sinks, objections = ((0, "the", 7.2),), ("2 layers are too few.",)
    shown = HiddenStatesFit((layer, jump), 0.1, sinks, (), (0.1, 9.0), (0.0, 0.1), objections)
    lines = str(shown).splitlines()
    first, second = (line.split() for line in lines[3:5])
    assert first[:4] == ["1", "29°", "0.1000±0.0100", "<0.0500"]
    assert second[:2] == ["2", "jump"] and len(second) == len(first)
    assert "left out: 'the' of sentence 0, norm 7 x the median" in lines
    assert lines[-1] == shown.verdict and max(map(len, lines[:5])) <= 80
    assert repr(shown) == "HiddenStatesFit(layers=2, sinks=1, excluded=0, fits=False)"


def test_a_tuple_of_arrays_is_refused_with_the_function_that_takes_it():
    with pytest.raises(ValueError, match=r"sentence 0 is an array .*io\.as_hidden_states"):
        fit_hidden_states(tuple(np.ones((3, 2, 4, 5))))
    shown = repr(rqf.io.as_hidden_states(tuple(np.ones((3, 2, 4, 5)))))
    assert shown == "HiddenStates(sentences=2)"


@pytest.mark.slow
def test_noise_is_taken_for_noise_with_its_strengths():
    result = fit()
    assert result.fits and "Nothing here speaks against" in result.verdict, result.verdict
    assert not result.sinks and not any(layer.jump for layer in result.layers)
    for name, truth in (("symmetric", SYMMETRIC), ("antisymmetric", ANTISYMMETRIC)):
        values = np.array([getattr(layer, name) for layer in result.layers])
        error = np.std(values, ddof=1) / np.sqrt(values.size)
        assert abs(values.mean() - truth) < 4 * error + 0.02 * truth
    # The noise of one layer is not far from that of the next, and the errors say how far.
    errors = [layer.stderr[0] for layer in result.layers]
    scatter = np.std([layer.symmetric for layer in result.layers], ddof=1)
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) / scatter < 2


@pytest.mark.slow
def test_a_sink_and_a_jump_are_found_and_left_out():
    hidden = np.array(states())
    lengths = np.ones((SENTENCES, LAYERS, TOKENS, 1))
    lengths[2, 3:6, 4] = 20.0
    orthogonal = np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, DIM)))[0]
    hidden[:, 4:] = hidden[:, 4:] @ orthogonal
    spoiled = sentences(hidden * lengths)
    result = fit_hidden_states(spoiled)
    assert [(number, token) for number, token, _ in result.sinks] == [(2, "e")]
    assert [layer.jump for layer in result.layers] == [i == 3 for i in range(LAYERS - 1)]
    # A rotation is of no consequence before it and after it.
    assert result.fits, result.verdict
    for i in (0, 9):
        assert result.layers[i].symmetric == pytest.approx(fit().layers[i].symmetric, rel=0.1)


@pytest.mark.slow
def test_tokens_that_gather_are_not_taken_for_noise():
    pull = np.array(states())
    centre = pull[:, :1].mean(axis=2, keepdims=True)
    pull = pull + 0.15 * np.arange(LAYERS)[None, :, None, None] * centre
    pull = pull / np.linalg.norm(pull, axis=-1, keepdims=True)
    result = fit_hidden_states(sentences(pull))
    assert result.gathering[0] > 0.1 and not result.fits
    assert "a drift" in result.verdict


def test_the_command_line_prints_layers_and_the_verdict(tmp_path, capsys):
    arrays = {"sentences": np.array(["text"] * SENTENCES)}
    for i, sentence in enumerate(sentences(states())):
        arrays |= {f"tokens_{i:02d}": np.array(sentence.tokens), f"hidden_{i:02d}": sentence.states}
    np.savez(tmp_path / "noise.npz", **arrays)
    with pytest.raises(SystemExit) as info:
        main(["fit", str(tmp_path / "noise.npz")])
    printed = capsys.readouterr().out
    assert not info.value.code and "σ_s" in printed
    assert "6 sentences, 30 tokens, dimension 12" in printed
    assert "Nothing here speaks against" in " ".join(printed.split())
    for option in (["--method", "robust"], ["--antisymmetric"]):
        with pytest.raises(SystemExit) as info:
            main(["fit", str(tmp_path / "noise.npz"), *option])
        assert info.value.code == 2 and "are for runs" in capsys.readouterr().err


def small(sentences=4, tokens=4, layers=4, dim=6, seed=0):
    """Tokens that take small random steps: no model, but fit in no time."""
    rng = np.random.default_rng(seed)
    start = np.linalg.qr(rng.standard_normal((sentences, dim, dim)))[0][:, :tokens]
    steps = 0.1 * rng.standard_normal((sentences, layers - 1, tokens, dim))
    return np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, 1)], 1)


def named(hidden):
    return [Sentence("text", tuple("abcdefgh"[: x.shape[1]]), x) for x in hidden]


def test_a_token_without_a_direction_is_named_and_excluded_alone():
    # One shape for all fits of this test: they are compiled once.
    hidden = small(tokens=5)
    whole = fit_hidden_states(named(hidden[:, :, :4]) + named(hidden[:, :, :1]))
    for wrong, reason in (
        (np.nan, "not finite in layer 2"),
        (np.inf, "not finite in layer 2"),
        (0.0, "of length zero in layer 2"),
    ):
        spoiled = hidden.copy()
        spoiled[1, 2, 4] = wrong
        kept = [x if i == 1 else x[:, :4] for i, x in enumerate(spoiled)]
        result = fit_hidden_states(named(kept) + named(hidden[:, :, :1]))
        assert result.excluded == ((1, "e", reason),) and not result.sinks
        assert result.layers == whole.layers and result.gathering == whole.gathering


def test_a_sink_is_above_the_tokens_of_the_layer_not_of_its_sentence():
    # Beside one other token a sink is at most twice the median of its sentence.
    hidden = small()
    pair = 314 * hidden[0][:, :2]
    pair[2, 1] *= 22_020 / 314
    result = fit_hidden_states(named([300 * x for x in hidden] + [pair]))
    assert [(number, token) for number, token, _ in result.sinks] == [(4, "b")]
    assert 50 < result.sinks[0][2] < 90


def test_a_layer_that_turns_nothing_has_no_noise():
    hidden = small()
    # Longer by a third, as a norm layer makes them: the directions differ by rounding alone.
    still = np.concatenate([hidden[:, :2], 4 / 3 * hidden[:, 1:]], axis=1).astype(np.float32)
    result = fit_hidden_states(named(still))
    quiet = result.layers[1]
    assert (quiet.symmetric, quiet.antisymmetric, quiet.stderr) == (0.0, 0.0, (0.0, 0.0))
    assert np.isnan(quiet.in_out) and quiet.predicted == result.layers[0].predicted
    assert all(layer.symmetric > 0 for layer in result.layers if layer is not quiet)
    nothing = fit_hidden_states(named(np.repeat(hidden[:, :1], 3, axis=1)))
    assert all(layer.symmetric == 0 for layer in nothing.layers)
    assert "No layer turns a token." in nothing.objections


def test_sentences_of_several_lengths_do_not_trip_over_a_search_for_nan():
    hidden = small()
    ragged = named([x[:, : 4 - i % 3] for i, x in enumerate(hidden)])
    expected = fit_hidden_states(ragged)
    jax.config.update("jax_debug_nans", True)
    try:
        found = fit_hidden_states(ragged)
    finally:
        jax.config.update("jax_debug_nans", False)
    assert found.layers == expected.layers


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_two_standard_errors_hold_the_truth_for_few_sentences_too(count):
    replicates, key = 400, jax.random.key(count)
    law, ts = rqf.laws.Equiangular(TOKENS, DIM, 0.1), jnp.arange(2.0)
    sde = isotropic(SYMMETRIC, ANTISYMMETRIC)
    runs = rqf.simulate(sde, law, ts, substeps=4, members=replicates * count, key=key)
    pools = np.asarray(runs.ys).reshape(replicates, count, 2, TOKENS, DIM)
    layers = [fit_hidden_states(named(pool), compare=False).layers[0] for pool in pools]
    found = np.array([(layer.symmetric, layer.antisymmetric) for layer in layers])
    errors = np.array([layer.stderr for layer in layers])
    inside = np.mean(np.abs(found - [SYMMETRIC, ANTISYMMETRIC]) < 2 * errors, axis=0)
    # 400 fits know a coverage to 0.011.
    assert np.all((inside > 0.92) & (inside < 0.97)), inside


@pytest.mark.slow
def test_errors_of_ratios_and_jumps_are_those_of_a_bootstrap_over_sentences():
    # Matrix noise of both kinds; in two layers, of which the first is a jump, tokens mix by a
    # matrix of every sentence besides, and so move in their span.
    rng, count, size, mixed = np.random.default_rng(3), 24, (24, 5, 12), (2, 4)
    x = rng.normal(size=size)
    layers = [x / np.linalg.norm(x, axis=-1, keepdims=True)]
    for layer in range(6):
        far = 3.0 if layer == 2 else 1.0
        one, other = rng.normal(size=(2, count, 12, 12))
        noise = one + one.swapaxes(1, 2) + 0.8 * (other - other.swapaxes(1, 2))
        mix = rng.normal(size=(count, 5, 5)) if layer in mixed else np.zeros((count, 5, 5))
        x = layers[-1]
        x = x + far * (0.04 * x @ noise + 0.06 * mix @ x)
        layers.append(x / np.linalg.norm(x, axis=-1, keepdims=True))
    read = sentences(np.stack(layers, 1))

    def numbers(chosen):
        found = fit_hidden_states([read[i] for i in chosen], compare=False).layers
        return [(np.log(one.in_out), one.symmetric, one.antisymmetric) for one in found]

    found = fit_hidden_states(read, compare=False).layers
    assert [layer.jump for layer in found] == [False, False, True, False, False, False]
    again = np.array([numbers(rng.integers(count, size=count)) for _ in range(60)])
    spread = again.std(0, ddof=1) * np.sqrt(count / (count - 1))
    factor = student(count, 0.9545) / 2
    stated = np.array([(one.in_out_error / one.in_out, *one.stderr) for one in found])
    ratios = stated / (factor * spread)
    assert np.all((ratios[:, 0] > 0.7) & (ratios[:, 0] < 1.4)), ratios.tolist()
    plain = np.delete(ratios, mixed, axis=0)
    assert np.all((plain[:, 1] > 0.7) & (plain[:, 1] < 1.4)), ratios.tolist()
    assert np.all((plain[:, 2] > 0.7) & (plain[:, 2] < 1.4)), ratios.tolist()
    # A strength that is hardly there is not known to ± many times the motion of its layer.
    assert np.all([one.stderr[1] < one.symmetric for one in found])


@pytest.mark.parametrize("wrong", [None, 3, "text", [], [1.0], [{"states": 1}]])
def test_what_is_no_sentence_is_named(unchecked, wrong):
    with pytest.raises(ValueError, match="`sentences` must"):
        fit_hidden_states(wrong)


def test_bad_sentences_are_one_clear_error():
    first, second = sentences(states())[:2]
    shorter = Sentence("text", second.tokens, second.states[:4])
    with pytest.raises(ValueError, match="`sentences` must share a number of layers"):
        fit_hidden_states([first, shorter])
    with pytest.raises(ValueError, match="must have two tokens"):
        fit_hidden_states([first.select([0])])


@pytest.mark.slow
def test_a_run_without_states_and_a_wrong_option_are_one_message(tmp_path, capsys):
    ts, law = jnp.asarray([0.0, 0.1]), rqf.laws.Uniform(3, 5)
    whole = rqf.simulate(isotropic(1.0), law, ts, substeps=1, members=2, key=jax.random.key(0))
    rqf.io.save(whole, tmp_path / "whole.zarr", attributes={})
    overlaps = rqf.Trajectories(
        ts, {"overlaps": whole.observe(rqf.observables.overlaps)}, whole.status
    )
    rqf.io.save(overlaps, tmp_path / "overlaps.zarr", attributes={})
    for arguments, words in (
        (["overlaps.zarr"], "did not save its states"),
        (["whole.zarr", "--method", "best"], "Invalid value for '--method'"),
        (["whole.zarr", "--method", "pairs", "--antisymmetric"], "nothing about antisymmetric"),
        (["none.zarr"], "no such"),
    ):
        with pytest.raises(SystemExit) as info:
            main(["fit", str(tmp_path / arguments[0]), *arguments[1:]])
        assert info.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_fitted_from_the_command_line(tmp_path, capsys):
    ts, law = jnp.linspace(0.0, 0.2, 11), rqf.laws.Uniform(3, 5)
    whole = rqf.simulate(isotropic(1.3), law, ts, substeps=4, members=50, key=jax.random.key(0))
    rqf.io.save(whole, tmp_path / "whole.zarr", attributes={})
    for method in ("qmle", "pairs"):
        with pytest.raises(SystemExit) as info:
            main(["fit", str(tmp_path / "whole.zarr"), "--method", method])
        printed, errors = capsys.readouterr()
        assert not info.value.code, errors
        assert "symmetric" in printed and method in printed


@pytest.mark.slow
def test_the_layers_of_a_real_encoder_are_no_diffusion():
    result = fit_hidden_states(rqf.io.example_hidden_states())
    assert not result.fits and not result.sinks
    assert [layer.jump for layer in result.layers] == [False] * 5 + [True]
    # Measured: 10 to 17, and a mean overlap that rises from 0.04 to 0.27 where noise keeps 0.04.
    assert all(layer.null_ratio > 5 for layer in result.layers[:5])
    assert result.layers[4].overlap > 0.2 and abs(result.layers[4].predicted - 0.04) < 0.01
    # Five sentences do not show that tokens move more in their span: once in 100 they do by chance.
    for words in ("a drift", "too few", "fresh in every sentence, which is"):
        assert words in result.verdict
    assert result.rivals is not None and result.rivals.winners[2] == "series 1..3"


@pytest.mark.slow
def test_one_bent_map_for_all_sentences_is_not_taken_for_noise():
    rng, dim = np.random.default_rng(0), 24
    first, second = rng.standard_normal((2, 400, dim))
    start = rng.standard_normal(dim) + rng.standard_normal((12, 1, 8, dim))
    x = [start / np.linalg.norm(start, axis=-1, keepdims=True)]
    for _ in range(11):
        bent = ((x[-1] @ first.T) ** 2 - 1) @ second / np.sqrt(400 * dim)
        moved = x[-1] + 0.2 * bent + 0.02 * rng.standard_normal(bent.shape) / np.sqrt(dim)
        x.append(moved / np.linalg.norm(moved, axis=-1, keepdims=True))
    x = np.concatenate(x, axis=1)
    result = fit_hidden_states(named(x))
    assert "a nonlinear map that all sentences share" in result.verdict
    assert set(result.rivals.winners) == {"series 1..3"}


@pytest.mark.slow
def test_common_noise_on_the_same_embeddings_is_taken_for_noise():
    """The control of the real encoder: its sentences, moved by one draw of matrices for all."""
    states = rqf.io.example_hidden_states()
    counts = np.cumsum([len(sentence.tokens) for sentence in states])[:-1]
    start = np.concatenate([sentence.unit(0) for sentence in states])
    runs = rqf.simulate(
        isotropic(0.033, 0.021),
        rqf.laws.Fixed(jnp.asarray(start, jnp.float32)),
        jnp.arange(7.0),
        substeps=4,
        members=2,
        key=jax.random.key(0),
    )
    for draw in np.asarray(runs.ys):
        parts = np.split(draw, counts, axis=1)
        moved = [Sentence(s.text, s.tokens, x) for s, x in zip(states, parts, strict=True)]
        result = fit_hidden_states(moved)
        assert not result.sinks and not any(layer.jump for layer in result.layers)
        assert result.objections == ("6 layers are too few to call them a diffusion.",)
        for layer in result.layers:
            assert abs(layer.symmetric / 0.033 - 1) < layer.coarseness
            # Antisymmetric noise moves what commutators would: 1 + 8 σ_a²/((n+2) σ_s⁴).
            free = 1 + 8 * 0.021**2 / (386 * 0.033**4)
            # A squared strength has the error of a coarse step, and the ratio three of them.
            assert abs(layer.null_ratio / free - 1) < 3 * layer.coarseness
