"""Pictures of masks over an image, with enlarged details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.metrics.matching import UNCOUNTED, match
from kemr_lightning.metrics.records import record
from kemr_lightning.output.drawing import COLOURS, FRAME, NAMES, save

Window = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in pixels of the image."""

DPI = 170
_TAG = {"boxstyle": "square,pad=0.15", "facecolor": FRAME, "edgecolor": "none", "alpha": 0.9}


def contours(patch: Patch, threshold: float = 0.5) -> list[NDArray[np.float64]]:
    """The outline of a mask, interpolated between pixels where the mask is one of probabilities.

    Args:
        patch: The mask, of probabilities or bool.
        threshold: Probability on the outline.

    Returns:
        Closed lines ``(k, 2)`` of ``(x, y)`` in image pixels, pixel ``(i, j)`` covering ``[j, j+1) x [i, i+1)``.
    """
    margin = 3
    values = np.pad(patch.values.detach().cpu().numpy().astype(np.float32), margin)
    if patch.values.dtype == torch.bool:
        # A binary mask is a staircase: smooth it by less than a pixel.
        values = gaussian_filter(values, 0.7)
    lines: list[NDArray[np.float64]] = find_contours(values, threshold)  # type: ignore[no-untyped-call]
    return [line[:, ::-1] + (patch.x0 + 0.5 - margin, patch.y0 + 0.5 - margin) for line in lines]


def mask_picture(sample: Sample, prediction: Prediction, path: Path, score: float = 0.5, details: int = 4) -> None:
    """Draw an image with the outlines of its annotations, initial and refined masks, and enlarged details.

    The details show the instances whose masks refinement has changed the most, or without refinement those that fit
    their annotation the worst.

    Args:
        sample: The image; annotations are drawn if it has them.
        prediction: What was found in it.
        path: The PNG to write.
        score: Predictions below this score are not drawn.
        details: Number of enlarged details, at most.
    """
    image = sample.image.cpu().numpy()
    height, width = image.shape
    layers = _layers(sample, prediction, score)
    views = _details(sample, prediction, score, details)
    columns = (len(views) + 1) // 2
    # All lengths are in inches: the image, and beside it two rows of details as high as the image.
    edge, gap, caption, legend = 0.1, 0.12, 0.26, 0.36
    tall = 8.0
    wide = tall * width / height
    side = (tall - caption) / 2
    total = (edge * 2 + wide + columns * (side + gap), caption + tall + legend)
    figure = Figure(figsize=total, facecolor="white")

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / total[0], y / total[1], w / total[0], h / total[1]))

    main = place(edge, legend, wide, tall)
    show(main, image, layers, (0, 0, width, height), 0.9, round(tall * DPI))
    title = f"{sample.name}{_verdict(sample, prediction.final, score)}"
    main.set_title(title, loc="left", pad=5, fontsize=9, color="#222222")
    for number, (window, label) in enumerate(views):
        x0, y0, x1, y1 = window
        for colour, style in (("#222222", "-"), (FRAME, (0, (4, 4)))):
            main.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=0.7, ls=style))
        main.text(x0 + 2, y0 + 2, str(number + 1), va="top", fontsize=7, bbox=_TAG)
        row, column = number % 2, number // 2
        x = edge + wide + gap + column * (side + gap)
        axes = place(x, legend + (1 - row) * (side + caption), side, side)
        show(axes, image, layers, window, 1.6, round(side * DPI))
        axes.set_title(f"{number + 1}   {label}", loc="left", pad=5, fontsize=9, color="#222222")
    handles = [Line2D([], [], color=COLOURS[name], linewidth=2.2, label=NAMES[name]) for name in layers]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=3, frameon=False, fontsize=10)
    save(figure, path, DPI)


def _layers(sample: Sample, prediction: Prediction, score: float) -> dict[str, list[NDArray[np.float64]]]:
    """The outlines of the annotations, initial and refined masks, by their name in `COLOURS`; of boxes, nothing."""
    layers = {}
    for name, instances in (("truth", sample.instances), *prediction.layers()):
        if instances is None or instances.patches is None:
            continue
        chosen = instances[instances.scores.cpu() >= score] if name != "truth" else instances
        layers[name] = [line for patch in chosen.patches or [] for line in contours(patch)]
    return layers


def _verdict(sample: Sample, final: Instances, score: float) -> str:
    """How many instances are annotated, found and wrong, for the picture's title."""
    if sample.instances is None or sample.instances.patches is None or final.patches is None:
        return f"    {int((final.scores >= score).sum())} found"
    found = match(record(final, sample.instances, sample.image_id), score, boundaries=False)
    wrong = sum(kind != "matched" and kind not in UNCOUNTED for kind in found.predictions)
    return f"    {len(found.truth)} annotated, {len(found.pairs)} found, {wrong} wrong"


def show(
    axes: Axes,
    image: NDArray[np.uint8],
    layers: Mapping[str, list[NDArray[np.float64]]],
    window: Window,
    linewidth: float,
    pixels: int,
) -> None:
    """Draw a window of an image and the lines in it.

    Args:
        axes: The axes to draw on.
        image: ``(H, W)`` uint8.
        layers: Lines ``(k, 2)`` of ``(x, y)`` in image pixels, by their name in `COLOURS`.
        window: The part of the image to draw.
        linewidth: Width of the lines in points.
        pixels: Height of the drawn window in pixels of the picture.
    """
    x0, y0, x1, y1 = window
    # Pillow resamples a window to the picture's pixels many times faster than matplotlib resamples the whole image.
    enlarged = Image.fromarray(image).resize(
        (round(pixels * (x1 - x0) / (y1 - y0)), pixels), Image.Resampling.BICUBIC, box=window
    )
    axes.imshow(np.asarray(enlarged.convert("RGB")), extent=(x0, x1, y1, y0), interpolation="nearest")
    for name, lines in layers.items():
        near = [
            line
            for line in lines
            if line[:, 0].max() > x0 and line[:, 0].min() < x1 and line[:, 1].max() > y0 and line[:, 1].min() < y1
        ]
        # Annotations are drawn first and broader, so that they show on both sides of a line that fits them.
        broad = linewidth * (1.9 if name == "truth" else 1.0)
        collection = LineCollection(near, colors=COLOURS[name], linewidths=broad, alpha=0.85 if name == "truth" else 1)
        collection.set_joinstyle("round")
        axes.add_collection(collection)
    axes.set_xlim(x0, x1)
    axes.set_ylim(y1, y0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_edgecolor("#888888")
        spine.set_linewidth(0.5)


def _details(sample: Sample, prediction: Prediction, score: float, count: int) -> list[tuple[Window, str]]:
    """Windows around the instances worth a closer look, each with its caption."""
    truth, initial, refined = sample.instances, prediction.initial, prediction.refined
    if truth is None or truth.patches is None or initial.patches is None:
        return []
    before = match(record(initial, truth, sample.image_id), score, boundaries=False)
    ranked: list[tuple[float, int, str]] = []
    if refined is None:
        ranked = [(1 - p.iou, p.truth, f"IoU {p.iou:.2f}") for p in before.pairs]
    else:
        after = {p.prediction: p for p in match(record(refined, truth, sample.image_id), score, boundaries=False).pairs}
        for pair in before.pairs:
            other = after.get(pair.prediction)
            if other is not None and other.truth == pair.truth:
                change = other.iou - pair.iou
                ranked.append((abs(change), pair.truth, f"IoU {pair.iou:.2f} \N{RIGHTWARDS ARROW} {other.iou:.2f}"))
    ranked.sort(key=lambda entry: -entry[0])
    views: list[tuple[Window, str]] = []
    for _, index, caption in ranked:
        window = square_about(truth.boxes[index].tolist(), sample.image_size)
        if all(apart(window, other) for other, _ in views):
            views.append((window, caption))
        if len(views) == count:
            break
    return views


def square_about(box: Sequence[float], image_size: tuple[int, int]) -> Window:
    """A square window around a box, inside the image and about a third larger than the box's longer side.

    Args:
        box: ``(x0, y0, x1, y1)`` in pixels.
        image_size: ``(H, W)`` of the image.
    """
    height, width = image_size
    x0, y0, x1, y1 = box
    side = min(max(x1 - x0, y1 - y0, 24) * 1.35, width, height)
    left = min(max((x0 + x1 - side) / 2, 0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0), height - side)
    return left, top, left + side, top + side


def apart(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether the centre of neither window ``(x0, y0, x1, y1)`` lies in the other."""
    for inner, outer in ((first, second), (second, first)):
        x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
        if outer[0] < x < outer[2] and outer[1] < y < outer[3]:
            return False
    return True
