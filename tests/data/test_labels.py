"""Class names: renamed by a label map, and in the order of a karyotype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.labels import LabelMap, label_order, map_labels, names_of, new_names
from kemr_lightning.data.record import Record


def record(*labels: str, annotated: bool = True) -> Record:
    annotations = tuple(Annotation(label, box=(0, 0, 1, 1)) for label in labels)
    return Record(
        "a.png",
        Path("a.png"),
        lambda: IntensityImage(np.zeros((2, 2), dtype=np.uint8)),
        annotations if annotated else None,
    )


def labels_of(records: list[Record]) -> list[str]:
    return [annotation.label for each in records for annotation in each.annotations or ()]


@pytest.mark.parametrize(
    ("label_map", "expected"),
    [
        (None, {"a": "a", "b": "b"}),
        ("single", {"a": "chromosome", "b": "chromosome"}),
        ({"a": "x", "b": None, "c": "y"}, {"a": "x", "b": None}),
        ({"a": "x"}, {"a": "x"}),
    ],
)
def test_what_becomes_of_labels(label_map: LabelMap, expected: dict[str, str | None]) -> None:
    assert new_names(["a", "b"], label_map) == expected


def test_annotations_are_renamed_and_dropped() -> None:
    assert labels_of(map_labels([record("a", "b", "a")], {"a": "x", "b": None})) == ["x", "x"]
    assert labels_of(map_labels([record("a", "b")], "single")) == ["chromosome"] * 2
    assert labels_of(map_labels([record("a", "b")], None)) == ["a", "b"]


def test_images_without_annotations_stay_without() -> None:
    (mapped,) = map_labels([record(annotated=False)], "single")
    assert mapped.annotations is None
    assert names_of([mapped]) == []


def test_wrong_maps_name_themselves() -> None:
    with pytest.raises(SettingError) as unknown:
        map_labels([record("a")], "merge")
    assert str(unknown.value.under("data")).startswith("data.label_map=merge is unknown")
    long = {name: name for name in "abcdefgh"}
    with pytest.raises(SettingError, match=r"label_map=\{a, b, c, \.\.\.\} does not name the label 'z' of a\.png"):
        map_labels([record("a", "z")], long)


def test_names_are_ordered_as_in_a_karyotype() -> None:
    assert sorted(["X", "10", "2", "1", "Y", "22"], key=label_order) == ["1", "2", "10", "22", "X", "Y"]
    assert names_of([record("X", "10"), record("2", "X")]) == ["2", "10", "X"]


def test_numbers_are_names_in_a_mapping() -> None:
    label_map: Any = {1: "A", "X": 23, 2: None}
    assert new_names(["1", "2", "X", "Y"], label_map) == {"1": "A", "2": None, "X": "23"}
