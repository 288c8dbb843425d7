"""Kinds of values: what pydantic checks, and how an error describes it.

Everything here is a type for pydantic, made at run time; a wrong value gives one error, at its own key, with the words
that say what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

WRONG = "wrong_value"
"""pydantic's type of the errors that `described` raises."""


def described(kind: Any, words: str) -> Any:
    """A type whose errors, of whatever depth, become one that says what is allowed.

    Args:
        kind: A type, as pydantic understands it.
        words: What is allowed, read after "Give": ``"a whole number, 1 or more"``.
    """

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise PydanticCustomError(WRONG, "{words}", {"words": words}) from error

    return Annotated[kind, WrapValidator(check)]


def whole(least: int | None = None, most: int | None = None, words: str = "") -> Any:
    """Whole numbers in a range, both ends included.

    Args:
        least: Lowest number; None for no limit.
        most: Highest number; None for no limit.
        words: Added to the description.
    """
    kind = Annotated[int, Field(strict=True, ge=least, le=most)]
    return described(kind, f"a whole number{_span(least, most)}{_more(words)}")


def number(
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    words: str = "",
) -> Any:
    """Finite numbers in a range.

    Args:
        least: Lowest number; None for no limit.
        most: Highest number; None for no limit.
        above: The numbers are greater than this one.
        below: The numbers are smaller than this one.
        words: Added to the description.
    """
    kind = Annotated[float, Field(strict=True, ge=least, le=most, gt=above, lt=below, allow_inf_nan=False)]
    ends = [
        "" if above is None else f" above {above:g}",
        _span(least, most),
        "" if below is None else f" {'and ' if least is not None or above is not None else ''}below {below:g}",
    ]
    return described(kind, f"a number{''.join(ends)}{_more(words)}")


def _span(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least:.12g} to {most:.12g}"
    if least is not None:
        return f", {least:.12g} or more"
    return "" if most is None else f", at most {most:.12g}"


def _more(words: str) -> str:
    return f", {words}" if words else ""


def choice(*values: Any) -> Any:
    """One of some values, told apart by type as well: ``true`` is not 1."""
    shown = list(dict.fromkeys(_shown(value) for value in values))
    words = ", ".join(shown[:-1]) + (" or " if len(shown) > 1 else "") + shown[-1]

    def exactly(value: Any) -> Any:
        if not any(type(value) is type(each) and value == each for each in values):
            raise ValueError(words)
        return value

    return described(Annotated[Any, BeforeValidator(exactly)], words)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def listed(item: Any, words: str, least: int = 1, most: int | None = None, ordered: bool = False) -> Any:
    """A list of values.

    Args:
        item: The type of each.
        words: What is allowed.
        least: Least number of values.
        most: Largest number of values; None for no limit.
        ordered: Whether no value may be smaller than the one before it.
    """

    def in_order(values: list[Any]) -> list[Any]:
        if ordered and values != sorted(values):
            raise ValueError("not in order")
        return values

    return described(
        Annotated[list[item], Field(strict=True, min_length=least, max_length=most), AfterValidator(in_order)], words
    )


def size(order: str, least: int) -> Any:
    """The two sides of an image, in pixels.

    Args:
        order: ``"[width,height]"`` or ``"[height,width]"``.
        least: Smallest side.
    """
    return listed(whole(least, 100_000), f"{order} in pixels, {least} or more each", 2, 2)


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(str(error)) from error
    return value


flag = described(Annotated[bool, Field(strict=True)], "true or false")
text = described(Annotated[str, Field(strict=True, min_length=1)], "a text")
"""Also names and paths. Where the command line has one, what looks like a number stays a text."""
texts = listed(text, "a list of texts, [A,B]")
fraction = number(0, 1)
share = number(above=0, most=1)
positive = number(above=0)
not_negative = number(0)
count = whole(0)
some = whole(1)
seed = whole(0, 2**32 - 1)
pattern = described(Annotated[str, Field(strict=True), AfterValidator(_regular_expression)], "a regular expression")
factors = listed(positive, "[lowest,highest], both above 0", 2, 2, ordered=True)
duration = described(
    Annotated[str, Field(strict=True, pattern=r"^\d+:\d{1,2}:\d{1,2}:\d{1,2}$")], '"DD:HH:MM:SS", such as "00:01:00:00"'
)
batches = described(
    whole(1) | Annotated[float, Field(strict=True, gt=0, le=1)], "a number of batches or, up to 1.0, a fraction"
)
"""A whole number of batches, or a fraction of them all."""
anything = Any
"""What is checked by whoever reads it."""


def yes_no_or(*values: Any) -> Any:
    """True, false or one of some texts."""
    return choice(True, False, *values)
