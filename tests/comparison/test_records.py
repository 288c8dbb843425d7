"""What a test has written is read back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kemr_lightning.comparison.records import read_records
from kemr_lightning.core.errors import UserError
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.coco_results import GROUND_TRUTH, PREDICTIONS, CocoResultsWriter
from tests.comparison.helpers import noisy_records, nothing


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    initial, refined = noisy_records(0), noisy_records(1, quality=0.7)
    initial.append(nothing(image_id=len(initial) + 1))
    refined.append(nothing(image_id=len(refined) + 1))
    CocoResultsWriter(tmp_path).write(initial, refined, {})
    for written, read in zip((initial, refined), read_records(tmp_path), strict=True):
        assert headline(read) == headline(written)
        for before, after in zip(written, read, strict=True):
            assert (before.image_id, before.size, before.name, before.truth) == (
                after.image_id,
                after.size,
                after.name,
                after.truth,
            )
            assert [(p.label, p.box, p.score, p.counts) for p in before.predictions] == [
                (p.label, p.box, p.score, p.counts) for p in after.predictions
            ]


def test_boxes_only(tmp_path: Path) -> None:
    plain = [
        replace(item, masks=False, truth=[replace(entry, counts=None) for entry in item.truth])
        for item in noisy_records(0)
    ]
    CocoResultsWriter(tmp_path).write(plain, None, {})
    read, _ = read_records(tmp_path)
    assert headline(read) == pytest.approx(headline(plain), nan_ok=True)
    assert not any(item.masks for item in read if item.truth)


def test_faults_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ground_truth.json does not exist"):
        read_records(tmp_path)
    CocoResultsWriter(tmp_path).write(noisy_records(0), None, {})
    (tmp_path / PREDICTIONS).write_text('[{"image_id": 99, "bbox": [0, 0, 1, 1], "category_id": 1, "score": 1}]')
    with pytest.raises(UserError, match="does not hold COCO results"):
        read_records(tmp_path)
    (tmp_path / GROUND_TRUTH).write_text('{"images": [')
    with pytest.raises(UserError, match="cannot be read"):
        read_records(tmp_path)
    (tmp_path / GROUND_TRUTH).write_text("{}")
    with pytest.raises(UserError, match="not a COCO data set"):
        read_records(tmp_path)
