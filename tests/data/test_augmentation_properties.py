"""What holds for every augmentation of every image: hypothesis looks for a counterexample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import Annotation, annotation_patch, polygon_area, rasterise, tight_patch
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.dataset import training_view
from kemr_lightning.data.paste import CopyPaste
from kemr_lightning.data.warp import clip_polygon, warp_image, warp_patch, warp_polygon
from kemr_lightning.models.views import VIEWS, View
from tests.data.helpers import CLEAR, frame

LABELS = {"a": 1, "b": 2}

examples = pytest.mark.parametrize("count", [12, pytest.param(400, marks=pytest.mark.full)])


def check(count: int, body: Callable[..., None], **given_by: Any) -> None:
    """Look for a counterexample; the few examples of a quick test are always the same."""
    options = settings(max_examples=count, deadline=None, database=None, derandomize=count < 100)
    settings(options, suppress_health_check=list(HealthCheck))(given(**given_by)(body))()


sizes = st.tuples(st.integers(12, 72), st.integers(12, 72))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def scenes(draw: st.DrawFn, inside: bool = False, bitmaps: bool = True) -> tuple[np.ndarray, list[Annotation]]:
    """An image and up to five annotations of two known classes and an unknown one.

    Args:
        draw: Hypothesis gives it.
        inside: Whether all outlines lie in the image.
        bitmaps: Whether some instances are bitmaps, or both.
    """
    height, width = size = draw(sizes)
    rng = np.random.default_rng(draw(seeds))
    reach = 0 if inside else 15
    annotations = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["outline", "outline", "bitmap", "both"] if bitmaps else ["outline"]))
        polygons: tuple[np.ndarray, ...] = ()
        patches: tuple[Patch, ...] = ()
        if kind != "bitmap":
            corners = rng.uniform((-reach, -reach), (width + reach, height + reach), (draw(st.integers(3, 7)), 2))
            polygons = (corners,)
        if kind != "outline":
            x0, y0 = (int(rng.integers(0, side - 1)) for side in (width, height))
            shape = (min(int(rng.integers(1, 14)), height - y0), min(int(rng.integers(1, 14)), width - x0))
            values = rng.random(shape) > 0.4
            values[0, 0] = True
            patches = (Patch(x0, y0, torch.from_numpy(values)),)
        annotations.append(Annotation(draw(st.sampled_from("aabz")), polygons, patches))
    return rng.integers(0, 256, size).astype(np.uint8), annotations


@st.composite
def augmentations(draw: st.DrawFn, paste: bool = True) -> Augmentation:
    low = draw(st.floats(0.4, 1.2))
    return Augmentation(
        crop_size=draw(st.none() | sizes),
        scale=(low, low * draw(st.floats(1, 2))),
        rotate=draw(st.floats(0, 180)),
        resample_p=draw(st.sampled_from([0.0, 1.0])),
        turns=draw(st.booleans()),
        focus=draw(st.sampled_from([0.0, 1.0])),
        invert_p=draw(st.sampled_from([0.0, 1.0])),
        blur_p=draw(st.sampled_from([0.0, 1.0])),
        min_visible=draw(st.floats(0, 1)),
        min_area=draw(st.integers(0, 40)),
        paste=CopyPaste(1.0, draw(st.integers(1, 4)), draw(st.sampled_from([0.0, 1.0])))
        if paste and draw(st.booleans())
        else None,
    )


def assert_sound(instances: Instances, image: np.ndarray) -> None:
    """Boxes are the tight boxes of masks, and everything lies in the image."""
    assert image.dtype == np.uint8
    assert instances.image_size == image.shape
    assert instances.patches is not None
    masks = instances.masks().numpy()
    for mask, box, patch in zip(masks, instances.boxes.tolist(), instances.patches, strict=True):
        rows, columns = np.nonzero(mask)
        assert len(rows)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert list(patch.window) == box
        assert patch.values.dtype == torch.bool
    assert instances.scores.tolist() == [1.0] * len(instances)


def subsequence(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


@examples
def test_boxes_are_tight_and_nothing_comes_from_nowhere(count: int) -> None:
    def body(scene: Any, augmentation: Augmentation, seed: int) -> None:
        image, annotations = scene
        before = image.copy()
        moved, instances = augmentation(image, annotations, LABELS, np.random.default_rng(seed))
        assert np.array_equal(image, before)
        assert moved.shape == augmentation.result_size(image.shape)
        assert_sound(instances, moved)
        assert all(patch.area() >= augmentation.min_area for patch in instances.patches or [])
        known = [LABELS[annotation.label] for annotation in annotations if annotation.label in LABELS]
        labels = instances.labels.tolist()
        if augmentation.paste is None:
            assert subsequence(labels, known)
        else:
            assert len(labels) <= len(known) + augmentation.paste.most
            assert set(labels) <= set(known)

    check(count, body, scene=scenes(), augmentation=augmentations(), seed=seeds)


@examples
def test_outlines_come_out_as_pycocotools_draws_them_and_are_lost_by_the_rule_alone(count: int) -> None:
    def body(scene: Any, augmentation: Augmentation, seed: int) -> None:
        image, annotations = scene
        _, instances = augmentation(image, annotations, LABELS, np.random.default_rng(seed))
        known = [annotation for annotation in annotations if annotation.label in LABELS]
        affine = augmentation.draw_geometry(image.shape, known, np.random.default_rng(seed))
        height, width = augmentation.result_size(image.shape)
        masks, labels = [], []
        for annotation in known:
            (polygon,) = annotation.polygons
            corners = polygon @ affine[:, :2].T + affine[:, 2]
            code = coco_mask.merge(coco_mask.frPyObjects([corners.ravel().tolist()], height, width))
            mask = coco_mask.decode(code).astype(bool)
            x, y = corners.T
            full = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
            assume(abs(mask.sum() - augmentation.min_visible * full) > 1e-6)
            if mask.any() and mask.sum() >= max(augmentation.min_area, augmentation.min_visible * full):
                masks.append(mask)
                labels.append(LABELS[annotation.label])
        found = instances.masks().numpy()
        assert instances.labels.tolist() == labels
        # Pixel by pixel, so pixels that instances share stay shared.
        assert np.array_equal(found, np.array(masks).reshape(found.shape))

    scene = scenes(inside=True, bitmaps=False)
    check(count, body, scene=scene, augmentation=augmentations(paste=False), seed=seeds)


@examples
def test_quarter_turns_and_shifts_lose_no_pixel_of_any_instance(count: int) -> None:
    def body(scene: Any, turns: bool, seed: int) -> None:
        image, annotations = scene
        plain = Augmentation(None, resample_p=0, turns=turns, min_visible=0, min_area=0, **CLEAR)
        moved, instances = plain(image, annotations, LABELS, np.random.default_rng(seed))
        known = [annotation for annotation in annotations if annotation.label in LABELS]
        patches = [annotation_patch(annotation, image.shape) for annotation in known]
        kept = [(patch, a.label) for patch, a in zip(patches, known, strict=True) if patch is not None]
        assert instances.labels.tolist() == [LABELS[label] for _, label in kept]
        affine = plain.draw_geometry(image.shape, known, np.random.default_rng(seed))
        assert np.array_equal(moved, warp_image(image, affine, moved.shape, 0))
        assert sorted(moved.ravel()) == sorted(image.ravel())
        for mask, (patch, _), annotation in zip(instances.masks().numpy(), kept, known, strict=False):
            if annotation.polygons:  # drawn after the turn; a pixel at its rim may differ
                continue
            whole = frame(patch, image.shape).astype(np.uint8)
            assert np.array_equal(mask, warp_image(whole, affine, moved.shape, 0) > 0)

    check(count, body, scene=scenes(), turns=st.booleans(), seed=seeds)


@examples
def test_bitmaps_are_warped_as_the_image_is(count: int) -> None:
    def body(scene: Any, augmentation: Augmentation, seed: int) -> None:
        image, annotations = scene
        size = image.shape
        affine = augmentation.draw_geometry(size, annotations, np.random.default_rng(seed))
        result = augmentation.result_size(size)
        for patch in (patch for annotation in annotations for patch in annotation.patches):
            moved = warp_patch(patch, affine, result)
            # On a frame with a margin, because the image's border is not the bitmap's.
            shifted = affine.copy()
            shifted[:, 2] -= affine[:, :2] @ [4, 4]
            whole = np.pad(frame(patch, size).astype(np.uint8) * np.uint8(255), 4)
            wanted = warp_image(whole, shifted, result, 0) >= 128
            different = frame(moved, result) ^ wanted
            # OpenCV rounds its weights, and differently for another window.
            assert different.sum() <= (0 if augmentation.resample_p == 0 else max(2, 0.1 * wanted.sum()))
            if moved is not None:
                assert moved.values.any(dim=0)[[0, -1]].all()
                assert moved.values.any(dim=1)[[0, -1]].all()

    check(count, body, scene=scenes(), augmentation=augmentations(paste=False), seed=seeds)


@examples
def test_pasting_keeps_what_is_there(count: int) -> None:
    def body(scene: Any, augmentation: Augmentation, paste: CopyPaste, seed: int) -> None:
        image, annotations = scene
        before = image.copy()
        affine = augmentation.draw_geometry(image.shape, annotations, np.random.default_rng(seed))
        size = augmentation.result_size(image.shape)
        pasted, result = paste(image, annotations, affine, size, np.random.default_rng(seed))
        assert np.array_equal(image, before)
        assert all(mine is theirs for mine, theirs in zip(result, annotations, strict=False))
        copies = result[len(annotations) :]
        assert len(copies) <= paste.most
        near = np.zeros(image.shape, dtype=bool)
        areas = [(a.label, polygon_area(a.polygons[0])) for a in annotations if a.polygons]
        for copy in copies:
            # A copy is its original, turned and moved.
            area = polygon_area(copy.polygons[0])
            assert any(copy.label == label and area == pytest.approx(other) for label, other in areas)
            assert copy.raw == ()
            x0, y0, x1, y1 = (round(side) for side in copy.bounds())
            near[max(y0 - 12, 0) : max(y1 + 12, 0), max(x0 - 12, 0) : max(x1 + 12, 0)] = True
        assert np.array_equal(pasted[~near], image[~near])

    pastes = st.builds(CopyPaste, st.just(1.0), st.integers(1, 4), st.sampled_from([0.0, 1.0]))
    check(count, body, scene=scenes(), augmentation=augmentations(paste=False), paste=pastes, seed=seeds)


@examples
def test_resizing_before_augmentation_scales_instances_along(count: int) -> None:
    def body(scene: Any, target: tuple[int, int], seed: int) -> None:
        image, annotations = scene
        plain = Augmentation(None, resample_p=0, turns=False, min_visible=0, min_area=0, **CLEAR)
        rng = np.random.default_rng(seed)
        pixels, instances = training_view(image, annotations, plain, target, LABELS, rng)
        assert pixels.shape == target
        assert_sound(instances, pixels)
        known = [LABELS[annotation.label] for annotation in annotations if annotation.label in LABELS]
        assert subsequence(instances.labels.tolist(), known)
        factors = np.array([pixels.shape[1] / image.shape[1], pixels.shape[0] / image.shape[0]])
        drawn = [rasterise([a.polygons[0] * factors], pixels.shape) for a in annotations if a.label in LABELS]
        masks = instances.masks().numpy()
        wanted = [frame(patch, pixels.shape) for patch in drawn if patch is not None]
        assert np.array_equal(masks, np.array(wanted).reshape(masks.shape))

    check(count, body, scene=scenes(inside=True, bitmaps=False), target=sizes, seed=seeds)


@examples
def test_cut_outlines_have_the_area_that_is_inside(count: int) -> None:
    def body(size: tuple[int, int], corners: list[tuple[float, float]]) -> None:
        polygon = np.array(corners)
        assume(len({tuple(corner) for corner in corners}) == len(corners))
        cut = clip_polygon(polygon, size)
        height, width = size
        if len(cut):
            assert cut.min() >= 0
            assert (cut.max(axis=0) <= (width, height)).all()
        # An independent count of covered points, by the even-odd rule.
        fine = 4
        y, x = (np.mgrid[: height * fine, : width * fine] + 0.5) / fine

        def covered(outline: np.ndarray) -> np.ndarray:
            inside = np.zeros(x.shape, dtype=bool)
            for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
                if y0 != y1:
                    inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
            return inside

        whole = covered(polygon)
        assert (covered(cut) ^ whole).sum() <= 2 if len(cut) else whole.sum() <= 2

    corner = st.tuples(st.floats(-40, 100), st.floats(-40, 100))
    check(count, body, size=sizes, corners=st.lists(corner, min_size=3, max_size=8))


@examples
def test_views_turn_boxes_and_masks_alike(count: int) -> None:
    def body(scene: Any, view: View) -> None:
        image, annotations = scene
        pixels = torch.from_numpy(image)
        assert torch.equal(view.from_image(view.of_image(pixels)), pixels)
        for annotation in annotations:
            patch = annotation_patch(annotation, image.shape)
            if patch is None:
                continue
            box = torch.tensor([patch.window], dtype=torch.float32)
            turned = view.of_boxes(box, image.shape)
            mask = view.of_image(torch.from_numpy(frame(patch, image.shape)))
            there = tight_patch(mask.numpy(), 0, 0)
            assert there is not None
            assert list(there.window) == turned[0].tolist()
            assert torch.equal(view.from_boxes(turned, image.shape), box)

    check(count, body, scene=scenes(), view=st.sampled_from(VIEWS))


@examples
def test_warped_outlines_keep_their_area_by_the_determinant(count: int) -> None:
    def body(scene: Any, augmentation: Augmentation, seed: int) -> None:
        image, annotations = scene
        affine = augmentation.draw_geometry(image.shape, annotations, np.random.default_rng(seed))
        growth = abs(np.linalg.det(affine[:, :2]))
        for annotation in annotations:
            before, after = (
                polygon_area(p) for p in (annotation.polygons[0], warp_polygon(annotation.polygons[0], affine))
            )
            assert after == pytest.approx(growth * before, rel=1e-6, abs=1e-6)

    check(count, body, scene=scenes(bitmaps=False), augmentation=augmentations(paste=False), seed=seeds)
