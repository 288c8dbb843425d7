"""``task=test`` on its own: the checkpoint needs no other model key."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.ndimage import gaussian_filter

from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.refinement import CRFParams, Knowledge
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.reasoning import Reasoning
from kemr_lightning.refinement.states import STATE_NAMES
from kemr_lightning.training.module import SegmentationModule
from tests.conftest import run_task, write_image


def test_same_figures_as_after_training(trained: Path, labelme_root: Path, tmp_path: Path) -> None:
    file = trained / "checkpoints" / "best.ckpt"
    overrides = ("task=test", f"ckpt='{file}'", f"data.root='{labelme_root}'", "logger=csv", "callbacks.figures=null")
    # A model other than the checkpoint's: the checkpoint decides.
    run_task(tmp_path / "run", *overrides, "model=mask_rcnn_tiny")
    for name in ("metrics.json", "predictions.json", "ground_truth.json"):
        assert json.loads((tmp_path / "run" / name).read_text()) == json.loads((trained / name).read_text())


def test_flat_folder_is_scored_whole_without_refinement(trained: Path, tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / "images", f"image {index}", index)
    file = trained / "checkpoints" / "best.ckpt"
    overrides = ("task=test", f"ckpt='{file}'", "logger=csv", "callbacks.figures=null", "refine=none")
    run_task(tmp_path / "run", *overrides, f"data.root={tmp_path / 'images'}")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"] == 3
    assert "refined" not in metrics


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_experiences_change_masks_or_keep_them(
    gain: float, trained: Path, labelme_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector is replaced by the annotations, blurred and displaced; the experiences say what refining did."""

    def found(_module: SegmentationModule, batch: list[Sample]) -> list[Instances]:
        result = []
        for sample in batch:
            assert sample.instances is not None
            patches = []
            for patch in sample.instances.patches or []:
                moved = torch.roll(patch.values.float(), (1, 1), (0, 1))
                patches.append(Patch(patch.x0, patch.y0, torch.from_numpy(gaussian_filter(moved.numpy(), 1.5))))
            scores = torch.linspace(0.9, 0.6, len(patches))
            result.append(replace(sample.instances, patches=patches, scores=scores))
        return result

    monkeypatch.setattr(SegmentationModule, "find", found)
    count = 30
    experiences = Experiences(
        torch.rand(count, len(STATE_NAMES), generator=torch.Generator().manual_seed(0)),
        torch.ones(count, dtype=torch.int64),
        torch.full((count,), 0.7),
        torch.full((count,), 0.7 + gain),
        torch.arange(count),
    )
    params = CRFParams(3, 20, 2, 6, 0, 5, temperature=2)
    knowledge = Knowledge((Action("crf", params, False),), None, experiences, Reasoning(5, 0.2))
    knowledge.save(tmp_path / "k.safetensors")
    run = tmp_path / "run"
    run_task(
        run, "task=test", f"ckpt='{trained / 'checkpoints' / 'best.ckpt'}'", f"data.root='{labelme_root}'",
        f"knowledge='{tmp_path / 'k.safetensors'}'", "logger=csv", "callbacks.figures=null",
    )  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    initial, final = (json.loads((run / name).read_text()) for name in ("predictions_initial.json", "predictions.json"))
    assert len(initial) == metrics["instances"]
    if gain > 0:
        assert all(a["segmentation"] != b["segmentation"] for a, b in zip(initial, final, strict=True))
        assert metrics["refined"]["MaskAP"] > metrics["initial"]["MaskAP"] + 5
    else:
        assert final == initial
        assert metrics["refined"] == metrics["initial"]


def test_without_a_checkpoint_the_shipped_model_is_tested(labelme_root: Path, tmp_path: Path) -> None:
    run = run_task(tmp_path / "run", "task=test", f"data.root='{labelme_root}'", "logger=csv", "callbacks.figures=null")
    assert set(json.loads((run / "metrics.json").read_text())) == {"images", "instances", "initial", "refined"}


def test_best_of_the_experiment_is_found(trained: Path, labelme_root: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "runs" / "kemr_tiny" / "train" / "1" / "checkpoints")
    overrides = ("task=test", "ckpt=best", "name=kemr_tiny", "logger=csv", "callbacks.figures=null")
    run_task(tmp_path / "run", *overrides, f"data.root='{labelme_root}'", f"paths.runs='{tmp_path / 'runs'}'")
    assert (tmp_path / "run" / "metrics.json").is_file()
