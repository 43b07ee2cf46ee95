"""The terminal, for texts that others wrote: sentences, tokens, paths, configs of strangers."""

import contextlib
import time
import unicodedata
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

# Letters that change how the text around them is laid out, and line ends that are no newline.
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def visible(text: Any) -> str:
    """A text whose control characters are written out, "\\x1b" for an escape; lines and tabs stay.

    A terminal that prints it shows characters and does nothing else.
    """
    return "".join(
        one.encode("unicode_escape").decode("ascii") if _acts(one) else one for one in str(text)
    )


def _acts(one: str) -> bool:
    if one in "\n\t":
        return False
    return unicodedata.category(one) in _UNSEEN or one in _DIRECTIONS


class Screen(Console):
    """A console that takes every string as it is: no markup, no emoji names, no control codes.

    Styles are arguments, `print(text, style="bold")`, or a `rich.text.Text` of our own words.
    """

    def __init__(self, **options: Any):
        plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
        super().__init__(**plain | options)

    def render_str(self, text: str, **options: Any) -> Text:  # of strings, in tables too
        """A string as rich prints it, with its control characters written out."""
        return super().render_str(visible(text), **options)


@contextlib.contextmanager
def compiling(console: Console) -> Iterator[None]:
    """Say that the program is being compiled, and afterwards how long it took."""
    start = time.perf_counter()
    with console.status("Compiling the program …"):
        if not console.is_terminal:
            console.print("Compiling the program …")
        yield
    console.print(f"Compiled, or read from the cache, in {time.perf_counter() - start:.1f} s.")
