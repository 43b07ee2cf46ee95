"""Hidden states of a language model in a folder on this machine, for `rqf-jax explain`.

    python scripts/extract_hidden_states.py MODEL OUT.npz [--sentences FILE]

MODEL is a folder with a configuration, weights and a tokenizer, as transformers saves them; nothing
is downloaded, and no code in the folder is run. FILE has one sentence a line; without it, the five
sentences that come with rqf_jax. Needs the extra `models` (torch and transformers).

Each sentence has a forward pass of its own, without padding, in float32 on the CPU. Layer 0 is the
output of the embedding, then come the outputs of the blocks. Most decoders give their last state
behind the final normalisation; here it is what went into that. `rqf_jax.io.read_hidden_states` says
what the file holds; here it also has `model`, the kind of the model and the name of the folder.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import rqf_jax as rqf


class ExtractError(ValueError):
    """What is wrong with an argument, the folder or the installation, in one sentence."""


def load(folder: Path):
    """The model and the tokenizer in `folder`, from there alone."""
    if not folder.is_dir():
        raise ExtractError(f"{folder}: no such folder.")
    if not (folder / "config.json").is_file():
        raise ExtractError(f"{folder}: holds no model; it has no config.json.")
    # Read when transformers is imported; a hub is never asked.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModel, AutoTokenizer
    except ImportError as error:
        raise ExtractError(
            f"needs the extra `models`, pip install 'rqf_jax[models]' ({error})."
        ) from error
    try:
        if AutoConfig.from_pretrained(folder, local_files_only=True).is_encoder_decoder:
            raise ExtractError(f"{folder}: must be an encoder or a decoder; got both in one.")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        if isinstance(error, ExtractError):
            raise
        raise ExtractError(f"{folder}: transformers cannot read it ({error}).") from error
    return model.eval(), tokenizer


FINAL_NORMS = ("ln_f", "final_layer_norm", "final_layernorm", "norm")


def before_final_norm(model) -> list:
    """A list that will hold what last went into the model's final norm; empty without one."""
    seen = []
    norm = next((getattr(model, name) for name in FINAL_NORMS if hasattr(model, name)), None)
    if norm is not None:

        def keep(module, inputs):
            seen[:] = inputs[:1]

        norm.register_forward_pre_hook(keep)
    return seen


def hidden_states(model, tokenizer, texts: list[str]) -> Iterator[tuple[list[str], np.ndarray]]:
    """Tokens and states (layers, tokens, dim) of every text."""
    import torch

    last = before_final_norm(model)
    longest = getattr(model.config, "max_position_embeddings", None)
    for number, text in enumerate(texts):
        inputs = tokenizer(text, return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        if not ids or (longest is not None and len(ids) > longest):
            raise ExtractError(
                f"sentence {number} must have 1 to {longest} tokens; got {len(ids)}: {text[:40]!r}."
            )
        with torch.inference_mode():
            states = model(**inputs, output_hidden_states=True).hidden_states
        if last:
            states = (*states[:-1], last[0])
        yield tokenizer.convert_ids_to_tokens(ids), torch.cat(states).numpy()


def write(out: Path, model, tokenizer, texts: list[str], name: str) -> rqf.io.HiddenStates:
    """The file `out`, which appears only when it is complete and can be read."""
    arrays = {
        "sentences": np.array(texts),
        "model": np.array([model.config.model_type, name]),
    }
    for i, (tokens, states) in enumerate(hidden_states(model, tokenizer, texts)):
        arrays |= {f"tokens_{i:02d}": np.array(tokens), f"hidden_{i:02d}": states}
    partial = out.with_name(f".{out.name}.npz")
    try:
        np.savez_compressed(partial, **arrays)
        rqf.io.read_hidden_states(partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return rqf.io.read_hidden_states(out)


def sentences(path: Path | None) -> list[str]:
    """The lines of a file that are not blank, or the five of the package."""
    if path is None:
        return [sentence.text for sentence in rqf.io.example_hidden_states()]
    if not path.is_file():
        raise ExtractError(f"{path}: no such file.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExtractError(
            f"{path}: must be UTF-8 text, with or without a byte-order mark; got other bytes from "
            f"byte {error.start} on. Save the file as UTF-8."
        ) from error
    texts = [line.strip() for line in text.splitlines()]
    texts = [text for text in texts if text]
    if not texts:
        raise ExtractError(f"{path}: must have at least one sentence, one a line; it has none.")
    return texts


def main(arguments: list[str] | None = None) -> None:
    """Write the file, and say what is in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", metavar="MODEL", type=Path, help="a folder; nothing is downloaded")
    parser.add_argument("out", metavar="OUT", type=Path, help="the file to write, .npz")
    parser.add_argument(
        "--sentences", metavar="FILE", type=Path, help="a text, one sentence a line"
    )
    given = parser.parse_args(arguments)
    try:
        if given.out.suffix != ".npz" or not given.out.parent.is_dir():
            raise ExtractError(f"OUT must end in .npz, in a folder that exists; got {given.out}.")
        texts = sentences(given.sentences)
        model, tokenizer = load(given.model)
        found = write(given.out, model, tokenizer, texts, given.model.resolve().name)
    except (ExtractError, rqf.io.DataFileError, OSError) as error:
        print(f"extract_hidden_states: {error}", file=sys.stderr)
        sys.exit(2)
    layers, _, dim = found[0].states.shape
    tokens = sum(len(sentence.tokens) for sentence in found)
    print(f"{given.out}: {len(found)} sentences, {tokens} tokens, {layers} layers, dimension {dim}")
    print(f"next: rqf-jax explain {given.out}")


if __name__ == "__main__":
    main()
