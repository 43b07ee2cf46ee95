"""Untrained transformers: the recursion against measured models, closed forms, config files."""

import dataclasses
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from rqf_jax.theory import initialisation
from rqf_jax.theory._activation import ACTIVATIONS, coefficients, covariance

gpt2, neox, pythia = initialisation.gpt2, initialisation.neox, initialisation.pythia
llama, bert, gemma2 = initialisation.llama, initialisation.bert, initialisation.gemma2

# Mean cosines and norms over all pairs of random tokens after every block of randomly initialised
# models of Hugging Face's transformers: mean over seeds, and standard deviation between them.
# `python benchmarks/untrained.py --record` measures them.
RECORD = Path(__file__).parents[2] / "benchmarks" / "untrained.json"
MEASURED = {
    (row["family"], row["dim"], row["layers"]): row
    for row in json.loads(RECORD.read_text(encoding="utf-8"))["networks"]
}
FAMILIES = {
    "GPT-2": gpt2,
    "GPT-NeoX": neox,
    "GPT-NeoX, sequential": partial(neox, parallel=False),
    "Pythia": pythia,
    "Llama": llama,
    "Llama, keys in pairs": llama,
    "BERT": bert,
    "Gemma 2": gemma2,
}


def architecture(family, dim, layers):
    heads = dim // 64
    sizes = {"dim": dim, "layers": layers, "heads": heads}
    if family.startswith(("Llama", "Gemma")):
        sizes["inner"] = 11 * dim // 4
    if family in ("Llama, keys in pairs", "Gemma 2"):
        sizes["key_heads"] = heads // 2
    if family == "Gemma 2":
        sizes |= {"head_dim": 64, "query_scale": 256}
    return FAMILIES[family](**sizes)


@pytest.mark.parametrize(
    "network",
    [pytest.param(n, marks=pytest.mark.slow if n[1] > 768 else ()) for n in MEASURED],
    ids=lambda n: f"{n[0]}-{n[1]}-{n[2]}",
)
def test_cosines_and_norms_are_those_of_random_models(network):
    row = MEASURED[network]
    assert row["seeds"] >= 6
    found = initialisation.gram(architecture(*network), tokens=row["tokens"], draws=2)
    error = np.array(row["cosine_spread"]) / math.sqrt(row["seeds"])
    assert np.all(np.abs(found.mean_cosine - row["cosine"]) < 3 * error + 0.015)
    # The norms of Llama's narrow blocks scatter most, and so do their means.
    allowed = 0.05 if network[:2] == ("Llama", 256) else 0.02
    assert found.norms[-1].mean() == pytest.approx(row["norm"][-1], rel=allowed)


def test_measured_depth_matters_as_little_as_it_should_and_width_does():
    # Twice the depth adds .032 in theory, where weights are scaled by it; a third of the width
    # takes off .29.
    sizes = [("GPT-2", 768, 12), ("GPT-2", 768, 24), ("GPT-2", 256, 12)]
    found = np.array([MEASURED[size]["cosine"][-1] for size in sizes])
    theory = [initialisation.gram(architecture(*size)).mean_cosine[-1] for size in sizes]
    np.testing.assert_allclose(np.diff(found), np.diff(theory), atol=0.03)
    assert 0 < found[1] - found[0] < 0.2 * (found[0] - found[2])


def test_measured_parallel_blocks_synchronise_far_less():
    for family, cosine in (("GPT-NeoX", 0.465), ("GPT-NeoX, sequential", 0.778)):
        assert MEASURED[family, 768, 12]["cosine"][-1] == pytest.approx(cosine, abs=0.03)


def test_measured_squared_norms_of_gemma_grow_by_two_a_block():
    for dim in (256, 768):
        squares = np.square(MEASURED["Gemma 2", dim, 12]["norm"])
        grown = 0.02**2 * dim + 2 * np.arange(13)
        np.testing.assert_allclose(squares, grown, rtol=0.02)


def test_measured_cosines_of_bert_begin_at_one_third():
    for dim in (256, 768):
        row = MEASURED["BERT", dim, 12]
        error = row["cosine_spread"][0] / math.sqrt(row["seeds"])
        assert abs(row["cosine"][0] - 1 / 3) < 3 * error


@pytest.mark.parametrize(
    "architecture, cosines, rms",
    [
        (gpt2(dim=768, layers=12, heads=12), (0.171, 0.473, 0.570), 0.2996),
        (neox(dim=768, layers=12, heads=12), (0.122, 0.361, 0.465), 1.417),
        (neox(dim=768, layers=12, heads=12, parallel=False), (0.551, 0.736, 0.778), 1.537),
        (pythia(dim=512, layers=6, heads=8), (0.136, 0.277, 0.380), 0.685),
        (llama(dim=768, layers=12, heads=12, inner=2112), (0.359, 0.741, 0.795), 1.031),
        (bert(dim=768, layers=12, heads=12), (0.358, 0.481, 0.619), 1.0),
        (gemma2(dim=768, layers=12, heads=12, inner=2112), (0.375, 0.538, 0.572), 4.930),
    ],
)
def test_the_recursion_gives_its_published_numbers(architecture, cosines, rms):
    found = initialisation.gram(architecture)
    blocks = found.mean_cosine[[1, architecture.layers // 2, -1]]
    np.testing.assert_allclose(blocks, cosines, atol=2e-3)
    assert found.norms[-1].mean() == pytest.approx(rms, rel=1e-3)


NARROW = [
    ("Pythia", 512, 6),
    *(
        pytest.param((family, 256, 12), marks=pytest.mark.slow)
        for family in ("GPT-2", "Llama", "BERT", "Gemma 2")
    ),
]


@pytest.mark.parametrize("network", NARROW, ids=lambda n: f"{n[0]}-{n[1]}-{n[2]}")
def test_networks_of_the_same_width_scatter_around_the_recursion_as_random_models_do(network):
    row, seeds = MEASURED[network], 12
    wide = initialisation.gram(architecture(*network), draws=1)
    found, norms = initialisation.scatter(architecture(*network), seeds=seeds)
    error = found.std(0, ddof=1) / np.sqrt(seeds)
    assert np.all(np.abs(found.mean(0) - wide.mean_cosine) < 4 * error + 0.025)
    np.testing.assert_allclose(norms.mean(0), wide.norms.mean(1), rtol=0.03)
    # A standard deviation of S numbers is known to 1/√2(S-1).
    error = math.hypot(*(1 / math.sqrt(2 * (s - 1)) for s in (seeds, row["seeds"])))
    assert abs(math.log(found[:, -1].std(ddof=1) / row["cosine_spread"][-1])) < 4 * error


@pytest.mark.parametrize(
    "key_heads", [2, *(pytest.param(heads, marks=pytest.mark.slow) for heads in (1, 8))]
)
def test_heads_that_share_values_scatter_more_and_mean_the_same(key_heads):
    """Of one direction, r² = v_A (χ²_m/m)(χ²_d/d) after attention: m = key_heads · head_dim."""
    dim, seeds = 40, 600
    model = llama(dim=dim, layers=1, heads=8, head_dim=3, inner=2, key_heads=key_heads)
    model = dataclasses.replace(model, mlp_variance=1e-24)
    _, norms = initialisation.scatter(model, 1e-20 * np.ones((2, 2)), seeds=seeds)
    squares = norms[:, 1] ** 2 / model.attention_variance
    variance = (1 + 2 / (3 * key_heads)) * (1 + 2 / dim) - 1
    assert abs(squares.mean() - 1) < 5 * np.sqrt(variance / seeds)
    # The error of a variance, from the fourth moment of the draws.
    errors = np.std((squares - 1) ** 2) / np.sqrt(seeds)
    assert abs(np.mean((squares - 1) ** 2) - variance) < 5 * errors
    alike = initialisation.gram(dataclasses.replace(model, key_heads=8), tokens=6)
    np.testing.assert_array_equal(initialisation.gram(model, tokens=6).grams, alike.grams)


def test_depth_hardly_matters_where_it_scales_the_weights_and_width_does():
    def last(dim, layers):
        model = gpt2(dim=dim, layers=layers, heads=dim // 64)
        return initialisation.gram(model, draws=0).mean_cosine[-1]

    found = [last(768, layers) for layers in (6, 12, 24, 48, 96)]
    np.testing.assert_allclose(found, [0.541, 0.574, 0.604, 0.628, 0.643], atol=1e-3)
    assert last(256, 12) == pytest.approx(0.28, abs=0.01)


def test_parallel_blocks_synchronise_far_less():
    both = [
        initialisation.gram(neox(dim=768, layers=12, heads=12, parallel=p)).mean_cosine[-1]
        for p in (True, False)
    ]
    np.testing.assert_allclose(both, [0.465, 0.778], atol=0.03)


def test_squared_norms_of_gemma_grow_by_two_a_block():
    found = initialisation.gram(gemma2(dim=320, layers=7, heads=5, inner=500), tokens=9)
    grown = 0.02**2 * 320 + 2 * np.arange(8)
    np.testing.assert_allclose(found.norms**2, grown[:, None] * np.ones(9), rtol=1e-12)


def test_bert_begins_at_one_third_and_keeps_unit_norms():
    found = initialisation.gram(bert(dim=128, layers=3, heads=2), tokens=10)
    assert found.mean_cosine[0] == pytest.approx(1 / 3, rel=1e-12)
    np.testing.assert_allclose(found.norms, 1, rtol=1e-12)
    np.testing.assert_array_equal(found.seen, 10)


def test_entropies_of_attention_fall_short_by_the_variance_of_scores():
    model = gpt2(dim=768, layers=6, heads=12)
    first = initialisation.gram(model, tokens=128, draws=0)
    late = first.deficits[:, 32:].mean(1)[[0, 1, 3, 5]]
    np.testing.assert_allclose(late, [0.0465, 0.0362, 0.0269, 0.0231], atol=6e-5)
    # Measured in one randomly initialised model, and drawn here with its head size.
    np.testing.assert_allclose(late, [0.0451, 0.0372, 0.0280, 0.0253], rtol=0.1)
    drawn = initialisation.gram(model, tokens=128, draws=2).deficits[:, 32:].mean(1)[[0, 1, 3, 5]]
    np.testing.assert_allclose(drawn, late, rtol=0.05)
    np.testing.assert_allclose(first.entropy[:, 0], 0, atol=1e-15)  # it sees itself only
    z = first.cosines[2]
    prefix = [z[:k, :k].mean() for k in range(1, 129)]
    expected = initialisation.uniform_deficit(prefix, model.score_variance)
    np.testing.assert_allclose(first.deficits[2], expected, rtol=1e-12, atol=1e-15)


def test_the_first_block_of_attention_remembers_its_first_tokens():
    model = gpt2(dim=768, layers=1, heads=12)
    k, v = model.own, model.attention_variance
    start = model.embedding(16)
    mask = np.tril(np.ones((16, 16)))
    p = mask / mask.sum(1, keepdims=True)
    grown = start + v * p @ p.T
    for i, j in ((1, 2), (3, 16), (5, 5)):
        exact = grown[i - 1, j - 1] / np.sqrt(grown[i - 1, i - 1] * grown[j - 1, j - 1])
        found = initialisation.first_block_cosine(i, j, start=k, attention=v)
        assert found == pytest.approx(exact, rel=1e-12)
    far = initialisation.first_block_cosine(4, 9, start=1e-12, attention=1.0)
    assert far == pytest.approx(2 / 3, rel=1e-9)
    profile = initialisation.gram(model, tokens=16, draws=0).profile[1]
    assert np.all(np.diff(profile) < 0)


def test_consensus_is_approached_at_its_exponent():
    model = gpt2(dim=768, layers=12, heads=12)
    g = initialisation.consensus_exponent(model)
    assert g == pytest.approx(0.379, abs=5e-4)
    assert model.attention_variance == pytest.approx(0.003932, abs=5e-7)
    series = coefficients(model.activation, model.input_variance)
    assert model.mlp_variance * series.sum() == pytest.approx(0.005451, abs=5e-7)
    with pytest.raises(ValueError, match="`architecture` must keep its norm"):
        initialisation.consensus_exponent(bert(dim=8, layers=1, heads=1))


@pytest.mark.parametrize(
    "name, variance, at_zero, slope", [("gelu_new", 0.1024, 0.051, 1.042),
                                       ("gelu_new", 0.3072, 0.108, 1.069),
                                       ("gelu_new", 0.64, 0.157, 1.075)],
)  # fmt: skip
def test_gelu_is_on_the_chaotic_side(name, variance, at_zero, slope):
    series = coefficients(name, variance)
    assert series[0] / series.sum() == pytest.approx(at_zero, abs=6e-4)
    assert np.arange(len(series)) @ series / series.sum() == pytest.approx(slope, abs=6e-4)
    # E φ(ξ)φ(η) by an integral over the plane.
    x, w = np.polynomial.hermite_e.hermegauss(80)
    z, act = 0.6, ACTIVATIONS[name]
    one = np.sqrt(variance) * x[:, None]
    other = np.sqrt(variance) * (z * x[:, None] + math.sqrt(1 - z * z) * x)
    exact = np.sum(w[:, None] * w * act(one) * act(other)) / w.sum() ** 2
    assert covariance(series, z) == pytest.approx(exact, rel=1e-9)


# ---- config files

CONFIGS = {
    "gpt2": ({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None,
              "initializer_range": 0.02, "activation_function": "gelu_new", "vocab_size": 50257,
              "n_positions": 1024, "resid_pdrop": 0.1, "summary_type": "cls_index",
              "scale_attn_weights": True, "architectures": ["GPT2LMHeadModel"]},
             gpt2(dim=768, layers=12, heads=12)),
    "neox": ({"model_type": "gpt_neox", "hidden_size": 512, "num_hidden_layers": 6,
              "num_attention_heads": 8, "intermediate_size": 2048, "initializer_range": 0.02,
              "rotary_pct": 0.25, "rotary_emb_base": 10000, "use_parallel_residual": False,
              "hidden_act": "gelu", "attention_dropout": 0.0, "bos_token_id": 0},
             neox(dim=512, layers=6, heads=8, parallel=False)),
    "llama": ({"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4,
               "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 700,
               "initializer_range": 0.02, "hidden_act": "silu", "rms_norm_eps": 1e-6,
               "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
              llama(dim=256, layers=4, heads=8, key_heads=2, inner=700, rotary_base=5e5)),
    "bert": ({"model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 2, "intermediate_size": 512, "initializer_range": 0.02,
              "hidden_act": "gelu", "position_embedding_type": "absolute", "pad_token_id": 0},
             bert(dim=128, layers=2, heads=2)),
    "gemma2": ({"model_type": "gemma2", "hidden_size": 256, "num_hidden_layers": 3,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
                "intermediate_size": 704, "initializer_range": 0.02, "query_pre_attn_scalar": 64,
                "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4096,
                "attn_logit_softcapping": 50.0, "rope_theta": 10000.0},
               gemma2(dim=256, layers=3, heads=4, key_heads=2, head_dim=32, inner=704,
                      query_scale=64, window=4096)),
}  # fmt: skip


USUAL = ("initializer_range", "sliding_window")  # 0.02 and 4096, as in the families' own code


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_file_is_its_constructor(name, tmp_path):
    config, expected = CONFIGS[name]
    path = tmp_path / "config.json"
    path.write_text("\ufeff" + json.dumps(config), encoding="utf-8")
    assert initialisation.from_config(path) == expected
    assert initialisation.from_config(str(tmp_path)) == expected
    assert initialisation.from_config(config) == expected
    usual = {name: value for name, value in config.items() if name not in USUAL}
    assert initialisation.from_config(usual) == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "t5"}, "model_type of gpt2, gpt_neox, llama, bert, gemma2; got 't5'"),
        ({"n_layer": None}, "must hold n_layer for gpt2"),
        ({"n_head": None, "n_embd": None}, "must hold n_embd, n_head for gpt2"),
        ({"secret_gate": 3}, "must not hold secret_gate = 3 for gpt2: a field that is not known"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ({"activation_function": "sine"}, "`activation` must be one of gelu"),
        ({"n_head": 7}, "`heads` must divide `dim` = 768; got 7"),
        ({"n_embd": "wide"}, "`dim` must be an integer; got 'wide'"),
        ({"initializer_range": -1.0}, "`init` must be finite and positive"),
        ({"layer_norm_epsilon": 1e-4}, "layer_norm_epsilon between 0 and 5% of the mean squares"),
        ({"layer_norm_epsilon": "small"}, "must have a number as layer_norm_epsilon; got 'small'"),
    ],
)
def test_a_config_that_is_not_understood_is_refused(change, message, unchecked):
    with pytest.raises(ValueError) as error:
        initialisation.from_config(CONFIGS["gpt2"][0] | change)
    assert message in str(error.value)


def test_fields_of_usual_files_that_change_nothing_are_passed_over():
    for family, more in {
        "gpt2": {"output_past": True, "_num_labels": 1, "layer_norm_epsilon": 1e-5},
        "llama": {"is_llama_config": True, "rope_interleaved": False, "rms_norm_eps": 1e-5},
        "gemma2": {"rms_norm_eps": 1e-6, "layer_types": ["sliding_attention", "full_attention"]},
    }.items():
        config, expected = CONFIGS[family]
        assert initialisation.from_config(config | more) == expected
    # Where no layer is local there is no window.
    whole = initialisation.from_config(CONFIGS["gemma2"][0] | {"layer_types": ["full_attention"]})
    assert whole == dataclasses.replace(CONFIGS["gemma2"][1], window=None)


def test_an_epsilon_that_is_not_small_beside_what_is_normalised_is_refused(unchecked):
    small = {"initializer_range": 0.002}
    with pytest.raises(ValueError, match=r"rms_norm_eps .* the least is 4e-06, .* got 1e-06"):
        initialisation.from_config(CONFIGS["llama"][0] | small)
    # Of Peri-LN outputs are normalised too, and those of its MLP are the smallest.
    with pytest.raises(ValueError, match=r"the least is .*e-10"):
        initialisation.from_config(CONFIGS["gemma2"][0] | small | {"rms_norm_eps": 1e-6})
    assert initialisation.from_config(CONFIGS["llama"][0] | small | {"rms_norm_eps": 0})


def test_a_file_that_is_no_config_is_named(tmp_path, unchecked):
    path = tmp_path / "config.json"
    texts = ("{", "a file of JSON"), ("[1]", "a JSON object"), ("[" * 10**5, "of JSON")
    for text, rule in (*texts, ('{"n_embd": 1' + "0" * 5000 + "}", "a file of JSON")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"`config` must be {rule}|`config` must be a file"):
            initialisation.from_config(path)
    with pytest.raises(ValueError, match="`config` must be a file"):
        initialisation.from_config(tmp_path / "none.json")
    scaled = CONFIGS["llama"][0] | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    scaled.pop("rope_parameters")
    with pytest.raises(ValueError, match="rotary positions of type default"):
        initialisation.from_config(scaled)
    with pytest.raises(ValueError, match="`config` must have an object of rotary positions"):
        initialisation.from_config(scaled | {"rope_scaling": "linear"})
    for wrong, rule in (({1: 2}, "have names for keys"), ("a\0b", "be a file of JSON")):
        with pytest.raises(ValueError, match=f"`config` must {rule}"):
            initialisation.from_config(wrong)


def test_wrong_starts_and_windows_are_named(unchecked):
    model = gpt2(dim=8, layers=1, heads=1)
    for start, rule in (
        (np.ones((2, 3)), "be a square matrix"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "be positive semidefinite"),
        (np.array([[1.0, 0.5], [0.1, 1.0]]), "be symmetric"),
        (np.diag([1.0, 0.0]), "have a positive diagonal"),
    ):
        with pytest.raises(ValueError, match=f"`start` must {rule}"):
            initialisation.gram(model, start)
    local = gemma2(dim=8, layers=1, heads=1, inner=8, window=4)
    with pytest.raises(ValueError, match="`tokens` must be at most 4"):
        initialisation.gram(local, tokens=5)
    with pytest.raises(ValueError, match="`architecture` must be"):
        initialisation.gram("gpt2")
