"""Whole data sets examined: what is found, and what is not."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kemr_lightning.core.errors import UserError
from kemr_lightning.doctor import Finding, examine
from kemr_lightning.doctor.gather import ImageToExamine
from tests.conftest import write_labelme_root
from tests.data.helpers import TRIANGLE, real_data, shape, write_labelme_file
from tests.doctor.helpers import SIZE, field, kinds, look, save, write_coco


def test_a_sound_folder_has_no_findings(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "train", "val", "test")):
        save(tmp_path / part, f"{part}_{number}", seed=number)
    diagnosis = look(tmp_path)
    assert diagnosis.findings == []
    assert not diagnosis.failed
    assert diagnosis.labels == {"chr": 48}
    assert diagnosis.sizes["areas"] == [300] * 5
    assert diagnosis.sizes["lengths"] == [30] * 5
    assert diagnosis.sizes["widths"] == [10] * 5


def test_goes_on_over_broken_files_and_names_each(tmp_path: Path) -> None:
    save(tmp_path, "good", seed=1)
    save(tmp_path, "json", seed=2).write_text("{")
    save(tmp_path, "lost", seed=3).with_suffix(".png").unlink()
    save(tmp_path, "cut", seed=4)
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    save(tmp_path, "noimage", seed=5)
    (tmp_path / "noimage.png").write_bytes(b"text")
    save(tmp_path, "size", seed=6, imageHeight=100)
    save(tmp_path, "label", seed=7, extra=[shape(TRIANGLE, ""), shape([["a", 1]])])
    (tmp_path / "stranger.json").write_text("[1]")
    diagnosis = look(tmp_path)
    errors = sorted((f.kind, f.file) for f in diagnosis.findings if f.severity == "error")
    assert errors == [
        ("broken_file", "json.json"),
        ("broken_image", "cut.png"),
        ("broken_image", "noimage.png"),
        ("broken_shape", "label.json"),
        ("broken_shape", "label.json"),
        ("missing_image", "lost.png"),
        ("size_mismatch", "size.png"),
    ]
    messages = [f.message for f in diagnosis.findings if f.kind == "broken_shape"]
    assert "shape 13 has no label" in messages[0]
    assert "shape 14 has points" in messages[1]
    assert kinds(diagnosis)["other_json"] == 1
    assert diagnosis.failed
    # What could be read of the broken ones is counted.
    assert {image.name: len(image.labels) for image in diagnosis.images}["label.png"] == 12


def test_shapes_that_are_not_instances(tmp_path: Path) -> None:
    flat = [[5, 5], [9, 9], [13, 13]]
    extra = [shape([[3, 3]], kind="point"), shape(flat), shape([[1, 1], [5, 5]], kind="star")]
    far = [[300, 300], [320, 300], [310, 330]]
    over = [[225, 100], [260, 100], [260, 108], [225, 108]]
    save(tmp_path, "a", extra=[*extra, shape(far), shape(over)])
    found = [
        (f.kind, f.message) for f in look(tmp_path).findings if f.kind not in ("fragment", "several", "off_target")
    ]
    assert ("degenerate", "shape 14 (chr) has 3 corners and no area") in found
    assert ("skipped", "shape 13 (chr) is a point, which encloses nothing") in found
    assert ("skipped", "shape 15 (chr) is a star, which is of an unknown type") in found
    outside = [message for kind, message in found if kind == "outside"]
    assert outside == [
        "chr lies wholly beyond the image of 240x160",
        "chr reaches 20 px beyond the image of 240x160",
    ]


def test_self_crossing_and_doubled_and_nested_outlines_are_found(tmp_path: Path) -> None:
    pixels, outlines = field()
    x, y = outlines[0][0]
    bow = [[x, y], [x + 10, y + 20], [x + 10, y], [x, y + 30]]
    twin = [[x0 + 0.4, y0] for x0, y0 in outlines[1]]
    x, y = outlines[2][0]
    inner = [[x + 1, y + 1], [x + 9, y + 1], [x + 9, y + 21], [x + 1, y + 21]]
    shapes = [shape(bow), *(shape(outline) for outline in [*outlines[1:], twin, inner])]
    write_labelme_file(tmp_path, "a", shapes, pixels)
    found = kinds(look(tmp_path))
    assert (found["self_crossing"], found["same_chromosome"], found["nested"]) == (1, 1, 1)


def test_crossing_chromosomes_are_neither_doubled_nor_nested(tmp_path: Path) -> None:
    cross = [[[20, 60], [100, 60], [100, 72], [20, 72]], [[54, 30], [66, 30], [66, 110], [54, 110]]]
    pixels = np.full(SIZE, 30, np.uint8)
    pixels[60:72, 20:100] = pixels[30:110, 54:66] = 200
    write_labelme_file(tmp_path, "a", [shape(points) for points in cross], pixels)
    assert set(kinds(look(tmp_path, expected=None))) == set()


@pytest.mark.parametrize("bright", [True, False])
def test_unlabelled_chromosomes_are_found_and_nuclei_and_dust_are_not(tmp_path: Path, bright: bool) -> None:
    pixels, outlines = field(bright=bright)
    large = np.full((400, 400), 40 if bright else 210, np.uint8)
    large[: SIZE[0], : SIZE[1]] = pixels
    picture = Image.fromarray(large)
    draw = ImageDraw.Draw(picture)
    level = 160 if bright else 90
    draw.ellipse([250, 250, 350, 350], fill=level)  # a nucleus
    draw.ellipse([30, 300, 34, 304], fill=level)  # dust
    write_labelme_file(tmp_path, "a", [shape(outline) for outline in outlines[2:]], np.asarray(picture))
    found = [f.boxes[0] for f in look(tmp_path).findings if f.kind == "unlabelled"]
    expected = [(*outline[0], *outline[2]) for outline in outlines[:2]]
    assert len(found) == 2
    for box in found:
        assert min(np.abs(np.array(box) - other).max() for other in np.array(expected)) <= 3


def test_several_outlined_as_one_fragments_and_counts(tmp_path: Path) -> None:
    pixels, outlines = field()
    whole = [[20, 20], [120, 20], [120, 60], [20, 60]]
    crumb = [[2, 2], [6, 2], [6, 6], [2, 6]]
    shapes = [shape(points) for points in [*outlines, whole, crumb]]
    write_labelme_file(tmp_path, "a", shapes, pixels)
    found = kinds(look(tmp_path, count_margin=1))
    assert (found["several"], found["fragment"], found["count"]) == (1, 1, 1)
    assert "count" not in kinds(look(tmp_path, count_margin=2))
    assert "count" not in kinds(look(tmp_path, expected=None))


def test_parts_of_a_slide_that_add_up_are_not_unusual(tmp_path: Path) -> None:
    save(tmp_path, "case_1a", seed=1)
    save(tmp_path, "case_1b", seed=2)
    save(tmp_path, "case_2", seed=3)
    found = [f for f in look(tmp_path, expected=24).findings if f.kind == "count"]
    assert [finding.file for finding in found] == ["case_2.png"]


@pytest.mark.parametrize("change", ["same", "jpeg", "mirrored", "turned", "negative", "smaller"])
def test_copies_of_an_image_in_train_and_test(tmp_path: Path, change: str) -> None:
    for number in range(3):
        save(tmp_path / "train", f"a{number}x", seed=number)
    pixels, _ = field(seed=1)
    picture = Image.fromarray(pixels)
    if change == "mirrored":
        picture = Image.fromarray(np.ascontiguousarray(pixels[:, ::-1]))
    elif change == "turned":
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    elif change == "negative":
        picture = Image.fromarray(255 - pixels)
    elif change == "smaller":
        picture = picture.resize((180, 120), Image.Resampling.LANCZOS)
    path = write_labelme_file(tmp_path / "test", "b9x", [shape(TRIANGLE)], np.asarray(picture))
    if change == "jpeg":
        picture.save(path.with_suffix(".jpg"), quality=70)
        path.with_suffix(".png").unlink()
        path.write_text(path.read_text().replace(".png", ".jpg"))
    found = [f for f in look(tmp_path).findings if f.kind in ("same_image_parts", "near_image_parts")]
    assert [(f.kind, f.file, f.others) for f in found] == [("same_image_parts", "train/a1x.png", (found[0].others[0],))]
    assert found[0].others[0].startswith("test/b9x")


def test_copies_within_a_part_are_a_warning(tmp_path: Path) -> None:
    save(tmp_path, "a", seed=1)
    save(tmp_path, "b", seed=1)
    diagnosis = look(tmp_path)
    assert kinds(diagnosis) == {"same_image": 1}
    assert not diagnosis.failed


def test_cases_in_two_parts_by_name(tmp_path: Path) -> None:
    save(tmp_path / "train", "case_7a", seed=1)
    save(tmp_path / "test", "case_7b", seed=2)
    save(tmp_path / "test", "case_8", seed=3)
    found = [f for f in look(tmp_path).findings if f.kind == "same_case_parts"]
    assert [(f.file, f.others) for f in found] == [("test/case_7b.png", ("train/case_7a.png",))]
    assert "same_case_parts" not in kinds(look(tmp_path, group_pattern="^(.*)$"))


def test_annotations_of_another_image(tmp_path: Path) -> None:
    save(tmp_path, "right", seed=1)
    pixels, outlines = field(count=4, seed=1)
    mirrored = np.ascontiguousarray(255 - pixels[:, ::-1])
    write_labelme_file(tmp_path, "mirrored", [shape(outline) for outline in outlines], mirrored)
    gaps = [[[x + 19, y] for x, y in outline] for outline in outlines]
    write_labelme_file(tmp_path, "other", [shape(outline) for outline in gaps], pixels)
    found = {(f.kind, f.file) for f in look(tmp_path).findings if f.kind in ("turned", "off_target")}
    assert found == {("turned", "mirrored.png"), ("off_target", "other.png")}


def test_exif_rotation_and_pages(tmp_path: Path) -> None:
    path = save(tmp_path, "a", imagePath="a.jpg")
    picture = Image.open(tmp_path / "a.png").transpose(Image.Transpose.ROTATE_180)
    exif = picture.getexif()
    exif[0x0112] = 3
    picture.save(tmp_path / "a.jpg", exif=exif.tobytes(), quality=97)
    path.with_suffix(".png").unlink()
    save(tmp_path, "b", seed=2, imagePath="b.tif")
    pages = [Image.fromarray(field(seed=seed)[0]) for seed in (2, 3)]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "b.png").unlink()
    assert kinds(look(tmp_path)) == {"exif": 1, "pages": 1}


def test_two_files_for_an_image_unannotated_and_unused_ones(tmp_path: Path) -> None:
    path = save(tmp_path / "train", "a")
    (tmp_path / "train/b.json").write_text(path.read_text())
    Image.fromarray(field(seed=9)[0]).save(tmp_path / "train/alone.png")
    Image.fromarray(field(seed=8)[0]).save(tmp_path / "beside.png")
    assert kinds(look(tmp_path)) == {"two_files": 1, "no_test": 1, "unannotated": 1, "unused": 1}


def test_what_the_label_map_makes_of_labels_is_reported(tmp_path: Path) -> None:
    save(tmp_path, "a", extra=[shape(TRIANGLE, "dirt"), shape(TRIANGLE, "what")])
    diagnosis = look(tmp_path, label_map={"chr": "chromosome", "dirt": None})
    assert diagnosis.label_names == {"chr": "chromosome", "dirt": None}
    assert diagnosis.failed


def test_coco_skips_faults(tmp_path: Path) -> None:
    pixels, outlines = field()
    tmp_path.joinpath("x").mkdir()
    Image.fromarray(pixels).save(tmp_path / "x/a.png")
    (tmp_path / "x/b.png").write_bytes(b"no image")
    images = [{"id": n, "file_name": f"{name}.png", "width": 240, "height": 160} for n, name in enumerate("abc")]
    annotations = [
        {"id": n, "image_id": 0, "category_id": 1, "segmentation": [np.array(outline).ravel().tolist()]}
        for n, outline in enumerate(outlines)
    ]
    annotations += [
        {"id": 90, "image_id": 0, "category_id": 5, "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {"id": 91, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 5, 5, 9, 9]]},
        {"id": 92, "image_id": 0, "category_id": 1, "iscrowd": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]},
    ]
    write_coco(tmp_path / "x", images, annotations)
    diagnosis = look(tmp_path / "x", "coco")
    expected = {"broken_image": 1, "missing_image": 1, "broken_shape": 1, "degenerate": 1, "crowds": 1}
    assert kinds(diagnosis) == expected | {"unannotated": 1}
    assert len(diagnosis.images[0].labels) == 12


def test_coco_boxes(tmp_path: Path) -> None:
    pixels, outlines = field()
    boxes = [[*outline[0], 10, 30] for outline in outlines]
    annotations = [{"id": n, "image_id": 0, "category_id": 1, "bbox": box} for n, box in enumerate([*boxes, boxes[0]])]
    write_coco(tmp_path, [{"id": 0, "file_name": "a.png", "width": 240, "height": 160}], annotations)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert kinds(look(tmp_path, "coco")) == {"boxes": 1, "same_chromosome": 1}


@pytest.mark.parametrize("data_format", ["labelme", "coco"])
def test_an_empty_folder_is_an_error_found_not_raised(tmp_path: Path, data_format: str) -> None:
    assert look(tmp_path, data_format).failed
    with pytest.raises(UserError, match="not a folder"):
        examine(tmp_path / "none", data_format)


def test_the_folder_of_the_other_tests_has_no_errors(tmp_path: Path) -> None:
    assert not look(write_labelme_root(tmp_path), expected=4).failed


def test_real_annotations_lie_on_their_chromosomes() -> None:
    from kemr_lightning.doctor.examine import examine_entry
    from kemr_lightning.doctor.gather import gather

    for name in ("bioimlab", "mfish"):
        for entry in gather(real_data(name), "labelme").entries[:3]:
            image, findings = examine_entry(entry)
            assert len(image.labels) > 30
            assert not {f.kind for f in findings} & {"off_target", "turned", "same_chromosome", "broken_file"}


def test_anchors_and_the_scale_are_those_of_the_model(tmp_path: Path) -> None:
    save(tmp_path, "a")
    options = {"aspect_ratios": [1.0, 3.0], "expected": 12}
    assert "anchors" not in kinds(look(tmp_path, anchor_sizes=[[17]], **options))
    assert "anchors" in kinds(look(tmp_path, anchor_sizes=[[170]], **options))
    # Twice the size as the model sees it.
    assert "anchors" in kinds(look(tmp_path, anchor_sizes=[[17]], resize=[1200, 800], **options))
    assert "small" in kinds(look(tmp_path, resize=[120, 80]))


def test_an_error_in_one_image_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, *_: object) -> list[Finding]:
        if name == "a.png":
            raise ZeroDivisionError("no reason")
        return []

    save(tmp_path, "a", seed=1)
    save(tmp_path, "b", seed=2)
    # The package's function has the name of its module.
    monkeypatch.setattr(importlib.import_module("kemr_lightning.doctor.examine"), "outline_findings", fails)
    diagnosis = look(tmp_path)
    assert [(f.kind, f.file, f.message) for f in diagnosis.findings if f.severity == "error"] == [
        ("broken_file", "a.png", "ZeroDivisionError: no reason")
    ]
    assert [image.name for image in diagnosis.images] == ["b.png"]


def test_progress_wraps_every_image(tmp_path: Path) -> None:
    save(tmp_path, "a", seed=1)
    save(tmp_path, "b", seed=2).unlink()
    seen = []

    def watch(entries: Sequence[ImageToExamine]) -> Iterator[ImageToExamine]:
        for entry in entries:
            seen.append(entry.name)
            yield entry

    examine(tmp_path, "labelme", progress=watch)
    assert seen == ["a.png", "b.png"]
