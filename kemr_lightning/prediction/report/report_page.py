"""Put the report together: the page's files beside this module, the data as JSON, and the pictures."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import atomic_write, finite
from kemr_lightning.metrics.matching import ImageMatch, summarise
from kemr_lightning.prediction.image_state import ImageState
from kemr_lightning.prediction.result import Failure

BINS = 20
"""Bins of the IoU histogram, from 0.5 to 1."""


@dataclass(frozen=True)
class ReportImage:
    """One image of the report.

    Attributes:
        state: What is remembered of it.
        picture: The JPEG to show.
        initial: The matching of the initial instances to the annotations; None without annotated masks.
        final: The matching of the final instances, likewise.
    """

    state: ImageState
    picture: Path
    initial: ImageMatch | None = None
    final: ImageMatch | None = None


def write_report(
    path: Path,
    images: Sequence[ReportImage],
    failures: Sequence[Failure],
    label_names: Sequence[str],
    expected: int | None,
    title: str,
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        images: The images by number.
        failures: Those that could not be predicted.
        label_names: Names of labels 1, 2, ...
        expected: Usual number of chromosomes, or None.
        title: What was predicted and by which model, one line.
    """
    data = {
        "title": title,
        "expected": expected,
        "labels": list(label_names),
        "failures": [asdict(failure) for failure in failures],
        "evaluation": evaluation_figures(images),
        "images": [image_entry(image) for image in images],
    }
    before, after = _part("page.html").split("{{data}}")
    before = before.replace("{{style}}", _part("page.css")).replace("{{title}}", html.escape(title))
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(before)
        stream.write(f'<script type="application/json" id="data">{script_json(data)}</script>\n')
        for block in _pictures(images):
            stream.write(block)
        stream.write(after.replace("{{script}}", _part("page.js")))


def script_json(data: Any) -> str:
    """JSON that may stand inside a script element: no ``<``, so that nothing in it can end the element."""
    text = json.dumps(finite(data), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def image_entry(image: ReportImage) -> dict[str, Any]:
    """An image as the page's script reads it."""
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


def evaluation_figures(images: Sequence[ReportImage]) -> dict[str, Any] | None:
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
    """How many IoUs fall into each of `BINS` equal bins from 0.5 to 1; the last bin includes 1."""
    counts = [0] * BINS
    for value in ious:
        counts[min(max(int((value - 0.5) * 2 * BINS), 0), BINS - 1)] += 1
    return counts


def _pictures(images: Sequence[ReportImage]) -> Iterator[str]:
    """Each picture as an element of its own, so that the browser decodes a picture only when it is shown."""
    for image in images:
        coded = base64.b64encode(image.picture.read_bytes()).decode("ascii")
        yield f'<script type="text/plain" id="picture-{image.state.final.image_id}">{coded}</script>\n'


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
