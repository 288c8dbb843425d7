"""Kinds of values: what they take, and the one error that a wrong value gives."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from kemr_lightning.assembly.schema import kinds

CASES: list[tuple[Any, list[Any], list[Any], str]] = [
    (kinds.whole(1, 9), [1, 9], [0, 10, 1.0, "1", True, None], "a whole number from 1 to 9"),
    (kinds.number(0, below=1), [0, 0.5], [-0.1, 1, float("nan"), float("inf"), "0"], "a number, 0 or more and below 1"),
    (kinds.number(above=0, most=1), [0.1, 1], [0, 1.1, False], "a number above 0, at most 1"),
    (kinds.choice(True, "all", None), [True, "all", None], [1, "none", False], "true, all or null"),
    (kinds.size("[width,height]", 8), [[8, 9]], [[8], [7, 8], [8, 9, 10], 8, [8, 9.5], "8x9"], "[width,height]"),
    (kinds.factors, [[0.5, 2], [1, 1]], [[2, 1], [0, 1], [1], 1], "[lowest,highest], both above 0"),
    (kinds.text, ["a"], ["", 5, None, True], "a text"),
    (kinds.texts, [["a", "b"]], [[], ["a", 1], "a"], "a list of texts"),
    (kinds.flag, [True, False], [0, 1, "yes", None], "true or false"),
    (kinds.pattern, ["^a(.)"], ["(", 5], "a regular expression"),
    (kinds.duration, ["00:01:00:00"], ["1h", 60], "DD:HH:MM:SS"),
    (kinds.batches, [1, 0.5, 1.0], [0, 0.0, 1.5, -1], "a number of batches"),
    (kinds.seed, [0, 2**32 - 1], [-1, 2**32], "a whole number from 0 to 4294967295"),
]


@pytest.mark.parametrize(("kind", "right", "wrong", "words"), CASES)
def test_a_wrong_value_gives_one_error_with_what_is_allowed(
    kind: Any, right: list[Any], wrong: list[Any], words: str
) -> None:
    adapter = TypeAdapter(kind)
    for value in right:
        assert adapter.validate_python(value) == value
    for value in wrong:
        with pytest.raises(ValidationError) as caught:
            adapter.validate_python(value)
        (error,) = caught.value.errors()
        assert (error["type"], error["loc"]) == (kinds.WRONG, ())
        assert words in error["ctx"]["words"]
