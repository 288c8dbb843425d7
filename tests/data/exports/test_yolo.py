"""YOLO's text files: outlines to a fraction of a pixel, boxes, scores, names of classes, layouts of folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.formats import format_named
from kemr_lightning.data.record import Record
from tests.data.exports.helpers import PARTS, SHAPES, SIZE, box_of, draw

NAMES = ["1", "X", "on"]


def line(label: str, parts: list[list[tuple[float, float]]]) -> str:
    """Several parts become one outline with a seam there and back, as Ultralytics joins them."""
    outline = parts[0] if len(parts) == 1 else [*parts[0], parts[0][0], *parts[1], parts[1][0], parts[0][0]]
    values = [f"{value / side:.6f}" for corner in outline for value, side in zip(corner, SIZE[::-1], strict=True)]
    return " ".join([str(NAMES.index(label)), *values])


def write(root: Path, images: str = "{part}/images", labels: str = "{part}/labels") -> None:
    for name, part in PARTS.items():
        draw(root / images.format(part=part) / f"{name}.png", name)
        path = root / labels.format(part=part) / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line(*shape) for shape in SHAPES[name]) + "\n")
    (root / "data.yaml").write_text("train: x\nnc: 3\nnames: [1, X, on]\n")


def read(root: Path) -> dict[str, Record]:
    source = format_named("yolo").source(root)
    return {f"{part} {record.path.stem}": record for part in source.parts for record in source.read(part)}


@pytest.mark.parametrize(
    ("images", "labels"),
    [("{part}/images", "{part}/labels"), ("images/{part}", "labels/{part}"), ("{part}", "{part}")],
)
def test_outlines_in_all_usual_layouts(tmp_path: Path, images: str, labels: str) -> None:
    write(tmp_path, images, labels)
    found = read(tmp_path)
    assert sorted(found) == ["test cell_1", "train cell_0"]
    for key, record in found.items():
        for annotation, (label, parts) in zip(record.annotations or (), SHAPES[key.split()[1]], strict=True):
            assert annotation.label == label
            (outline,) = annotation.polygons
            for part in parts:
                distances = np.abs(outline[:, None] - np.array(part)[None]).max(axis=2).min(axis=0)
                assert distances.max() < 0.01


def test_boxes_scores_empty_files_and_images_without_a_file(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        draw(tmp_path / f"{name}.png", "cell_0")
    x0, y0, x1, y1 = box_of(SHAPES["cell_0"][0][1])
    middle = f"{(x0 + x1) / 160:.6f} {(y0 + y1) / 120:.6f} {(x1 - x0) / 80:.6f} {(y1 - y0) / 60:.6f}"
    outline = line("X", SHAPES["cell_0"][0][1])
    (tmp_path / "a.txt").write_text(f"0 {middle}\n1 {middle} 0.9\n\n{outline} 0.87\n")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "classes.txt").write_text("chr\nother\n")
    found = read(tmp_path)
    assert sorted(found) == ["all a", "all b"]
    first, second, third = found["all a"].annotations or ()
    assert (first.label, second.label, third.label) == ("chr", "other", "other")
    assert first.box == pytest.approx((x0, y0, x1, y1), abs=0.01)
    assert second.box == pytest.approx(first.box)
    assert third.polygons[0] == pytest.approx(np.array(SHAPES["cell_0"][0][1][0]), abs=0.01)
    assert found["all b"].annotations == ()


@pytest.mark.parametrize("text", ["0 0.1 0.2", "0 0.1 0.2 x 0.4", "a 1 2 3 4", "0 12 30 40 50", "0 nan 0.1 0.1 0.1"])
def test_lines_of_another_kind_are_named(tmp_path: Path, text: str) -> None:
    draw(tmp_path / "a.png", "cell_0")
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=r"a\.txt, line 1: .* Export it again"):
        format_named("yolo").source(tmp_path)


def test_nothing_and_images_outside_the_parts(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", "cell_0")
    with pytest.raises(UserError, match="no YOLO text files"):
        format_named("yolo").source(tmp_path)
    write(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"1 of 3 images belong to no part .* such as a\.png"):
        format_named("yolo").source(tmp_path)
