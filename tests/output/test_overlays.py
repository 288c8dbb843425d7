"""One map per layer says where masks are, what became of each, and where they overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.metrics.matching import match
from kemr_lightning.metrics.records import record
from kemr_lightning.output.overlays import CLASSES, KINDS, SEVERAL, label_map, layered_image
from tests.callbacks.helpers import eroding, samples


def test_a_map_is_what_a_stack_of_masks_says() -> None:
    items, found = samples(3, seed=4)
    for sample in items:
        predictions = found[sample.image_id]
        assert sample.instances is not None
        kinds = match(record(predictions, sample.instances, sample.image_id), 0.5, boundaries=False).predictions
        stack = predictions.masks().numpy()
        drawn = np.array([kind != "unsure" for kind in kinds])
        covered = stack[drawn].sum(axis=0)
        labels = label_map(predictions, kinds)
        assert np.array_equal(labels == 0, covered == 0)
        assert np.array_equal(labels == SEVERAL, covered > 1)
        for mask, kind in zip(stack[drawn], [k for k in kinds if k != "unsure"], strict=True):
            alone = mask & (covered == 1)
            assert (labels[alone] == KINDS.index(kind) + 1).all()


def layers(image: Any) -> tuple[dict[str, np.ndarray], dict[str, list[dict[str, Any]]]]:
    """The maps and boxes that a `wandb.Image` would upload."""
    masks = {name: np.asarray(Image.open(mask._path)) for name, mask in image._masks.items()}
    boxes = {name: json.loads(Path(box._path).read_text()) for name, box in image._boxes.items()}
    return masks, {name: content["box_data"] for name, content in boxes.items()}


@pytest.mark.parametrize("refine", [True, False])
def test_layers_of_an_image(refine: bool) -> None:
    items, found = samples(1, seed=4)
    sample, initial = items[0], found[1]
    refined = eroding(sample.image, initial) if refine else None
    image = layered_image(sample, Prediction(initial, refined), score=0.3)
    masks, boxes = layers(image)
    assert set(masks) == {"ground truth", "initial"} | ({"refined"} if refine else set())
    assert all(mask.shape == sample.image_size for mask in masks.values())
    assert sample.instances is not None
    assert np.array_equal(masks["ground truth"] > 0, sample.instances.masks().any(dim=0).numpy())
    if refine:
        assert 0 < (masks["refined"] > 0).sum() < (masks["initial"] > 0).sum()
    assert len(boxes["ground truth"]) == len(sample.instances)
    assert len(boxes["predicted"]) == int((initial.scores >= 0.3).sum())
    assert {entry["class_id"] for entry in boxes["predicted"]} <= set(CLASSES)
    assert image._caption == sample.name


def test_images_with_boxes_only_without_annotations_without_anything() -> None:
    items, found = samples(1, seed=4)
    sample, initial = items[0], found[1]
    assert sample.instances is not None
    sample.instances.patches = None
    masks, boxes = layers(layered_image(sample, Prediction(initial, None), score=0.0))
    assert set(masks) == {"initial"}
    assert {CLASSES[entry["class_id"]] for entry in boxes["ground truth"]} <= {"found", "missed"}
    masks, boxes = layers(layered_image(Sample(sample.image, "x.png", 1), Prediction(initial, None), score=0.0))
    assert set(masks) == {"initial"}
    assert {CLASSES[entry["class_id"]] for entry in boxes["predicted"]} == {"found"}
    nothing = Instances.empty(sample.image_size)
    masks, boxes = layers(layered_image(Sample(sample.image, "x.png", 1, nothing), Prediction(nothing, nothing)))
    assert set(masks) == {"ground truth", "initial", "refined"}
    assert not any(mask.any() for mask in masks.values())
    assert boxes == {"ground truth": [], "predicted": []}


def test_colours_are_numbered_once() -> None:
    assert len(set(CLASSES.values())) == len(CLASSES) == SEVERAL
    assert torch.iinfo(torch.uint8).max > SEVERAL
