"""The whole BlendMask: training on odd batches, detections against torchvision, masks of the right location."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from kemr_lightning.core.contracts import as_detector
from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.geometry import grow_boxes, mask_targets
from kemr_lightning.core.instances import Instances
from kemr_lightning.models.backbone import TinyBackbone
from kemr_lightning.models.blendmask import BlendMask, blendmask
from kemr_lightning.models.fcos_head import HeadOutputs
from kemr_lightning.models.resnet import resnet_fpn
from kemr_lightning.models.suppression import Suppression
from kemr_lightning.models.transform import BatchTransform
from tests.models.helpers import picture, rectangles

CONF = Path(__file__).parents[2] / "conf"
LOSSES = {"loss_class", "loss_box", "loss_centerness", "loss_mask", "loss_semantic"}


def small(num_classes: int = 1, **settings: object) -> BlendMask:
    torch.manual_seed(0)
    arguments: dict[str, object] = {
        "convs": 1,
        "groups": 2,
        "attention_size": 5,
        "mask_size": 14,
        "decoder": {"width": 8, "convs": 1, "fine_channels": 4},
        "semantic_width": 8,
        "mean": 0.2,
        "std": 0.25,
    }
    return blendmask(num_classes, TinyBackbone((4, 8, 8), (1, 1), 8), **(arguments | settings))  # type: ignore[arg-type]


def train(model: BlendMask, targets: list[Instances], images: list[Tensor] | None = None) -> dict[str, Tensor]:
    losses = model.train()(images or [picture(target) for target in targets], targets)
    assert isinstance(losses, dict)
    assert losses.keys() == LOSSES
    assert all(torch.isfinite(value) for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    return losses


def gradient(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def test_batch_of_one() -> None:
    model = small()
    losses = train(model, [rectangles([[8, 8, 20, 40], [30, 30, 50, 42]], (64, 64))])
    assert all(value > 0 for value in losses.values())
    for part in (model.backbone, model.head.attention, model.decoder, model.semantic):
        assert gradient(part) > 0  # type: ignore[arg-type]


def test_mixed_sizes_with_and_without_objects() -> None:
    targets = [
        rectangles([[8, 8, 20, 40]], (64, 64)),
        Instances.empty((40, 96)),
        rectangles([[60, 2, 72, 30]], (33, 75)),
    ]
    train(small(), targets)


def test_images_without_objects_have_no_mask_and_box_gradient() -> None:
    model = small()
    losses = train(model, [Instances.empty((64, 64)), Instances.empty((32, 48))])
    assert losses["loss_mask"] == 0
    assert losses["loss_box"] == 0
    assert losses["loss_class"] > 0
    assert gradient(model.head.attention) == 0
    assert gradient(model.head.regression_head) == 0
    assert gradient(model.decoder) == 0


def test_object_that_no_location_is_inside_of() -> None:
    """Locations of the finest level are 4 pixels apart: there are no positives, and the losses stay finite."""
    losses = train(small(), [rectangles([[17, 17, 19, 19]], (32, 32))])
    assert losses["loss_mask"] == 0


def test_images_with_boxes_only_train_boxes() -> None:
    target = rectangles([[8, 8, 20, 40]], (64, 64))
    bare = rectangles([[8, 8, 20, 40]], (64, 64))
    bare.patches = None
    alone = train(small(), [target])
    losses = train(small(), [bare], [picture(target)])
    assert losses["loss_mask"] == 0
    assert losses["loss_semantic"] == 0
    torch.testing.assert_close(losses["loss_box"], alone["loss_box"])
    mixed = train(small(), [target, bare])
    assert mixed["loss_mask"] > 0


def test_training_needs_targets() -> None:
    with pytest.raises(ValueError, match="needs targets"):
        small().train()([torch.rand(1, 32, 32)])


def test_many_classes() -> None:
    """Label 24 trains the last of 24 columns."""
    model = small(24)
    train(model, [rectangles([[8, 8, 20, 40], [30, 30, 50, 42]], (64, 64), [24, 3])])
    bias = model.head.classification_head.cls_logits.bias.grad
    assert len(bias) == 24
    assert set(torch.nonzero(bias < 0)[:, 0].tolist()) == {2, 23}  # only these are pushed up
    assert model.semantic is not None
    assert model.semantic[-1].out_channels == 25


def test_mask_positives_are_capped() -> None:
    targets = [rectangles([[8, 8, 20, 40], [30, 30, 50, 42]], (64, 64)), rectangles([[4, 4, 24, 16]], (64, 64))]
    model = small(max_mask_positives=3)
    matches = torch.full((2, 9), -1)
    matches[0, [1, 2, 5, 6, 8]] = torch.tensor([0, 0, 1, 1, 1])
    matches[1, 4] = 0
    first, second = model._mask_locations(matches, targets)
    assert len(first) == 3
    assert set(first.tolist()) <= {1, 2, 5, 6, 8}
    assert second.tolist() == [4]


def test_mask_loss_of_a_batch_one_location_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of different sizes: bases, attention and targets of the right image, weighted by the centerness."""
    model = small(mask_growth=0.2, mask_margin=1.0)
    model.head.attention.weight.data.mul_(30)  # so that it matters where attention comes from
    targets = [
        rectangles([[8, 8, 20, 40], [30, 30, 50, 42]], (64, 64)),
        rectangles([[60, 2, 72, 30], [4, 4, 40, 16]], (33, 75)),
    ]
    seen: dict[str, Any] = {}
    model.head.register_forward_hook(lambda module, inputs, output: seen.update(towers=output.towers))
    model.decoder.register_forward_hook(lambda module, inputs, output: seen.update(bases=output))
    original = model.head.compute_loss

    def compute_loss(expected: object, outputs: object, anchors: list[Tensor], matches: list[Tensor]) -> object:
        seen.update(anchors=anchors, matches=matches)
        return original(expected, outputs, anchors, matches)  # type: ignore[arg-type]

    monkeypatch.setattr(model.head, "compute_loss", compute_loss)
    found = train(model, targets)["loss_mask"]
    losses, weights = [], []
    with torch.no_grad():
        dense = torch.cat([model.head.attention(tower).flatten(2) for tower in seen["towers"]], dim=2)
        for image, target in enumerate(targets):
            for place in torch.nonzero(seen["matches"][image] >= 0)[:, 0].tolist():
                own = int(seen["matches"][image][place])
                box = target.boxes[own : own + 1]
                x0, y0, x1, y1 = box[0].tolist()
                x, y = seen["anchors"][image][place].view(2, 2).mean(dim=0).tolist()
                sides = [sorted((x - x0, x1 - x)), sorted((y - y0, y1 - y))]
                weights.append(math.sqrt(math.prod(short / long for short, long in sides)))
                region = grow_boxes(box, 0.2, 1.0)
                roi = torch.cat([torch.zeros(1, 1), region], dim=1)
                pooled = roi_align(seen["bases"][image : image + 1], roi, 14, 0.5, 1, aligned=True)[0]
                attention = F.interpolate(dense[image, :, place].view(1, 4, 5, 5), size=(14, 14), mode="bilinear")[0]
                logits = (pooled * attention.softmax(dim=0)).sum(dim=0)
                wanted = mask_targets([(target.patches or [])[own]], torch.tensor([0]), region, 14)[0]
                losses.append(float(F.binary_cross_entropy_with_logits(logits, wanted)))
    assert len({round(weight, 3) for weight in weights}) > 3
    expected = sum(a * b for a, b in zip(losses, weights, strict=True)) / sum(weights)
    assert abs(expected - sum(losses) / len(losses)) > 1e-4  # the weights make a difference
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_weights_of_the_losses() -> None:
    target = rectangles([[8, 8, 20, 40], [30, 30, 50, 42]], (64, 64))
    plain = train(small(semantic_weight=1.0), [target])
    weighted = train(small(semantic_weight=0.25, mask_weight=3.0), [target])
    factors = {name: weighted[name].item() / plain[name].item() for name in LOSSES}
    assert factors == pytest.approx(dict.fromkeys(LOSSES, 1.0) | {"loss_semantic": 0.25, "loss_mask": 3.0}, rel=1e-5)


def random_outputs(model: BlendMask, levels: list[Tensor], classes: int) -> HeadOutputs:
    generator = torch.Generator().manual_seed(4)
    count = sum(level.shape[-2] * level.shape[-1] for level in levels)
    predictions = {
        "cls_logits": 2 * torch.randn(len(levels[0]), count, classes, generator=generator) - 2,
        "bbox_regression": 4 * torch.rand(len(levels[0]), count, 4, generator=generator) + 0.1,
        "bbox_ctrness": 2 * torch.randn(len(levels[0]), count, 1, generator=generator),
    }
    return HeadOutputs(predictions, model.head(levels).towers)


def scene(model: BlendMask, classes: int) -> tuple[HeadOutputs, Tensor, list[int]]:
    levels = [torch.randn(2, 8, 16, 16), torch.randn(2, 8, 8, 8)]
    anchors = model.fcos.anchor_generator.grid_anchors([[16, 16], [8, 8]], [torch.tensor([4, 4]), torch.tensor([8, 8])])
    return random_outputs(model, levels, classes), torch.cat(anchors), [256, 64]


def test_detections_are_torchvisions() -> None:
    model = small(3, score_threshold=0.2, candidates=50, detections=40).eval()
    outputs, anchors, counts = scene(model, 3)
    split = {name: list(torch.split(value, counts, dim=1)) for name, value in outputs.predictions.items()}
    sizes = [(64, 64), (60, 62)]
    reference = model.fcos.postprocess_detections(split, [list(torch.split(anchors, counts))] * 2, sizes)
    for index, size in enumerate(sizes):
        boxes, scores, labels, _ = model._select(outputs, index, anchors, counts, size)
        assert len(boxes) == 40
        torch.testing.assert_close(boxes, reference[index]["boxes"])
        torch.testing.assert_close(scores, reference[index]["scores"])
        assert (labels - 1).tolist() == reference[index]["labels"].tolist()
        assert labels.min() >= 1


def test_masks_come_from_the_location_of_the_box() -> None:
    """Each detection's mask again, from the dense attention map, one instance at a time."""
    model = small(2, score_threshold=0.3, detections=30, mask_growth=0.2, mask_margin=1.0).eval()
    outputs, anchors, counts = scene(model, 2)
    model.head.attention.weight.data.mul_(30)
    bases = torch.randn(2, 4, 32, 32)
    with torch.no_grad():
        found = model._detect(outputs, bases, anchors, counts, [(64, 64), (64, 64)])
        dense = torch.cat([model.head.attention(tower).flatten(2) for tower in outputs.towers], dim=2)
    for image, detections in enumerate(found):
        decoded = model.head.box_coder.decode(outputs.predictions["bbox_regression"][image], anchors)
        assert len(detections.boxes) == 30
        torch.testing.assert_close(detections.regions, grow_boxes(detections.boxes, 0.2, 1.0))
        for index in range(30):
            box, region = detections.boxes[index], detections.regions[index]
            (place,) = torch.nonzero((decoded.clamp(0, 64) - box).abs().amax(dim=1) < 1e-4)[:, 0].tolist()
            attention = F.interpolate(dense[image, :, place].view(1, 4, 5, 5), size=(14, 14), mode="bilinear")
            roi = torch.cat([torch.zeros(1), region])[None]
            pooled = roi_align(bases[image : image + 1], roi, 14, 0.5, 1, aligned=True)
            expected = (pooled * attention.softmax(dim=1)).sum(dim=1)[0].sigmoid()
            torch.testing.assert_close(detections.grids[index], expected, atol=1e-5, rtol=1e-4)


def test_prediction_stays_inside_each_image() -> None:
    model = small(score_threshold=0.0, detections=50).eval()
    with torch.no_grad():
        found = model([torch.rand(1, 33, 50), torch.rand(1, 64, 40)])
    for detections, (height, width) in zip(found, ((33, 50), (64, 40)), strict=True):
        boxes = detections.boxes
        assert len(boxes) == 50
        assert (boxes >= 0).all()
        assert (boxes[:, [0, 2]] <= width).all()
        assert (boxes[:, [1, 3]] <= height).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert detections.grids.shape == (50, 14, 14)
        assert ((detections.grids >= 0) & (detections.grids <= 1)).all()
        assert (detections.scores.diff() <= 0).all()


def test_no_detection() -> None:
    model = small(score_threshold=1.0).eval()
    (found,) = model([torch.rand(1, 33, 50)])
    assert found.boxes.shape == (0, 4)
    assert found.grids.shape == (0, 14, 14)
    assert found.regions.shape == (0, 4)


def test_suppression_by_masks_keeps_boxes_that_only_cross() -> None:
    """A standing and a lying bar in nearly the same square box: one is dropped by boxes, none by masks."""
    model = small(score_threshold=0.3, detections=5).eval()
    anchors = torch.tensor([[28.0, 28, 36, 36], [28, 28, 36, 36]])
    predictions = {
        "cls_logits": torch.tensor([[[6.0], [5.0]]]),
        "bbox_regression": torch.tensor([[[2.0, 2, 2, 2], [2, 2, 2.2, 2.2]]]),
        "bbox_ctrness": torch.full((1, 2, 1), 6.0),
    }
    outputs = HeadOutputs(predictions, [torch.zeros(1, 8, 1, 2)])
    # Bases: a standing bar, a lying bar, nothing, nothing; each location attends to its own.
    bases = torch.full((1, 4, 32, 32), -8.0)
    bases[0, 0, :, 14:18] = 8.0
    bases[0, 1, 14:18, :] = 8.0
    attention = torch.full((2, 4, 5, 5), -20.0)
    attention[0, 0], attention[1, 1] = 20.0, 20.0
    model.head.attend = lambda towers, image, location: attention[location]  # type: ignore[method-assign]
    (by_box,) = model._detect(outputs, bases, anchors, [2], [(64, 64)])
    model.suppression = replace(model.suppression, nms="mask", loose_threshold=0.95)
    (by_mask,) = model._detect(outputs, bases, anchors, [2], [(64, 64)])
    assert (len(by_box.boxes), len(by_mask.boxes)) == (1, 2)
    assert by_mask.scores[0] > by_mask.scores[1]


def test_anchors_sit_where_the_features_are() -> None:
    """P3 to P7 of a ResNet on an image of an odd size: padded to whole cells of the coarsest level."""
    backbone = resnet_fpn("resnet18", norm="batch", first_stage=2, extra="p6p7", out_channels=16)
    model = small_on(backbone)
    seen: list[Tensor] = []
    generator = model.fcos.anchor_generator
    generator.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    train(model, [rectangles([[20, 20, 60, 90], [5, 100, 30, 120]], (150, 130))])
    expected = [
        (column * stride, row * stride, stride)
        for stride in (8, 16, 32, 64, 128)
        for row in range(256 // stride)
        for column in range(256 // stride)
    ]
    anchors = seen[0]
    found = torch.stack([anchors[:, ::2].mean(1), anchors[:, 1::2].mean(1), anchors[:, 2] - anchors[:, 0]], dim=1)
    assert found.tolist() == [list(map(float, row)) for row in expected]
    assert model.blender.pooler.strides == [4]


def small_on(backbone: torch.nn.Module) -> BlendMask:
    torch.manual_seed(0)
    decoder = {"width": 8, "convs": 1}
    return blendmask(1, backbone, convs=1, groups=4, attention_size=5, mask_size=14, decoder=decoder, semantic_width=8)


@pytest.mark.parametrize("name", ["tiny", "r101"])
def test_configuration_builds(name: str) -> None:
    # A ResNet-18 in the place of the ResNet-101, for speed.
    body = ["model.weights=none", "model.backbone.name=resnet18"] if name == "r101" else []
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", [f"experiment=blendmask_{name}", *body]).model
    model = hydra.utils.instantiate(config, num_classes=24)
    assert isinstance(model, BlendMask)
    assert model.strides == ([8, 16, 32, 64, 128] if name == "r101" else [4, 8, 16])
    assert (model.head.bases, model.head.attention_size, model.blender.size) == (4, 14, 56)
    assert model.semantic_weight == 0.3
    assert (model.max_detections, model.fcos.nms_thresh, model.fcos.score_thresh) == (100, 0.6, 0.05)
    assert len(model.decoder.lateral) == 3


def test_it_says_what_it_is() -> None:
    model = as_detector(small(detections=37))
    assert (model.kind, model.max_detections, model.max_views) == ("blendmask", 37, 1)
    with pytest.raises(ValueError, match="one view of an image, not in 4"):
        model.detect_in_views(torch.rand(1, 32, 32), 4)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(SettingError, match=r"anchor_sizes=\[4\.0, 8\.0, 16\.0\] is not one size per level"):
        small(anchor_sizes=[4, 8, 16])
    model = small()
    with pytest.raises(ValueError, match="coarsest stride"):
        BlendMask(model.fcos, model.decoder, model.blender, None, [8, 128], BatchTransform(), Suppression())


def test_no_auxiliary_loss_without_its_weight() -> None:
    model = small(semantic_weight=0.0)
    target = rectangles([[8, 8, 20, 40]], (64, 64))
    assert model.semantic is None
    assert set(model.train()([picture(target)], [target])) == LOSSES - {"loss_semantic"}


def test_overfits_one_image() -> None:
    model = small(decoder={"width": 8, "convs": 1, "fine_channels": 4, "fine_width": 8}).train()
    target = rectangles([[8, 8, 20, 44], [30, 30, 56, 42]], (64, 64))
    image = picture(target)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    course = []
    for _ in range(60):
        losses = model([image], [target])
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        course.append(float(losses["loss_mask"].detach()))
    assert course[-1] < 0.3 * course[0]
    assert course[-1] < 0.2
