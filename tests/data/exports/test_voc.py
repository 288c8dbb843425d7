"""Pascal VOC: boxes in both conventions, polygons, layouts, and files of other kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.formats import format_named
from kemr_lightning.data.record import Record
from tests.data.exports.helpers import SIZE, draw


def write(path: Path, *objects: str, name: str = "cell_0.png") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>1</depth></size>"
    path.write_text(f"<annotation><filename>{name}</filename>{size}{''.join(objects)}</annotation>")


def thing(label: str, *corners: float) -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    return f"<object><name>{label}</name><bndbox>{''.join(f'<{t}>{v}</{t}>' for t, v in tags)}</bndbox></object>"


def read(root: Path) -> list[Record]:
    source = format_named("voc").source(root)
    return [record for part in source.parts for record in source.read(part)]


def boxes(root: Path) -> list[tuple[float, ...] | None]:
    return [annotation.box for record in read(root) for annotation in record.annotations or ()]


def test_boxes_are_at_most_half_a_pixel_off_in_either_convention(tmp_path: Path) -> None:
    draw(tmp_path / "JPEGImages" / "cell_0.png", "cell_0")
    write(tmp_path / "Annotations" / "cell_0.xml", thing("A1", 5, 4, 21, 20), thing("X", 30, 5, 61, 21))
    assert boxes(tmp_path) == [(4.5, 3.5, 21, 20), (29.5, 4.5, 61, 21)]
    (record,) = read(tmp_path)
    assert [annotation.label for annotation in record.annotations or ()] == ["A1", "X"]
    assert record.stated_size == SIZE


@pytest.mark.parametrize("more", [(0, 4, 9, 9), (2.5, 4, 9, 9)])
def test_a_zero_or_a_fraction_tells_that_corners_are_meant(tmp_path: Path, more: tuple[float, ...]) -> None:
    draw(tmp_path / "cell_0.png", "cell_0")
    write(tmp_path / "cell_0.xml", thing("A1", 5, 4, 21, 20), thing("X", *more))
    assert boxes(tmp_path) == [(5, 4, 21, 20), more]


def test_parts_polygons_and_names_that_other_machines_gave(tmp_path: Path) -> None:
    corners = [(5.25, 4.5), (20.75, 6.25), (18.0, 20.5)]
    tags = "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in enumerate(corners, start=1))
    for part in ("train", "test"):
        draw(tmp_path / part / "cell_0.png", "cell_0")
        write(
            tmp_path / part / "cell_0.xml",
            f"<object><name>1</name><polygon>{tags}</polygon></object>",
            name="C:\\a.jpg",
        )
    source = format_named("voc").source(tmp_path)
    assert source.parts == ["train", "test"]
    (record,) = source.read("test")
    assert record.name == "test/cell_0.png"
    assert (record.annotations or ())[0].polygons[0] == pytest.approx(np.array(corners))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "is not valid XML"),
        ("<annotations></annotations>", "is no Pascal VOC file: it begins with <annotations>"),
        (
            "<annotation><object><name>a</name><bndbox><xmin>a</xmin></bndbox></object></annotation>",
            "no box of numbers",
        ),
        ("<annotation><filename>b.png</filename></annotation>", "its image is not in the data folder"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    draw(tmp_path / "a.png", "cell_0")
    (tmp_path / "z.xml").write_text(text)
    with pytest.raises(UserError, match=message):
        format_named("voc").source(tmp_path)


def test_a_folder_without_xml(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", "cell_0")
    with pytest.raises(UserError, match="no Pascal VOC XML"):
        format_named("voc").source(tmp_path)
