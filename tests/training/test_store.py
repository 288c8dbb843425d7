"""Stored predictions: the same to the last bit, not found when anything changes, computed again when damaged."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from kemr_lightning.core.instances import Detections, Instances, Sample
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.training import store as store_module
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore, image_digest, model_digest
from tests.conftest import run_task
from tests.training.helpers import TwoByMean, noise


def module(root: Path, disagreement: bool = True, model: str = "0" * 64) -> SegmentationModule:
    made = SegmentationModule(TwoByMean(disagreement)).eval()
    made.store = PredictionStore(root, model)
    return made


def same(first: Instances, second: Instances) -> bool:
    assert first.patches is not None
    assert second.patches is not None
    assert [p.window for p in first.patches] == [p.window for p in second.patches]
    pairs = [(first.boxes, second.boxes), (first.scores, second.scores), (first.labels, second.labels)]
    pairs += [(a.values, b.values) for a, b in zip(first.patches, second.patches, strict=True)]
    assert (first.disagreement is None) == (second.disagreement is None)
    if first.disagreement is not None and second.disagreement is not None:
        pairs.append((first.disagreement, second.disagreement))
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("disagreement", [True, False])
def test_stored_instances_are_bit_identical_and_need_no_forward_pass(tmp_path: Path, disagreement: bool) -> None:
    fresh = module(tmp_path, disagreement)
    first = fresh.predict_step([noise(1), noise(2)], 0)
    assert fresh.detector.seen == 2
    again = module(tmp_path, disagreement)
    second = again.predict_step([noise(1), noise(2)], 0)
    assert again.detector.seen == 0
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert again.store is not None
    assert again.store.reused == 2


def test_only_missing_images_of_a_batch_are_computed_and_order_is_kept(tmp_path: Path) -> None:
    module(tmp_path).predict_step([noise(2)], 0)
    mixed = module(tmp_path)
    found = mixed.predict_step([noise(1), noise(2), noise(3)], 0)
    assert mixed.detector.seen == 2
    bare = SegmentationModule(TwoByMean()).eval()
    assert all(same(a, b) for a, b in zip(found, bare.predict_step([noise(i) for i in (1, 2, 3)], 0), strict=True))


def test_one_changed_pixel_is_a_miss_and_the_name_does_not_matter(tmp_path: Path) -> None:
    module(tmp_path).predict_step([noise(1)], 0)
    changed = noise(1)
    changed.image[3, 4] ^= 1
    renamed = Sample(noise(1).image, "elsewhere.png", 7)
    other = module(tmp_path)
    other.predict_step([changed], 0)
    assert other.detector.seen == 1
    other.predict_step([renamed], 0)
    assert other.detector.seen == 1


def test_shape_counts_in_an_images_digest() -> None:
    pixels = torch.arange(12, dtype=torch.uint8)
    assert image_digest(pixels.reshape(3, 4)) != image_digest(pixels.reshape(4, 3))


def test_model_digest_follows_weights_description_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.ckpt"
    file.write_bytes(b"weights")
    made = SegmentationModule(TwoByMean(), config={"nms": "box"}, scale=InputScale((10, 10)))
    digests = {model_digest(file, made)}
    same_content = tmp_path / "b.ckpt"
    same_content.write_bytes(b"weights")
    assert model_digest(same_content, made) in digests
    made.config["nms"] = "mask"
    digests.add(model_digest(file, made))
    made.scale = InputScale()
    digests.add(model_digest(file, made))
    file.write_bytes(b"weight2")
    digests.add(model_digest(file, made))
    made.label_names = ["rod"]
    digests.add(model_digest(file, made))
    made.views = 2
    digests.add(model_digest(file, made))
    monkeypatch.setattr(store_module, "code_digest", lambda _: "another version")
    digests.add(model_digest(file, made))
    assert len(digests) == 7


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "foreign"])
def test_a_damaged_file_is_reported_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = module(tmp_path)
    (expected,) = first.predict_step([noise(1)], 0)
    (path,) = tmp_path.glob("*/*.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 64
    elif damage == "foreign":
        module(tmp_path / "other", model="1" * 64).predict_step([noise(1)], 0)
        content = bytearray(next((tmp_path / "other").glob("*/*.safetensors")).read_bytes())
    path.write_bytes({"cut": content[:-10], "empty": b"", "text": b"not a store"}.get(damage, content))
    again = module(tmp_path)
    with caplog.at_level(logging.WARNING):
        (found,) = again.predict_step([noise(1)], 0)
    assert again.detector.seen == 1
    assert same(found, expected)
    assert "damaged" in caplog.text
    last = module(tmp_path)
    last.predict_step([noise(1)], 0)
    assert last.detector.seen == 0


def test_writers_at_once_leave_whole_files(tmp_path: Path) -> None:
    found = TwoByMean()([noise(1).image[None].float()])[0]

    def work(_: int) -> bool:
        one = PredictionStore(tmp_path, "0" * 64)
        one.put(noise(1), found)
        read = one.get(noise(1))
        return read is not None and torch.equal(read.grids, found.grids)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))
    assert len(list(tmp_path.rglob("*.*"))) == 1


def test_a_disk_that_refuses_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    made = module(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        made.predict_step([noise(1)], 0)
        made.predict_step([noise(2)], 0)
    assert caplog.text.count("cannot be stored") == 1


def test_task_test_reuses_the_store_and_says_so(
    trained: Path,
    labelme_root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = trained / "checkpoints" / "best.ckpt"
    overrides = ("task=test", f"ckpt='{file}'", f"data.root='{labelme_root}'", "logger=csv", "callbacks.figures=null")
    overrides = (*overrides, f"paths.store='{tmp_path / 'kept'}'")
    without = run_task(tmp_path / "without", *overrides, "paths.store=null")
    with caplog.at_level(logging.INFO):
        run_task(tmp_path / "first", *overrides)
        assert "2 images computed and stored" in caplog.text
        detector = type(load_module(file).detector)
        monkeypatch.setattr(detector, "forward", lambda *_: pytest.fail("a forward pass was run"))
        run_task(tmp_path / "second", *overrides)
    assert "2 images reused" in caplog.text
    for name in ("metrics.json", "predictions.json", "predictions_initial.json"):
        contents = [
            json.loads((folder / name).read_text()) for folder in (without, tmp_path / "first", tmp_path / "second")
        ]
        assert contents[0] == contents[1] == contents[2]


def test_boxes_and_regions_may_be_one_tensor(tmp_path: Path) -> None:
    """As in a detector whose masks cover its boxes; safetensors refuses tensors that share memory."""
    store, sample = PredictionStore(tmp_path, "0" * 64), noise(1)
    boxes = torch.tensor([[1.0, 2.0, 9.0, 8.0]])
    store.put(sample, Detections(boxes, torch.ones(1), torch.ones(1).long(), torch.rand(1, 4, 4), boxes))
    found = store.get(sample)
    assert found is not None
    assert torch.equal(found.boxes, boxes)
    assert torch.equal(found.regions, boxes)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_are_neither_stored_nor_answered_which_is_said_once(
    tmp_path: Path, precision: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(
        accelerator="cpu", precision=precision, logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    images = DataLoader([noise(1), noise(2)], batch_size=1, collate_fn=list)
    with caplog.at_level(logging.INFO):
        trainer.predict(module(tmp_path), images)
    assert caplog.text.count("does not compute in float32") == 1
    assert not list(tmp_path.iterdir())
    module(tmp_path).predict_step([noise(1)], 0)
    again = module(tmp_path)
    trainer.predict(again, images)
    assert again.detector.seen == 2


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_detections_of_a_detector_with_a_precision_of_its_own_are_not_stored(tmp_path: Path, kind: torch.dtype) -> None:
    store = PredictionStore(tmp_path, "0" * 64)
    found = TwoByMean()([noise(1).image[None].float()])[0]
    found.grids = found.grids.to(kind)
    store.put(noise(1), found)
    assert store.added == 0
    assert store.get(noise(1)) is None


def test_another_kind_of_device_is_another_folder(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path, "0" * 64)
    folders = {store._model_on(torch.device(kind)) for kind in ("cpu", "cuda:0", "cuda:1", "mps")}
    assert len(folders) == 3
    assert store.path(noise(1)).parent == tmp_path / ("0" * 32)
