"""Words of the command line, read back by Hydra's own parser."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from kemr_lightning.core.overrides import is_one_of, key_of, number_or_text, override, quoted, shell_word, split

VALUES = (
    "plain",
    "with spaces/and-more_1.0",
    "a,b",
    "[1,2]",
    "{a: 1}",
    "it's",
    'say "so"',
    "back\\slash",
    "trailing\\",
    "${oc.env:HOME}",
    "(x)",
    "ü",
    "a=b",
    " padded ",
    "per%cent",
    "tab\there",
)


@pytest.mark.parametrize("value", VALUES)
def test_hydra_reads_what_was_meant(value: str) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([override("data.root", value)])
    assert parsed.key_or_group == "data.root"
    found = parsed.value()
    assert isinstance(found, str)
    # Hydra leaves interpolations escaped, so that they stay text until they are resolved.
    assert found.replace("\\${", "${") == value


@pytest.mark.parametrize("value", VALUES)
def test_the_shell_and_hydra_read_what_was_meant(value: str) -> None:
    (word,) = shlex.split(shell_word("hydra.run.dir", value))
    (parsed,) = OverridesParser.create().parse_overrides([word])
    assert str(parsed.value()).replace("\\${", "${") == value


@pytest.mark.parametrize("value", [None, True, False, 3, -0.5, 1e-7, [768, 576], ["a b", "c,d", None], [[1, 2], [3]]])
def test_values_keep_their_kind(value: object) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([override("data.size", value)])
    found = parsed.value()
    if isinstance(found, list):
        found = [item.text if isinstance(item, QuotedString) else item for item in found]
    assert found == value
    assert type(found) is type(value)


def test_plain_values_have_no_quotes() -> None:
    assert override("seed", "3") == "seed=3"
    assert quoted("runs/2024-01-01 12:00") == "runs/2024-01-01 12:00"
    assert quoted("a,b") == "'a,b'"


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("seed=3", "seed", "3"),
        ("+model.heads.nms=mask", "model.heads.nms", "mask"),
        ("++x='a b'", "x", "a b"),
        ("~callbacks.ema", "callbacks.ema", ""),
        ("model@second=tiny", "model@second", "tiny"),
        ("data.root='a=b'", "data.root", "a=b"),
    ],
)
def test_words_are_taken_apart(word: str, key: str, value: str) -> None:
    assert key_of(word) == key
    assert split(word) == (key, value)


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("-2", -2), ("1e-3", 0.001), ("3.0", 3.0), ("abc", "abc"), ("", "")]
)
def test_numbers_where_they_are(text: str, value: object) -> None:
    found = number_or_text(text)
    assert found == value
    assert type(found) is type(value)


def test_keys_and_what_lies_below_them() -> None:
    keys = ("data", "model.heads")
    assert [is_one_of(key, keys) for key in ("data", "data.root", "data@part", "model.heads.nms")] == [True] * 4
    assert [is_one_of(key, keys) for key in ("dataset", "model", "model.headset", "x.data")] == [False] * 4
