"""How close are clinical synthetic scenes to real images, and how fast are they made?

    python benchmarks/synthetic_realism.py --root DIR --out DIR     # DIR holds mfish, bioimlab and cil_gband_large
    python benchmarks/synthetic_realism.py --speed                  # images a second on one core; needs no data

Measures the same things on real and on synthetic images of the same look, on the chromosomes that lie apart from
others, and prints the 10th, 50th and 90th percentiles of both. Writes ``realism.json``, ``realism.md`` and
``realism.png`` (numbers only). G-bands have boxes, drawn about 5 pixels loose; there the chromosomes are separated from
the ground by Otsu's threshold inside the boxes, on synthetic images too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

from kemr_lightning.core.instances import Instances
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.data.synthetic import MetaphaseSettings, SyntheticDataset

SETS = {"gband": "cil_gband_large/train", "qband": "bioimlab/train", "dapi": "mfish"}
LOOSE = 5
MEASURES = {
    "width": "chromosome width, px",
    "span": "square root of the cell's hull, widths",
    "longest": "longest chromosome, widths",
    "elongation": "length of chromosomes, widths",
    "bend": "length along the axis over distance of the ends",
    "occupied": "chromosomes' share of the hull",
    "overlap": "overlapped share: of pixels, or of boxes (IoU > 0.1)",
    "ground": "background, grey levels",
    "contrast": "chromosome against ground, grey levels",
    "bands": "std of the profile, share of the contrast",
    "groove": "axis against sides, share of the contrast",
    "edge": "width of the edge, chromosome widths",
    "noise": "noise of the ground, grey levels",
    "gradient": "uneven ground, grey levels",
    "clutter": "stained ground beside the chromosomes, share",
    "uneven": "std of the chromosomes' levels, share of the contrast",
}
FREQUENCIES = np.linspace(0.1, 2.0, 20)


@dataclass
class Picture:
    """One image with what is known about it.

    Attributes:
        pixels: ``(H, W)`` uint8.
        boxes: ``(N, 4)`` int, tight.
        masks: ``(x0, y0, mask)`` of each chromosome, or None where only boxes are known.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    masks: list[tuple[int, int, np.ndarray]] | None


def picture(pixels: np.ndarray, instances: Instances, masks: bool) -> Picture:
    """Take an image with exact masks, or only their boxes."""
    assert instances.patches is not None
    found = [(patch.x0, patch.y0, patch.values.numpy()) for patch in instances.patches]
    return Picture(pixels, instances.boxes.numpy().round().astype(int), found if masks else None)


def real(look: str, root: Path, count: int) -> Iterator[Picture]:
    """Real images of a look, evenly drawn from its set."""
    folder = root / SETS[look]
    if look == "gband":
        table = json.loads((folder / "boxes.json").read_text())
        for image in table["images"][:: max(len(table["images"]) // count, 1)][:count]:
            boxes = np.array([item["bbox"] for item in table["annotations"] if item["image_id"] == image["id"]])
            pixels = cv2.imread(str(folder / "images" / image["file_name"]), cv2.IMREAD_GRAYSCALE)
            corners = np.concatenate([boxes[:, :2] + LOOSE, boxes[:, :2] + boxes[:, 2:] - LOOSE], axis=1)
            yield Picture(pixels, corners, None)
        return
    files = sorted(folder.glob("*.json"))
    for file in files[:: max(len(files) // count, 1)][:count]:
        pixels, instances = read_labelme(file)
        grey = np.asarray(pixels)
        yield picture(grey if grey.ndim == 2 else cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY), instances, masks=True)


def synthetic(look: str, count: int, seed: int) -> Iterator[Picture]:
    """Synthetic images of a look; those saved with dark and bright exchanged are left out."""
    dataset = SyntheticDataset(10 * count, MetaphaseSettings(None, None, look, scene="clinical"), seed)
    made = 0
    for index in range(len(dataset)):
        scene = dataset.metaphase(index)
        if made < count and (np.median(scene.image) > 128) == (look == "gband"):
            made += 1
            yield picture(scene.image, dataset.instances(scene), masks=look != "gband")


def foreground(shot: Picture, bright: bool) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """Number of chromosomes on each pixel, and the masks of those that touch no other box."""
    total = np.zeros(shot.pixels.shape, np.uint8)
    if shot.masks is None:
        kind = cv2.THRESH_BINARY if bright else cv2.THRESH_BINARY_INV
        _, stained = cv2.threshold(shot.pixels, 0, 1, kind + cv2.THRESH_OTSU)
    masks = []
    for index, (x0, y0, x1, y1) in enumerate(shot.boxes.tolist()):
        if shot.masks is None:
            x0, y0 = max(x0 - 2, 0), max(y0 - 2, 0)
            inside = stained[y0 : y1 + 2, x0 : x1 + 2]
            _, parts, sizes, _ = cv2.connectedComponentsWithStats(inside)
            mask = (parts == 1 + np.argmax(sizes[1:, 4])) if len(sizes) > 1 else np.zeros(inside.shape, bool)
        else:
            x0, y0, mask = shot.masks[index]
        total[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] += mask.astype(np.uint8)
        others = np.delete(shot.boxes, index, axis=0)
        apart = (others[:, 0] > x1 + 1) | (others[:, 2] < x0 - 1) | (others[:, 1] > y1 + 1) | (others[:, 3] < y0 - 1)
        on_border = min(x0, y0) <= 1 or x1 >= total.shape[1] - 1 or y1 >= total.shape[0] - 1
        if apart.all() and not on_border and mask.sum() > 30:
            masks.append((x0, y0, np.pad(mask, 2)))
    return total, [(x - 2, y - 2, mask) for x, y, mask in masks if x >= 2 and y >= 2]


def thickness(mask: np.ndarray) -> float:
    """Width of a mask, pixels: twice the usual distance of its axis from the outline."""
    far = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    return float(2 * np.median(far[far > 0.7 * far.max()])) - 0.5 if mask.any() else 0.0


def single(shot: Picture, where: tuple[int, int, np.ndarray], ground: float) -> dict[str, float | np.ndarray] | None:
    """Measure one chromosome that lies apart."""
    x0, y0, mask = where
    rows, columns = mask.shape
    pixels = shot.pixels[y0 : y0 + rows, x0 : x0 + columns].astype(np.float32)
    if pixels.shape != mask.shape:
        return None
    width = thickness(mask)
    at = np.argwhere(mask).astype(np.float64)
    centre = at.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((at - centre).T))
    along, aside = (at - centre) @ axes[:, 1], (at - centre) @ axes[:, 0]
    # The axis is a parabola over the long direction; chromosomes that it does not fit are too bent to be measured.
    curve = np.polyfit(along, aside, 2)
    off = aside - np.polyval(curve, along)
    length = float(mask.sum()) / width
    level = float(np.median(pixels[mask])) - ground
    if width < 4 or abs(level) < 3:
        return None
    found: dict[str, float | np.ndarray] = {"width": width, "elongation": length, "level": level}
    found["elongation"] = length / width
    chord = float(np.ptp(along))
    found["bend"] = length / max(chord, 1.0)
    step = np.hypot(*np.gradient(cv2.GaussianBlur(pixels, (0, 0), 0.5)))
    rim = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    around = cv2.dilate(rim.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    found["edge"] = abs(level) / max(float(np.percentile(step[around], 75)), 1e-3) / width
    if length < 3 * width or np.percentile(np.abs(off), 90) > 0.6 * width:
        return found
    inner = np.abs(off) < 0.3 * width
    bins = np.round(along).astype(int) - int(np.round(along.min()))
    seen = np.bincount(bins[inner], minlength=bins.max() + 1)
    profile = np.bincount(bins[inner], (pixels[mask] - ground)[inner], minlength=len(seen)) / np.maximum(seen, 1)
    margin = max(int(0.6 * width), 2)
    profile = profile[margin:-margin] / level
    if len(profile) < 12 or (seen[margin:-margin] == 0).any():
        return found
    found["bands"] = float(profile.std())
    signal = profile - np.polyval(np.polyfit(np.arange(len(profile)), profile, 1), np.arange(len(profile)))
    signal *= np.hanning(len(signal))
    cycles = FREQUENCIES / width
    wave = np.exp(-2j * np.pi * np.outer(cycles, np.arange(len(signal))))
    found["spectrum"] = np.abs(wave @ signal) ** 2 / np.sum(np.hanning(len(signal)) ** 2) / width
    sides = (np.abs(off) > 0.22 * width) & (np.abs(off) < 0.34 * width)
    found["groove"] = 1 - float(pixels[mask][np.abs(off) < 0.08 * width].mean() - ground) / (
        float(pixels[mask][sides].mean()) - ground
    )
    return found


def measure(shot: Picture, bright: bool) -> dict[str, list[float] | list[np.ndarray]]:
    """Measure one image; values of single chromosomes are lists of many."""
    total, masks = foreground(shot, bright)
    near = cv2.dilate((total > 0).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    ground = float(np.median(shot.pixels[~near]))
    singles = [found for where in masks if (found := single(shot, where, ground)) is not None]
    result: dict[str, list] = {
        key: [item[key] for item in singles if key in item]
        for key in ("elongation", "bend", "bands", "groove", "edge", "spectrum")
    }
    if len(singles) < 5:
        return result
    width = float(np.median([item["width"] for item in singles]))
    levels = np.array([item["level"] for item in singles], dtype=float)
    result |= {"width": [width], "contrast": [abs(float(np.median(levels)))], "ground": [ground]}
    result["uneven"] = [float(levels.std() / abs(np.median(levels)))]
    hull = cv2.contourArea(cv2.convexHull(np.argwhere(total > 0).astype(np.int32)))
    result["occupied"], result["span"] = [float((total > 0).sum() / hull)], [np.sqrt(hull) / width]
    result["longest"] = [max(float(item["elongation"]) for item in singles)]
    result["overlap"] = [float((total > 1).sum() / (total > 0).sum())]
    if shot.masks is None:
        result["overlap"] = [boxes_overlapped(shot.boxes)]
    distance = cv2.distanceTransform((total == 0).astype(np.uint8), cv2.DIST_L2, 5)
    free = distance > width
    stained = free & ((shot.pixels - ground) * np.sign(np.median(levels)) > 0.35 * abs(np.median(levels)))
    result["clutter"] = [float(stained.sum() / (total > 0).sum())]
    free &= ~cv2.dilate(stained.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    if free.sum() > 500:
        smooth = cv2.GaussianBlur(shot.pixels.astype(np.float32), (0, 0), 1.5)
        rough = (shot.pixels - smooth)[free]
        result["noise"] = [float(np.percentile(rough, 84) - np.percentile(rough, 16)) / 2]
        coarse = cv2.resize(shot.pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        broad = cv2.GaussianBlur(coarse.astype(np.float32), (0, 0), width / 4)
        broad = cv2.resize(broad, shot.pixels.shape[::-1])[free]
        result["gradient"] = [float(np.percentile(broad, 95) - np.percentile(broad, 5))]
    return result


def boxes_overlapped(boxes: np.ndarray) -> float:
    """Share of the boxes with IoU > 0.1 with another."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    iou = shared / np.maximum(area[:, None] + area[None] - shared, 1)
    np.fill_diagonal(iou, 0)
    return float((iou.max(axis=1) > 0.1).mean())


def gather(shots: Iterator[Picture], bright: bool, title: str, count: int) -> dict[str, list]:
    """Measure a set of images."""
    pooled: dict[str, list] = {key: [] for key in (*MEASURES, "spectrum")}
    for shot in track(shots, title, total=count):
        for key, values in measure(shot, bright).items():
            pooled[key].extend(values)
    return pooled


def table(results: dict[str, dict[str, dict[str, list]]]) -> str:
    """The percentiles of both sides as Markdown."""
    lines = ["| look | measure | real 10 / 50 / 90 % | synthetic 10 / 50 / 90 % |", "|---|---|---|---|"]
    for look, sides in results.items():
        for key, title in MEASURES.items():
            cells = [
                " / ".join(f"{value:.3g}" for value in np.percentile(sides[side][key] or [np.nan], (10, 50, 90)))
                for side in ("real", "synthetic")
            ]
            lines.append(f"| {look} | {title} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def draw(results: dict[str, dict[str, dict[str, list]]], path: Path) -> None:
    """Draw the distributions of both sides, a column a look."""
    rows = len(MEASURES) + 1
    figure = Figure(figsize=(4 * len(results), 1.7 * rows), layout="constrained")
    axes = figure.subplots(rows, len(results), squeeze=False)
    for column, (look, sides) in enumerate(results.items()):
        for row, (key, title) in enumerate(MEASURES.items()):
            ax = axes[row][column]
            both = np.concatenate([sides["real"][key], sides["synthetic"][key]])
            edges = np.linspace(*np.percentile(both, (1, 99)), 26)
            for side in ("real", "synthetic"):
                values = np.clip(sides[side][key], edges[0], edges[-1])
                ax.hist(values, edges, density=True, histtype="step", linewidth=1.5, label=side)
            ax.set_yticks([])
            ax.set_xlabel(title, fontsize=8)
        ax = axes[-1][column]
        for side in ("real", "synthetic"):
            ax.loglog(FREQUENCIES, np.median(sides[side]["spectrum"], axis=0), label=side)
        ax.set_xlabel("power of the bands over cycles per width", fontsize=8)
        axes[0][column].set_title(look)
    axes[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)


def speed(seconds: float) -> None:
    """Print how many images one core makes in a second, exact masks and outlines included."""
    for size in ((384, 384), (768, 576), (1280, 1024), None):
        for look in SETS:
            dataset = SyntheticDataset(10_000, MetaphaseSettings(size, None, look, scene="clinical"), 1, cache_mb=0)
            dataset[0]
            start, made = time.process_time(), 0
            while time.process_time() - start < seconds:
                made += 1
                dataset[made]
            rate = made / (time.process_time() - start)
            name = "drawn sizes" if size is None else f"{size[0]}x{size[1]}"
            print(f"{name:>12} {look:>6}: {rate:5.1f} images/s per core, {1000 / rate:4.0f} ms an image")


def main() -> None:
    """Read the command line, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("realism"))
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--looks", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.speed:
        speed(5.0)
        return
    if options.root is None:
        parser.error("--root is needed, the folder of the real images")
    results = {}
    for look in options.looks:
        bright = look != "gband"
        shots = {
            "real": real(look, options.root, options.count),
            "synthetic": synthetic(look, options.count, options.seed),
        }
        results[look] = {side: gather(shots[side], bright, f"{look} {side}", options.count) for side in shots}
    text = table(results)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "realism.md").write_text(text + "\n")
    plain = json.dumps(results, default=lambda value: np.asarray(value).tolist())
    (options.out / "realism.json").write_text(plain)
    draw(results, options.out / "realism.png")


if __name__ == "__main__":
    main()
