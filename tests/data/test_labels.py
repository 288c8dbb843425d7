"""Class names: renamed by a label map, and in the order of a karyotype."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation import EVERY_CLASS, Annotation
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.labels import LabelMap, as_label_map, label_order, map_labels, names_of, new_names
from kemr_lightning.data.labels import labels_of as all_labels
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


@pytest.mark.parametrize(
    ("key", "label"),
    [(1, "1"), (1e5, "1e5"), (16, "0x10"), (1000, "1_000"), (True, "on"), (False, "no"), (True, "true"), (8, "010")],
)
def test_labels_are_found_whatever_yaml_and_hydra_read_in_them(key: Any, label: str) -> None:
    assert new_names([label], {key: "A"}) == {label: "A"}


def test_the_written_name_goes_before_one_that_reads_alike() -> None:
    assert new_names(["1", "1.0", "true", "a"], {1: "A", "1.0": "B"}) == {"1": "A", "1.0": "B"}
    assert new_names(["a", "b"], {"a": True, "b": 1e5}) == {"a": "true", "b": "100000.0"}


def test_a_file_of_names_is_taken_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text("1: 1\n1e5: on\n0x10: 0o7\nyes: 1_000\nno: null\nempty:\nquoted: 'null'\n'22': \"22\"\nY: ~\n")
    expected = {"1": "1", "1e5": "on", "0x10": "0o7", "yes": "1_000", "no": None, "empty": None, "quoted": "null"}
    expected |= {"22": "22", "Y": None}
    assert as_label_map(path) == expected
    assert new_names(["1e5", "no"], str(path)) == {"1e5": "on", "no": None}
    (tmp_path / "names.json").write_text('{"1": 2, "X": null}')
    assert as_label_map(tmp_path / "names.json") == {"1": "2", "X": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds no mapping of names"),
        ("a: [b]\n", "line 1: not one name for one label"),
        ("a: b\na: c\n", "names the label 'a' twice"),
        ("a: {\n", "is not YAML"),
        ("", "holds no mapping of names"),
    ],
)
def test_broken_files_of_names(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        as_label_map(tmp_path / "names.yaml")


def test_what_is_no_label_map() -> None:
    with pytest.raises(SettingError, match=r"label_map=none\.yaml is not a file\. Use single, null, a mapping"):
        as_label_map("none.yaml")
    with pytest.raises(SettingError, match="label_map=3 is not a label map"):
        as_label_map(3)


def test_crowds_are_renamed_but_are_no_class() -> None:
    crowds = (Annotation("b", box=(0, 0, 1, 1), crowd=True), Annotation(EVERY_CLASS, box=(0, 0, 1, 1), crowd=True))
    mixed = replace(record("a"), annotations=(*(record("a").annotations or ()), *crowds))
    assert (names_of([mixed]), all_labels([mixed])) == (["a"], ["a", "b"])
    assert labels_of(map_labels([mixed], {"a": "x", "b": "y"})) == ["x", "y", EVERY_CLASS]
    assert labels_of(map_labels([mixed], "single")) == ["chromosome", "chromosome", EVERY_CLASS]
