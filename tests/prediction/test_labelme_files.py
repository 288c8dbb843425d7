"""Labelme files hold what was found, and nobody's work is replaced: corrections, images, what was there before."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.image import read_image
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.prediction import labelme_files
from kemr_lightning.prediction.image_files import ImageWriter
from kemr_lightning.prediction.image_state import StateFolder
from kemr_lightning.prediction.inputs import find_inputs
from kemr_lightning.prediction.labelme_files import LabelmeFileWriter
from tests.conftest import rods, write_image
from tests.prediction.helpers import bright_parts, mixed_folder, predict_folder, predict_one, writer_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mixed_folder(tmp_path / "my images")


def test_labelme_files_hold_the_refined_masks(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = predict_folder(folder, run)
    assert [each.stem for each in done] == ["a", "b", "sub/c_p1", "sub/c_p2"]
    for stem, state in ((each.stem, each.state) for each in done):
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


def test_folders_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "labelme").write_text("a file is in the way")
    with pytest.raises(UserError, match="cannot write"):
        predict_one(find_inputs(folder)[0], 1, writer_of(folder, tmp_path / "run"))


def edit(path: Path) -> str:
    document = json.loads(path.read_text())
    document["shapes"] = document["shapes"][:1]
    path.write_text(json.dumps(document))
    return path.read_text()


def test_what_a_person_has_corrected_is_kept(folder: Path, tmp_path: Path) -> None:
    item = find_inputs(folder)[1]
    run = tmp_path / "run"
    predict_one(item, 1, writer_of(folder, run))
    path = run / "labelme" / "b.json"
    written = path.read_text()
    assert predict_one(item, 1, writer_of(folder, run)).digest is not None
    corrected = edit(path)
    assert predict_one(item, 1, writer_of(folder, run)).digest is None
    assert path.read_text() == corrected
    # It stays kept the next time, unless told otherwise.
    assert predict_one(item, 1, writer_of(folder, run)).digest is None
    assert predict_one(item, 1, writer_of(folder, run, overwrite=True)).digest is not None
    assert path.read_text() == written


def test_corrections_are_kept_where_the_state_does_not_know_them(folder: Path, tmp_path: Path) -> None:
    """It was deleted, cut off, or is of another version; a file as it would be written is no correction."""
    item = find_inputs(folder)[1]
    run = tmp_path / "run"
    predict_one(item, 1, writer_of(folder, run))
    path, state = run / "labelme" / "b.json", run / "state" / "b.json"
    written, remembered = path.read_text(), state.read_text()
    old = {key: value for key, value in json.loads(remembered).items() if key not in ("digests", "image")}
    for text in (None, remembered[:100], "[]", json.dumps(old | {"of another version": 1})):
        path.write_text(written)
        corrected = edit(path)
        if text is None:
            state.unlink()
        else:
            state.write_text(text)
        assert predict_one(item, 1, writer_of(folder, run)).digest is None
        assert path.read_text() == corrected
        path.write_text(written)
        assert predict_one(item, 1, writer_of(folder, run)).digest is not None
    # What another version wrote is known as long as nobody has changed it.
    state.write_text(json.dumps(old | {"of another version": 1}))
    assert predict_one(item, 1, writer_of(folder, run, shape_type="mask")).digest is not None
    assert path.read_text() != written


def test_a_run_directory_may_be_moved(folder: Path, tmp_path: Path) -> None:
    item = find_inputs(folder)[1]
    predict_one(item, 1, writer_of(folder, tmp_path / "run"))
    (tmp_path / "run").rename(tmp_path / "moved")
    assert predict_one(item, 1, writer_of(folder, tmp_path / "moved", shape_type="mask")).digest is not None
    edit(tmp_path / "moved" / "labelme" / "b.json")
    assert predict_one(item, 1, writer_of(folder, tmp_path / "moved")).digest is None


def test_no_image_of_somebody_else_is_replaced(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    page = find_inputs(folder)[2]
    assert page.stem == "sub/c_p1"
    mine = folder / "sub" / "c_p1.png"
    Image.fromarray(np.full((9, 9, 3), 200, np.uint8)).save(mine)
    before = mine.read_bytes()
    state = predict_one(page, 1, writer_of(folder, run, beside=True, overwrite=True))
    assert (state.digest, state.image, mine.read_bytes()) == (None, str(mine), before)
    assert "c_p1.png is not this run's and stays" in caplog.text
    assert not (folder / "sub" / "c_p1.json").exists()
    # What shows the page stays as it is packed; what the run itself has written follows the file.
    Image.fromarray(page.load().pixels).save(mine, compress_level=0)
    before = mine.read_bytes()
    assert predict_one(page, 1, writer_of(folder, run, beside=True)).digest is not None
    assert mine.read_bytes() == before
    mine.unlink()
    assert predict_one(page, 1, writer_of(folder, run, beside=True)).digest is not None
    tifffile.imwrite(page.path, np.stack([rods(5)[0], rods(6)[0]]), photometric="minisblack")
    assert predict_one(page, 1, writer_of(folder, run, beside=True)).digest is not None
    np.testing.assert_array_equal(read_image(mine).pixels, rods(5)[0])
    # In the run directory likewise.
    copy = run / "labelme" / "b.png"
    copy.parent.mkdir()
    copy.write_bytes((folder / "a.png").read_bytes())
    assert predict_one(find_inputs(folder)[1], 1, writer_of(folder, run)).digest is None
    assert copy.read_bytes() == (folder / "a.png").read_bytes()
    assert predict_one(find_inputs(folder)[1], 1, writer_of(folder, run, overwrite=True)).digest is not None


def test_an_image_inside_a_labelme_file_stays_there(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_image(root, "x", seed=1)
    colour = io.BytesIO()
    Image.fromarray(np.stack([rods(1)[0], rods(2)[0], rods(3)[0]], axis=-1)).save(colour, "PNG")
    document = json.loads((root / "x.json").read_text())
    document |= {"imageData": base64.b64encode(colour.getvalue()).decode(), "imagePath": "far/away.png"}
    (root / "x.json").write_text(json.dumps(document))
    (root / "x.png").unlink()
    (item,) = find_inputs(root)
    pixels = item.load().pixels
    predict_one(item, 1, writer_of(root, tmp_path / "run", beside=True, overwrite=True))
    assert sorted(path.name for path in root.iterdir()) == ["x.json"]
    after = json.loads((root / "x.json").read_text())
    assert after["shapes"] != document["shapes"]
    assert base64.b64decode(after["imageData"]) == colour.getvalue()
    np.testing.assert_array_equal(read_labelme(root / "x.json").image, pixels)


STEPS = ("_write_picture", "_write_crops", "_place_image", "announce", "write_text", "save")


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_interrupted_at_any_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, beside: bool
) -> None:
    """What was written before the state is known for the program's own when the run resumes."""
    run = tmp_path / "run"
    owner = next(each for each in (ImageWriter, LabelmeFileWriter, StateFolder, labelme_files) if hasattr(each, step))
    original = getattr(owner, step)

    def interrupted(*arguments: object) -> object:
        if after:
            original(*arguments)
        raise KeyboardInterrupt

    for position in (1, 3):  # a file, and a page of one
        item = find_inputs(folder)[position]
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, interrupted)
            if step == "_place_image" and beside and item.is_file:
                continue
            with pytest.raises(KeyboardInterrupt):
                predict_one(item, 1, writer_of(folder, run, beside=beside))
        memory = StateFolder(run, "key").memory()
        again = next(found for found in find_inputs(folder, "labelme", [run], memory.wrote) if found.name == item.name)
        assert again.annotations is None
        # Other settings: the file would be another now.
        state = predict_one(item, 1, writer_of(folder, run, beside=beside, shape_type="mask"))
        assert state.digest is not None
        assert state.annotated is False
        path = (folder if beside else run / "labelme") / f"{item.stem}.json"
        assert {shape["shape_type"] for shape in json.loads(path.read_text())["shapes"]} == {"mask"}
        # And interrupted while it replaces its own file.
        with monkeypatch.context() as patched:
            patched.setattr(owner, step, interrupted)
            with pytest.raises(KeyboardInterrupt):
                predict_one(item, 1, writer_of(folder, run, beside=beside))
        assert StateFolder(run, "key").wrote(item.stem, path)
        # A person's work in between is kept.
        corrected = edit(path)
        assert predict_one(item, 1, writer_of(folder, run, beside=beside)).digest is None
        assert path.read_text() == corrected
