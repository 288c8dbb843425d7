from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.formats import FORMATS
from kemr_lightning.prediction.inputs import find_inputs
from tests.conftest import SIZE, write_image
from tests.data.helpers import BoxFormat, write_box_file


def grey(seed: int = 0, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_images_of_all_kinds_below_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.bmp", "sub/deep er/c.jpg", "d.TIF"):
        save(tmp_path / name, grey())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    save(tmp_path / ".hidden" / "x.png", grey())
    found = find_inputs(tmp_path)
    assert [item.name for item in found] == ["b.png", "broken.png", "d.TIF", "sub/a.bmp", "sub/deep er/c.jpg"]
    assert [item.stem for item in found] == ["b", "broken", "d", "sub/a", "sub/deep er/c"]
    assert all(item.is_file and item.annotations is None for item in found)
    with pytest.raises(UserError):
        found[1].load()


def test_every_page_is_an_input(tmp_path: Path) -> None:
    pages = np.stack([grey(1), grey(2), grey(3)])
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "deep.tiff", (pages[:2].astype(np.uint16) * 200), photometric="minisblack")
    found = find_inputs(tmp_path)
    assert [item.stem for item in found] == ["deep_p1", "deep_p2", "stack_p1", "stack_p2", "stack_p3"]
    assert [item.page for item in found] == [0, 1, 0, 1, 2]
    assert found[3].image_name == "stack_p2.png"
    np.testing.assert_array_equal(found[3].load().pixels, pages[1])
    assert found[1].load().pixels.std() > found[1].load().pixels.mean() * 0.1
    # Pages written beside the file by an earlier run are not inputs themselves.
    save(tmp_path / "stack_p2.png", grey(2))
    save(tmp_path / "other_p2.png", grey(2))
    assert [item.stem for item in find_inputs(tmp_path)] == [*(item.stem for item in found[:2]), "other_p2"] + [
        item.stem for item in found[2:]
    ]


def test_images_named_like_pages_are_not_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([grey(1), grey(2)]), photometric="minisblack")
    save(tmp_path / "stack_p1.png", grey(7))
    save(tmp_path / "stack_p3.png", grey(8))
    (tmp_path / "stack_p2.png").write_bytes(b"damaged")
    stems = {item.name: item.stem for item in find_inputs(tmp_path) if item.page is None}
    assert stems == {f"stack_p{number}.png": f"stack_p{number}" for number in (1, 2, 3)}
    assert [item.stem for item in find_inputs(tmp_path) if item.page is not None] == ["stack_p1_tif", "stack_p2_tif"]
    assert "stack_p1.png shows something else than page 1 of stack.tif" in caplog.text
    assert "stack_p3.png" not in caplog.text
    written = {tmp_path / "stack_p1.png"}
    assert "stack_p1" in [item.stem for item in find_inputs(tmp_path, written=written.__contains__) if item.page == 0]


def test_names_that_differ_in_their_ending_alone(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "A.bmp", "b.png"):
        save(tmp_path / name, grey())
    stems = {item.name: item.stem for item in find_inputs(tmp_path)}
    assert stems == {"A.bmp": "A", "a.jpg": "a_jpg", "a.png": "a_png", "b.png": "b"}


def test_inputs_keep_the_stem_that_they_had(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey())
    stems = {item.source: item.stem for item in find_inputs(tmp_path)}
    save(tmp_path / "a.jpg", grey())
    assert {item.name: item.stem for item in find_inputs(tmp_path, stems=stems)} == {"a.png": "a", "a.jpg": "a_jpg"}
    assert {item.name: item.stem for item in find_inputs(tmp_path)} == {"a.jpg": "a", "a.png": "a_png"}


def test_two_annotation_files_for_an_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path, "x", seed=1)
    for other in ("a", "y"):
        document = json.loads((tmp_path / "x.json").read_text())
        (tmp_path / f"{other}.json").write_text(json.dumps({**document, "shapes": []}))
    (item,) = find_inputs(tmp_path)
    assert item.annotated_by == tmp_path / "x.json"
    assert "x.png is annotated by a.json, x.json, y.json: x.json is used" in caplog.text
    # What this run itself has written does not compete.
    (item,) = find_inputs(tmp_path, written=lambda path: path.name in ("x.json", "a.json"))
    assert item.annotated_by == tmp_path / "y.json"


def test_links_and_other_formats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, outside = tmp_path / "in", tmp_path / "outside"
    save(root / "a.png", grey())
    save(outside / "b.png", grey(1))
    save(root / "c.gif", grey())
    (root / "b.png").symlink_to(outside / "b.png")
    (root / "gone.png").symlink_to(outside / "gone.png")
    (root / "more").symlink_to(outside)
    (root / "itself").symlink_to(root)
    write_image(root, "alone", seed=1)
    (root / "alone.png").unlink()
    found = find_inputs(root)
    assert [item.name for item in found] == ["a.png", "b.png", "more/b.png"]
    np.testing.assert_array_equal(found[1].load().pixels, grey(1))
    assert "passed over: 1 Labelme files without their image: alone.json." in caplog.text
    assert "passed over: 1 images of other formats: c.gif." in caplog.text


def test_backslashes_are_not_folders(tmp_path: Path) -> None:
    save(tmp_path / "a\\b.png", grey())
    save(tmp_path / "a_b.png", grey())
    assert [(item.name, item.stem) for item in find_inputs(tmp_path)] == [
        ("a\\b.png", "a_b"),
        ("a_b.png", "a_b_png"),
    ]


def test_annotations_are_found_and_broken_ones_do_not_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path, "with", seed=1)
    write_image(tmp_path, "without", seed=2, annotated=False)
    write_image(tmp_path, "broken", seed=3)
    (tmp_path / "broken.json").write_text("{")
    write_image(tmp_path, "wrong", seed=4)
    document = json.loads((tmp_path / "wrong.json").read_text())
    (tmp_path / "wrong.json").write_text(json.dumps({**document, "imageWidth": 999}))
    found = {item.stem: item for item in find_inputs(tmp_path)}
    truth = found["with"].truth(["chromosome"], "single", SIZE)
    assert truth is not None
    assert len(truth) == 4
    assert found["without"].annotations is None
    assert found["broken"].annotations is None
    assert "broken.json" in caplog.text
    assert found["wrong"].truth(["chromosome"], "single", SIZE) is None
    assert "another image size" in caplog.text
    several = found["with"].truth(["other", "chr"], None, SIZE)
    assert several is not None
    assert several.labels.tolist() == [2] * 4
    renamed = found["with"].truth(["other", "chr"], {"chr": "other"}, SIZE)
    assert renamed is not None
    assert renamed.labels.tolist() == [1] * 4
    nothing = found["with"].truth(["x", "y"], None, SIZE)
    assert nothing is not None
    assert len(nothing) == 0


def test_a_label_map_drops_classes_before_they_are_merged(tmp_path: Path) -> None:
    write_image(tmp_path, "a", seed=1)
    document = json.loads((tmp_path / "a.json").read_text())
    document["shapes"][0]["label"] = "nucleus"
    document["shapes"][1]["label"] = "unnamed"
    (tmp_path / "a.json").write_text(json.dumps(document))
    (item,) = find_inputs(tmp_path)
    for label_map, count in ((None, 4), ("single", 4), ({"chr": "any", "nucleus": None}, 2)):
        truth = item.truth(["chromosome"], label_map, SIZE)  # type: ignore[arg-type]
        assert truth is not None
        assert truth.labels.tolist() == [1] * count


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["polygon", "mask", "box", "labelme"])
def test_annotations_of_stored_pixels_are_rotated_with_them(tmp_path: Path, orientation: int, kind: str) -> None:
    """The annotated part is the bright one, in the file's own coordinates, however the image is rotated."""
    stored = np.full((20, 30), 40, np.uint8)
    stored[3:9, 5:21] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "t.jpg", exif=exif, quality=100)
    outline = [5, 3, 21, 3, 21, 9, 5, 9]
    if kind == "labelme":
        shape = {"label": "chr", "points": np.reshape(outline, (4, 2)).tolist(), "shape_type": "polygon"}
        document = {"shapes": [shape], "imagePath": "t.jpg", "imageData": None, "imageHeight": 20, "imageWidth": 30}
    else:
        mask = np.asfortranarray(stored > 100).astype(np.uint8)
        counts = coco_mask.encode(mask)["counts"].decode()
        shapes = {"polygon": [outline], "mask": {"size": [20, 30], "counts": counts}, "box": []}
        annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 3, 16, 6], "segmentation": shapes[kind]}
        document = {
            "images": [{"id": 1, "file_name": "t.jpg", "width": 30, "height": 20}],
            "annotations": [annotation],
            "categories": [{"id": 1, "name": "chr"}],
        }
    (tmp_path / "t.json").write_text(json.dumps(document))
    (item,) = find_inputs(tmp_path, "labelme" if kind == "labelme" else "coco")
    loaded = item.load()
    # Of the same size rotated or not, an image counts as annotated upright, as in training.
    bright = loaded.pixels > 120 if orientation >= 5 else stored > 120
    truth = item.truth(["chr"], None, loaded.pixels.shape, loaded.orientation)  # type: ignore[arg-type]
    assert truth is not None
    rows, columns = np.nonzero(bright)
    assert truth.boxes.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    if kind != "box":
        np.testing.assert_array_equal(truth.masks()[0].numpy(), bright)


def test_one_bad_entry_does_not_cost_the_other_annotations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "one.png", grey())
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [2, 2, 10, 6],
        "segmentation": [[2, 2, 12, 2, 12, 8]],
    }
    document = {
        "images": [
            {"id": number, "file_name": name, "width": 30, "height": 20}
            for number, name in enumerate(("one.png", *(f"gone{index}.png" for index in range(5))), start=1)
        ],
        "annotations": [annotation, {**annotation, "id": 2, "category_id": 9}],
        "categories": [{"id": 1, "name": "chr"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(document))
    (item,) = find_inputs(tmp_path, "coco")
    truth = item.truth(["chr"], None, (20, 30))
    assert truth is not None
    assert len(truth) == 1
    assert "category 9" in caplog.text
    assert "gone0.png" in caplog.text
    assert "3 more faults" in caplog.text


def test_images_inside_labelme_files(tmp_path: Path) -> None:
    write_image(tmp_path, "inside", seed=1)
    data = (tmp_path / "inside.png").read_bytes()
    document = json.loads((tmp_path / "inside.json").read_text())
    (tmp_path / "inside.json").write_text(json.dumps({**document, "imageData": base64.b64encode(data).decode()}))
    expected = np.asarray(Image.open(tmp_path / "inside.png"))
    (tmp_path / "inside.png").unlink()
    (item,) = find_inputs(tmp_path)
    assert (item.stem, item.image_name, item.is_file) == ("inside", "inside.png", False)
    np.testing.assert_array_equal(item.load().pixels, expected)
    assert item.annotations is not None
    assert len(item.version()) == 1


def test_coco_annotations(tmp_path: Path) -> None:
    save(tmp_path / "images" / "one.png", grey())
    save(tmp_path / "images" / "two.png", grey())
    polygon = [2, 2, 12, 2, 12, 8, 2, 8]
    annotation = {
        "id": 1,
        "image_id": 7,
        "category_id": 3,
        "segmentation": [polygon],
        "bbox": [2, 2, 10, 6],
        "iscrowd": 0,
    }
    document = {
        "images": [{"id": 7, "file_name": "one.png", "width": 30, "height": 20}],
        "annotations": [{**annotation, "area": 60}],
        "categories": [{"id": 3, "name": "chr"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    one, two = find_inputs(tmp_path, "coco")
    assert one.annotations is not None
    truth = one.truth(["chromosome"], "single", (20, 30))
    assert truth is not None
    assert truth.boxes.tolist() == [[2, 2, 12, 8]]
    assert not two.annotations


def test_the_runs_own_outputs_are_not_inputs(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grey())
    save(tmp_path / "run" / "labelme" / "a.png", grey())
    (item,) = find_inputs(tmp_path, without=[tmp_path / "run"])
    assert item.stem == "a"


@pytest.mark.parametrize("mark", [".hydra/config.yaml", "predictions.json", "run.log", "checkpoints/best.ckpt"])
def test_other_runs_outputs_are_not_inputs(tmp_path: Path, caplog: pytest.LogCaptureFixture, mark: str) -> None:
    save(tmp_path / "a.png", grey())
    for run in ("runs/1", "runs/2"):
        write_image(tmp_path / run / "labelme", "a", seed=1)
        for name in (mark, "config.yaml"):
            (tmp_path / run / name).parent.mkdir(exist_ok=True)
            (tmp_path / run / name).touch()
    save(tmp_path / "slides" / "b.png", grey())
    (tmp_path / "slides" / "config.yaml").touch()
    assert [item.name for item in find_inputs(tmp_path)] == ["a.png", "slides/b.png"]
    assert caplog.text.count("passed over") == 1
    assert "2 run directories: runs/1, runs/2" in caplog.text
    # The corrected files of a run are an input like any other.
    assert [item.name for item in find_inputs(tmp_path / "runs" / "1" / "labelme")] == ["a.png"]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_folders_without_images_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError) as caught:
        find_inputs(tmp_path / name)
    assert str(caught.value.under("data")).startswith(f"data.root={tmp_path / name} ")


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    write_image(tmp_path, "a", seed=1)
    (before,) = find_inputs(tmp_path)
    first = before.version()
    write_image(tmp_path, "a", seed=2)
    assert find_inputs(tmp_path)[0].version() != first


def test_annotations_of_a_format_that_is_added_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "boxes", BoxFormat())
    write_box_file(tmp_path, "a")
    save(tmp_path / "b.png", grey())
    one, two = find_inputs(tmp_path, "boxes")
    truth = one.truth(["chromosome"], "single", (40, 60))
    assert truth is not None
    assert truth.boxes.tolist() == [[5, 5, 20, 15], [30, 10, 40, 35]]
    assert two.annotations is None
    with pytest.raises(SettingError, match="format=dota is unknown"):
        find_inputs(tmp_path, "dota")


def test_pages_have_no_annotations(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([grey(1), grey(2)]), photometric="minisblack")
    shape = {"label": "chr", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"}
    document = {"shapes": [shape], "imagePath": "a.tif", "imageData": None, "imageHeight": 20, "imageWidth": 30}
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert [(item.page, item.annotations) for item in find_inputs(tmp_path)] == [(0, None), (1, None)]


def test_an_embedded_image_that_the_run_has_written_is_predicted_without_annotations(tmp_path: Path) -> None:
    write_image(tmp_path, "inside", seed=1)
    data = base64.b64encode((tmp_path / "inside.png").read_bytes()).decode()
    document = json.loads((tmp_path / "inside.json").read_text())
    (tmp_path / "inside.json").write_text(json.dumps({**document, "imageData": data}))
    (tmp_path / "inside.png").unlink()
    (item,) = find_inputs(tmp_path, written=lambda path: path.suffix == ".json")
    assert (item.name, item.annotations, item.annotated_by) == ("inside.png", None, None)
    assert len(item.version()) == 1
