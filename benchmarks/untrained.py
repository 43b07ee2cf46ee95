"""Mean cosines and norms of untrained networks of `transformers`, block by block, beside theory.

    python benchmarks/untrained.py [NAME ...] [--dim 768] [--layers 12] [--tokens 64] [--seeds 10]
        [--figure PATH.png]
    python benchmarks/untrained.py --record

Networks are made from the configuration classes of `transformers`, with the weights that its own
code draws (those of Pythia are drawn here); nothing is downloaded. The prediction reads the same
configuration, `theory.initialisation.from_config`, and fits nothing. The program prints a table in
Markdown: mean over seeds ± standard deviation between seeds, and the prediction in brackets. With
`--record` it measures every size in `SIZES`, ten minutes of one core, and keeps the means and
standard deviations in `untrained.json` beside this file, which the tests of the theory read. Needs
the extra `models`.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import rqf_jax as rqf
from rqf_jax.theory import initialisation

VOCABULARY = 2000
RECORD = Path(__file__).with_suffix(".json")
# Family, width, blocks, tokens, seeds.
SIZES = (
    ("GPT-2", 768, 12, 64, 10),
    ("GPT-2", 768, 24, 64, 10),
    ("GPT-2", 256, 12, 64, 20),
    ("GPT-2", 256, 24, 64, 20),
    ("GPT-2", 1024, 24, 256, 6),
    ("GPT-NeoX", 768, 12, 64, 10),
    ("GPT-NeoX", 768, 24, 64, 10),
    ("GPT-NeoX, sequential", 768, 12, 64, 10),
    ("Pythia", 512, 6, 64, 20),
    ("Pythia", 768, 12, 64, 10),
    ("Pythia", 1024, 24, 467, 6),
    ("Llama", 768, 12, 64, 10),
    ("Llama", 768, 24, 64, 10),
    ("Llama", 256, 12, 64, 20),
    ("Llama, keys in pairs", 768, 12, 64, 10),
    ("BERT", 768, 12, 64, 10),
    ("BERT", 256, 12, 64, 20),
    ("Gemma 2", 768, 12, 64, 10),
    ("Gemma 2", 256, 12, 64, 160),
)


def config(name: str, dim: int, layers: int) -> Any:
    """The configuration of a family of that size, heads of 64 coordinates, and other defaults."""
    import transformers

    heads, vocabulary = max(dim // 64, 1), {"vocab_size": VOCABULARY}
    size = {"hidden_size": dim, "num_hidden_layers": layers, "num_attention_heads": heads}
    wide, gated = {"intermediate_size": 4 * dim}, {"intermediate_size": 11 * dim // 4}
    makers: dict[str, Callable[[], Any]] = {
        "GPT-2": lambda: transformers.GPT2Config(
            n_embd=dim, n_layer=layers, n_head=heads, **vocabulary
        ),
        "GPT-NeoX": lambda: transformers.GPTNeoXConfig(**size, **wide, **vocabulary),
        "GPT-NeoX, sequential": lambda: transformers.GPTNeoXConfig(
            **size, **wide, **vocabulary, use_parallel_residual=False
        ),
        "Pythia": lambda: transformers.GPTNeoXConfig(**size, **wide, **vocabulary),
        "Llama": lambda: transformers.LlamaConfig(**size, **gated, **vocabulary),
        "Llama, keys in pairs": lambda: transformers.LlamaConfig(
            **size, **gated, **vocabulary, num_key_value_heads=heads // 2
        ),
        "BERT": lambda: transformers.BertConfig(**size, **wide, **vocabulary),
        "Gemma 2": lambda: transformers.Gemma2Config(
            **size, **gated, **vocabulary, num_key_value_heads=heads // 2, head_dim=64
        ),
    }
    return makers[name]()


FAMILIES = ("GPT-2", "GPT-NeoX", "GPT-NeoX, sequential", "Llama", "Llama, keys in pairs", "BERT",
            "Gemma 2")  # fmt: skip


def architecture(name: str, dim: int, layers: int) -> initialisation.Architecture:
    """The numbers that theory takes from the configuration."""
    if name == "Pythia":
        return initialisation.pythia(dim=dim, layers=layers, heads=dim // 64)
    return initialisation.from_config(config(name, dim, layers).to_dict())


def network(name: str, dim: int, layers: int) -> Any:
    """A network with new weights, of the generator of torch."""
    import torch
    from transformers import AutoModel

    made = AutoModel.from_config(config(name, dim, layers)).eval()
    if name == "Pythia":
        # As its own training code begins; `transformers` has .02 everywhere.
        read, write = math.sqrt(2 / (5 * dim)), 2 / (layers * math.sqrt(dim))
        with torch.no_grad():
            for key, weight in made.named_parameters():
                if weight.ndim == 2:
                    ends = ("attention.dense.weight", "dense_4h_to_h.weight")
                    weight.normal_(0, write if key.endswith(ends) else read)
    return made


def states(name: str, dim: int, layers: int, tokens: int, seed: int) -> np.ndarray:
    """The tokens (blocks + 1, tokens, dim) of one network: before the first block, after each."""
    import torch

    torch.manual_seed(seed)
    made = network(name, dim, layers)
    order = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(seed + 100))
    if made.config.pad_token_id is not None:  # whose embedding is zero
        order = order[order != made.config.pad_token_id]
    inner = getattr(made, "encoder", made)
    blocks = next(getattr(inner, n) for n in ("h", "layers", "layer") if hasattr(inner, n))
    found = []

    def keep(value: Any) -> None:
        value = value[0] if isinstance(value, tuple) else value
        found.append(value.detach().reshape(tokens, -1).double().numpy())

    def before(module, given, named):
        keep(given[0] if given else named["hidden_states"])

    blocks[0].register_forward_pre_hook(before, with_kwargs=True)
    for block in blocks:
        block.register_forward_hook(lambda module, given, after: keep(after))
    with torch.no_grad():
        made(order[:tokens][None])
    return np.array(found)


def measured(
    name: str, dim: int, layers: int, tokens: int, seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """The mean cosine over all pairs, and the mean over tokens of |x|/√dim: (seeds, blocks + 1)."""
    i, j = np.triu_indices(tokens, 1)
    cosines, norms = [], []
    for seed in range(seeds):
        x = states(name, dim, layers, tokens, seed)
        length = np.linalg.norm(x, axis=-1)
        unit = x / length[..., None]
        cosines.append(np.einsum("ltd,lsd->lts", unit, unit)[:, i, j].mean(1))
        norms.append(length.mean(1) / np.sqrt(x.shape[-1]))
    return np.array(cosines), np.array(norms)


def cells(cosines: np.ndarray, norms: np.ndarray, theory: initialisation.Blocks) -> list[str]:
    """Of a table: cosines of three blocks, the last norm, the largest distance from theory."""
    mean, spread, last = cosines.mean(0), cosines.std(0, ddof=1), cosines.shape[1] - 1
    found = [
        f"{mean[b]:.3f} ± {spread[b]:.3f} ({theory.mean_cosine[b]:.3f})"
        for b in (1, last // 2, last)
    ]
    found.append(f"{norms[:, -1].mean():.4g} ({theory.norms[-1].mean():.4g})")
    found.append(f"{np.abs(mean - theory.mean_cosine).max():.3f}")
    return found


def record() -> None:
    """Measure all `SIZES` and keep them, block by block."""
    import torch
    import transformers

    print("| family | width | blocks | tokens | seeds | block 1 | middle | end | rms at the end |"
          " worst block |\n" + "|---" * 10 + "|", flush=True)  # fmt: skip
    rows = []
    for name, dim, layers, tokens, seeds in SIZES:
        row: dict[str, Any] = {
            "family": name, "dim": dim, "layers": layers, "tokens": tokens, "seeds": seeds
        }  # fmt: skip
        both = measured(name, dim, layers, tokens, seeds)
        for key, values in zip(("cosine", "norm"), both, strict=True):
            row[key] = [float(f"{x:.5g}") for x in values.mean(0)]
            row[f"{key}_spread"] = [float(f"{x:.3g}") for x in values.std(0, ddof=1)]
        rows.append(row)
        theory = initialisation.gram(architecture(name, dim, layers), tokens=tokens)
        size = f"{name} | {dim} | {layers} | {tokens} | {seeds}"
        print(f"| {size} | {' | '.join(cells(*both, theory))} |", flush=True)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    RECORD.write_text(f'{{"versions": {json.dumps(versions)}, "networks": [\n{lines}\n]}}\n')


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--figure", metavar="PATH")
    parser.add_argument("--record", action="store_true", help=f"measure all sizes, {RECORD.name}")
    given = parser.parse_args(arguments)
    if other := set(given.names) - set(FAMILIES):
        parser.error(f"NAME must be one of {', '.join(FAMILIES)}; got {', '.join(sorted(other))}")
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"This needs the extra `models`, pip install 'rqf_jax[models]' ({error}).")
    if given.record:
        return record()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, rqf_jax "
          f"{rqf.__version__}; width {given.dim}, {given.layers} blocks, {given.tokens} tokens, "
          f"{given.seeds} seeds\n")  # fmt: skip
    half = given.layers // 2
    print(
        f"| family | block 1 | block {half} | block {given.layers} | rms at the end | worst block |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    curves = {}
    for name in given.names or FAMILIES:
        theory = initialisation.gram(
            architecture(name, given.dim, given.layers), tokens=given.tokens
        )
        cosines, norms = measured(name, given.dim, given.layers, given.tokens, given.seeds)
        mean, spread = cosines.mean(0), cosines.std(0, ddof=1)
        print(f"| {name} | {' | '.join(cells(cosines, norms, theory))} |", flush=True)
        curves[name] = mean, spread, theory.mean_cosine
    if given.figure:
        draw(curves, given.figure)


def draw(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], path: str) -> None:
    """Points with bars of one standard deviation, and the prediction as dashed lines."""
    import matplotlib.pyplot as plt

    with rqf.plot.style():
        figure, axis = plt.subplots(figsize=(6.4, 3.6))
        colours = (*rqf.plot.PALETTE, "0.4")
        for colour, (name, (mean, spread, theory)) in zip(colours, curves.items(), strict=False):
            blocks = np.arange(len(mean))
            line = axis.plot(blocks, theory, "--", linewidth=1, color=colour)[0]
            axis.errorbar(
                blocks, mean, spread, fmt="o", markersize=3, elinewidth=1,
                color=line.get_color(), label=name,
            )  # fmt: skip
        axis.plot([], [], "k--", linewidth=1, label="theory")
        axis.set(xlabel="block", ylabel="mean cosine of all pairs", ylim=(0, 1))
        rqf.plot.legend(axis, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, dpi=150, bbox_inches="tight")
        plt.close(figure)


if __name__ == "__main__":
    main()
