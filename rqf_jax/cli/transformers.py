"""Commands for transformers of others: their layers, their weights, and untrained ones."""

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..inference import FitResult
    from ..io import Checkpoints


def explain(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Hidden states: .npz, .npy, .safetensors, .h5 or .pt."),
    ],
    causal: Annotated[
        bool, typer.Option("--causal", help="Tokens attend only to those before, as in decoders.")
    ] = False,
    final_norm: Annotated[
        bool | None,
        typer.Option(
            "--final-norm/--no-final-norm",
            help="The last entry has passed the final norm, and is no block.",
            show_default="looked for",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Groups of sentences, each held out once.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the groups.")] = 0,
    figure: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Draw the gains: .png, .pdf or .svg.")
    ] = None,
) -> None:
    """Weigh explanations of the layers of a language model on sentences that are held out.

    The table has the gain of each explanation over noise that every token has of its own, for every
    layer: a matrix for all sentences or a fresh one for each, attention, a nonlinear map, and sums.
    Below it, each layer has its best explanation, the angle by which its predictions err, for words
    that were in the other sentences and for new ones, and whether its covariance is rejected.

    [bold]Examples[/]

    rqf-jax explain hidden_states.npz

    rqf-jax explain gpt2.safetensors --causal --final-norm --figure gains.png
    """
    from .. import inference, io
    from .fit import about

    sentences = io.read_hidden_states(path, final_norm=final_norm)
    with about(path):
        rivals = inference.default_rivals(causal=causal)
        found = inference.explain(sentences, rivals, folds=folds, seed=seed)
    print(found)
    if figure is not None:
        import matplotlib.pyplot as plt

        from .. import plot

        with plot.style(), about(figure):
            drawing, axis = plt.subplots(figsize=(6.5, 3.0))
            plot.legend(plot.rivals(found, ax=axis), loc="center left", bbox_to_anchor=(1.0, 0.5))
            drawing.savefig(figure)
            plt.close(drawing)


def predict(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG.json", help="The config.json of a Hugging Face model."),
    ],
    tokens: Annotated[int, typer.Option(min=2, help="The number of distinct tokens.")] = 64,
    seeds: Annotated[
        int, typer.Option(min=2, help="Random networks from which the spread comes.")
    ] = 8,
) -> None:
    """Predict the tokens of an untrained transformer, block by block, without making one.

    The families are GPT-2, GPT-NeoX, Llama, BERT and Gemma 2. The columns are the block, 0 for the
    embedding; the mean cosine of two tokens, and its standard deviation between seeds; the root
    mean square of an entry; and the entropy of attention in nats, mean over tokens and heads.

    [bold]Example[/]

    rqf-jax predict config.json --tokens 64
    """
    import numpy as np

    from ..theory import initialisation
    from .fit import about

    with about(config):
        model = initialisation.from_config(config)
        found = initialisation.gram(model, tokens=tokens)
        cosines, _ = initialisation.scatter(model, tokens=tokens, seeds=seeds)
    spread = cosines.std(axis=0, ddof=1)
    sizes = np.sqrt(np.mean(found.norms**2, axis=1))
    entropy = ["", *(f"{value:.3f}" for value in found.entropy.mean(axis=1))]
    print(f"{model.name}, dimension {model.dim}, {model.layers} blocks, {tokens} tokens")
    rows = [("block", "mean cosine", "spread", "rms norm", "attention entropy")]
    rows += [
        (str(i), f"{found.mean_cosine[i]:.4f}", f"{spread[i]:.4f}", f"{sizes[i]:.4f}", entropy[i])
        for i in range(model.layers + 1)
    ]
    _print(rows)


def spectra(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Checkpoints named by their step, or one model."),
    ],
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Names of matrices, with the groups layer and kind.",
            show_default="names of known families",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write the spectra over steps, .zarr.")
    ] = None,
) -> None:
    """Describe the spectrum of every weight matrix of a model, and its motion over a training.

    The table has, at the last step: the stable rank; the squares above the bulk of Marchenko and
    Pastur, and the distance of the bulk from their law; the mean ratio of neighbouring gaps, .531
    for noise; the exponent of the tail. With 4 or more checkpoints at equal distances it also has
    the rate and the noise s of a linear pull, per step, and of a square matrix the noise that the
    eigenvalues of its symmetric part show (Dyson), which is s too if entries move independently.
    A star says that the checks of a fit speak against it.

    [bold]Examples[/]

    rqf-jax spectra checkpoints

    rqf-jax spectra checkpoints --pattern 'blocks\\.(?P<layer>\\d+)\\.(?P<kind>q|k|v)\\.weight'
    """
    from .. import analysis, io
    from .fit import about

    with about(folder):
        series = io.read_checkpoints(folder, pattern)
        paths = series.spectra()
        first, last = (f"{series.steps[i]:.0f}" for i in (0, -1))
        many = f"{len(series)} checkpoints, steps {first} to {last}; numbers at step {last}"
        print(many if len(series) > 1 else f"1 checkpoint, step {last}")
        names = ["matrix", "shape", "stable rank", "outliers", "bulk off by", "gap ratio", "tail"]
        moving = _equal_steps(series)
        names += ["rate", "s", "s (Dyson)"] * moving
        rows = [tuple(names)]
        for (layer, kind), shape in series.shapes.items():
            values = paths.ys[f"{layer}.{kind}"][0, -1]
            if values.size < 4:
                rows.append((f"{layer}.{kind}", f"{shape[0]}×{shape[1]}", *[""] * (len(names) - 2)))
                continue
            one = analysis.describe_spectrum(values, max(shape))
            tail = "" if one.tail is None else f"{one.tail.exponent:.2f}±{one.tail.stderr:.2f}"
            row = [
                f"{layer}.{kind}",
                f"{shape[0]}×{shape[1]}",
                f"{one.stable_rank:.1f}",
                str(one.outliers),
                f"{one.bulk.distance:.3f}",
                f"{one.spacing_ratio:.3f}±{one.spacing_stderr:.3f}",
                tail,
            ]
            rows.append((*row, *(_motion(series, layer, kind) if moving else ())))
        _print(rows)
        if any("*" in cell for row in rows for cell in row):
            print("* the weights move otherwise than by a linear pull and fresh noise")
    if out is not None:
        io.save(paths, out)


def _equal_steps(series: "Checkpoints") -> bool:
    import numpy as np

    gaps = np.diff(series.steps)
    return gaps.size > 2 and bool(np.all(np.abs(gaps - gaps.mean()) < 1e-6 * gaps.mean()))


def _motion(series: "Checkpoints", layer: int, kind: str) -> tuple[str, str, str]:
    """Rate and noise of a linear pull, and the noise of the eigenvalues of the symmetric part."""
    import numpy as np

    from .. import inference

    runs = series.weights(layer, kind)
    values = np.asarray(runs.ys)
    moves, square = bool(np.any(np.diff(values, axis=1))), values.shape[2] == values.shape[3]
    rate = noise = "none"
    dyson = "none" if square else ""
    unknown = inference.IdentifiabilityError, np.linalg.LinAlgError
    if moves:
        with contextlib.suppress(*unknown):
            pull = inference.fit_matrix_ou(values, series.steps)
            rate, noise = _with_error(pull, "rate"), _with_error(pull, "s")
    if moves and square:
        levels = np.linalg.eigvalsh((values + np.swapaxes(values, 2, 3)) / 2)
        if np.all(np.diff(levels) > 0):
            with contextlib.suppress(*unknown):
                fit = inference.fit_dyson(levels, series.steps, beta=1.0)
                # The symmetric part of a matrix with noise s has g = s/√2.
                dyson = _with_error(fit, "g", math.sqrt(2))
    return rate, noise, dyson


def _with_error(fit: "FitResult", name: str, scale: float = 1.0) -> str:
    """`name` ± its standard error, with a star where the checks of the fit warn."""
    star = "*" if fit.warnings else ""
    return f"{scale * fit.estimate[name]:.3g}±{scale * fit.stderr[name]:.1g}{star}"


def _print(rows: list[tuple[str, ...]]) -> None:
    """Print a table: words on the left, numbers on the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (
            c.rjust(w) if i else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
