"""Names of weight matrices in five families of transformers, and in this library's own."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

KINDS = ("Q", "K", "V", "O", "up", "gate", "down")


class Named(NamedTuple):
    """One matrix (outputs, inputs) of a layer."""

    layer: int
    kind: str
    name: str
    values: np.ndarray


# Family, pattern of names, and the kind of each ending. Names may have a prefix.
_FAMILIES: dict[str, tuple[str, dict[str, str]]] = {
    "GPT-2": (
        r"h\.(?P<layer>\d+)\.(?P<end>attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight",
        {"attn.c_attn": "QKV", "attn.c_proj": "O", "mlp.c_fc": "up", "mlp.c_proj": "down"},
    ),
    "GPT-NeoX, Pythia": (
        r"layers\.(?P<layer>\d+)\.(?P<end>attention\.query_key_value|attention\.dense"
        r"|mlp\.dense_h_to_4h|mlp\.dense_4h_to_h)\.weight",
        {"attention.query_key_value": "QKV by heads", "attention.dense": "O",
         "mlp.dense_h_to_4h": "up", "mlp.dense_4h_to_h": "down"},
    ),
    "Llama, Gemma 2": (
        r"layers\.(?P<layer>\d+)\.(?P<end>self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)"
        r"\.weight",
        {"self_attn.q_proj": "Q", "self_attn.k_proj": "K", "self_attn.v_proj": "V",
         "self_attn.o_proj": "O", "mlp.gate_proj": "gate", "mlp.up_proj": "up",
         "mlp.down_proj": "down"},
    ),
    "BERT": (
        r"layer\.(?P<layer>\d+)\.(?P<end>attention\.self\.(?:query|key|value)"
        r"|attention\.output\.dense|intermediate\.dense|output\.dense)\.weight",
        {"attention.self.query": "Q", "attention.self.key": "K", "attention.self.value": "V",
         "attention.output.dense": "O", "intermediate.dense": "up", "output.dense": "down"},
    ),
}  # fmt: skip
_OWN = {"query": "Q", "key": "K", "value": "V", "output": "O", "mlp_in": "up", "mlp_out": "down"}

KNOWN = f"{', '.join(_FAMILIES)} and `rqf_jax.training.GPT`"


def by_family(
    arrays: dict[str, np.ndarray], heads: int | None
) -> tuple[list[Named], list[str], str | None]:
    """Matrices of the family that most names are of, other names, and the family."""
    own = {name for name, a in arrays.items() if name.split(".")[-1] in _OWN and a.ndim == 3}
    found: dict[str, list[tuple[re.Match[str], str]]] = {
        family: [
            (match, name)
            for name in arrays
            if arrays[name].ndim == 2 and (match := re.fullmatch(rf"(?:.*\.)?{pattern}", name))
        ]
        for family, (pattern, _) in _FAMILIES.items()
    }
    family = max(found, key=lambda one: len(found[one]))
    if len(own) > len(found[family]):
        matrices = [one for name in own for one in _own(name, arrays[name])]
        return matrices, [name for name in arrays if name not in own], "rqf_jax.training.GPT"
    if not found[family]:
        return [], list(arrays), None
    kinds = _FAMILIES[family][1]
    matrices = []
    for match, name in found[family]:
        # GPT-2 keeps matrices (inputs, outputs).
        values = arrays[name].T if family == "GPT-2" else arrays[name]
        split = _split(kinds[match["end"]], values, heads)
        matrices += [Named(int(match["layer"]), kind, name, part) for kind, part in split]
    used = {name for _, name in found[family]}
    return matrices, [name for name in arrays if name not in used], family


def by_pattern(
    arrays: dict[str, np.ndarray], pattern: re.Pattern[str]
) -> tuple[list[Named], list[str]]:
    """Matrices whose names match, with the groups `layer` and `kind`, and other names."""
    matrices, others = [], []
    for name, values in arrays.items():
        match = pattern.fullmatch(name)
        if match and values.ndim == 2:
            if not (match["layer"] or "").isdecimal():
                raise ValueError(
                    f"`pattern` must have digits for its group `layer`; it finds "
                    f"{match['layer']!r} in {name!r}."
                )
            matrices.append(Named(int(match["layer"]), match["kind"], name, values))
        else:
            others.append(name)
    return matrices, others


def _own(name: str, values: np.ndarray) -> Iterator[Named]:
    kind = _OWN[name.split(".")[-1]]
    for layer, one in enumerate(values):
        yield Named(layer, kind, name, one)


def _split(kind: str, values: np.ndarray, heads: int | None) -> list[tuple[str, np.ndarray]]:
    """Q, K and V of a matrix that holds all three; the whole where their places are unknown."""
    rows, columns = values.shape
    if kind == "QKV" and rows % 3 == 0:
        return list(zip("QKV", np.split(values, 3), strict=True))
    if kind == "QKV by heads":
        if heads is None or rows % (3 * heads):
            return [("QKV", values)]
        parts = values.reshape(heads, 3, -1, columns)
        return [(one, parts[:, i].reshape(-1, columns)) for i, one in enumerate("QKV")]
    return [(kind, values)]
