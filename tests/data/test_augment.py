"""Pixels and outlines must move together: exactly for turns and flips, closely for free turns and scales."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.annotation import EVERY_CLASS, Annotation, rasterise
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.warp import background_level
from tests.data.helpers import CLEAR, frame, iou

SIZE = (120, 160)


def scene(seed: int, count: int = 8, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, list[Annotation]]:
    """Bent bars, each of its own grey level, on 40; the image is drawn from the rasterised outlines."""
    rng = np.random.default_rng(seed)
    image = np.full(size, 40, dtype=np.uint8)
    annotations = []
    for number in range(count):
        centre, angle = rng.uniform((0, 0), size[::-1]), rng.uniform(0, np.pi)
        along, across = rng.uniform(12, 25), rng.uniform(4, 7)
        corners = np.array([[-along, -across], [0, -across - 4], [along, -across], [along, across], [-along, across]])
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        outline = corners @ turn + centre
        annotations.append(Annotation("chr", polygons=(outline,)))
        patch = rasterise([outline], size)
        image[frame(patch, size)] = 100 + 15 * (number % 10)
    return image, annotations


def bitmaps(annotations: list[Annotation], size: tuple[int, int]) -> list[Annotation]:
    patches = [rasterise(annotation.polygons, size) for annotation in annotations]
    return [Annotation("chr", patches=(patch,)) for patch in patches if patch is not None]


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("bitmap", [False, True])
def test_turns_and_flips_move_masks_exactly(seed: int, bitmap: bool) -> None:
    """The image is drawn from the masks, so each mask must cover exactly the pixels of its grey level."""
    image, annotations = scene(seed, count=1)
    augmentation = Augmentation((96, 96), resample_p=0, min_visible=0, min_area=1, focus=1, **CLEAR)
    chosen = bitmaps(annotations, SIZE) if bitmap else annotations
    moved, instances = augmentation(image, chosen, {"chr": 1}, np.random.default_rng(seed))
    seen = moved == 100
    assert moved.shape == (96, 96)
    if bitmap:
        assert np.array_equal(frame(instances.patches[0] if len(instances) else None, (96, 96)), seen)
    elif seen.any():
        # Outlines are rasterised anew, and pycocotools rounds ties to one side: a rim pixel may differ.
        assert iou(frame(instances.patches[0], (96, 96)), seen) > 0.93


def test_integer_outlines_turn_exactly() -> None:
    image = np.full(SIZE, 40, dtype=np.uint8)
    image[50:70, 30:90] = 200
    box = np.array([[30.0, 50.0], [90.0, 50.0], [90.0, 70.0], [30.0, 70.0]])
    augmentation = Augmentation((100, 100), resample_p=0, min_visible=0, min_area=1, focus=1, **CLEAR)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        moved, instances = augmentation(image, [Annotation("a", polygons=(box,))], {"a": 1}, rng)
        mask = frame(instances.patches[0] if len(instances) else None, (100, 100))
        assert np.array_equal(mask, moved == 200)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("bitmap", [False, True])
def test_free_turns_and_scales_move_masks_with_pixels(seed: int, bitmap: bool) -> None:
    image, annotations = scene(seed, count=1)
    augmentation = Augmentation((128, 128), scale=(0.7, 1.6), resample_p=1, min_visible=0, min_area=1, focus=1, **CLEAR)
    chosen = bitmaps(annotations, SIZE) if bitmap else annotations
    moved, instances = augmentation(image, chosen, {"chr": 1}, np.random.default_rng(seed))
    seen = moved >= 70  # half way between the ground, 40, and the bar, 100
    if seen.sum() < 100:
        return  # hardly visible
    assert iou(frame(instances.patches[0], (128, 128)), seen) > 0.93


def test_no_shift_on_average() -> None:
    """A systematic shift of even a quarter pixel would show in the mean distance of centres."""
    shifts = []
    for seed in range(60):
        image, annotations = scene(seed, count=1, size=(200, 200))
        outline = annotations[0].polygons[0]
        annotations = [Annotation("chr", polygons=(outline - outline.mean(axis=0) + 100,))]
        image = np.full((200, 200), 40, dtype=np.uint8)
        image[frame(rasterise(annotations[0].polygons, (200, 200)), (200, 200))] = 100
        augmentation = Augmentation((160, 160), resample_p=1, min_visible=0, focus=0, **CLEAR)
        moved, instances = augmentation(image, annotations, {"chr": 1}, np.random.default_rng(seed))
        mask = frame(instances.patches[0], (160, 160))
        weight = moved.astype(float) - 40
        rows, columns = np.mgrid[:160, :160]
        if mask[[0, -1]].any() or mask[:, [0, -1]].any():
            continue
        shifts.append(
            [
                (columns * weight).sum() / weight.sum() - columns[mask].mean(),
                (rows * weight).sum() / weight.sum() - rows[mask].mean(),
            ]
        )
    assert len(shifts) > 30
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.06
    assert np.abs(shifts).max() < 0.5


def test_overlaps_stay_overlaps() -> None:
    image = np.full(SIZE, 40, dtype=np.uint8)
    box = np.array([[40.0, 40.0], [100.0, 40.0], [100.0, 60.0], [40.0, 60.0]])
    annotations = [Annotation("a", polygons=(box,)), Annotation("a", polygons=(box + 10,))]
    augmentation = Augmentation((200, 200), resample_p=0, **CLEAR)
    _, instances = augmentation(image, annotations, {"a": 1}, np.random.default_rng(0))
    masks = instances.masks()
    assert int((masks[0] & masks[1]).sum()) == 500


def test_instances_cut_too_far_are_left_out() -> None:
    box = np.array([[0.0, 0.0], [20.0, 0.0], [20.0, 20.0], [0.0, 20.0]])
    shift = np.array([[1.0, 0, 0], [0, 1, 0]])
    for left, kept in ((16.5, False), (14.0, True), (0.0, True), (25.0, False)):
        shift[0, 2] = -left
        augmentation = Augmentation((40, 40), min_visible=0.25, min_area=1)
        assert len(augmentation.move([Annotation("a", polygons=(box,))], {"a": 1}, shift, (50, 50))) == kept
    shift[0, 2] = -14
    assert not len(
        Augmentation((40, 40), min_area=121).move([Annotation("a", polygons=(box,))], {"a": 1}, shift, (50, 50))
    )


def test_outlines_beyond_the_image_are_cut_at_its_border() -> None:
    image = np.full((40, 40), 200, dtype=np.uint8)
    box = np.array([[-20.0, 5.0], [20.0, 5.0], [20.0, 25.0], [-20.0, 25.0]])
    augmentation = Augmentation((90, 90), resample_p=0, turns=False, focus=0, **CLEAR)
    moved, instances = augmentation(image, [Annotation("a", polygons=(box,))], {"a": 1}, np.random.default_rng(1))
    assert instances.patches[0].area() == 400
    assert moved.shape == (90, 90)


def test_small_images_are_padded_with_background() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(88, 93, (50, 50)).astype(np.uint8)
    image[10:20, 10:20] = 250
    assert background_level(image) in range(88, 93)
    moved, _ = Augmentation((100, 100), resample_p=0, focus=0, **CLEAR)(image, [], {}, rng)
    assert moved[0, 0] in range(88, 93)
    assert moved.min() >= 88


def test_crops_stay_on_large_images_and_find_instances() -> None:
    image, annotations = scene(0, count=1, size=(300, 400))
    image[:] = 255
    augmentation = Augmentation((96, 96), resample_p=0, focus=1, **CLEAR)
    found = 0
    for seed in range(40):
        moved, instances = augmentation(image, annotations, {"chr": 1}, np.random.default_rng(seed))
        assert moved.min() == 255
        found += len(instances)
    assert found >= 30


def test_a_kept_frame_keeps_its_size() -> None:
    image, annotations = scene(2)
    for seed in range(16):
        augmentation = Augmentation(None, resample_p=0.5, **CLEAR)
        moved, instances = augmentation(image, annotations, {"chr": 1}, np.random.default_rng(seed))
        assert moved.shape == SIZE
        assert instances.image_size == SIZE
    plain = Augmentation(None, resample_p=0, turns=False, **CLEAR)
    moved, _ = plain(image, annotations, {"chr": 1}, np.random.default_rng(0))
    assert np.array_equal(moved, image)


def test_kept_frames_see_all_their_symmetries() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    augmentation = Augmentation(None, resample_p=0, **CLEAR)
    seen = {augmentation(image, [], {}, np.random.default_rng(seed))[0].tobytes() for seed in range(60)}
    assert seen == {view.tobytes() for view in (image, image[::-1], image[:, ::-1], image[::-1, ::-1])}
    square = np.arange(9, dtype=np.uint8).reshape(3, 3)
    assert len({augmentation(square, [], {}, np.random.default_rng(seed))[0].tobytes() for seed in range(120)}) == 8


def test_the_same_generator_gives_the_same_sample() -> None:
    image, annotations = scene(1)
    augmentation = Augmentation((64, 64), invert_p=0.5)
    first, second, third = (augmentation(image, annotations, {"chr": 1}, np.random.default_rng(s)) for s in (7, 7, 8))
    assert np.array_equal(first[0], second[0])
    assert first[1].boxes.tolist() == second[1].boxes.tolist()
    assert not np.array_equal(first[0], third[0])


def test_light() -> None:
    image = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    rng = np.random.default_rng(0)
    inverted = Augmentation(**{**CLEAR, "invert_p": 1.0}).change_light(image, rng)
    assert np.array_equal(inverted, 255 - image)
    brighter = [Augmentation(**{**CLEAR, "brightness": 0.1}).change_light(image, rng).astype(int) for _ in range(20)]
    assert max(abs(int(np.median(b - image))) for b in brighter) in range(10, 27)
    for setting in ({"gamma": (0.5, 0.6)}, {"contrast": (1.5, 1.6)}, {"noise": 8.0}, {"shading": 0.3}, {"blur_p": 1.0}):
        noise = rng.integers(0, 256, (64, 64)).astype(np.uint8)
        changed = Augmentation(**{**CLEAR, **setting}).change_light(noise, rng)
        assert changed.dtype == np.uint8
        assert not np.array_equal(changed, noise)
    assert np.array_equal(Augmentation(**CLEAR).change_light(image, rng), image)


def test_contrast_of_instances_is_inverted() -> None:
    image, annotations = scene(3)
    turned, _ = Augmentation(None, resample_p=0, turns=False, **{**CLEAR, "invert_p": 1.0})(
        image, annotations, {"chr": 1}, np.random.default_rng(0)
    )
    assert np.array_equal(turned, 255 - image)


def test_labels_follow_and_unknown_ones_are_left_out() -> None:
    image, annotations = scene(4, count=3)
    named = [Annotation(name, polygons=a.polygons) for name, a in zip("abz", annotations, strict=True)]
    augmentation = Augmentation(None, resample_p=0, turns=False, min_visible=0, **CLEAR)
    _, instances = augmentation(image, named, {"a": 4, "b": 2}, np.random.default_rng(0))
    assert instances.labels.tolist() == [4, 2]


def test_it_is_fast_enough() -> None:
    image, annotations = scene(0, count=46, size=(576, 768))
    augmentation = Augmentation((384, 384))
    rng = np.random.default_rng(0)
    augmentation(image, annotations, {"chr": 1}, rng)
    start = time.process_time()
    for _ in range(10):
        augmentation(image, annotations, {"chr": 1}, rng)
    assert (time.process_time() - start) / 10 < 0.1  # about 0.02 on a quiet core


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"crop_size": (96,)}, "crop_size"),
        ({"crop_size": 96}, "crop_size"),
        ({"crop_size": (96, 0)}, "crop_size"),
        ({"crop_size": "large"}, "crop_size"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"gamma": (1.2, 0.8)}, "gamma"),
        ({"contrast": 1.2}, "contrast"),
        ({"focus": 1.1}, "focus"),
        ({"blur_p": -0.1}, "blur_p"),
        ({"rotate": -1}, "rotate"),
        ({"noise": float("nan")}, "noise"),
    ],
)
def test_wrong_settings_name_themselves(options: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingError) as raised:
        Augmentation(**options)
    assert raised.value.setting == f"augmentation.{setting}"


def test_crowds_move_with_the_image_and_change_nothing_else() -> None:
    image, annotations = scene(3)
    crowd = replace(annotations[0], label="chr", crowd=True)
    everywhere = Annotation(EVERY_CLASS, box=(10.0, 10.0, 30.0, 40.0), crowd=True)
    augment = Augmentation(crop_size=(64, 64), **CLEAR)
    ids = {"chr": 1, "other": 2}
    plain, without = augment(image, annotations[1:], ids, np.random.default_rng(5))
    moved, found = augment(image, [crowd, *annotations[1:], everywhere], ids, np.random.default_rng(5))
    assert np.array_equal(plain, moved)
    assert without.ignored is None
    assert found.boxes.tolist() == without.boxes.tolist()
    # The same crowd as an instance moves alike.
    affine = augment.draw_geometry((image.shape[0], image.shape[1]), annotations[1:], np.random.default_rng(5))
    regions = augment.move_crowds([crowd, everywhere], ids, affine, (image.shape[0], image.shape[1]))
    instance = replace(augment, min_visible=0, min_area=0).move([annotations[0]], ids, affine, image.shape[:2])
    expected = [frame(patch, (64, 64)) for patch in instance.patches or []]
    seen = [] if regions is None else [frame(patch, (64, 64)) for patch in regions.patches or []]
    labels = [] if regions is None else regions.labels.tolist()
    ones = [mask for mask, label in zip(seen, labels, strict=True)][: len(expected)]
    assert all(np.array_equal(one, other) for one, other in zip(ones, expected, strict=True))
    assert labels in ([1] * len(expected), [1] * len(expected) + [1, 2])


def test_boxes_without_masks_stay_boxes() -> None:
    """They are not turned freely, fill their patch and are marked; the others keep their masks."""
    image = np.full((120, 160), 200, dtype=np.uint8)
    outlined = Annotation("a", polygons=(np.array([[20.0, 20.0], [60.0, 20.0], [60.0, 32.0], [20.0, 32.0]]),))
    boxed = Annotation("a", box=(80.0, 40.0, 130.0, 60.0))
    turning = Augmentation(crop_size=None, rotate=180, resample_p=1.0, scale=(1.0, 1.0), turns=False)
    for seed in range(4):
        _, found = turning(image, [outlined, boxed], {"a": 1}, np.random.default_rng(seed))
        assert found.outlined is not None
        assert found.outlined.tolist() == [True, False]
        assert found.boxes[1].tolist() == [80, 40, 130, 60]
        assert found.patches is not None
        assert bool(found.patches[1].values.all())
    _, found = turning(image, [outlined], {"a": 1}, np.random.default_rng(0))
    assert found.outlined is None
