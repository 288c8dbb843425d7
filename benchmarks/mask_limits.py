"""What limits the masks: the grid, the boxes, the outline's place, or the annotations?

    python benchmarks/mask_limits.py --checkpoint FILE --root DIR --out DIR

Mean IoU of matched instances (two-stage detectors only) for: masks as predicted; masks predicted on the annotated boxes
(no box error); masks cut at the threshold that suits their image best (no difference between an annotator's way of
drawing and the model's mean of all of them); at the threshold that suits each instance best; the annotation itself
through the mask head's grid. The oracles use the truth: they are bounds, not methods. Writes ``limits.json``,
``limits.md`` and ``limits.png`` (numbers only).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import track

from kemr_lightning.core import rle
from kemr_lightning.core.geometry import grow_boxes, mask_targets, paste_grid
from kemr_lightning.core.instances import Patch, Sample
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.metrics.records import record
from kemr_lightning.metrics.segmentation import greedy_pairs
from kemr_lightning.models.detector import TwoStageDetector
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.training.module import SegmentationModule, model_input

THRESHOLDS = np.linspace(0.1, 0.9, 17)


@dataclass
class ImageLimits:
    """IoU of the matched instances of one image under each condition.

    Attributes:
        name: The image.
        ious: ``(len(THRESHOLDS), N)`` by threshold, masks on detected boxes.
        on_truth: The same, masks on annotated boxes.
        grid: ``(N,)`` the annotation through the grid.
        area_ratio: Predicted over annotated pixels, all matched instances together.
    """

    name: str
    ious: np.ndarray
    on_truth: np.ndarray
    grid: np.ndarray
    area_ratio: float


def by_threshold(patches: list[Patch], truth: list[Patch], size: tuple[int, int]) -> np.ndarray:
    """``(len(THRESHOLDS), N)`` IoU of probabilities with their annotations."""
    targets = [rle.encode(patch, size) for patch in truth]
    rows = []
    for threshold in THRESHOLDS.tolist():
        masks = [rle.encode(patch, size, threshold) for patch in patches]
        rows.append([float(rle.iou([a], [b])[0, 0]) for a, b in zip(masks, targets, strict=True)])
    return np.array(rows)


@torch.no_grad()
def limits_of(module: SegmentationModule, sample: Sample) -> ImageLimits | None:
    """All conditions for one image, or None if nothing matches."""
    truth = sample.instances
    assert truth is not None
    assert truth.patches is not None
    detector = module.detector
    assert isinstance(detector, TwoStageDetector)
    if module.scale.frame is not None:
        raise SystemExit("this benchmark is for models at native scale")
    (found,) = module.predict_step([sample], 0)
    item = record(found, truth, 1)
    pairs = greedy_pairs(item, item.iou(masks=True))
    if not pairs:
        return None
    batch = detector.transform([model_input(sample.image)])
    features = detector.backbone(batch.tensors)
    branch = detector.heads.mask_branch
    chosen = truth[[t for _, t in pairs]]
    assert chosen.patches is not None
    assert found.patches is not None
    grids, regions, _ = branch.predict(features, [chosen.boxes], [chosen.labels])
    size = truth.image_size
    on_truth = [paste_grid(g, r, size) for g, r in zip(grids[0], regions[0].tolist(), strict=True)]
    grown = grow_boxes(chosen.boxes, branch.growth, branch.margin)
    targets = mask_targets(chosen.patches, torch.arange(len(chosen)), grown, grids[0].shape[-1])
    through = [paste_grid(g, r, size) for g, r in zip(targets, grown.tolist(), strict=True)]
    predicted = [found.patches[p] for p, _ in pairs]
    middle = len(THRESHOLDS) // 2
    areas = sum(patch.area() for patch in predicted) / sum(patch.area() for patch in chosen.patches)
    return ImageLimits(
        sample.name,
        by_threshold(predicted, chosen.patches, size),
        by_threshold(on_truth, chosen.patches, size),
        by_threshold(through, chosen.patches, size)[middle],
        areas,
    )


def summarise(images: list[ImageLimits]) -> dict[str, float]:
    """Mean IoU over instances, in percent, by condition."""
    middle = len(THRESHOLDS) // 2

    def mean(parts: list[np.ndarray]) -> float:
        return 100 * float(np.concatenate(parts).mean())

    return {
        "as predicted": mean([image.ious[middle] for image in images]),
        "on annotated boxes": mean([image.on_truth[middle] for image in images]),
        "best single threshold": max(
            mean([image.ious[number] for image in images]) for number in range(len(THRESHOLDS))
        ),
        "best threshold per image": mean([image.ious[image.ious.mean(axis=1).argmax()] for image in images]),
        "best threshold per instance": mean([image.ious.max(axis=0) for image in images]),
        "annotated boxes, best threshold per image": mean(
            [image.on_truth[image.on_truth.mean(axis=1).argmax()] for image in images]
        ),
        "annotation through the grid": mean([image.grid for image in images]),
    }


def plot(images: list[ImageLimits], summary: dict[str, float], path: Path) -> None:
    """Bars of the conditions; mean IoU of an image against its ratio of predicted to annotated area."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.barh(list(summary)[::-1], list(summary.values())[::-1], color="#0072B2")
    left.set(xlim=(70, 100), xlabel="mean IoU of matched instances, %")
    middle = len(THRESHOLDS) // 2
    ratio = np.array([image.area_ratio for image in images])
    right.plot(ratio, [100 * image.ious[middle].mean() for image in images], "o", color="#0072B2", label="images")
    line = np.linspace(min(0.8, ratio.min()), max(1.25, ratio.max()), 100)
    right.plot(line, 100 * np.minimum(line, 1 / line), "k--", lw=0.8, label="most that this ratio allows")
    right.set(xlabel="predicted / annotated area", ylabel="mean IoU, %", ylim=(70, 101))
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    module = load_module(options.checkpoint)
    data = SegmentationDataModule(options.root)
    data.label_names = module.label_names
    data.score_all = True
    data.setup("test")
    assert data.test is not None
    found = [limits_of(module, data.test[index]) for index in track(range(len(data.test)))]
    images = [image for image in found if image is not None]
    summary = summarise(images)
    ratios = {image.name: image.area_ratio for image in images}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "limits.json").write_text(json.dumps({"mean_iou": summary, "area_ratio": ratios}, indent=1))
    table = "| masks | mean IoU |\n|---|---|\n" + "".join(f"| {k} | {v:.2f} |\n" for k, v in summary.items())
    (options.out / "limits.md").write_text(table)
    plot(images, summary, options.out / "limits.png")
    print(table)


if __name__ == "__main__":
    main()
