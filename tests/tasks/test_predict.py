"""A folder of images becomes corrected annotations: interrupted, repeated, edited in between."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from kemr_lightning.core.files import UNFINISHED
from kemr_lightning.core.overrides import shell_word
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.prediction.image_files import ImageWriter
from kemr_lightning.prediction.predict_folder import PredictionRun
from tests.conftest import rods, run_task, write_image
from tests.prediction.helpers import BrightModule, bright_parts

AWKWARD = "run a=b, (c)"
"""A name that neither the shell nor Hydra reads as it stands."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of several kinds, two of them broken."""
    root = tmp_path / "in"
    write_image(root, "a", seed=1)
    write_image(root / "sub", "b", seed=2, annotated=False)
    grey = rods(3)[0]
    tifffile.imwrite(root / "deep.tif", grey.astype(np.uint16) * 200 + 1000, photometric="minisblack")
    tifffile.imwrite(root / "pages.tif", np.stack([grey, rods(4)[0]]), photometric="minisblack")
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(root / "colour.bmp")
    turned = Image.fromarray(np.rot90(grey).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "turned.jpg", exif=exif.tobytes(), quality=98)
    Image.fromarray(grey[:9, :7]).save(root / "tiny.png")
    Image.fromarray(np.tile(grey, (3, 3))).save(root / "large.png")
    (root / "broken.png").write_bytes(b"no image at all")
    (root / "cut.jpg").write_bytes((root / "turned.jpg").read_bytes()[:700])
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file to name; nothing reads it as a model."""
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"weights")
    return path


def predict(run_dir: Path, root: Path, checkpoint: Path, *more: str) -> Path:
    return run_task(run_dir, "task=predict", f"data.root='{root}'", f"ckpt='{checkpoint}'", "logger=csv", *more)


STEMS = ["a", "colour", "deep", "large", "pages_p1", "pages_p2", "sub/b", "tiny", "turned"]


def test_a_folder_of_all_kinds(
    images: Path, tmp_path: Path, checkpoint: Path, module: BrightModule, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = predict(tmp_path / "run", images, checkpoint, "predict.expected=4", "predict.tile=128", "predict.overlap=40")
    entries = json.loads((run / "images.json").read_text())
    assert sorted(entry["file_name"].rpartition(".")[0] for entry in entries) == STEMS
    for name in ("predictions.json", "predictions_initial.json", "summary.csv", "report.html", "crops/index.csv"):
        assert (run / name).is_file()
    for stem in STEMS:
        image, _ = read_labelme(run / "labelme" / f"{stem}.json")
        assert image is not None
    # What comes out fits the upright image, and the refined masks are those written.
    image, found = read_labelme(run / "labelme" / "turned.json")
    assert image.shape == (96, 128)
    wanted = bright_parts(image)
    assert len(found) == int((wanted.scores >= 0.5).sum())
    # The tiles leave no seam: every rod nine times over.
    with (run / "summary.csv").open(newline="") as stream:
        counts = {row["file_name"]: int(row["count"]) for row in csv.DictReader(stream)}
    results = json.loads((run / "predictions.json").read_text())
    large = next(entry["id"] for entry in entries if entry["file_name"] == "large.png")
    expected = bright_parts(np.tile(rods(3)[0], (3, 3)))
    assert sum(result["image_id"] == large for result in results) == len(expected)
    assert module.seen.count("large.png") > 1
    assert counts["tiny.png"] == 0
    for name in ("broken.png", "cut.jpg"):
        assert f"could not be done: {name}" in caplog.text
        assert name in (run / "report.html").read_text()
    assert "9 of 11 images done" in caplog.text


def test_an_interrupted_run_resumes(
    images: Path,
    tmp_path: Path,
    checkpoint: Path,
    module: BrightModule,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    whole = predict(tmp_path / "whole", images, checkpoint)
    original = ImageWriter.write
    module.seen.clear()

    def interrupted(self: ImageWriter, *arguments: object) -> object:
        if len(module.seen) > 3:
            raise KeyboardInterrupt
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageWriter, "write", interrupted)
    with pytest.raises(SystemExit) as stop:
        predict(tmp_path / AWKWARD, images, checkpoint)
    assert stop.value.code == 130
    assert shell_word("hydra.run.dir", tmp_path / AWKWARD) in caplog.messages
    monkeypatch.setattr(ImageWriter, "write", original)
    finished = list(module.seen[:3])
    module.seen.clear()
    run = predict(tmp_path / AWKWARD, images, checkpoint)
    assert not set(finished) & set(module.seen)
    assert "(3 were finished before)" in caplog.text
    assert (run / "predictions.json").read_text() == (whole / "predictions.json").read_text()
    assert (run / "images.json").read_text() == (whole / "images.json").read_text()
    # Nothing is left to do the third time, and the files are made again all the same.
    module.seen.clear()
    (run / "report.html").unlink()
    predict(run, images, checkpoint)
    assert module.seen == []
    assert (run / "report.html").is_file()


def test_other_settings_and_changed_images_are_done_again(
    images: Path, tmp_path: Path, checkpoint: Path, module: BrightModule
) -> None:
    run = predict(tmp_path / "run", images, checkpoint)
    module.seen.clear()
    write_image(images / "sub", "b", seed=77, annotated=False)
    predict(run, images, checkpoint)
    assert module.seen == ["sub/b.png"]
    module.seen.clear()
    checkpoint.write_bytes(b"other weights")
    predict(run, images, checkpoint)
    assert len(set(module.seen)) == len(STEMS) - 1  # the pages share a name


def test_a_file_that_comes_later_renames_no_output(
    tmp_path: Path, checkpoint: Path, module: BrightModule, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "in", "a", seed=1, annotated=False)
    run = predict(tmp_path / "run", tmp_path / "in", checkpoint)
    Image.fromarray(rods(2)[0]).save(tmp_path / "in" / "a.jpg")
    module.seen.clear()
    predict(run, tmp_path / "in", checkpoint)
    assert module.seen == ["a.jpg"]
    assert json.loads((run / "labelme" / "a.json").read_text())["imagePath"] == "a.png"
    assert json.loads((run / "labelme" / "a_jpg.json").read_text())["imagePath"] == "a_jpg.jpg"


def test_corrections_survive_another_prediction(
    images: Path, tmp_path: Path, checkpoint: Path, module: BrightModule, caplog: pytest.LogCaptureFixture
) -> None:
    run = predict(tmp_path / "run", images, checkpoint)
    path = run / "labelme" / "a.json"
    document = json.loads(path.read_text())
    document["shapes"] = []
    path.write_text(json.dumps(document))
    predict(run, images, checkpoint, "predict.expected=3")
    assert json.loads(path.read_text())["shapes"] == []
    assert "1 Labelme files have been edited" in caplog.text
    predict(run, images, checkpoint, "predict.overwrite=true")
    assert json.loads(path.read_text())["shapes"] != []


def annotated(run: Path) -> list[str]:
    """The images of a run that were compared with annotations."""
    with (run / "summary.csv").open(newline="") as stream:
        return [row["file_name"] for row in csv.DictReader(stream) if row["annotated"]]


def test_beside_the_originals(
    images: Path, tmp_path: Path, checkpoint: Path, module: BrightModule, caplog: pytest.LogCaptureFixture
) -> None:
    mine = (images / "a.json").read_text()
    run = predict(tmp_path / "run", images, checkpoint, "predict.beside=true")
    assert (images / "a.json").read_text() == mine
    assert "1 Labelme files were there before" in caplog.text
    assert not (run / "labelme").exists()
    for stem in STEMS[1:]:
        assert (images / f"{stem}.json").is_file()
    # The same command again: what it wrote is neither done again nor taken for annotations, unless it is edited.
    module.seen.clear()
    predict(run, images, checkpoint, "predict.beside=true")
    assert module.seen == []
    assert annotated(run) == ["a.png"]
    corrected = images / "turned.json"
    corrected.write_text(json.dumps({**json.loads(corrected.read_text()), "shapes": []}))
    predict(run, images, checkpoint, "predict.beside=true")
    assert module.seen == ["turned.jpg"]
    assert annotated(run) == ["a.png", "turned.jpg"]
    assert json.loads(corrected.read_text())["shapes"] == []
    # Nor is it after the states are lost, and what a killed process has left is cleared away; what may be another run's
    # that is writing now is not.
    leftover, fresh = (images / "sub" / f"{UNFINISHED}{name}.json" for name in ("12345678", "87654321"))
    leftover.write_text("{")
    os.utime(leftover, (0, 0))
    fresh.write_text("{")
    for state in (run / "state").rglob("*.json"):
        state.unlink()
    predict(run, images, checkpoint, "predict.beside=true")
    assert json.loads(corrected.read_text())["shapes"] == []
    assert not leftover.exists()
    assert fresh.exists()
    # Pages written beside their file are not taken for images of their own.
    predict(tmp_path / "again", images, checkpoint, "predict.beside=true")
    entries = json.loads((tmp_path / "again" / "images.json").read_text())
    assert len(entries) == len(STEMS)


def test_a_full_disk_at_the_end(
    images: Path,
    tmp_path: Path,
    checkpoint: Path,
    module: BrightModule,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(PredictionRun, "write_files", full)
        with pytest.raises(SystemExit) as stop:
            predict(tmp_path / AWKWARD, images, checkpoint)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert shell_word("hydra.run.dir", tmp_path / AWKWARD) in message
    module.seen.clear()
    predict(tmp_path / AWKWARD, images, checkpoint)
    assert module.seen == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("predict.tile=large", "predict.tile=large is not a size. Give auto, a number of pixels, or null"),
        ("predict.tile=3", "predict.tile=3 is too small for a chromosome. Give at least 64 pixels"),
        (
            "predict.overlap=2000",
            "predict.overlap=2000 is too much for tiles of 1536. Give 0 to 768 pixels",
        ),
        ("predict.score=2", "predict.score=2 is not a score. Give a number from 0 to 1"),
        ("predict.shape_type=circle", "predict.shape_type=circle is unknown. Use polygon or mask"),
    ],
)
def test_wrong_settings_are_named_as_in_the_configuration(
    images: Path,
    tmp_path: Path,
    checkpoint: Path,
    module: BrightModule,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        predict(tmp_path / AWKWARD, images, checkpoint, setting)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert module.seen == []


def test_folders_without_a_usable_image(
    tmp_path: Path, checkpoint: Path, module: BrightModule, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"nothing")
    for name, message in (("missing", "data.root="), ("broken", "none of the 1 images in")):
        with pytest.raises(SystemExit) as stop:
            predict(tmp_path / AWKWARD, tmp_path / name, checkpoint)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
