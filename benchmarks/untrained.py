"""Mean cosines and norms of untrained networks of `transformers`, block by block, beside theory.

    python benchmarks/untrained.py [NAME ...] [--dim 768] [--layers 12] [--tokens 64] [--seeds 6]
        [--figure PATH.png]

Networks are made from the configuration classes of `transformers`, with the weights that its own
code draws; nothing is downloaded. The prediction reads the same configuration,
`theory.initialisation.from_config`, and fits nothing. The program prints a table in Markdown: mean
over seeds ± standard deviation between seeds, and the prediction in brackets. Needs the extra
`models`.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import rqf_jax as rqf
from rqf_jax.theory import initialisation

VOCABULARY = 2000


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


def states(made: Any, tokens: int, seed: int) -> np.ndarray:
    """The tokens (blocks + 1, tokens, dim) of one network: before the first block, after each."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(seed)
    network = AutoModel.from_config(made).eval()
    order = torch.randperm(made.vocab_size, generator=torch.Generator().manual_seed(seed + 100))
    inner = getattr(network, "encoder", network)
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
        network(order[:tokens][None])
    return np.array(found)


def measured(made: Any, tokens: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean cosine over all pairs, and the mean over tokens of |x|/√dim: (seeds, blocks + 1)."""
    i, j = np.triu_indices(tokens, 1)
    cosines, norms = [], []
    for seed in range(seeds):
        x = states(made, tokens, seed)
        length = np.linalg.norm(x, axis=-1)
        unit = x / length[..., None]
        cosines.append(np.einsum("ltd,lsd->lts", unit, unit)[:, i, j].mean(1))
        norms.append(length.mean(1) / np.sqrt(x.shape[-1]))
    return np.array(cosines), np.array(norms)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--figure", metavar="PATH")
    given = parser.parse_args(arguments)
    if other := set(given.names) - set(FAMILIES):
        parser.error(f"NAME must be one of {', '.join(FAMILIES)}; got {', '.join(sorted(other))}")
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"This needs the extra `models`, pip install 'rqf_jax[models]' ({error}).")
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
        made = config(name, given.dim, given.layers)
        theory = initialisation.gram(
            initialisation.from_config(made.to_dict()), tokens=given.tokens
        )
        cosines, norms = measured(made, given.tokens, given.seeds)
        mean, spread = cosines.mean(0), cosines.std(0, ddof=1)
        cells = [
            f"{mean[b]:.3f} ± {spread[b]:.3f} ({theory.mean_cosine[b]:.3f})"
            for b in (1, half, given.layers)
        ]
        cells.append(f"{norms[:, -1].mean():.4g} ({theory.norms[-1].mean():.4g})")
        cells.append(f"{np.abs(mean - theory.mean_cosine).max():.3f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        curves[name] = mean, spread, theory.mean_cosine
    if given.figure:
        draw(curves, given.figure)


def draw(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], path: str) -> None:
    """Points with bars of one standard deviation, and the prediction as dashed lines."""
    import matplotlib.pyplot as plt

    with rqf.plot.style():
        figure, axis = plt.subplots(figsize=(6.4, 3.6))
        for name, (mean, spread, theory) in curves.items():
            blocks = np.arange(len(mean))
            line = axis.plot(blocks, theory, "--", linewidth=1)[0]
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
