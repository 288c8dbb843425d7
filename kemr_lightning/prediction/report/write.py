"""Assemble the report: the page's files beside this module, the data as JSON, the pictures one by one."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import whole
from kemr_lightning.metrics.matching import ImageMatch, summarise
from kemr_lightning.prediction.image_state import ImageState

KINDS = ("matched", "mislabelled", "merged", "split", "missed")
"""What becomes of an annotation, in the order of the page's table."""

BINS = 20
"""Of the IoU histogram, from 0.5 to 1."""


@dataclass(frozen=True)
class ReportImage:
    """One image of the report.

    Attributes:
        state: What is known of it.
        picture: The JPEG to show.
        initial: Matching of the initial instances to the annotations, or None without annotated masks.
        final: Matching of the final ones.
    """

    state: ImageState
    picture: Path
    initial: ImageMatch | None = None
    final: ImageMatch | None = None


def write_report(
    path: Path,
    images: Sequence[ReportImage],
    failures: Sequence[tuple[str, str]],
    label_names: Sequence[str],
    expected: int | None,
    title: str,
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        images: By number.
        failures: Names of the images that could not be done, and why.
        label_names: Names of labels 1, 2, ...
        expected: Usual number of chromosomes, or None.
        title: What was predicted with what, in a line.
    """
    data = {
        "title": title,
        "expected": expected,
        "labels": list(label_names),
        "failures": [{"name": name, "reason": reason} for name, reason in failures],
        "evaluation": evaluation(images),
        "images": [describe(image) for image in images],
    }
    before, after = _part("page.html").split("{{data}}")
    before = before.replace("{{style}}", _part("page.css")).replace("{{title}}", html.escape(title))
    with whole(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(before)
        stream.write(f'<script type="application/json" id="data">{script_json(data)}</script>\n')
        for block in _pictures(images):
            stream.write(block)
        stream.write(after.replace("{{script}}", _part("page.js")))


def script_json(data: Any) -> str:
    """JSON that may stand inside a script element: no ``<``, so that nothing in it can end the element."""
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def describe(image: ReportImage) -> dict[str, Any]:
    """What the page knows of one image; short keys, since there is one entry for each of thousands of instances."""
    state = image.state
    record = state.final
    kinds = [] if image.final is None else image.final.predictions
    ious = {} if image.final is None else {pair.prediction: pair.iou for pair in image.final.pairs}
    before = {} if image.initial is None else {pair.prediction: pair.iou for pair in image.initial.pairs}
    sizes = {crop["instance"] - 1: (crop["length"], crop["width"]) for crop in state.crops}
    instances = []
    for position, index in enumerate(state.written):
        entry = record.predictions[index]
        length, width = sizes.get(position, (None, None))
        instances.append(
            {
                "score": round(entry.score, 3),
                "label": entry.label,
                "box": [round(value, 1) for value in entry.box],
                "area": state.areas[position],
                "length": length,
                "width": width,
                "marks": sorted(state.review.marks[position]),
                "kind": kinds[index] if kinds else None,
                "iou": _rounded(ious.get(index)),
                "before": _rounded(before.get(index)),
            }
        )
    truth = None
    if state.annotated:
        truth = {
            "count": len(record.truth),
            "kinds": [] if image.final is None else list(image.final.truth),
            "overlapped": [] if image.final is None else image.final.overlapped,
        }
    return {
        "id": record.image_id,
        "name": record.name,
        "height": record.size[0],
        "width": record.size[1],
        "count": len(state.written),
        "shared": state.shared,
        "border": sum(state.border),
        "review": state.review.score,
        "reasons": state.review.reasons,
        "instances": instances,
        "truth": truth,
        "outlines": state.outlines,
    }


def evaluation(images: Sequence[ReportImage]) -> dict[str, Any] | None:
    """Figures over all images with annotated masks, before and after refinement; None if there are none."""
    scored = [image for image in images if image.final is not None and image.initial is not None]
    if not scored:
        return None
    layers = {"final": [image.final for image in scored if image.final is not None]}
    if any(image.state.refined is not None for image in scored):
        layers = {"initial": [image.initial for image in scored if image.initial is not None], **layers}
    result: dict[str, Any] = {"images": len(scored), "layers": {}}
    for name, matches in layers.items():
        ious = [pair.iou for found in matches for pair in found.pairs]
        result["layers"][name] = {**summarise(matches), "histogram": histogram(ious)}
    return result


def histogram(ious: Sequence[float]) -> list[int]:
    """Numbers of IoUs in `BINS` equal bins from 0.5 to 1; the last one includes 1."""
    counts = [0] * BINS
    for value in ious:
        counts[min(max(int((value - 0.5) * 2 * BINS), 0), BINS - 1)] += 1
    return counts


def _pictures(images: Sequence[ReportImage]) -> Iterator[str]:
    """Each picture in an element of its own, which the browser need not decode before it is shown."""
    for image in images:
        coded = base64.b64encode(image.picture.read_bytes()).decode("ascii")
        yield f'<script type="text/plain" id="picture-{image.state.final.image_id}">{coded}</script>\n'


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data
