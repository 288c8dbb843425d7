"""The whole round: a folder is predicted, a person corrects it, and the next model is trained on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.tasks import predict as predict_module
from tests.conftest import SMALL, rods, run_task, write_image
from tests.prediction.helpers import BrightModule, bright_parts, grow

SEEDS = (0, 4, 9, 10)
"""Images of three bright parts each."""


def test_predict_correct_and_train_again(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained / "checkpoints" / "best.ckpt"
    for index in SEEDS:
        write_image(tmp_path / "in", f"image_{index}", seed=index, annotated=False)
    # The model of two training steps finds nothing worth keeping: one that finds bright parts predicts in its place.
    with monkeypatch.context() as patched:
        patched.setattr(predict_module, "load_module", lambda _: BrightModule())
        patched.setattr(predict_module, "build_refiner", lambda *_: grow)
        images = f"data.root='{tmp_path / 'in'}'"
        overrides = ("task=predict", images, f"ckpt='{model}'", "logger=csv", "predict.shape_type=mask")
        run = run_task(tmp_path / "run", *overrides)
    # A person moves one shape and deletes another.
    path = run / "labelme" / "image_4.json"
    document = json.loads(path.read_text())
    document["shapes"][0]["points"] = [[x + 3, y + 2] for x, y in document["shapes"][0]["points"]]
    path.write_text(json.dumps(document))
    path = run / "labelme" / "image_9.json"
    document = json.loads(path.read_text())
    del document["shapes"][0]
    path.write_text(json.dumps(document))
    expected = {}
    for index in SEEDS:
        parts = bright_parts(rods(index)[0])
        expected[f"image_{index}.png"] = parts[parts.scores >= 0.5].masks().numpy()
    moved = expected["image_4.png"][0]
    expected["image_4.png"][0] = np.roll(moved, (2, 3), axis=(0, 1))
    expected["image_9.png"] = expected["image_9.png"][1:]
    data = SegmentationDataModule(run / "labelme")
    data.setup("fit")
    assert data.train is not None
    assert data.val is not None
    seen = {sample.name: sample.instances for part in (data.train, data.val) for sample in part}
    assert seen.keys() == expected.keys()
    for name, masks in expected.items():
        instances = seen[name]
        assert instances is not None
        assert instances.labels.tolist() == [1] * len(masks)
        np.testing.assert_array_equal(instances.masks().numpy(), masks)
    # A step of no length leaves the weights that training began from: those of init=FILE, not of another seed's start.
    folder = f"data.root='{run / 'labelme'}'"
    still = ("seed=7", "optimizer.lr=0")
    start = run_task(tmp_path / "still", "experiment=kemr_tiny", folder, f"init='{model}'", *SMALL, *still)
    first, second = (
        torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for folder in (trained, start)
    )
    assert first.keys() == second.keys()
    learned = [name for name in first if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first[name], second[name]) for name in learned)
    assert json.loads((start / "metrics.json").read_text())["images"] > 0
