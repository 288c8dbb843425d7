"""How well a model does on real metaphases: boxes and counts on G-bands, masks on Q-bands and DAPI.

    python benchmarks/shipped_model.py --root ../shared/data [--checkpoint FILE] [--limit N] [--scales 0.5 1 2]

The G-banded images are annotated with boxes that are a few pixels too large on every side: predicted boxes are grown by
a margin, and the score above which a prediction counts as a chromosome is chosen, on the first half of the images (by
case); the second half is reported. With ``--gband-test DIR`` all of ``cil_gband_large/val`` chooses, and DIR is
reported. The DAPI images are those that the pretraining holds out for validation.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

import kemr_lightning
from kemr_lightning.core import rle
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import to_instances
from kemr_lightning.data.formats import format_named
from kemr_lightning.data.image import read_image
from kemr_lightning.data.parts import Parts
from kemr_lightning.data.record import Record
from kemr_lightning.data.split import GROUP_PATTERN
from kemr_lightning.prediction.inference import Model
from kemr_lightning.training.weights_file import SHIPPED

MARGINS = range(0, 11)
SCORES = np.arange(0.2, 0.85, 0.05)


def resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return pixels
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how))


def coco_figures(truth: dict, results: list, kind: str) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        scorer = COCOeval(gt, gt.loadRes(results), kind)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return {"AP": 100 * scorer.stats[0], "AP50": 100 * scorer.stats[1], "AP75": 100 * scorer.stats[2]}


def box_truth(images: Sequence[dict], boxes: dict[int, list]) -> dict:
    annotations = [
        {"id": 0, "image_id": image["id"], "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for image in images
        for box in boxes[image["id"]]
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    return {"images": list(images), "annotations": annotations, "categories": [{"id": 1, "name": "chromosome"}]}


def grown_results(images: Sequence[dict], found: dict, margin: float) -> list[dict]:
    results = []
    for image in images:
        boxes, scores = found[image["id"]]
        for (x0, y0, x1, y1), score in zip(boxes, scores, strict=True):
            x0, y0 = max(x0 - margin, 0), max(y0 - margin, 0)
            x1, y1 = min(x1 + margin, image["width"]), min(y1 + margin, image["height"])
            results.append(
                {"image_id": image["id"], "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            )
    return results


def count_figures(images: Sequence[dict], found: dict, boxes: dict, score: float) -> dict[str, float]:
    errors = np.array([(np.array(found[i["id"]][1]) >= score).sum() - len(boxes[i["id"]]) for i in images])
    return {"within 1 %": 100 * float((abs(errors) <= 1).mean()), "mean |error|": float(abs(errors).mean())}


def overlapped_recall(images: Sequence[dict], found: dict, boxes: dict, margin: float, score: float) -> tuple[int, int]:
    """Boxes whose IoU with another annotated box is above 0.1: how many have a prediction of IoU >= 0.5."""
    hit = total = 0
    for image in images:
        truth = torch.tensor(boxes[image["id"]], dtype=torch.float64).reshape(-1, 4)
        truth = torch.cat([truth[:, :2], truth[:, :2] + truth[:, 2:]], dim=1)
        between = box_iou(truth, truth).fill_diagonal_(0)
        crowded = between.max(dim=1).values > 0.1
        kept = [box for box, s in zip(*found[image["id"]], strict=True) if s >= score]
        predicted = torch.tensor(kept, dtype=torch.float64).reshape(-1, 4)
        predicted = predicted + torch.tensor([-margin, -margin, margin, margin], dtype=torch.float64)
        best = box_iou(truth, predicted).max(dim=1).values if len(predicted) else torch.zeros(len(truth))
        hit += int((best[crowded] >= 0.5).sum())
        total += int(crowded.sum())
    return hit, total


def predict_gband(model: Model, folder: Path, limit: int | None, scale: float) -> tuple[list, dict, dict, float]:
    document = json.loads((folder / "boxes.json").read_text())
    images = sorted(document["images"], key=lambda image: image["file_name"])
    images = images if limit is None else images[:: max(1, len(images) // limit)][:limit]
    boxes: dict[int, list] = {image["id"]: [] for image in images}
    for annotation in document["annotations"]:
        if annotation["image_id"] in boxes:
            boxes[annotation["image_id"]].append(annotation["bbox"])
    found = {}
    start = time.process_time()
    for image in images:
        pixels = resized(read_image(folder / "images" / image["file_name"]).pixels, scale)
        instances = model(torch.from_numpy(np.array(pixels))).initial
        found[image["id"]] = ((instances.boxes / scale).tolist(), instances.scores.tolist())
    return images, boxes, found, (time.process_time() - start) / len(images)


def gband(model: Model, root: Path, limit: int | None, scale: float, test: Path | None) -> None:
    images, boxes, found, seconds = predict_gband(model, root / "cil_gband_large" / "val", limit, scale)
    if test is None:
        cases = sorted({image["case"] for image in images})
        chosen = set(cases[: len(cases) // 2])
        first = [image for image in images if image["case"] in chosen]
        second = [image for image in images if image["case"] not in chosen]
    else:
        first = images
        second, more, others, seconds = predict_gband(model, test, limit, scale)
        offset = 1 + max(image["id"] for image in images)
        second = [{**image, "id": image["id"] + offset} for image in second]
        boxes |= {key + offset: value for key, value in more.items()}
        found |= {key + offset: value for key, value in others.items()}
    truth = box_truth(first, boxes)
    margin = max(MARGINS, key=lambda m: coco_figures(truth, grown_results(first, found, m), "bbox")["AP50"])
    score = max(SCORES, key=lambda s: count_figures(first, found, boxes, s)["within 1 %"])
    figures = coco_figures(box_truth(second, boxes), grown_results(second, found, margin), "bbox")
    plain = coco_figures(box_truth(second, boxes), grown_results(second, found, 0), "bbox")["AP50"]
    counts = count_figures(second, found, boxes, score)
    hit, total = overlapped_recall(second, found, boxes, margin, 0.5)
    print(
        f"gband x{scale:g}: {len(second)} images, boxes grown by {margin} px, score {score:.2f}: "
        f"AP50 {figures['AP50']:.1f} (not grown {plain:.1f}), AP75 {figures['AP75']:.1f}, counts within 1 "
        f"{counts['within 1 %']:.1f} %, mean |error| {counts['mean |error|']:.2f}, recall of {total} overlapped "
        f"{100 * hit / max(total, 1):.1f} %, {seconds:.2f} CPU-s an image",
        flush=True,
    )


def held_out(folder: Path) -> list[Record]:
    """The images of a folder that the pretraining validates on."""
    return Parts(folder, format_named("labelme"), None, GROUP_PATTERN, 0.15, 0).records("val")


def everything(folder: Path) -> list[Record]:
    source = format_named("labelme").source(folder)
    return [record for part in source.parts for record in source.read(part)]


def masks(model: Model, name: str, records: Sequence[Record], limit: int | None, scale: float) -> None:
    """Mask figures of initial and refined masks."""
    records = records if limit is None else records[:: max(1, len(records) // limit)][:limit]
    images, annotations = [], []
    results: dict[str, list] = {"initial": [], "refined": []}
    seconds = 0.0
    for number, record in enumerate(records, start=1):
        pixels = record.load().pixels
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        labels = {annotation.label: 1 for annotation in record.annotations or ()}
        truth, _ = to_instances(record.annotations or (), labels, size)
        images.append({"id": number, "height": size[0], "width": size[1]})
        for patch in truth.patches or []:
            x0, y0, x1, y1 = patch.window
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": patch.area(),
                    "iscrowd": 0,
                    "segmentation": rle.encode(patch, size),
                }
            )
        start = time.process_time()
        prediction = model(torch.from_numpy(np.array(resized(pixels, scale))))
        seconds += time.process_time() - start
        for layer, instances in prediction.layers():
            for patch, score in zip(instances.patches or [], instances.scores.tolist(), strict=True):
                coded = rle.encode(patch, instances.image_size) if scale == 1 else rescaled(patch, instances, size)
                results[layer].append({"image_id": number, "category_id": 1, "score": score, "segmentation": coded})
    truth_set = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "chromosome"}]}
    for layer, found in results.items():
        if found:
            f = coco_figures(truth_set, found, "segm")
            print(
                f"{name} x{scale:g} {layer}: {len(images)} images, MaskAP {f['AP']:.1f} AP50 {f['AP50']:.1f} AP75 "
                f"{f['AP75']:.1f}, {seconds / len(images):.2f} CPU-s an image",
                flush=True,
            )


def rescaled(patch: Patch, instances: Instances, size: tuple[int, int]) -> rle.RLE:
    full = np.zeros(instances.image_size, dtype=np.float32)
    x0, y0, x1, y1 = patch.window
    full[y0:y1, x0:x1] = patch.values.float().numpy()
    back = cv2.resize(full, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) >= 0.5
    return rle.encode(Patch(0, 0, torch.from_numpy(back)), size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--knowledge", type=Path)
    parser.add_argument("--gband-test", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0])
    parser.add_argument("--sets", nargs="+", default=["gband", "qband", "dapi"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = kemr_lightning.load(options.checkpoint, options.knowledge)
    for scale in options.scales:
        if "gband" in options.sets:
            refiner, model.refiner = model.refiner, None
            gband(model, options.root, options.limit, scale, options.gband_test)
            model.refiner = refiner
        if "qband" in options.sets:
            masks(model, "qband", everything(options.root / "bioimlab" / "test"), options.limit, scale)
        if "dapi" in options.sets:
            masks(model, "dapi", held_out(options.root / "mfish"), options.limit, scale)


if __name__ == "__main__":
    main()
