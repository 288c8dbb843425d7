"""Crowds, regions to ignore and groups: what becomes of them, and which look as if they were meant otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import EVERY_CLASS, Annotation
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.record import Record
from kemr_lightning.data.regions import Regions, brush_masks, far_apart, parts_of


def square(x: float, y: float, side: float = 10, label: str = "chr", group: int | None = None) -> Annotation:
    corners = np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], dtype=float)
    return Annotation(label, polygons=(corners,), group_id=group)


def bitmap(x: int, side: int = 10, label: str = "chr", holes: bool = False) -> Annotation:
    values = torch.ones((side, side), dtype=torch.bool)
    if holes:
        values[::2] = False
    return Annotation(label, patches=(Patch(x, 0, values),), crowd=True)


def pair(gap: float, group: int | None = 1, side: float = 10) -> Annotation:
    first, second = square(0, 0, side), square(side + gap, 0, side)
    return Annotation("chr", polygons=(*first.polygons, *second.polygons), group_id=group)


def test_labels_to_ignore_are_crowds_of_every_class_whatever_their_case() -> None:
    shapes = [square(0, 0, label=label) for label in ("chr", "__ignore__", "Ignore", "_background_", "ignored")]
    meant = Regions().meant(shapes)
    assert [(a.label, a.crowd) for a in meant] == [
        ("chr", False),
        *[(EVERY_CLASS, True)] * 3,
        ("ignored", False),
    ]
    assert [a.crowd for a in Regions(ignore_labels=[]).meant(shapes)] == [False] * 5
    assert [a.crowd for a in Regions(ignore_labels=[22, True]).meant([square(0, 0, label="22"), shapes[0]])] == [
        True,
        False,
    ]


def test_a_label_that_the_map_names_is_not_ignored() -> None:
    (kept,) = Regions().meant([square(0, 0, label="ignore")], {"ignore": "chromosome", "chr": None})
    assert (kept.label, kept.crowd) == ("ignore", False)


def test_crowds_stay_or_become_instances() -> None:
    crowd = bitmap(0)
    assert Regions().meant([crowd]) == (crowd,)
    assert [a.crowd for a in Regions(crowds="instances").meant([crowd])] == [False]
    # What is to be ignored stays so.
    assert Regions(crowds="instances").meant([square(0, 0, label="ignore")])[0].crowd


def test_groups_can_be_taken_apart_and_other_parts_stay_together() -> None:
    apart = Regions(groups="separate").meant([pair(50), pair(50, group=None)])
    assert [(len(a.polygons), a.group_id) for a in apart] == [(1, None), (1, None), (2, None)]
    mixed = Annotation("x", polygons=pair(5).polygons, patches=bitmap(0).patches, group_id=3)
    assert [(len(a.polygons), len(a.patches)) for a in parts_of(mixed)] == [(1, 0), (1, 0), (0, 1)]


def test_records_without_annotations_stay_without() -> None:
    record = Record("a", Path("a"), lambda: IntensityImage(np.zeros((2, 2), dtype=np.uint8)))
    assert Regions().apply([record]) == [record]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crowds": "keep"}, "crowds=keep is unknown. Use ignore or instances"),
        ({"groups": "split"}, "groups=split is unknown. Use join or separate"),
        ({"ignore_labels": "ignore"}, "ignore_labels=ignore is not a list of labels"),
    ],
)
def test_wrong_settings(settings: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Regions(**settings)


def test_crowds_of_one_piece_and_usual_size_look_like_the_masks_of_a_brush() -> None:
    assert brush_masks([]) == 0
    assert brush_masks([square(0, 0)]) == 0
    assert brush_masks([bitmap(0), bitmap(20)]) == 2
    assert brush_masks([square(0, 0), square(20, 0), bitmap(40)]) == 1
    # A real crowd is in pieces, much larger, or an outline.
    assert brush_masks([square(0, 0), bitmap(20, holes=True)]) == 0
    assert brush_masks([square(0, 0), square(0, 0), square(0, 0), bitmap(20, side=40)]) == 0
    outlined = Annotation("chr", polygons=square(0, 0).polygons, crowd=True)
    assert brush_masks([square(0, 0), outlined]) == 0
    # A label to ignore says what it is.
    assert brush_masks([Annotation(EVERY_CLASS, patches=bitmap(0).patches, crowd=True)]) == 0


def test_groups_whose_shapes_lie_far_apart() -> None:
    # Two pieces of a chromosome under another one lie less than a chromosome's width apart.
    assert far_apart(pair(6)) is None
    assert far_apart(pair(60)) == pytest.approx(60, abs=1)
    assert far_apart(pair(60, group=None)) is None
    # Each is near one other: a row of pieces.
    row = Annotation("chr", polygons=tuple(p for x in (0, 16, 32, 48) for p in square(x, 0).polygons), group_id=1)
    assert far_apart(row) is None
    mixed = Annotation("chr", polygons=square(60, 0).polygons, patches=bitmap(0).patches, group_id=1)
    assert far_apart(mixed) == pytest.approx(50, abs=1.5)
    assert far_apart(Annotation("chr", box=(0, 0, 1, 1), group_id=1)) is None
