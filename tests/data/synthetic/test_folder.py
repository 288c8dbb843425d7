"""Folders of synthetic metaphases, read back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.synthetic import MetaphaseSettings, SyntheticDataset, write_synthetic_folder

SETTINGS = MetaphaseSettings((160, 128), look="gband")


@pytest.mark.parametrize("format", ["labelme", "coco"])
def test_folders_read_back(tmp_path: Path, format: str) -> None:
    root = write_synthetic_folder(tmp_path / "set", 2, 1, 1, format, SETTINGS, seed=4)
    read = SegmentationDataModule(root, format=format)
    read.setup("fit")
    read.setup("test")
    for split, dataset in (("train", read.train), ("val", read.val), ("test", read.test)):
        assert dataset is not None
        made = SyntheticDataset(len(dataset), SETTINGS, seed=4, split=split)
        for index in range(len(dataset)):
            one, other = dataset[index], made[index]
            assert one.name == other.name
            assert torch.equal(one.image, other.image)
            assert one.instances is not None
            assert other.instances is not None
            assert len(one.instances) == len(other.instances)
            for mask, exact in zip(one.instances.masks(), other.instances.masks(), strict=True):
                iou = float((mask & exact).sum() / (mask | exact).sum())
                assert iou == 1 if format == "coco" else iou > 0.95


def test_parts_without_images_are_not_written(tmp_path: Path) -> None:
    root = write_synthetic_folder(tmp_path / "set", 1, 0, 0, settings=SETTINGS)
    assert [path.name for path in root.iterdir()] == ["train"]
