"""The paper's models as the configuration builds them."""

from __future__ import annotations

import inspect
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops.misc import FrozenBatchNorm2d

from kemr_lightning.assembly.build import build_module
from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.models.build import region_heads, region_proposals, two_stage
from kemr_lightning.models.detector import TwoStageDetector
from kemr_lightning.models.resnet import resnet_fpn
from kemr_lightning.models.suppression import Suppression
from kemr_lightning.models.transform import BatchTransform
from kemr_lightning.training.checkpoint import build_detector
from kemr_lightning.training.module import model_input
from tests.conftest import compose
from tests.models.helpers import rectangles


def description(*overrides: str) -> dict[str, Any]:
    """What a checkpoint stores of a model."""
    resolved = OmegaConf.to_container(compose(*overrides).model, resolve=True)
    assert isinstance(resolved, dict)
    return {**{str(key): value for key, value in resolved.items()}, "num_classes": 1}


def built(*overrides: str) -> TwoStageDetector:
    """The detector as it is rebuilt from a checkpoint, without weights; on no device, so that size does not matter."""
    with torch.device("meta"):
        detector = build_detector(description(*overrides), "a.ckpt")
    assert isinstance(detector, TwoStageDetector)
    return detector


def test_kemr_r101_is_the_paper_s_cascade():
    detector = built("experiment=kemr_r101")
    assert detector.backbone.architecture == "resnet101"
    assert {type(m) for m in detector.backbone.body.modules()} >= {FrozenBatchNorm2d}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
    heads = detector.heads
    assert [stage.matcher.high_threshold for stage in heads.stages] == [0.5, 0.6, 0.7]
    assert [stage.matcher.low_threshold for stage in heads.stages] == [0.5, 0.6, 0.7]
    assert not any(stage.matcher.allow_low_quality_matches for stage in heads.stages)
    assert [stage.coder.weights for stage in heads.stages] == [(10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)]
    assert all(stage.class_agnostic and stage.deltas.out_features == 4 for stage in heads.stages)
    assert heads.variant.loss_weights == (1.0, 0.5, 0.25)
    assert len(heads.mask_branch.heads) == 3
    assert (heads.sampler.batch_size_per_image, heads.sampler.positive_fraction) == (512, 0.25)
    assert heads.suppression == Suppression(0.05, "box", 0.5, 0.85, 100)
    assert heads.box_pooler.output_size == 7
    assert heads.mask_branch.pooler.output_size == 14
    assert heads.box_pooler.strides == [4, 8, 16, 32]
    assert [m.out_features for m in heads.stages[0].head if isinstance(m, nn.Linear)] == [1024, 1024]
    convolutions = [m for m in heads.mask_branch.heads[0].coarse if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [256] * 4
    rpn = detector.rpn
    assert (rpn._pre_nms_top_n, rpn._post_nms_top_n) == ({"training": 2000, "testing": 1000},) * 2
    assert rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert detector.transform == BatchTransform(0.0, 1.0, 64)


def test_images_of_the_paper_s_size_are_not_resized():
    image = torch.randint(0, 256, (1024, 1280), dtype=torch.uint8)
    assert torch.equal(model_input(image, InputScale((1280, 1024)).size_of(image))[0] * 255, image.float())


def test_detectron2_s_variant_is_selectable():
    detector = built("experiment=kemr_r101", "model.heads.variant=detectron2")
    assert len(detector.heads.mask_branch.heads) == 1
    assert detector.heads.variant.share_gradient


@pytest.mark.parametrize(
    ("overrides", "beta"),
    [
        (["experiment=kemr_r101"], 1.0),
        (["experiment=kemr_r101", "model.heads.variant=detectron2"], 0.0),
        (["experiment=mask_rcnn_r101"], 1.0),
        (["experiment=kemr_r101", "model.heads.variant=detectron2", "+model.heads.smooth_l1_beta=0.5"], 0.5),
        (["experiment=kemr_r101", "+model.heads.smooth_l1_beta=0.0"], 0.0),
        (["experiment=kemr_tiny"], 0.1),
        (["experiment=kemr_tiny", "model.heads.variant=detectron2"], 0.1),
        (["experiment=mask_rcnn_tiny"], 0.1),
    ],
)
def test_the_box_loss_is_the_variant_s_unless_it_is_given(overrides, beta):
    stages = built(*overrides).heads.stages
    assert {stage.smooth_l1_beta for stage in stages} == {beta}


def test_mask_rcnn_has_one_stage_with_deltas_per_class():
    heads = built("experiment=mask_rcnn_r101").heads
    assert len(heads.stages) == len(heads.mask_branch.heads) == 1
    assert not heads.stages[0].class_agnostic
    assert heads.stages[0].matcher.high_threshold == 0.5


def test_normalisation_survives_a_checkpoint():
    # Weights are never fetched for a checkpoint, but what was frozen for them is still frozen.
    assert description("experiment=kemr_r101")["weights"] == "imagenet"
    live = built("experiment=kemr_r101", "model.weights=none")
    assert any(isinstance(module, nn.BatchNorm2d) for module in live.modules())
    frozen = built("experiment=kemr_r101", "model.weights=coco", "model.backbone.name=resnet50")
    assert frozen.backbone.body["bn1"].eps == 0


def test_a_typing_error_in_the_weights_is_one_line():
    with pytest.raises(hydra.errors.InstantiationException) as error, torch.device("meta"):
        hydra.utils.instantiate(description("experiment=kemr_r101", "model.weights=imagnet"), _convert_="all")
    assert isinstance(error.value.__cause__, UserError)
    assert "imagnet is neither a file nor one of imagenet, coco" in str(error.value.__cause__)


def test_coarse_levels_divide_the_padded_image():
    # torchvision's anchors take the padded size divided by a level's size for its stride.
    detector = two_stage(1, resnet_fpn("resnet18"), [[32], [64], [128], [256], [512]], heads={"box_width": 8})
    assert detector.transform.divisor == 64


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+model.heads.box_widht=3"],
            r"^model\.heads\.box_widht=3 is not a setting of this model\. Did you mean box_width",
        ),
        (
            ["+model.heads.zzz=null"],
            r"^model\.heads\.zzz=null is not a setting of this model\. There are .*nms_threshold",
        ),
        (["model.heads.nms=soft"], r"^model\.heads\.nms=soft is not a kind of suppression\. Choose box or mask$"),
        (["model.heads.variant=mmdet"], r"^model\.heads\.variant=mmdet is not a variant"),
        (
            ["+model.proposals.pre_mns=3"],
            r"^model\.proposals\.pre_mns=3 is not a setting of this model\. Did you mean pre_nms",
        ),
        (
            ["model.backbone.blocks=[1]"],
            r"^model\.backbone\.blocks=\[1\] is not one number per stage\. Give 3 numbers$",
        ),
        (
            ["model.weights=none.pth"],
            r"^model\.weights=none\.pth is neither a file nor one of imagenet, coco, coco_v2, none",
        ),
        (
            ["model=mask_rcnn_r101", "model.weights=none", "model.backbone.norm=layer"],
            r"^model\.backbone\.norm=layer is not",
        ),
        (["model=mask_rcnn_r101", "model.backbone.name=resnet1"], r"^model\.backbone\.name=resnet1 is not a ResNet"),
        (["model=blendmask_tiny", "model.nms=soft"], r"^model\.nms=soft is not a kind of suppression"),
        (
            ["model=blendmask_tiny", "+model.candidate=3"],
            r"^model\.candidate=3 is not a setting .* Did you mean candidates",
        ),
        (
            ["model=blendmask_tiny", "+model.decoder.wdth=3"],
            r"^model\.decoder\.wdth=3 is not a setting .* Did you mean width",
        ),
        (
            ["model=blendmask_tiny", "+model.anchor_sizes=[4,8]"],
            r"^model\.anchor_sizes=\[4\.0, 8\.0\] is not one size per level",
        ),
    ],
)
def test_wrong_settings_are_named_as_the_configuration_names_them(overrides, message):
    model = [] if overrides[0].startswith("model=") else ["model=cascade_mask_rcnn_tiny"]
    with pytest.raises(SettingError, match=message):
        build_module(compose(*model, *overrides), ["chromosome"])


@pytest.mark.parametrize("name", ["cascade_mask_rcnn_tiny", "mask_rcnn_tiny", "blendmask_tiny"])
@pytest.mark.parametrize("count", [0, 1])
def test_every_weight_has_a_gradient_whatever_is_on_the_image(name, count):
    # With several processes, one that lacked a gradient would leave the others waiting.
    detector = hydra.utils.instantiate(description(f"model={name}"), _convert_="all").train()
    target = rectangles([(20, 30, 45, 39)][:count], (96, 96))
    sum(detector([torch.rand(1, 96, 96)], [target]).values()).backward()
    without = [name for name, weight in detector.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []


def test_every_group_of_settings_reaches_its_part():
    settings = {
        "variant": "mmdetection",
        "iou_thresholds": [0.4, 0.55],
        "box_weights": [[1, 2, 3, 4], [5, 6, 7, 8]],
        "class_agnostic": False,
        "box_size": 5,
        "box_convs": 1,
        "box_width": 6,
        "smooth_l1_beta": 0.3,
        "mask_size": 12,
        "mask_width": 10,
        "mask_convs": 3,
        "mask_growth": 0.1,
        "mask_margin": 2.0,
        "mask_weight": 0.7,
        "max_mask_positives": 9,
        "binary_targets": True,
        "fine_channels": 4,
        "fine_stride": 4,
        "fine_width": 11,
        "canonical_size": 50.0,
        "canonical_stride": 8,
        "sampling_ratio": 3,
        "samples": 33,
        "positive_fraction": 0.75,
        "score_threshold": 0.2,
        "nms": "mask",
        "nms_threshold": 0.65,
        "loose_threshold": 0.95,
        "detections": 17,
    }
    heads = region_heads(8, [4, 8], 3, settings)
    assert [stage.matcher.high_threshold for stage in heads.stages] == [0.4, 0.55]
    assert [stage.coder.weights for stage in heads.stages] == [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert {(stage.deltas.out_features, stage.smooth_l1_beta) for stage in heads.stages} == {(12, 0.3)}
    assert [tuple(m.weight.shape) for m in heads.stages[1].head if hasattr(m, "weight")] == [
        (8, 8, 3, 3),
        (6, 8 * 5 * 5),
        (6, 6),
    ]
    branch = heads.mask_branch
    assert (branch.growth, branch.margin, branch.head_weights) == (0.1, 2.0, [0.7, 0.7])
    assert (branch.max_positives, branch.binary_targets) == (9, True)
    assert [m.out_channels for m in branch.heads[1].coarse if hasattr(m, "out_channels")] == [10, 10, 10, 11]
    assert branch.heads[0].fine[0].in_channels == 11 + 4
    for pooler, size in ((heads.box_pooler, 5), (branch.pooler, 6)):
        assert (pooler.output_size, pooler.strides) == (size, [4, 8])
        assert (pooler.canonical_size, pooler.canonical_stride, pooler.sampling_ratio) == (50.0, 8, 3)
    assert (branch.fine_pooler.output_size, branch.fine_pooler.strides) == (12, [4])
    assert (heads.sampler.batch_size_per_image, heads.sampler.positive_fraction) == (33, 0.75)
    assert heads.suppression == Suppression(0.2, "mask", 0.65, 0.95, 17)


def test_defaults_of_the_heads_are_torchvision_s():
    heads = region_heads(8, [4], 1, {"box_width": 4, "mask_width": 4})
    theirs = inspect.signature(MaskRCNN.__init__).parameters
    assert heads.suppression.score_threshold == theirs["box_score_thresh"].default
    assert heads.suppression.nms_threshold == theirs["box_nms_thresh"].default
    assert heads.suppression.detections == theirs["box_detections_per_img"].default
    assert heads.sampler.batch_size_per_image == theirs["box_batch_size_per_image"].default
    assert heads.sampler.positive_fraction == theirs["box_positive_fraction"].default
    rpn = region_proposals(8, [[32]], [1.0])
    assert rpn.nms_thresh == theirs["rpn_nms_thresh"].default
    assert rpn.fg_bg_sampler.batch_size_per_image == theirs["rpn_batch_size_per_image"].default
