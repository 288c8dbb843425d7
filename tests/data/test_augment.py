"""Pixels and outlines must move together: exactly for turns and flips, closely for free turns and scales."""

import time

import numpy as np
import pytest

from kemr_lightning.data.annotation import Annotation, rasterise
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.paste import CopyPaste
from kemr_lightning.data.warp import (
    background_level,
    clip_polygon,
    resize_image,
    resize_scale,
    warp_image,
    warp_patch,
    warp_polygon,
)
from tests.data.helpers import frame, iou

CLEAR = {"brightness": 0, "contrast": (1, 1), "gamma": (1, 1), "shading": 0, "noise": 0, "blur_p": 0}
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


SYMMETRIES = [
    np.array(m, dtype=float) for m in ([[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, 1]], [[0, 1], [1, 0]])
]


@pytest.mark.parametrize("linear", SYMMETRIES)
def test_turns_and_flips_of_images_are_exact(linear: np.ndarray) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8)
    corner = linear @ [50, 30]
    affine = np.concatenate([linear, np.maximum(-corner, 0)[:, None]], axis=1)
    size = tuple(np.abs(corner).astype(int)[::-1].tolist())
    expected = {0: image, 1: np.rot90(image), 2: np.fliplr(image), 3: image.T}[
        next(i for i, m in enumerate(SYMMETRIES) if np.array_equal(m, linear))
    ]
    assert np.array_equal(warp_image(image, affine, size, 0), expected)


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


def test_clip_polygon_equals_the_raster_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        polygon = np.round(rng.uniform(-20, 60, (int(rng.integers(3, 7)), 2)))
        clipped = clip_polygon(polygon, (40, 40))
        one, two = frame(rasterise([polygon], (40, 40)), (40, 40)), frame(rasterise([clipped], (40, 40)), (40, 40))
        assert (one ^ two).sum() <= 12  # slanted edges are redrawn between new corners
        if len(clipped):
            assert clipped.min() >= 0
            assert clipped.max() <= 40


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


def test_polarity_of_instances_is_turned() -> None:
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


def test_warps_agree_with_each_other() -> None:
    affine = np.array([[0.9, -0.4, 60.0], [0.4, 0.9, -10.0]])
    outline = np.array([[30.0, 20.0], [90.0, 30.0], [80.0, 60.0], [35.0, 50.0]])
    patch = rasterise([outline], SIZE)
    assert patch is not None
    by_bitmap = frame(warp_patch(patch, affine, SIZE), SIZE)
    by_outline = frame(rasterise([warp_polygon(outline, affine)], SIZE), SIZE)
    by_image = warp_image(frame(patch, SIZE).astype(np.uint8) * 255, affine, SIZE, 0) >= 128
    assert iou(by_bitmap, by_outline) > 0.97
    assert np.array_equal(by_bitmap, by_image)
    away = affine.copy()
    away[:, 2] += 1000
    assert warp_patch(patch, away, SIZE) is None


def test_resize() -> None:
    assert resize_scale((1024, 1280), [1280, 1024]) == 1
    assert resize_scale((576, 768), [1280, 1024]) == pytest.approx(5 / 3)
    assert resize_scale((2200, 3200), [1280, 1024]) == 0.4
    assert resize_scale((10, 10), None) == 1
    image = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    assert resize_image(image, 0.5).shape == (20, 30)
    assert abs(float(resize_image(image, 0.5).mean()) - float(image.mean())) < 2
    assert resize_image(image, 2.0).shape == (80, 120)
    assert np.array_equal(resize_image(image, 1.0), image)


def test_it_is_fast_enough() -> None:
    image, annotations = scene(0, count=46, size=(576, 768))
    augmentation = Augmentation((384, 384))
    rng = np.random.default_rng(0)
    augmentation(image, annotations, {"chr": 1}, rng)
    start = time.process_time()
    for _ in range(10):
        augmentation(image, annotations, {"chr": 1}, rng)
    assert (time.process_time() - start) / 10 < 0.1  # about 0.02 on a quiet core


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
