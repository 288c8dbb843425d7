"""The keys of models: what they may be."""

from __future__ import annotations

import pytest

from kemr_lightning.assembly.schema.validate import wrong_settings
from tests.assembly.schema.helpers import settings


@pytest.mark.parametrize(
    "overrides",
    [
        "model.heads.variant=null",
        "+model.heads.mask_size=14",
        "model.weights=file.pt",
        "model=blendmask_tiny +model.semantic_weight=0",
        "model=blendmask_r101 model.anchor_sizes=[8,16,32,64,128]",
        "model.backbone._target_=kemr_lightning.models.shallow.Shallow",
        "+model.heads.smooth_l1_beta=null",
    ],
)
def test_what_is_possible(overrides: str) -> None:
    assert not wrong_settings(settings(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        "model.heads.nms_threshold=0",
        "model.heads.samples=0",
        "model.heads.positive_fraction=2",
        "model.heads.box_width=-1",
        "+model.heads.mask_size=15",
        "model.anchor_sizes=[18,32,64]",
        "model.anchor_sizes=[[0],[32],[64]]",
        "model.aspect_ratios=[]",
        "model.proposals.pre_nms=[400]",
        "model.std=0",
        "model.backbone.channels=[16,0]",
        "model.backbone.out_channels=1.5",
        "+model.heads.iou_thresholds=[0.5,2]",
        "+model.heads.nms_treshold=0.5",
        "+model.size=3",
        "model=blendmask_tiny model.groups=0",
        "model=blendmask_tiny model.convs=-1",
        "model=blendmask_r101 model.backbone.first_stage=5",
        "model=blendmask_r101 model.candidates=0",
        "model.heads=5",
        "model.backbone=null",
    ],
)
def test_what_is_not(overrides: str) -> None:
    key = overrides.split()[-1].lstrip("+").split("=")[0]
    assert [each.key for each in wrong_settings(settings(overrides))] == [key]
