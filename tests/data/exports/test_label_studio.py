"""Label Studio: polygons, brush masks, ellipses and turned boxes, in both of its exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation, annotation_patch
from kemr_lightning.data.exports.label_studio import brush_mask
from kemr_lightning.data.formats import format_named
from tests.data.exports.helpers import SHAPES, SIZE, draw, mask_of

FRAME = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}


def percent(part: list[tuple[float, float]]) -> list[list[float]]:
    return [[x * 100 / SIZE[1], y * 100 / SIZE[0]] for x, y in part]


def encoded(mask: np.ndarray) -> list[int]:
    """The mask as the opaque pixels of an RGBA image in ``rle-pack``'s code, bit by bit."""
    values = np.repeat(mask.ravel(), 4).astype(int) * 255
    bits = f"{len(values):032b}{7:05b}{3:04b}{7:04b}{11:04b}{15:04b}"
    start = 0
    while start < len(values):
        stop = start + 1
        while stop < len(values) and values[stop] == values[start] and stop - start < 2**16:
            stop += 1
        size = next(i for i, wide in enumerate((4, 8, 12, 16)) if stop - start - 1 < 2**wide)
        bits += f"1{size:02b}{stop - start - 1:0{(4, 8, 12, 16)[size]}b}{values[start]:08b}"
        start = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    return {**FRAME, "id": label, "type": f"{kind}labels", "value": {**value, f"{kind}labels": [label]}}


def task(results: list[dict[str, Any]], image: str = "/data/upload/1/0a1b2c3d-cell_0.png") -> dict[str, Any]:
    cancelled = {"was_cancelled": True, "result": []}
    return {"id": 7, "data": {"image": image}, "annotations": [cancelled, {"was_cancelled": False, "result": results}]}


def read(root: Path, *tasks: dict[str, Any]) -> list[Annotation]:
    draw(root / "cell_0.png", "cell_0")
    (root / "export.json").write_text(json.dumps(list(tasks)))
    source = format_named("label_studio").source(root)
    return [a for part in source.parts for record in source.read(part) for a in record.annotations or ()]


def frame(annotation: Annotation) -> np.ndarray:
    patch = annotation_patch(annotation, SIZE)
    assert patch is not None
    whole = np.zeros(SIZE, dtype=bool)
    x0, y0, x1, y1 = patch.window
    whole[y0:y1, x0:x1] = patch.values
    return whole


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0a1b2c3d-cell_0.png",
        "/data/local-files/?d=x/cell_0.png",
        "s3://b/a%20b/cell_0.png",
        "cell_0.png",
    ],
)
def test_polygons_to_a_fraction_of_a_pixel(tmp_path: Path, image: str) -> None:
    part = SHAPES["cell_0"][0][1][0]
    (annotation,) = read(tmp_path, task([region("polygon", "1", points=percent(part), closed=True)], image))
    assert annotation.label == "1"
    assert annotation.polygons[0] == pytest.approx(np.array(part), abs=1e-6)


def test_brush_masks_pixel_for_pixel_also_of_several_parts(tmp_path: Path) -> None:
    mask = mask_of(SHAPES["cell_0"][1][1])
    (annotation,) = read(tmp_path, task([region("brush", "X", format="rle", rle=encoded(mask))]))
    assert np.array_equal(frame(annotation), mask)


def test_runs_of_single_values_are_read() -> None:
    # By hand: 4 values (an image of one pixel), 8 bits each, run lengths of 4 bits; one run of 4 values 0, 0, 0, 255.
    bits = f"{4:032b}{7:05b}" + f"{3:04b}" * 4 + "0" + "00" + f"{3:04b}" + f"{0:08b}" * 3 + f"{255:08b}"
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert brush_mask(code, (1, 1)).tolist() == [[True]]
    with pytest.raises(ValueError, match="not of 2x1 pixels"):
        brush_mask(code, (1, 2))
    with pytest.raises(ValueError, match="ends too early"):
        brush_mask(code[:-2], (1, 1))


def test_boxes_ellipses_and_labels_in_results_of_their_own(tmp_path: Path) -> None:
    labelled = {**FRAME, "id": "r", "type": "labels", "value": {"labels": ["apart"]}}
    apart = {**FRAME, "id": "r", "type": "rectangle", "value": {"x": 25, "y": 50, "width": 50, "height": 25}}
    turned = region("rectangle", "t", x=50, y=50, width=25, height=10, rotation=90)
    ellipse = region("ellipse", "e", x=50, y=50, radiusX=25, radiusY=10, rotation=0)
    choice = {"id": "c", "type": "choices", "value": {"choices": ["good"]}}
    first, second, third = read(tmp_path, task([apart, labelled, turned, ellipse, choice]))
    assert (first.label, first.box) == ("apart", (20, 30, 60, 45))
    assert second.bounds() == pytest.approx((34, 30, 40, 50))
    assert third.bounds() == pytest.approx((20, 24, 60, 36), abs=0.1)


def test_the_minimal_export(tmp_path: Path) -> None:
    part = SHAPES["cell_0"][0][1][0]
    regions = [{**FRAME, "points": percent(part), "polygonlabels": ["1"]}]
    (annotation,) = read(tmp_path, {"id": 1, "image": "/data/upload/1/0a1b2c3d-cell_0.png", "label": regions})
    assert annotation.polygons[0] == pytest.approx(np.array(part), abs=1e-6)


def test_tasks_that_nobody_has_done_are_passed_over_and_faults_named(tmp_path: Path) -> None:
    good = task([region("polygon", "1", points=percent(SHAPES["cell_0"][0][1][0]))])
    assert len(read(tmp_path, good, {"id": 8, "data": {"image": "b.png"}, "annotations": []})) == 1
    for wrong, message in (
        (task([region("polygon", "1", points=[["a"]])]), "has a polygon that is not Label Studio's"),
        (task([], "other.png"), "its image is not in the data folder"),
        (task([{**region("polygon", "1", points=[]), "image_rotation": 90}]), "annotated on a turned image"),
    ):
        with pytest.raises(UserError, match=f"task 7.*{message}"):
            read(tmp_path, wrong)
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(UserError, match="not a list of tasks"):
        format_named("label_studio").source(tmp_path)
