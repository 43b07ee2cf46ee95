"""Functions that a user gives: their errors, in the name of the argument that they are."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .rules import Rule, function_of
from .shown import shown


@contextlib.contextmanager
def calling(name: str, rule: str, remedy: str = "", *, named: bool = False) -> Iterator[None]:
    """Raise errors of the function `name`, called inside, as ValueError: "`name` must `rule`".

    Errors of arithmetic are left as they are: the function was right, and its value is not finite.
    With `named`, so are errors that name an argument.
    """
    try:
        yield
    except ArithmeticError:
        raise
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        said = str(error).strip().partition("\n")[0].removesuffix(".")
        if named and said.startswith("`"):
            raise
        raise ValueError(
            f"`{name}` must {rule}; it raised {type(error).__name__}: {said}."
            f"{' ' * bool(remedy)}{remedy}"
        ) from error


def called(text: str) -> Rule:
    """A rule: a function of `text` to real numbers, as one whose errors name the argument."""

    def rule(name: str, value: Any) -> Callable[..., Any]:
        function = function_of(text)(name, value)

        def call(*args: Any, **kwargs: Any) -> Any:
            with calling(name, f"be a function of {text}"):
                found = function(*args, **kwargs)
                known = np.asarray(found).dtype.kind in "biuf"
            if not known:
                raise ValueError(f"`{name}` must return real numbers; got {shown(found)}.")
            return found

        return call

    return rule
