"""The keys of ``model``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kemr_lightning.assembly.schema.groups import built, group, known
from kemr_lightning.assembly.schema.kinds import (
    choice,
    count,
    described,
    flag,
    listed,
    not_negative,
    number,
    positive,
    share,
    some,
    text,
    whole,
)

_two_numbers = listed(some, "two whole numbers, 1 or more: [training,evaluation]", 2, 2)
_numbers = listed(some, "a list of whole numbers, 1 or more each")
_sizes = listed(positive, "a list of numbers above 0")

_even = described(Annotated[int, Field(strict=True, ge=2, le=512, multiple_of=2)], "an even number from 2 to 512")

_backbone = built(
    known(
        "kemr_lightning.models.backbone.TinyBackbone",
        {
            "channels": _numbers,
            "blocks": _numbers,
            "out_channels": some,
            "in_channels": choice(1),
            "norm": choice("batch", "image"),
        },
    ),
    known(
        "kemr_lightning.models.resnet.resnet_fpn",
        {
            "name": text,
            "pretrained": text,
            "norm": text | None,
            "trainable_layers": whole(0, 5) | None,
            "first_stage": whole(1, 4),
            "extra": text,
            "out_channels": some,
        },
    ),
)

_common: dict[str, Any] = {"backbone": _backbone, "weights": text, "mean": number(-10, 10), "std": positive}

_suppression: dict[str, Any] = {
    "score_threshold": number(0, below=1),
    "nms": text,
    "nms_threshold": share,
    "loose_threshold": share,
    "detections": whole(1, 10_000),
}

_masks: dict[str, Any] = {
    "mask_growth": number(0, 5),
    "mask_margin": number(0, 1000, words="in pixels"),
    "mask_weight": not_negative,
    "max_mask_positives": some | None,
    "binary_targets": flag,
}

_heads = group(
    {
        **_suppression,
        **_masks,
        "variant": text | None,
        "iou_thresholds": listed(share, "a list of numbers above 0, up to 1"),
        "box_weights": listed(listed(positive, "four numbers", 4, 4), "four numbers above 0 for each stage"),
        "class_agnostic": flag,
        "box_size": whole(1, 256),
        "box_convs": whole(0, 64),
        "box_width": some,
        "smooth_l1_beta": not_negative | None,
        "mask_size": _even,
        "mask_width": some,
        "mask_convs": whole(0, 64),
        "fine_channels": count,
        "fine_stride": some,
        "fine_width": some | None,
        "canonical_size": positive,
        "canonical_stride": some,
        "sampling_ratio": whole(1, 64),
        "samples": some,
        "positive_fraction": share,
    }
)

_proposals = group({"samples": some, "pre_nms": _two_numbers, "post_nms": _two_numbers, "nms_threshold": share})

_two_stage = known(
    "kemr_lightning.models.build.two_stage",
    {
        **_common,
        "anchor_sizes": listed(_sizes, "a list of sizes above 0 for each level of the backbone, [[18],[32],[64]]"),
        "aspect_ratios": _sizes,
        "proposals": _proposals | None,
        "heads": _heads | None,
    },
)

_blendmask = known(
    "kemr_lightning.models.blendmask.blendmask",
    {
        **_common,
        **_suppression,
        **_masks,
        "convs": whole(0, 64),
        "groups": some,
        "anchor_sizes": _sizes | None,
        "centre_radius": positive,
        "bases": whole(1, 256),
        "attention_size": whole(1, 256),
        "candidates": some,
        "mask_size": whole(2, 512),
        "decoder": group(
            {
                "width": some,
                "convs": whole(0, 64),
                "groups": some | None,
                "fine_channels": count,
                "fine_width": some | None,
            }
        )
        | None,
        "semantic_weight": not_negative,
        "semantic_width": some,
    },
)

MODEL = built(_two_stage, _blendmask)
