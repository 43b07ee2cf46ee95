"""Untrained networks of `transformers` against theory that reads their configuration.

`make networks` runs these tests, with the extra `models`; without it they are skipped. The networks
are narrow and few here, so that tolerances have the standard errors of their means; networks of
usual widths, with more seeds, are in `benchmarks/untrained.json`, and
`tests/theory/test_theory_initialisation.py` holds them to the tolerances alone.
"""

import functools
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from rqf_jax.theory import initialisation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import untrained

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
DIM, LAYERS, TOKENS, SEEDS, NETWORKS = 256, 12, 64, 6, 24


@functools.cache
def measured(name, layers=LAYERS, seeds=SEEDS):
    return untrained.measured(name, DIM, layers, TOKENS, seeds)


@functools.cache
def own_width(name):
    """Mean and standard deviation of the norms of networks of theory that are as wide."""
    model = untrained.architecture(name, DIM, LAYERS)
    norms = initialisation.scatter(model, tokens=TOKENS, seeds=NETWORKS)[1]
    return norms.mean(0), norms.std(0, ddof=1)


def close(values, theory):
    """The tolerance of a limit of wide layers: 3 standard errors, and .015 for the width."""
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    return np.abs(values.mean(0) - theory) < 3 * error + 0.015


@pytest.mark.parametrize("name", untrained.FAMILIES)
def test_a_network_is_predicted_from_its_configuration(name):
    cosines, norms = measured(name)
    theory = initialisation.gram(untrained.architecture(name, DIM, LAYERS), tokens=TOKENS)
    blocks = [1, LAYERS // 2, LAYERS]
    assert np.all(close(cosines[:, blocks], theory.mean_cosine[blocks]))
    # Six seeds do not know their spread, which is 4 % of a norm of Llama. Theory does, and leaves
    # out the ε of norms, 1 % of the variance of GPT-2's first tokens.
    mean, spread = own_width(name)
    error = spread * math.sqrt(1 / SEEDS + 1 / NETWORKS)
    assert np.all(np.abs(norms.mean(0) - mean) < 3 * error + 0.01 * mean)


def test_squared_norms_of_gemma_grow_by_two_a_block():
    made = untrained.config("Gemma 2", DIM, LAYERS)
    start = made.initializer_range**2 * DIM
    squares, theory = measured("Gemma 2")[1] ** 2, start + 2 * np.arange(LAYERS + 1)
    mean, spread = own_width("Gemma 2")
    error = 2 * mean * spread / math.sqrt(SEEDS)
    assert np.all(np.abs(squares.mean(0) - theory) < 3 * error + 0.02 * theory)


def test_cosines_of_bert_begin_at_one_third():
    first = measured("BERT")[0][:, 0]
    assert abs(first.mean() - 1 / 3) < 3 * first.std(ddof=1) / math.sqrt(len(first))


def test_the_depth_of_gpt2_hardly_matters():
    last = [measured("GPT-2", layers)[0][:, -1] for layers in (LAYERS, 2 * LAYERS)]
    error = math.hypot(*(x.std(ddof=1) for x in last)) / math.sqrt(SEEDS)
    assert abs(last[0].mean() - last[1].mean()) < 3 * error + 0.03
    wide = untrained.measured("GPT-2", 2 * DIM, LAYERS, TOKENS, 3)[0][:, -1]
    assert wide.mean() > last[0].mean() + 0.1


def test_parallel_blocks_synchronise_far_less():
    parallel, sequential = (
        measured(name)[0][:, -1].mean() for name in ("GPT-NeoX", "GPT-NeoX, sequential")
    )
    assert parallel < sequential - 0.25


def test_entropies_of_attention_fall_short_by_the_variance_of_scores():
    made = untrained.config("GPT-2", 768, 6)
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config(made, attn_implementation="eager").eval()
    with torch.no_grad():
        weights = network(torch.randperm(made.vocab_size)[None, :128], output_attentions=True)
    entropies = [-(p * p.clamp_min(1e-30).log()).sum(-1).mean((0, 1)) for p in weights.attentions]
    deficits = np.log(np.arange(1.0, 129)) - np.array([e.numpy() for e in entropies])
    late = deficits[:, 32:].mean(1)
    model = initialisation.from_config(made.to_dict())
    theory = initialisation.gram(model, tokens=128, draws=0).deficits[:, 32:].mean(1)
    np.testing.assert_allclose(late, theory, rtol=0.1)


@pytest.mark.parametrize("name", untrained.FAMILIES)
def test_weights_begin_with_the_deviations_that_the_theory_has(name):
    made = untrained.config(name, DIM, 8)
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config(made)
    assert type(made)().initializer_range == 0.02
    for key, weight in network.named_parameters():
        if weight.ndim == 2:
            scaled = name == "GPT-2" and key.endswith("c_proj.weight")
            expected = 0.02 / math.sqrt(2 * 8) if scaled else 0.02
            # Of n normal numbers; the embedding has one row of zeros where a token is padding.
            error = 1 / math.sqrt(2 * weight.numel()) + 1 / untrained.VOCABULARY
            assert abs(weight.std().item() / expected - 1) < 5 * error, key
        elif not key.endswith("bias"):
            assert weight.std().item() == 0, key
        else:
            assert not weight.any(), key


@pytest.mark.parametrize("name", untrained.FAMILIES)
def test_fields_that_a_file_leaves_out_are_those_of_the_family(name, tmp_path):
    made = untrained.config(name, DIM, 3)
    full = initialisation.from_config(made.to_dict())
    made.save_pretrained(tmp_path)
    assert initialisation.from_config(tmp_path) == full
    kind = type(made)
    own = kind().to_dict()
    # The sizes alone: `kind` fills the rest in, and so must `from_config`.
    sizes = {key: value for key, value in made.to_dict().items() if own.get(key) != value}
    sizes |= {key: made.to_dict()[key] for key in own if key in NEEDED}
    assert initialisation.from_config(sizes) == initialisation.from_config(kind(**sizes).to_dict())


NEEDED = {"model_type", "n_embd", "n_layer", "n_head", "hidden_size", "num_hidden_layers",
          "num_attention_heads", "intermediate_size", "head_dim"}  # fmt: skip
