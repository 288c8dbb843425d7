"""The doctor names crowds, regions to ignore, far-apart groups and images over a limit, each with its cure."""

from __future__ import annotations

import numpy as np
import torch

from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import EVERY_CLASS, Annotation
from kemr_lightning.doctor.findings import KINDS, SettingNames
from kemr_lightning.doctor.gather import ImageToExamine
from kemr_lightning.doctor.region_findings import limit_findings, region_findings

BRUSH = Annotation("chr", patches=(Patch(0, 0, torch.ones((9, 9), dtype=torch.bool)),), crowd=True)
CROWD = Annotation("chr", polygons=(np.array([[0.0, 0.0], [90.0, 0.0], [90.0, 90.0]]),), crowd=True)


def entry(*annotations: Annotation, name: str = "a.png", part: str = "train") -> ImageToExamine:
    return ImageToExamine(name, part, name, annotations, None, None, None)


def chromosome(x: float = 0) -> Annotation:
    return Annotation("chr", polygons=(np.array([[x, 0.0], [x + 9, 0.0], [x + 9, 9.0], [x, 9.0]]),))


def test_brush_masks_and_crowds_part_by_part() -> None:
    found = region_findings([entry(BRUSH, chromosome()), entry(CROWD, chromosome(), name="b.png", part="test")])
    assert [(f.kind, f.file, f.message) for f in found] == [
        ("brush_masks", "a.png", "1 of 2 annotations"),
        ("crowds", "b.png", "1 of 2 annotations"),
    ]
    assert found[1].boxes == ((0, 0, 90, 90),)


def test_ignored_shapes_and_groups() -> None:
    ignored = Annotation(EVERY_CLASS, polygons=CROWD.polygons, crowd=True)
    pair = Annotation("chr", polygons=(*chromosome().polygons, *chromosome(99).polygons), group_id=4)
    found = region_findings([entry(ignored, pair, chromosome())])
    assert [(f.kind, f.message) for f in found] == [
        ("ignored", "1 shapes"),
        ("far_group", "group 4 (chr): 2 shapes, up to 90 px apart"),
    ]


def test_images_over_a_limit() -> None:
    image = entry(*[chromosome()] * 3, CROWD)
    assert limit_findings([image], 3, 3) == limit_findings([image], None, None) == []
    assert [(f.kind, f.message) for f in limit_findings([image], 2, 1)] == [
        ("over_scored", "3 instances, limit 2"),
        ("over_detected", "3 instances, limit 1"),
    ]


def test_every_cure_names_its_setting() -> None:
    names = SettingNames(
        crowds="data.crowds",
        groups="data.groups",
        ignore_labels="data.ignore_labels",
        max_detections="metric.max_detections",
        detections="model.heads.detections",
    )
    for kind, setting in (
        ("brush_masks", "data.crowds=instances"),
        ("far_group", "data.groups=separate"),
        ("over_scored", "metric.max_detections"),
        ("over_detected", "model.heads.detections"),
    ):
        assert setting in KINDS[kind].naming(names).advice
