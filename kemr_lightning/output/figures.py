"""Pictures of masks and curves of a run, drawn with matplotlib's file backend."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.measure import find_contours

from kemr_lightning.core.files import whole
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.metrics.average_precision import IOU_THRESHOLDS, RECALL_POINTS
from kemr_lightning.metrics.matching import match
from kemr_lightning.metrics.records import record
from kemr_lightning.output.losses import kind_of_loss

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
TRUTH, INITIAL, REFINED, FRAME = "#009E73", "#56B4E9", "#D55E00", "#F0E442"
NAMES = {"truth": "ground truth", "initial": "initial", "refined": "refined"}
COLOURS = {"truth": TRUTH, "initial": INITIAL, "refined": REFINED}


def contours(patch: Patch, threshold: float = 0.5) -> list[NDArray[np.float64]]:
    """The outline of a mask, between pixels where the probability says so.

    Args:
        patch: Probabilities or bool.
        threshold: Level of the outline.

    Returns:
        Closed lines ``(k, 2)`` of ``(x, y)`` in image pixels, pixel ``(i, j)`` covering ``[j, j+1) x [i, i+1)``.
    """
    margin = 3
    values = np.pad(patch.values.detach().cpu().numpy().astype(np.float32), margin)
    if patch.values.dtype == torch.bool:
        # The staircase of a binary mask, smoothed within a pixel.
        values = gaussian_filter(values, 0.7)
    lines: list[NDArray[np.float64]] = find_contours(values, threshold)  # type: ignore[no-untyped-call]
    return [line[:, ::-1] + (patch.x0 + 0.5 - margin, patch.y0 + 0.5 - margin) for line in lines]


def mask_picture(
    sample: Sample,
    initial: Instances,
    refined: Instances | None,
    path: Path,
    score: float = 0.5,
    details: int = 4,
) -> None:
    """Draw an image with the outlines of its annotations, initial and refined masks, and enlarged details.

    The details are the instances whose masks refinement has changed the most, or without refinement those that fit
    their annotation the worst.

    Args:
        sample: The image; annotations are drawn if it has them.
        initial: The detector's instances.
        refined: The same with refined masks, or None.
        path: The PNG to write.
        score: Predictions below it are not drawn.
        details: Number of enlarged details, at most.
    """
    image = sample.image.cpu().numpy()
    height, width = image.shape
    layers = _layers(sample, initial, refined, score)
    views = _details(sample, initial, refined, score, details)
    columns = (len(views) + 1) // 2
    # All in inches: the image, then details in two rows that end where the image ends.
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
    main.set_title(
        f"{sample.name}{_verdict(sample, refined or initial, score)}", loc="left", pad=5, fontsize=9, color="#222222"
    )
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


DPI = 170
_TAG = {"boxstyle": "square,pad=0.15", "facecolor": FRAME, "edgecolor": "none", "alpha": 0.9}


def _layers(
    sample: Sample, initial: Instances, refined: Instances | None, score: float
) -> dict[str, list[NDArray[np.float64]]]:
    layers = {}
    for name, instances in (("truth", sample.instances), ("initial", initial), ("refined", refined)):
        if instances is None or instances.patches is None:
            continue
        chosen = instances[instances.scores.cpu() >= score] if name != "truth" else instances
        layers[name] = [line for patch in chosen.patches or [] for line in contours(patch)]
    return layers


def _verdict(sample: Sample, final: Instances, score: float) -> str:
    if sample.instances is None or sample.instances.patches is None or final.patches is None:
        return f"    {int((final.scores >= score).sum())} found"
    found = match(record(final, sample.instances, sample.image_id), score, boundaries=False)
    wrong = sum(kind not in ("matched", "unsure") for kind in found.predictions)
    return f"    {len(found.truth)} annotated, {len(found.pairs)} found, {wrong} wrong"


def show(
    axes: Axes,
    image: NDArray[np.uint8],
    layers: Mapping[str, list[NDArray[np.float64]]],
    window: tuple[float, float, float, float],
    linewidth: float,
    pixels: int,
) -> None:
    """Draw a window of an image and the lines in it.

    Args:
        axes: Where.
        image: ``(H, W)`` uint8.
        layers: Lines ``(k, 2)`` of ``(x, y)`` by their name in `COLOURS`.
        window: ``(x0, y0, x1, y1)`` in pixels of the image.
        linewidth: In points.
        pixels: Height in pixels of the picture.
    """
    x0, y0, x1, y1 = window
    # Pillow resamples a window to the pixels of the picture many times faster than matplotlib the whole image.
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
        # The annotation lies beneath, broader, so that it shows on both sides of a line that fits it.
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


def _details(
    sample: Sample, initial: Instances, refined: Instances | None, score: float, count: int
) -> list[tuple[tuple[float, float, float, float], str]]:
    """Windows of the instances worth a closer look, with their captions."""
    truth = sample.instances
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
    views: list[tuple[tuple[float, float, float, float], str]] = []
    for _, index, caption in ranked:
        window = square_about(truth.boxes[index].tolist(), sample.image_size)
        if all(apart(window, other) for other, _ in views):
            views.append((window, caption))
        if len(views) == count:
            break
    return views


def square_about(box: Sequence[float], image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A square window of an image about a box ``(x0, y0, x1, y1)``, a third larger and inside the image."""
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


def _axes(size: tuple[float, float] = (6.4, 4.6)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Leave out what a curve does not need."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def precision_recall(
    extended: Mapping[str, Any],
    path: Path,
    ious: Sequence[float] = (0.5, 0.75, 0.85),
    names: Mapping[str, str] = NAMES,
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """Draw precision over recall of some sets of predictions, at some IoU thresholds.

    Args:
        extended: By key, as `extended_figures` gives them; of a run, ``initial`` and, if there is one, ``refined``.
        path: The PNG to write.
        ious: Thresholds, three at most.
        names: What each key is called in the legend, in its order.
        colours: The colour of each key.
    """
    figure, axes = _axes()
    dashes: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
    styles = dict(zip(ious, dashes, strict=False))
    kind, present = _kind(extended), [key for key in names if key in extended]
    for key in present:
        for iou, style in styles.items():
            curve = np.array(extended[key][kind]["curves"][f"{iou:.2f}"]) * 100
            axes.plot(RECALL_POINTS * 100, curve, style, color=colours[key], linewidth=1.8)
    handles = [Line2D([], [], color=colours[key], linewidth=2, label=names[key]) for key in present]
    handles += [Line2D([], [], color="#555555", linestyle=s, label=f"IoU {iou:.2f}") for iou, s in styles.items()]
    axes.legend(handles=handles, frameon=False, loc="lower left")
    axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 100), ylim=(0, 101), title=f"{kind} precision")
    save(figure, path, 150)


def ap_over_iou(
    extended: Mapping[str, Any],
    path: Path,
    names: Mapping[str, str] = NAMES,
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """Draw AP over the IoU threshold; arguments as in `precision_recall`."""
    figure, axes = _axes()
    kind = _kind(extended)
    for key in (key for key in names if key in extended):
        values = [extended[key][kind][f"AP{round(iou * 100)}"] for iou in IOU_THRESHOLDS]
        label = f"{names[key]}, mean {extended[key][kind]['AP']:.2f}"
        axes.plot(IOU_THRESHOLDS, values, "o-", color=colours[key], linewidth=1.8, markersize=4, label=label)
    axes.legend(frameon=False, loc="lower left")
    axes.set(xlabel="IoU threshold", ylabel="AP (%)", ylim=(0, 101), title=f"{kind} AP")
    axes.set_xticks(IOU_THRESHOLDS)
    save(figure, path, 150)


def _kind(extended: Mapping[str, Any]) -> str:
    return "mask" if all("mask" in figures for figures in extended.values()) else "box"


def training_curves(metrics_csv: Path, path: Path) -> bool:
    """Draw a training's losses and its validation figures over steps.

    Args:
        metrics_csv: As `ContinuedCSVLogger` writes it.
        path: The PNG to write.

    Returns:
        Whether there was anything to draw.
    """
    with metrics_csv.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({name for row in rows for name in row if name})
    losses = _losses(rows, names)
    if not losses:
        return False
    figure = Figure(figsize=(11, 4.4), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    palette = ["#222222", "#0072B2", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#D55E00", "#999999"]
    for (name, (steps, values)), colour in zip(losses.items(), palette * len(losses), strict=False):
        left.plot(steps, _smooth(values), color=colour, linewidth=2.0 if name == "total" else 1.3, label=name)
    left.set(xlabel="step", ylabel="loss (running mean)", yscale="log", title="training")
    left.legend(frameon=False, fontsize=8)
    for group in ("initial", "refined"):
        for figure_name, style in (("MaskAP", "o-"), ("AP75", "o:"), ("AP50", "o--")):
            steps, values = _series(rows, f"val/{group}/{figure_name}")
            if len(steps):
                label = f"{figure_name} {group}"
                right.plot(steps, values, style, color=COLOURS[group], linewidth=1.5, markersize=3, label=label)
    right.set(xlabel="step", ylabel="%", title="validation")
    if right.lines:
        right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        tidy(axes)
    save(figure, path, 150)
    return True


def _losses(
    rows: Sequence[Mapping[str, str]], names: Sequence[str]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Steps and values of each kind of loss, losses of one kind summed; the total first."""
    found: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for name in names:
        kind = kind_of_loss(name)
        steps, values = _series(rows, name) if kind is not None else (np.zeros(0), np.zeros(0))
        if kind is None or not len(steps):
            continue
        held = found.get(kind)
        found[kind] = (steps, values if held is None or len(held[1]) != len(values) else held[1] + values)
    return dict(sorted(found.items(), key=lambda item: item[0] != "total"))


def _series(rows: Sequence[Mapping[str, str]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of a column; a step that was run twice, before and after a crash, has its later value."""
    points = {int(row["step"]): float(row[name]) for row in rows if row.get(name) and row.get("step")}
    steps = sorted(points)
    return np.array(steps, dtype=np.float64), np.array([points[step] for step in steps])


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window of a twentieth of the curve, shorter at its ends."""
    half = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    position = np.arange(len(values))
    first, last = np.maximum(position - half, 0), np.minimum(position + half + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a picture, whole or not at all."""
    FigureCanvasAgg(figure)
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=dpi, pil_kwargs={"compress_level": 3})
