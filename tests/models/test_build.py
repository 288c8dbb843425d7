"""The paper's models as the configuration builds them."""

from __future__ import annotations

from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from kemr_lightning.core.errors import UserError
from kemr_lightning.models.build import region_heads, two_stage
from kemr_lightning.models.detector import TwoStageDetector
from kemr_lightning.models.resnet import resnet_fpn
from kemr_lightning.training.checkpoint import build_detector
from kemr_lightning.training.module import model_input
from tests.conftest import compose


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
    assert (heads.score_threshold, heads.nms_threshold, heads.detections) == (0.05, 0.5, 100)
    assert heads.box_pooler.output_size == 7
    assert heads.mask_branch.pooler.output_size == 14
    assert heads.box_pooler.strides == [4, 8, 16, 32]
    assert [m.out_features for m in heads.stages[0].head if isinstance(m, nn.Linear)] == [1024, 1024]
    convolutions = [m for m in heads.mask_branch.heads[0].coarse if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [256] * 4
    rpn = detector.rpn
    assert (rpn._pre_nms_top_n, rpn._post_nms_top_n) == ({"training": 2000, "testing": 1000},) * 2
    assert rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert (detector.mean, detector.std) == (0.0, 1.0)


def test_images_of_the_paper_s_size_are_not_resized():
    image = torch.randint(0, 256, (1024, 1280), dtype=torch.uint8)
    assert torch.equal(model_input(image, (1280, 1024))[0] * 255, image.float())


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
    assert detector.divisor == 64


def test_unknown_variant():
    with pytest.raises(ValueError, match="mmdet"):
        region_heads(8, [4], 1, "mmdet3")
