from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inputs import find_inputs
from kemr_lightning.prediction.review import Review
from tests.prediction.helpers import entry, mixed_folder, predict_folder, state_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mixed_folder(tmp_path / "my images")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_states_come_back_as_they_were(folder: Path, tmp_path: Path) -> None:
    for image in predict_folder(folder, tmp_path / "run"):
        assert ImageState.parse(image.state.dump()) == image.state


def test_the_final_record_is_the_refined_one() -> None:
    state = state_of(truth=[entry(1.0)], review=Review(1.0, ["x"], [{"changed", "same pixels"}, set()]))
    assert state.final is state.initial
    refined = replace(state, refined=replace(state.initial, predictions=[entry(0.9, x=5)]))
    assert refined.final is refined.refined
    # The annotations, which both records have, are stored once.
    content = json.loads(refined.dump())
    assert len(content["initial"]["truth"]) == 1
    assert content["refined"]["truth"] == []
    assert ImageState.parse(refined.dump()) == refined


def test_finished_images_take_the_number_and_name_that_they_have_now() -> None:
    state = state_of()
    moved = replace(state, refined=state.initial).numbered(7, "x.png")
    assert (moved.initial.image_id, moved.final.image_id, moved.final.name) == (7, 7, "x.png")
    assert moved.written == state.written


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


def test_files_in_the_run_directory_are_named_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = StateFolder(tmp_path / "run", "key")
    assert states.place(tmp_path / "run" / "labelme" / "sub" / "b.json") == "labelme/sub/b.json"
    assert states.place(tmp_path / "run" / ".." / "in" / "b.json") == str(tmp_path / "in" / "b.json")
    monkeypatch.chdir(tmp_path)
    assert states.place(Path("run/labelme/b.json")) == "labelme/b.json"
    assert StateFolder(Path("run"), "key").place(tmp_path / "run" / "x.json") == "x.json"


def test_an_announced_file_is_known_before_and_after_it_is_there(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "run", "key")
    file = tmp_path / "in" / "b.json"
    file.parent.mkdir()
    source = ("b.tif", 2)
    states.announce("sub/b", source, file, sha256("first"))
    assert not states.wrote("sub/b", file)
    file.write_text("first")
    assert states.wrote("sub/b", file)
    assert not states.wrote("another", file)
    # While its successor is announced and not yet there, it is still known.
    states.announce("sub/b", source, file, sha256("second"))
    assert states.wrote("sub/b", file)
    file.write_text("second")
    assert states.wrote("sub/b", file)
    states.announce("sub/b", source, file, sha256("third"))
    assert states.digests("sub/b") == {str(file): [sha256("second"), sha256("third")]}
    file.write_text("edited")
    assert not states.wrote("sub/b", file)
    # An edited file is not made the run's own by what is announced next.
    states.announce("sub/b", source, file, sha256("fourth"))
    assert not states.wrote("sub/b", file)
    assert states.last("sub/b") is None
    assert states.finished("sub/b", [["1", "2"]]) is None


def test_what_all_states_say_together(tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "run", "key")
    ours, edited = tmp_path / "run" / "labelme" / "a.json", tmp_path / "in" / "b.json"
    for path in (ours, edited):
        path.parent.mkdir(parents=True)
        path.write_text("ours")
    written = {"labelme/a.json": [sha256("ours")]}
    states.save("a", state_of(source=("a.png", None), labelme=str(ours), digest=sha256("ours"), digests=written))
    states.announce("sub/b", ("sub/b.tif", 2), edited, sha256("ours"))
    edited.write_text("edited")
    (states.folder / "damaged.json").write_text("{")
    (states.folder / "odd.json").write_text('{"source": [1, 2], "digests": [3]}')
    memory = states.memory()
    assert memory.stems == {("a.png", None): "a", ("sub/b.tif", 2): "sub/b"}
    assert memory.wrote(ours)
    assert not memory.wrote(edited)
    assert not memory.wrote(tmp_path / "run" / "labelme" / "missing.json")
    # The directory may be moved.
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = StateFolder(tmp_path / "moved", "key").memory()
    assert moved.wrote(tmp_path / "moved" / "labelme" / "a.json")
    assert not moved.wrote(edited)


def test_a_folder_without_states_remembers_nothing(tmp_path: Path) -> None:
    memory = StateFolder(tmp_path / "none", "key").memory()
    assert (memory.stems, memory.digests) == ({}, {})
    assert not memory.wrote(tmp_path)
