"""Architectures from the `config.json` of a Hugging Face model.

`theory.initialisation` offers `from_config`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._arguments import shown
from ._activation import coefficients
from ._architectures import Architecture, bert, gemma2, gpt2, llama, neox
from ._contract import finite


def _rope(config: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The share and the base of rotary positions, in either of the formats of the field."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ValueError(
            "`config` must have an object of rotary positions, rope_parameters or rope_scaling; "
            f"got {shown(rope)}."
        )
    kind = rope.get("rope_type", rope.get("type", "default"))
    other = set(rope) - {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    if kind != "default" or other:
        extra = f" with {', '.join(sorted(map(str, other)))}" if other else ""
        raise ValueError(
            f"`config` must have rotary positions of type default; got {shown(kind)}{extra}. Their "
            "turns hardly matter before training: remove the field for those of type default."
        )
    base = config.get("rope_theta", config.get("rotary_emb_base", 1e4))
    return {
        "rotary": rope.get("partial_rotary_factor", config.get("rotary_pct", share)),
        "rotary_base": rope.get("rope_theta", base),
    }


def _gpt2(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dim": c["n_embd"], "layers": c["n_layer"], "heads": c["n_head"], "inner": c.get("n_inner"),
        "init": c.get(_SCALE, 0.02), "activation": c.get("activation_function", "gelu_new"),
    }  # fmt: skip


def _neox(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_common(c), "inner": c["intermediate_size"], "activation": c.get("hidden_act", "gelu"),
        "parallel": c.get("use_parallel_residual", True), **_rope(c, 0.25),
    }  # fmt: skip


def _llama(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_common(c), **_grouped(c), "activation": c.get("hidden_act", "silu"),
        "rotary_base": _rope(c, 1.0)["rotary_base"],
    }  # fmt: skip


def _bert(c: Mapping[str, Any]) -> dict[str, Any]:
    activation = c.get("hidden_act", "gelu")
    return {**_common(c), "inner": c["intermediate_size"], "activation": activation}


def _gemma2(c: Mapping[str, Any]) -> dict[str, Any]:
    kinds = set(c.get("layer_types") or ())
    return {
        **_common(c), **_grouped(c, 4), "query_scale": c.get("query_pre_attn_scalar", 256),
        "window": None if kinds == {"full_attention"} else c.get("sliding_window", 4096),
        "rotary_base": _rope(c, 1.0)["rotary_base"],
        "activation": c.get("hidden_activation") or "gelu_pytorch_tanh",
    }  # fmt: skip


def _common(c: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dim": c["hidden_size"],
        "layers": c["num_hidden_layers"],
        "heads": c["num_attention_heads"],
        "init": c.get(_SCALE, 0.02),
    }


def _grouped(c: Mapping[str, Any], key_heads: int | None = None) -> dict[str, Any]:
    """Sizes of gated families; a file without a number of key heads has the family's `key_heads`,
    one for each head if None."""
    return {
        "inner": c["intermediate_size"],
        "key_heads": c.get("num_key_value_heads", key_heads),
        "head_dim": c.get("head_dim"),
    }


_HIDDEN = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_SCALE = "initializer_range"  # of every family, which takes 0.02 where a file has none
_ROPE = ("rope_theta", "rope_parameters", "rope_scaling")
_GROUPED = ("num_key_value_heads", "head_dim", *_ROPE)
_Family = tuple[
    Callable[..., Architecture], Callable[..., dict[str, Any]], tuple[str, ...], tuple[str, ...]
]
_FAMILIES: dict[str, _Family] = {
    "gpt2": (gpt2, _gpt2, ("n_embd", "n_layer", "n_head"), ("n_inner", "activation_function")),
    "gpt_neox": (neox, _neox, _HIDDEN, ("hidden_act", "use_parallel_residual", "rotary_pct",
                                        "rotary_emb_base", *_ROPE)),
    "llama": (llama, _llama, _HIDDEN, ("hidden_act", *_GROUPED)),
    "bert": (bert, _bert, _HIDDEN, ("hidden_act",)),
    "gemma2": (gemma2, _gemma2, (*_HIDDEN, "head_dim"),
               ("hidden_activation", "hidden_act", "query_pre_attn_scalar", "sliding_window",
                "layer_types",
                *_GROUPED)),
}  # fmt: skip
"""By `model_type`: the constructor, its arguments from a file, fields needed, and others read."""

# Fields that change an untrained network unless they have these values.
_USUAL = {
    "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,), "is_encoder_decoder": (False,), "is_decoder": (False,),
    "position_embedding_type": ("absolute",), "use_bidirectional_attention": (None, False),
    "rope_interleaved": (False,), "pruned_heads": (None, {}), "quantization_config": (None,),
    "auto_map": (None,),
}  # fmt: skip

# The ε that norms add to a mean square, by family; the prediction leaves it out.
_EPSILONS = ("layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps")
_SMALL = 0.05

# Fields that change nothing before training, or nothing in the blocks; biases begin at zero.
_HARMLESS = {
    "architectures", "attn_logit_softcapping", "cache_implementation", "chunk_size_feed_forward",
    "dtype", "embd_pdrop", "attn_pdrop", "resid_pdrop", "final_logit_softcapping",
    "gradient_checkpointing", "id2label", "label2id",
    "max_position_embeddings", "mlp_bias", "attention_bias",
    "model_type", "n_ctx", "n_positions", "output_attentions", "output_hidden_states",
    "pretraining_tp", "problem_type", "reorder_and_upcast_attn", "return_dict",
    "task_specific_params", "tie_word_embeddings", "torch_dtype", "transformers_version",
    "type_vocab_size", "use_cache", "vocab_size", "_name_or_path", "hidden_size_per_layer_input",
    "output_past", "_num_labels", "is_llama_config",
    "attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "name_or_path",
}  # fmt: skip
_HARMLESS_PARTS = ("dropout", "token_id", "summary_")


@finite
def from_config(config: str | Path | Mapping[str, Any]) -> Architecture:
    """The architecture that a Hugging Face `config.json` describes; nothing is downloaded. [read]

    `config` is the file, the folder that holds it, or its contents as a mapping. Weights must begin
    as the family's own code draws them, with standard deviation `initializer_range`, 0.02
    where the file has none; a checkpoint's training began elsewhere if its authors drew
    them otherwise, as Pythia's did (`pythia`). The ε of norms is left out, and a file is refused
    where it is above 5 % of the mean squares that are normalised. Raises ValueError for such a
    file, one that is not JSON, a `model_type` other than gpt2, gpt_neox, llama, bert and gemma2,
    fields that are missing, and fields that change the network in a way that is not known here;
    each is named.
    """
    build, numbers = described(config)
    return build(**numbers)


def described(
    config: str | Path | Mapping[str, Any],
) -> tuple[Callable[..., Architecture], dict[str, Any]]:
    """The constructor of a `config.json`, and its arguments; ValueError as `from_config` has it."""
    values = _read(config)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        raise ValueError(
            f"`config` must have a model_type of {', '.join(_FAMILIES)}; got {shown(kind)}."
        )
    build, numbers, needed, optional = _FAMILIES[kind]
    if missing := [name for name in needed if values.get(name) is None]:
        raise ValueError(f"`config` must hold {', '.join(missing)} for {kind}; got none.")
    for name, value in values.items():
        if name in (*needed, *optional, _SCALE, *_EPSILONS) or name in _HARMLESS:
            continue
        usual = _USUAL.get(name)
        if usual is not None and any(value is one or value == one for one in usual):
            continue
        if usual is None and any(text in name for text in _HARMLESS_PARTS):
            continue
        hint = "a field that is not known" if usual is None else f"not {shown(usual[0])}"
        raise ValueError(
            f"`config` must not hold {name} = {shown(value)} for {kind}: {hint} may change the "
            "network. Remove it if it does not."
        )
    given = numbers(values)
    _check_epsilon(values, build(**given))
    return build, given


def _check_epsilon(config: Mapping[str, Any], model: Architecture) -> None:
    """The number ε that norms add to a mean square is left out, and must be small beside it."""
    name = next((name for name in _EPSILONS if name in config), None)
    if name is None:
        return
    epsilon = config[name]
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float):
        raise ValueError(f"`config` must have a number as {name}; got {shown(epsilon)}.")
    squares = [model.own + model.common]
    if model.norm == "peri":
        inner = model.input_variance if model.gated else 1.0
        mlp = float(coefficients(model.activation, model.input_variance).sum())
        squares += [model.attention_variance, model.mlp_variance * inner * mlp]
    least = min(squares)
    if not 0 <= epsilon <= _SMALL * least:
        raise ValueError(
            f"`config` must have {name} between 0 and {_SMALL:.0%} of the mean squares that are "
            f"normalised, of which the least is {least:.3g}, because the prediction leaves it out; "
            f"got {epsilon:g}. Set it to 0 for the network without it."
        )


def _read(config: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        if not all(isinstance(name, str) for name in config):
            raise ValueError(f"`config` must have names for keys; got {shown(list(config))}.")
        return config
    if not isinstance(config, str | Path):
        raise ValueError(f"`config` must be a file or a mapping; got {shown(config)}.")
    path = Path(config)
    path = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        got = f"{shown(str(path))} ({error.strerror})"
        raise ValueError(f"`config` must be a file; got {got}.") from None
    except (ValueError, RecursionError):  # no text, no JSON, too deep, or too many digits
        raise ValueError(f"`config` must be a file of JSON; {shown(str(path))} is not.") from None
    if not isinstance(values, dict):
        raise ValueError(f"`config` must be a JSON object; {path} holds {shown(values)}.")
    return values
