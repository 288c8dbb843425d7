"""Copies of chromosomes: where they lie, how their light adds up, and which ones are copied."""

from typing import Any

import numpy as np
import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.annotation import Annotation, rasterise
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.paste import CopyPaste
from kemr_lightning.data.warp import clip_polygon
from tests.data.helpers import CLEAR, frame, iou


def paste_scene(dark: bool) -> tuple[np.ndarray, list[Annotation], np.ndarray]:
    """Three bars that stand alone and two that cross, on a ground of 60 (or 200, the bars dark)."""
    centres = [(40, 40), (120, 40), (40, 120), (130, 130), (130, 130)]
    ground, level = (200, 120) if dark else (60, 110)
    image = np.full((180, 180), ground, dtype=np.uint8)
    annotations = []
    for number, (x, y) in enumerate(centres):
        half = np.array([18, 5] if number != 4 else [5, 18])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + (x, y)
        annotations.append(Annotation("chr", polygons=(corners.astype(float),)))
        image[frame(rasterise([corners.astype(float)], (180, 180)), (180, 180))] = level
    return image, annotations, np.array([[1.0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("dark", [False, True])
def test_copies_lie_where_their_masks_say(dark: bool) -> None:
    image, annotations, affine = paste_scene(dark)
    ground, level = (200, 120) if dark else (60, 110)
    added = 0
    for seed in range(30):
        before = image.copy()
        laid, everything = CopyPaste(p=1, most=1, near=0)(
            image, annotations, affine, (180, 180), np.random.default_rng(seed)
        )
        assert np.array_equal(image, before)
        assert everything[:5] == annotations
        if len(everything) == 5:
            assert np.array_equal(laid, image)
            continue
        copy = frame(rasterise([clip_polygon(p, (180, 180)) for p in everything[5].polygons], (180, 180)), (180, 180))
        changed = np.abs(laid.astype(int) - image) > abs(level - ground) * 0.3
        if copy.sum() > 100:
            added += 1
            assert iou(changed, copy) > 0.8
        alone = copy & (image == ground)
        if alone.sum() > 100:
            assert abs(float(np.median(laid[alone])) - level) <= 2
        crossing = copy & (image == level)
        if crossing.sum() > 30:
            expected = level * level / ground if dark else 2 * level - ground
            assert abs(float(np.median(laid[crossing])) - expected) <= 3
    assert added >= 10


def test_only_instances_that_stand_alone_are_copied() -> None:
    image, annotations, affine = paste_scene(False)
    for seed in range(20):
        _, everything = CopyPaste(p=1, most=3)(image, annotations[3:], affine, (180, 180), np.random.default_rng(seed))
        assert len(everything) == 2


def test_what_a_copy_lies_on_is_not_copied_in_turn() -> None:
    """Its cut-out would bring a piece of the copy along, without an outline."""
    image = np.full((200, 200), 60, dtype=np.uint8)
    image[70:130, 70:130] = 110
    square = Annotation("chr", polygons=(np.array([[70.0, 70], [130, 70], [130, 130], [70, 130]]),))
    for seed in range(20):
        _, everything = CopyPaste(p=1, most=6, near=1)(
            image, [square], np.eye(2, 3), (200, 200), np.random.default_rng(seed)
        )
        assert len(everything) <= 2


def test_copies_make_overlaps_more_frequent() -> None:
    image, annotations, _ = paste_scene(False)

    def overlaps(paste: CopyPaste | None) -> int:
        augmentation = Augmentation((160, 160), paste=paste, **CLEAR)
        count = 0
        for seed in range(20):
            _, instances = augmentation(image, annotations[:3], {"chr": 1}, np.random.default_rng(seed))
            count += int((instances.masks().sum(dim=0) > 1).sum())
        return count

    assert overlaps(None) == 0
    assert overlaps(CopyPaste(p=1, near=1)) > 100
    assert overlaps(CopyPaste(p=0)) == 0


def test_copies_go_where_the_crop_sees_them() -> None:
    """The crop shows the left upper quarter, where one bar stands; copies near others go near that one."""
    image, annotations, affine = paste_scene(False)
    for seed in range(15):
        _, everything = CopyPaste(p=1, most=2, near=1)(
            image, annotations, affine, (80, 80), np.random.default_rng(seed)
        )
        for copy in everything[5:]:
            x0, y0, x1, y1 = copy.bounds()
            assert np.hypot((x0 + x1) / 2 - 40, (y0 + y1) / 2 - 40) < 60  # normal with a deviation of 12 per axis
            assert copy.label == "chr"


def test_copies_keep_shape_and_number() -> None:
    image, annotations, affine = paste_scene(False)
    for seed in range(15):
        _, everything = CopyPaste(p=1, most=3, near=0)(
            image, annotations, affine, (180, 180), np.random.default_rng(seed)
        )
        assert len(everything) - 5 <= 3
        for copy in everything[5:]:
            (outline,) = copy.polygons
            sides = np.linalg.norm(outline - np.roll(outline, 1, axis=0), axis=1)
            np.testing.assert_allclose(np.sort(sides), [10, 10, 36, 36])


@pytest.mark.parametrize(("options", "setting"), [({"p": 1.5}, "p"), ({"near": -0.1}, "near"), ({"most": 0}, "most")])
def test_wrong_settings_name_themselves(options: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingError) as raised:
        CopyPaste(**options)
    assert raised.value.setting == f"augmentation.paste.{setting}"
