from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.image import read_image
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.prediction.image_files import WriterOptions, options_of, outline_path
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inference import Prediction
from kemr_lightning.prediction.inputs import find_inputs
from tests.conftest import rods
from tests.metrics.helpers import patch
from tests.output.test_medial import rod
from tests.prediction.helpers import bright_parts, mixed_folder, predict_folder, predict_one, writer_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mixed_folder(tmp_path / "my images")


def test_labelme_files_hold_the_refined_masks(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = predict_folder(folder, run)
    assert [stem for stem, _ in done] == ["a", "b", "sub/c_p1", "sub/c_p2"]
    for stem, state in done:
        pixels = find_inputs(folder)[state.final.image_id - 1].load().pixels
        masks = bright_parts(pixels)
        kept = masks[masks.scores >= 0.5]
        image, found = read_labelme(run / "labelme" / f"{stem}.json")
        np.testing.assert_array_equal(image, pixels)
        assert len(found) == len(kept) == len(state.written)
        assert found.scores.tolist() == pytest.approx(kept.scores.tolist(), abs=1e-4)
        drawn, wanted = found.masks().numpy(), kept.masks().numpy()
        assert ((drawn & wanted).sum(axis=(1, 2)) / (drawn | wanted).sum(axis=(1, 2))).min() >= 0.99
    assert (run / "labelme" / "a.png").read_bytes() == (folder / "a.png").read_bytes()
    assert (run / "labelme" / "sub" / "c_p2.png").is_file()
    document = json.loads((run / "labelme" / "sub" / "c_p1.json").read_text())
    assert document["imagePath"] == "c_p1.png"
    assert all(isinstance(value, bool) for value in document["flags"].values())


def test_masks_that_refinement_has_emptied(folder: Path, tmp_path: Path) -> None:
    item = find_inputs(folder)[0]
    pixels = item.load().pixels
    initial, final = bright_parts(pixels), bright_parts(pixels)
    assert initial.scores[0] >= 0.5
    assert final.patches is not None
    final.patches[0] = Patch(final.patches[0].x0, final.patches[0].y0, final.patches[0].values * 0.1)
    nothing_cut = torch.zeros(len(final), dtype=torch.bool)
    writer = writer_of(folder, tmp_path / "run")
    state = writer.write(item, 1, pixels, Prediction(initial, final, nothing_cut), None)
    count = int((final.scores >= 0.5).sum()) - 1
    assert state.written == list(range(1, count + 1))
    assert len(state.areas) == len(state.crops) == len(state.outlines["refined"]) == count
    assert len(json.loads((tmp_path / "run" / "labelme" / "a.json").read_text())["shapes"]) == count
    assert any("left out" in reason for reason in state.review.reasons)


def test_coco_files_of_the_run(folder: Path, tmp_path: Path) -> None:
    done = predict_folder(folder, tmp_path / "run")
    images = json.loads((tmp_path / "run" / "images.json").read_text())
    assert [image["id"] for image in images] == [1, 2, 3, 4]
    assert [image["file_name"] for image in images] == ["a.png", "b.png", "sub/c_p1.png", "sub/c_p2.png"]
    assert images[3]["source"] == "sub/c.tif"
    assert images[3]["page"] == 2
    results = json.loads((tmp_path / "run" / "predictions.json").read_text())
    initial = json.loads((tmp_path / "run" / "predictions_initial.json").read_text())
    for image in images:
        masks = bright_parts(find_inputs(folder)[image["id"] - 1].load().pixels)
        mine = [result for result in results if result["image_id"] == image["id"]]
        assert len(mine) == len(masks)  # those below the threshold too
        for result, mask in zip(mine, masks.masks().numpy(), strict=True):
            np.testing.assert_array_equal(coco_mask.decode(result["segmentation"]).astype(bool), mask)
    assert len(initial) == len(results)
    assert sum(coco_mask.area(r["segmentation"]) for r in initial) < sum(
        coco_mask.area(r["segmentation"]) for r in results
    )
    assert sum(len(state.written) for _, state in done) < len(results)


def test_the_summary_has_a_row_for_each_image(folder: Path, tmp_path: Path) -> None:
    done = predict_folder(folder, tmp_path / "run")
    with (tmp_path / "run" / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file_name"] for row in rows] == ["a.png", "b.png", "sub/c_p1.png", "sub/c_p2.png"]
    for row, (_, state) in zip(rows, done, strict=True):
        assert int(row["count"]) == len(state.written)
        assert int(row["expected"]) == 4
        assert float(row["review_score"]) == state.review.score
        assert (f"{row['count']} instead of 4" in row["reasons"]) == (row["count"] != "4")
    assert rows[0]["annotated"] == "4"
    assert int(rows[0]["found"]) + int(rows[0]["missed"]) + int(rows[0]["merged"]) + int(rows[0]["split"]) == 4
    assert rows[1]["annotated"] == ""


def test_crops_and_their_index(folder: Path, tmp_path: Path) -> None:
    done = predict_folder(folder, tmp_path / "run")
    with (tmp_path / "run" / "crops" / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(state.written) for _, state in done)
    for row in rows:
        crop = np.asarray(Image.open(tmp_path / "run" / "crops" / row["file"]))
        assert crop.shape[0] >= crop.shape[1]
        # Rods that cross are one bent part, longer along its axis than it is tall.
        assert 20 < crop.shape[0] < float(row["length"]) + 16
        assert crop[0, 0] == 0  # bright chromosomes lie on black
        assert len(row["profile"].split()) == 64
        assert min(map(int, row["profile"].split())) > 100
    assert not (tmp_path / "none" / "crops").exists()
    predict_folder(folder, tmp_path / "none", WriterOptions(crops=False))
    assert not (tmp_path / "none" / "crops").exists()


def test_beside_the_originals(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    mine = (folder / "a.json").read_text()
    writer = writer_of(folder, run, beside=True)
    states = [predict_one(item, number, writer) for number, item in enumerate(find_inputs(folder), start=1)]
    assert (folder / "a.json").read_text() == mine
    assert [state.digest is None for state in states] == [True, False, False, False]
    image, found = read_labelme(folder / "b.json")
    assert image is not None
    assert len(found) == len(states[1].written)
    assert read_labelme(folder / "sub" / "c_p2.json").image is not None
    assert not (run / "labelme").exists()
    # What it wrote itself it may replace; the annotations of the next run are now its own.
    assert predict_one(find_inputs(folder)[1], 2, writer).digest is not None
    again = writer_of(folder, run, beside=True, overwrite=True)
    assert predict_one(find_inputs(folder)[0], 1, again).digest is not None
    assert (folder / "a.json").read_text() != mine


def test_images_that_labelme_cannot_show(tmp_path: Path) -> None:
    """16-bit PNGs, CMYK and palettes outside PNG: its copy is a plain PNG of what the model saw."""
    root, run = tmp_path / "in", tmp_path / "run"
    root.mkdir()
    grey = rods(3)[0]
    tifffile.imwrite(root / "planes.tif", np.stack([grey.astype(np.uint16) * 200] * 3), photometric="rgb")
    Image.fromarray(grey.astype(np.uint16) * 200).save(root / "deep.png")
    tifffile.imwrite(root / "dark.tif", np.stack([grey.astype(np.uint16) * 9] * 3, axis=2), photometric="rgb")
    cv2.imwrite(str(root / "dim.png"), np.stack([grey.astype(np.uint16) * 9] * 3, axis=2))
    Image.fromarray(grey).save(root / "whole.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(root / "turned.tif", exif=exif)
    Image.fromarray(grey).convert("RGB").convert("CMYK").save(root / "print.jpg")
    palette = Image.fromarray(grey).convert("RGB").quantize(64)
    palette.save(root / "palette.bmp")
    palette.save(root / "shown.png")
    Image.fromarray(grey).convert("RGBA").save(root / "alpha.png")
    predict_folder(root, run)
    entries = json.loads((run / "images.json").read_text())
    names = [entry["file_name"] for entry in entries]
    assert {entry["file_name"]: entry.get("source") for entry in entries} == {
        item.image_name: None if item.is_copied else item.name for item in find_inputs(root)
    } | {"deep.png": None, "dim.png": None}
    converted = ["dark.png", "deep.png", "dim.png", "palette.png", "planes.png", "print.png", "turned.png"]
    assert sorted(names) == sorted([*converted, "alpha.png", "shown.png", "whole.tif"])
    for name, item in zip(names, find_inputs(root), strict=True):
        copy = run / "labelme" / name
        image, found = read_labelme(copy.with_suffix(".json"))
        np.testing.assert_array_equal(image, item.load().pixels)
        assert len(found)
        if name not in converted:
            assert copy.read_bytes() == item.path.read_bytes()
        else:
            assert Image.open(copy).mode == "L"
    # Beside the originals there is no copy: the JSON carries the picture for Labelme, and the original counts.
    for item in find_inputs(root):
        predict_one(item, 1, writer_of(root, tmp_path / "second", beside=True))
        document = json.loads((root / f"{item.stem}.json").read_text())
        assert document["imagePath"] == item.path.name
        if item.is_copied:
            assert document["imageData"] is None
            continue
        shown = Image.open(io.BytesIO(base64.b64decode(document["imageData"])))
        np.testing.assert_array_equal(np.asarray(shown), item.load().pixels)
        np.testing.assert_array_equal(read_labelme(root / f"{item.stem}.json").image, item.load().pixels)
    assert sorted(path.name for path in root.iterdir() if path.suffix != ".json") == sorted(
        item.path.name for item in find_inputs(root)
    )


def test_states_come_back_as_they_were(folder: Path, tmp_path: Path) -> None:
    for _, state in predict_folder(folder, tmp_path / "run"):
        assert ImageState.parse(state.dump()) == state


def test_only_unchanged_finished_images_are_skipped(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    predict_folder(folder, run)
    item = find_inputs(folder)[0]
    assert StateFolder(run, "key").finished("a", item.version()) is not None
    assert StateFolder(run, "another key").finished("a", item.version()) is None
    assert StateFolder(run, "key").finished("a", [["1", "2"]]) is None
    assert StateFolder(run, "key").finished("new", item.version()) is None
    for output in ("labelme/a.json", "labelme/a.png", "crops/a/001.png", "state/a.jpg"):
        (run / output).rename(tmp_path / "away")
        assert StateFolder(run, "key").finished("a", item.version()) is None
        (tmp_path / "away").rename(run / output)
    assert StateFolder(run, "key").finished("a", item.version()) is not None
    state = StateFolder(run, "key").path("b")
    state.write_text(state.read_text()[:100])
    assert StateFolder(run, "key").last("b") is None


def test_finished_images_take_the_number_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (_, first), *_ = predict_folder(folder, tmp_path / "run")
    moved = first.numbered(7, "x.png")
    assert (moved.initial.image_id, moved.final.image_id, moved.final.name) == (7, 7, "x.png")


def test_folders_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "labelme").write_text("a file is in the way")
    with pytest.raises(UserError, match="cannot write"):
        predict_one(find_inputs(folder)[0], 1, writer_of(folder, tmp_path / "run"))


def test_pictures_are_scaled_down(folder: Path, tmp_path: Path) -> None:
    predict_one(find_inputs(folder)[0], 1, writer_of(folder, tmp_path / "run", report_side=64))
    assert read_image(tmp_path / "run" / "state" / "a.jpg").pixels.shape == (48, 64)


def test_outlines_enclose_the_mask() -> None:
    mask = rod(80, 14, 30)
    whole = patch(mask)
    moved = Patch(whole.x0 + 100, whole.y0 + 50, whole.values)
    text = outline_path(moved)
    start, steps = text.removeprefix("M").removesuffix("z").split("l")
    corners = np.cumsum(np.array([start.split(), *np.array(steps.split()).reshape(-1, 2).tolist()], float), axis=0) / 10
    x, y = corners.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert area == pytest.approx(mask.sum(), rel=0.04)
    assert (x.min(), x.max()) == (pytest.approx(moved.window[0], abs=1), pytest.approx(moved.window[2], abs=1))
    assert (y.min(), y.max()) == (pytest.approx(moved.window[1], abs=1), pytest.approx(moved.window[3], abs=1))
    assert outline_path(Patch(0, 0, whole.values & False)) == ""


@pytest.mark.parametrize(
    "values", [{"score": 1.5}, {"expected": -1}, {"crop_scale": 0}, {"report_side": 3}, {"score": -0.1}]
)
def test_options_out_of_range(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(values))):
        options_of({**values, "tile": "auto"})
