"""The pages a user reads, and their programs."""

import re
from pathlib import Path

import jax
from jax import numpy_dtype_promotion, numpy_rank_promotion

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
}
PROGRAMS = {
    name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items()
}
# Blocks that take more than some seconds, by number; the slow test runs them with all others.
SLOW = {
    "docs/normalisation.md": {1},
    "docs/tour.md": {3, 4},
    "docs/inference.md": {0, 1, 2, 3},
    "docs/learned_dynamics.md": {1, 3},
    "docs/recipes.md": {2, 3, 4, 6, 7, 10, 12},
    "docs/common_noise.md": {2, 3},
    "docs/training_noise.md": {1},
}


def quick(name):
    """The numbers of the blocks of a page that take some seconds at most."""
    slow = SLOW.get(name, set())
    assert slow <= set(range(len(PROGRAMS[name])))
    return [i for i in range(len(PROGRAMS[name])) if i not in slow]


def run(name, numbers=None, most=200):
    """Run blocks of a page in order in one namespace, with at most `most` members; return it.

    As a user runs them: in float32 and with JAX's own rules of promotion.
    """
    namespace = {"__name__": name}
    for number in range(len(PROGRAMS[name])) if numbers is None else numbers:
        program = re.sub(r"\b(members\s*=\s*)[\d_]{4,}", rf"\g<1>{most}", PROGRAMS[name][number])
        with (
            jax.enable_x64(False),
            numpy_dtype_promotion("standard"),
            numpy_rank_promotion("allow"),
        ):
            exec(compile(program, f"{name}, block {number}", "exec"), namespace)
    return namespace
