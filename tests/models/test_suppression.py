"""Suppression by boxes and by masks: objects that cross are kept, duplicates are not."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import box_iou

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Detections
from kemr_lightning.models.suppression import CANDIDATES, Suppression, mask_nms
from tests.models.helpers import constant_heads, constant_stage, features_of

SIZE = (100, 100)


def rod(angle: float, size: int = 56) -> torch.Tensor:
    """``(M, M)`` a rod through the middle of its region."""
    at = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    across = -x * math.sin(angle) + y * math.cos(angle)
    return ((along.abs() < 0.5) & (across.abs() < 0.08)).float()


def detections(boxes: list[list[float]], scores: list[float], grids: list[torch.Tensor], labels=None) -> Detections:
    where = torch.tensor(boxes)
    kinds = torch.tensor(labels or [1] * len(boxes))
    return Detections(where, torch.tensor(scores), kinds, torch.stack(grids), where.clone())


def test_crossing_rods_are_both_kept_and_duplicates_are_not():
    up, down = rod(math.pi / 4), rod(-math.pi / 4)
    boxes = [[10.0, 10, 80, 80], [11.0, 10, 81, 80], [10.0, 11, 80, 81], [40.0, 40, 90, 90]]
    found = detections(boxes, [0.8, 0.9, 0.7, 0.6], [up, down, up, up])
    assert box_iou(found.boxes[:3], found.boxes[:3]).min() > 0.9  # box suppression would keep one of three
    assert mask_nms(found, SIZE, 0.5).tolist() == [1, 0, 3]


def test_other_classes_do_not_suppress():
    same = rod(0.3)
    found = detections([[10.0, 10, 80, 80]] * 3, [0.5, 0.9, 0.7], [same] * 3, [1, 2, 1])
    assert mask_nms(found, SIZE, 0.5).tolist() == [1, 2]


def test_nothing_and_empty_masks():
    none = Detections(
        torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0, 28, 28), torch.zeros(0, 4)
    )
    assert mask_nms(none, SIZE, 0.5).tolist() == []
    blank = torch.zeros(28, 28)
    assert mask_nms(detections([[10.0, 10, 80, 80]] * 2, [0.5, 0.9], [blank, blank]), SIZE, 0.5).tolist() == [1, 0]


def test_heads_suppress_by_masks_on_request():
    def found(nms: str, **settings: object) -> int:
        heads = constant_heads([constant_stage(0, [0.0, 1.0])], [[5.0]], nms=nms, **settings).eval()
        # Box IoU 0.6: masks that fill their boxes have it as well.
        proposals = [torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 12], [0, 0, 20, 19.9]])]
        return len(heads(features_of(), proposals, [(64, 64)])[0].boxes)

    assert found("box") == 1
    assert found("mask") == 1
    assert found("mask", nms_threshold=0.65) == 2
    assert found("mask", nms_threshold=0.99, loose_threshold=0.9) == 2
    assert found("mask", nms_threshold=0.999, loose_threshold=0.999, detections=1) == 1


LADDER = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [50, 50, 60, 60]])
"""Boxes whose IoU with the first is 1, 0.8, 0.4 and 0."""


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"nms_threshold": 0.5}, [0, 2, 3]),
        ({"nms_threshold": 0.3}, [0, 3]),
        ({"nms_threshold": 0.9}, [0, 1, 2, 3]),
        ({"nms_threshold": 0.5, "detections": 2}, [0, 2]),
        # By masks: loosely, and twice as many as there will be detections.
        ({"nms": "mask", "nms_threshold": 0.3}, [0, 1, 2, 3]),
        ({"nms": "mask", "loose_threshold": 0.7}, [0, 2, 3]),
        ({"nms": "mask", "detections": 1}, [0, 1]),
    ],
)
def test_candidates_by_boxes(settings: dict[str, object], kept: list[int]) -> None:
    assert CANDIDATES == 2
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    chosen = Suppression(**settings).by_boxes(LADDER, scores, torch.ones(4, dtype=torch.int64))  # type: ignore[arg-type]
    assert chosen.tolist() == kept
    apart = Suppression(**settings).by_boxes(LADDER, scores, torch.arange(4))  # type: ignore[arg-type]
    assert apart.tolist() == list(range(4))[: len(apart)]  # classes do not suppress each other


def test_detections_by_masks() -> None:
    up, down = rod(math.pi / 4), rod(-math.pi / 4)
    found = detections([[10.0, 10, 80, 80], [11.0, 10, 81, 80], [10.0, 11, 80, 81]], [0.8, 0.9, 0.7], [up, down, up])
    assert Suppression(nms="box").by_masks(found, SIZE) is found
    assert Suppression(nms="mask").by_masks(found, SIZE).scores.tolist() == pytest.approx([0.9, 0.8])
    assert Suppression(nms="mask", detections=1).by_masks(found, SIZE).scores.tolist() == pytest.approx([0.9])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^nms=soft is not a kind of suppression\. Choose box or mask$"):
        Suppression(nms="soft")
