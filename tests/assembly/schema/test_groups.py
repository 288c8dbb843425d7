"""Nodes: known keys, and the keys that a ``_target_`` decides."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from kemr_lightning.assembly.schema.groups import built, group, known, named
from kemr_lightning.assembly.schema.kinds import some

TREE = TypeAdapter(group({"tree": built(known(("oak", "quercus"), {"age": some}), known("elm", {}, more=True))}))


@pytest.mark.parametrize(
    "tree",
    [
        {"_target_": "oak", "age": 3, "_convert_": "all"},
        {"_target_": "quercus"},
        {"_target_": "elm", "leaves": 5},
        {"_target_": "mine.Tree", "anything": [1]},
    ],
)
def test_a_target_decides_which_keys_there_are(tree: dict[str, object]) -> None:
    assert TREE.validate_python({"tree": tree}) == {"tree": tree}


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"_target_": "oak", "age": 0}, ("tree", "@oak", "age")),
        ({"_target_": "quercus", "height": 1}, ("tree", "@oak", "height")),
        ({"_target_": "elm", "_partial_": 1}, ("tree", "@elm", "_partial_")),
        ({"age": 3}, ("tree",)),
        (3, ("tree",)),
    ],
)
def test_errors_are_at_their_key(tree: object, place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        TREE.validate_python({"tree": tree})
    assert [each["loc"] for each in caught.value.errors()] == [place]


def test_keys_that_are_names() -> None:
    adapter = TypeAdapter(named(some))
    assert adapter.validate_python({"a": 1, "b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(ValidationError):
        adapter.validate_python({"a": 0})
