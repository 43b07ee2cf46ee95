"""Hidden states from a folder: those that the model's own parts compute, or one clear error."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rqf_jax as rqf

SCRIPTS = Path(__file__).parents[2] / "scripts"
TEXTS = ("a fox jumps over a dog", "noise moves a token", "a dog moves over a fox")


@pytest.fixture
def extract(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import extract_hidden_states

    return extract_hidden_states


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8-sig")
    return file


@pytest.fixture(params=["bert", "gpt2"])
def folder(request, tmp_path):
    """A small model with random weights and a tokenizer of whole words, as transformers saves."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[UNK]", "[PAD]", *sorted({word for text in TEXTS for word in text.split()})]
    whole = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    whole.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=whole, unk_token="[UNK]", pad_token="[PAD]"
    )
    torch.manual_seed(0)
    if request.param == "bert":
        config = transformers.BertConfig(
            vocab_size=len(words),
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=9,
        )
        model = transformers.BertModel(config)
    else:
        config = transformers.GPT2Config(
            vocab_size=len(words),
            n_embd=24,
            n_layer=3,
            n_head=2,
            n_positions=9,
            bos_token_id=None,
            eos_token_id=None,
        )
        model = transformers.GPT2Model(config)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def embedded(folder, tokens):
    """Layer 0 by hand: words and positions, for BERT also kinds and a normalisation."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    if "wte.weight" in weights:
        return weights["wte.weight"][ids] + weights["wpe.weight"][: len(ids)]
    name = "embeddings.{}_embeddings.weight".format
    x = weights[name("word")][ids] + weights[name("position")][: len(ids)]
    x = x + weights[name("token_type")][0]
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)


def test_layers_follow_from_each_other_and_the_file_can_be_fitted(
    extract, folder, texts, tmp_path, capsys
):
    import torch
    import transformers

    out = tmp_path / "states.npz"
    extract.main([str(folder), str(out), "--sentences", str(texts)])
    assert "3 sentences, 16 tokens, 4 layers, dimension 24" in capsys.readouterr().out
    found = rqf.io.read_hidden_states(out)
    assert [s.text for s in found] == list(TEXTS)
    assert [" ".join(s.tokens) for s in found] == list(TEXTS)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
    for sentence in found:
        states = torch.tensor(sentence.states)
        np.testing.assert_allclose(states[0], embedded(folder, sentence.tokens), atol=1e-5)
        # The next layer of a transformer is its block on this one, without the final norm.
        blocks = model.h if hasattr(model, "h") else model.encoder.layer
        causal = torch.full((1, 1, len(states[0]), len(states[0])), -1e9).triu(1)
        mask = {"attention_mask": causal} if hasattr(model, "h") else {}
        for layer, block in enumerate(blocks):
            with torch.inference_mode():
                after = block(states[layer][None], **mask)
                after = after[0] if isinstance(after, tuple) else after
            np.testing.assert_allclose(states[layer + 1], after[0], atol=1e-5)
    assert len(rqf.inference.fit_hidden_states(found).layers) == 3


def test_a_wrong_folder_or_sentence_is_one_message_and_leaves_no_file(
    extract, folder, texts, tmp_path, capsys
):
    out = tmp_path / "states.npz"
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(SystemExit) as info:
        extract.main([str(folder), str(out), "--sentences", str(texts)])
    assert info.value.code == 2 and "cannot read it" in capsys.readouterr().err
    assert not out.exists() and not list(tmp_path.glob(".*.npz"))


def test_a_sentence_that_is_too_long_is_named(extract, folder, tmp_path, capsys):
    long = tmp_path / "long.txt"
    long.write_text("a dog\n" + "fox " * 12, encoding="utf-8")
    with pytest.raises(SystemExit) as info:
        extract.main([str(folder), str(tmp_path / "o.npz"), "--sentences", str(long)])
    assert info.value.code == 2
    assert "sentence 1 must have 1 to 9 tokens; got 12" in capsys.readouterr().err


def test_arguments_are_checked_before_anything_is_imported(extract, texts, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "wide.txt").write_text("a dog", encoding="utf-16")
    here = str(tmp_path)
    for arguments, words in (
        ([f"{here}/none", f"{here}/o.npz"], "none: no such folder"),
        ([f"{here}/empty", f"{here}/o.npz"], "has no config.json"),
        ([f"{here}/empty", f"{here}/o.txt"], "OUT must end in .npz"),
        ([f"{here}/empty", f"{here}/no/o.npz"], "in a folder that exists"),
        ([f"{here}/empty", f"{here}/o.npz", "--sentences", f"{here}/no.txt"], "no such file"),
        ([f"{here}/empty", f"{here}/o.npz", "--sentences", f"{here}/blank.txt"], "it has none"),
        ([f"{here}/empty", f"{here}/o.npz", "--sentences", f"{here}/wide.txt"], "must be UTF-8"),
    ):
        with pytest.raises(SystemExit) as info:
            extract.main(arguments)
        assert info.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.slow
def test_without_the_extra_the_message_names_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    program = (
        "import sys; sys.modules['transformers'] = None; sys.path.insert(0, sys.argv.pop(1));"
        "import extract_hidden_states as e; e.main(sys.argv[1:])"
    )
    line = [sys.executable, "-c", program, str(SCRIPTS), str(tmp_path), str(tmp_path / "o.npz")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "pip install 'rqf_jax[models]'" in done.stderr
