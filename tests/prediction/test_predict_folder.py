from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from torch import Tensor

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import UNFINISHED
from kemr_lightning.data.image import read_image
from kemr_lightning.prediction.inference import Model
from kemr_lightning.prediction.inputs import Input
from kemr_lightning.prediction.predict_folder import ABANDONED, PredictionRun
from kemr_lightning.prediction.result import Failure, PredictionResult
from kemr_lightning.prediction.settings import PredictSettings
from tests.conftest import write_image
from tests.prediction.helpers import BrightModule, bright_parts, grow, mixed_folder


class Failing(Model):
    """Fails for images of some names, after it has seen them."""

    def __init__(self, faults: dict[str, BaseException] | None = None) -> None:
        super().__init__(BrightModule(), grow)  # type: ignore[arg-type]
        self.faults = faults or {}
        self.seen: list[str] = []

    def __call__(self, pixels: Tensor, name: str = "image") -> Prediction:
        self.seen.append(name)
        if name in self.faults:
            raise self.faults[name]
        return super().__call__(pixels, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mixed_folder(tmp_path / "my images")


ALL = ["a.png", "b.png", "sub/c.tif", "sub/c.tif"]
"""The images of the folder; the last file has two pages."""


def run_of(folder: Path, model: Model | None = None, key: str = "key", **more: object) -> PredictionRun:
    settings = PredictSettings(expected=4, report_side=64)
    values = {"settings": settings, "directory": folder.parent / "run", **more}
    return PredictionRun(model or Failing(), folder, key=key, **values)  # type: ignore[arg-type]


def outcome(result: PredictionResult) -> tuple[list[str], list[str], int]:
    return [image.stem for image in result.finished], [failure.name for failure in result.failures], result.resumed


def test_every_image_is_predicted_and_numbered(folder: Path) -> None:
    model = Failing()
    run = run_of(folder, model)
    result = run.predict_images()
    assert outcome(result) == (["a", "b", "sub/c_p1", "sub/c_p2"], [], 0)
    assert model.seen == ALL
    assert (result.total, result.interrupted) == (4, False)
    assert [image.state.final.image_id for image in result.finished] == [1, 2, 3, 4]
    assert [image.state.annotated for image in result.finished] == [True, False, False, False]
    assert all(image.state.seconds > 0 for image in result.finished)
    run.write_files(result, "a title")
    images = json.loads((run.directory / "images.json").read_text())
    assert [image["id"] for image in images] == [1, 2, 3, 4]
    assert "<title>a title" in (run.directory / "report.html").read_text(encoding="utf-8")


def test_finished_images_are_not_predicted_again(folder: Path) -> None:
    run_of(folder).predict_images()
    write_image(folder, "a0", seed=5, annotated=False)  # it comes between the others
    model = Failing()
    result = run_of(folder, model).predict_images()
    assert model.seen == ["a0.png"]
    assert outcome(result) == (["a", "a0", "b", "sub/c_p1", "sub/c_p2"], [], 4)
    assert [image.state.final.image_id for image in result.finished] == [1, 2, 3, 4, 5]
    # Under another key, none is finished.
    other = Failing()
    assert run_of(folder, other, key="another").predict_images().resumed == 0
    assert len(other.seen) == 5


def test_an_image_that_fails_costs_no_other(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    faults: dict[str, BaseException] = {"b.png": RuntimeError("out of\n memory"), "sub/c.tif": UserError("too dark")}
    result = run_of(folder, Failing(faults)).predict_images()
    assert outcome(result)[:2] == (["a"], ["b.png", "broken.png", "sub/c.tif", "sub/c.tif"])
    assert result.failures[0] == Failure("b.png", "RuntimeError: out of memory")
    assert result.failures[2] == Failure("sub/c.tif", "too dark")
    # A fault of the program is logged with where it came from, a user's is not.
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["b.png could not be done"]
    # What has failed is tried again.
    again = Failing()
    assert outcome(run_of(folder, again).predict_images()) == (
        ["a", "b", "sub/c_p1", "sub/c_p2"],
        ["broken.png"],
        1,
    )
    assert again.seen == ALL[1:]


def test_an_interrupted_run_keeps_what_it_has(folder: Path) -> None:
    result = run_of(folder, Failing({"sub/c.tif": KeyboardInterrupt()})).predict_images()
    assert result.interrupted
    assert outcome(result) == (["a", "b"], [], 0)
    again = Failing()
    assert outcome(run_of(folder, again).predict_images()) == (["a", "b", "sub/c_p1", "sub/c_p2"], [], 2)
    assert again.seen == ALL[2:]


def test_progress_sees_every_image_in_order(folder: Path) -> None:
    seen: list[str] = []

    def progress(items: Sequence[Input]) -> Iterator[Input]:
        assert len(items) == 4
        for item in items:
            yield item
            seen.append(item.stem)

    run_of(folder, progress=progress).predict_images()
    assert seen == ["a", "b", "sub/c_p1", "sub/c_p2"]


def test_annotations_are_renamed_by_the_label_map(folder: Path) -> None:
    model = Failing()
    model.module.label_names = ["short", "long"]
    result = run_of(folder, model, label_map={"chr": "long"}).predict_images()
    truth = result.finished[0].state.initial.truth
    assert [entry.label for entry in truth] == [2] * 4


def test_what_killed_processes_have_left_is_removed(folder: Path) -> None:
    run = run_of(folder, settings=PredictSettings(beside=True))
    old, new = (folder / f"{UNFINISHED}{name}.json" for name in ("12345678", "87654321"))
    inside = run.directory / "labelme" / f"{UNFINISHED}abcdefgh.json"
    inside.parent.mkdir(parents=True)
    for path in (old, new, inside):
        path.write_text("{")
    age = new.stat().st_mtime - ABANDONED - 60
    os.utime(old, (age, age))
    run.predict_images()
    # Among the user's images another run may be writing now.
    assert (old.exists(), new.exists(), inside.exists()) == (False, True, False)


def test_files_written_beside_the_images_are_not_annotations(folder: Path) -> None:
    settings = PredictSettings(beside=True)
    first = run_of(folder, settings=settings).predict_images()
    assert (folder / "b.json").is_file()
    again = run_of(folder, settings=settings, key="another").predict_images()
    assert [image.state.annotated for image in again.finished] == [True, False, False, False]
    assert [image.stem for image in again.finished] == [image.stem for image in first.finished]
    assert [path.name for path in again.kept] == ["a.json"]


def test_folders_that_cannot_be_predicted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        run_of(tmp_path / "missing").predict_images()


def test_the_final_masks_are_those_of_the_refiner(folder: Path) -> None:
    result = run_of(folder).predict_images()
    state = result.finished[1].state
    wanted = bright_parts(read_image(folder / "b.png").pixels)
    assert [patch.area() for patch in (wanted.patches or [])][: len(state.areas)] == state.areas
    assert [entry.score for entry in state.final.predictions] == wanted.scores.tolist()
