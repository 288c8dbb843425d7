"""CVAT's XML: polygons in groups, masks of the brush, turned boxes, ellipses, subsets and videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import annotation_patch
from kemr_lightning.data.formats import format_named
from kemr_lightning.data.record import Record
from tests.data.exports.helpers import PARTS, SHAPES, SIZE, draw, mask_of


def points(part: list[tuple[float, float]]) -> str:
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in part)


def polygons(name: str) -> str:
    found = ""
    for group, (label, parts) in enumerate(SHAPES[name], start=1):
        number = group if len(parts) > 1 else 0
        found += "".join(
            f'<polygon label="{label}" group_id="{number}" points="{points(part)}" z_order="0"/>' for part in parts
        )
    return found


def image(name: str, shapes: str, subset: bool = False) -> str:
    part = f' subset="{PARTS[name].title()}"' if subset else ""
    return f'<image id="0" name="{name}.png"{part} width="{SIZE[1]}" height="{SIZE[0]}">{shapes}</image>'


def write(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{body}</annotations>')


def read(root: Path) -> dict[str, Record]:
    source = format_named("cvat").source(root)
    return {f"{part} {record.path.stem}": record for part in source.parts for record in source.read(part)}


def one(root: Path, shapes: str) -> Record:
    draw(root / "images" / "cell_0.png", "cell_0")
    write(root / "annotations.xml", image("cell_0", shapes))
    return read(root)["all cell_0"]


def rle(mask: np.ndarray) -> str:
    """CVAT's code of a mask: run lengths along the rows, zeros first."""
    flat = [0, *mask.ravel().astype(int).tolist()]
    changes = [i - 1 for i in range(1, len(flat)) if flat[i] != flat[i - 1]]
    return ", ".join(str(b - a) for a, b in zip([0, *changes], [*changes, mask.size], strict=True))


def test_polygons_with_their_groups_in_subsets(tmp_path: Path) -> None:
    for name in SHAPES:
        draw(tmp_path / "images" / f"{name}.png", name)
    write(tmp_path / "annotations.xml", "".join(image(name, polygons(name), subset=True) for name in SHAPES))
    found = read(tmp_path)
    assert sorted(found) == ["test cell_1", "train cell_0"]
    for key, record in found.items():
        for annotation, (label, parts) in zip(record.annotations or (), SHAPES[key.split()[1]], strict=True):
            assert annotation.label == label
            for outline, part in zip(annotation.polygons, parts, strict=True):
                assert outline == pytest.approx(np.array(part), abs=0.01)
    # Shapes of one group are one instance, and can be taken apart.
    assert [a.group_id for a in found["train cell_0"].annotations or ()] == [None, 2]


def test_masks_of_the_brush_pixel_for_pixel(tmp_path: Path) -> None:
    whole = mask_of(SHAPES["cell_0"][1][1])
    window = whole[4:25, 28:64]
    shape = f'<mask label="X" rle="{rle(window)}" left="28" top="4" width="36" height="21" group_id="0"/>'
    (annotation,) = one(tmp_path, shape).annotations or ()
    patch = annotation_patch(annotation, SIZE)
    assert patch is not None
    frame = np.zeros(SIZE, dtype=bool)
    x0, y0, x1, y1 = patch.window
    frame[y0:y1, x0:x1] = patch.values
    assert np.array_equal(frame, whole)


def test_boxes_ellipses_and_what_is_no_instance(tmp_path: Path) -> None:
    shapes = (
        '<box label="a" xtl="10" ytl="10" xbr="30" ybr="20"/>'
        '<box label="b" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90.0"/>'
        '<ellipse label="c" cx="40" cy="30" rx="12" ry="5" rotation="90"/>'
        '<polyline label="d" points="1,1;2,2"/><points label="d" points="1,1"/><tag label="d"/>'
        '<polygon label="d" points="1,1;2,2"/>'
    )
    box, turned, ellipse = one(tmp_path, shapes).annotations or ()
    assert box.box == (10, 10, 30, 20)
    assert turned.bounds() == pytest.approx((15, 5, 25, 25))
    assert ellipse.bounds() == pytest.approx((35, 18, 45, 42), abs=0.1)
    patch = annotation_patch(ellipse, SIZE)
    assert patch is not None
    assert patch.area() == pytest.approx(np.pi * 60, rel=0.03)


def test_tracks_of_a_video(tmp_path: Path) -> None:
    for number in (0, 1):
        draw(tmp_path / "images" / f"frame_{number:06d}.png", "cell_0")
    part = points(SHAPES["cell_0"][0][1][0])
    shapes = [f'<polygon frame="{n}" keyframe="1" outside="{n // 2}" points="{part}"/>' for n in range(3)]
    write(tmp_path / "annotations.xml", f'<track id="0" label="1">{"".join(shapes)}</track>')
    found = read(tmp_path)
    assert sorted(found) == ["all frame_000000", "all frame_000001"]
    assert [a.label for a in found["all frame_000001"].annotations or ()] == ["1"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<image", "is not valid XML"),
        (image("cell_9", ""), "cell_9.png: its image is not in the data folder"),
        (image("cell_0", '<polygon label="a" points="1;2"/>'), "has a polygon that is not CVAT's"),
        (image("cell_0", '<mask label="a" rle="1, 2" left="0" top="0" width="9" height="9"/>'), "do not add up"),
        (image("cell_0", "").replace('width="80"', 'width="81"'), "is 80x60, its annotations are for 81x60"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, body: str, message: str) -> None:
    draw(tmp_path / "cell_0.png", "cell_0")
    write(tmp_path / "annotations.xml", body)
    with pytest.raises(UserError, match=message):
        format_named("cvat").source(tmp_path)
