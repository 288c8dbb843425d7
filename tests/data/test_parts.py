"""Which records are used for training, model selection and testing: by folders, lists, or split off."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation_format import Format
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.parts import Parts, names_listed
from kemr_lightning.data.record import Record


class Fixed(Format):
    """A format whose folders contain what the test says."""

    name = "fixed"

    def __init__(self, parts: dict[str, list[str]], groups: dict[str, str] | None = None) -> None:
        self.contents = parts
        self.groups = groups or {}
        self.parts = list(parts)
        self.reads: list[str] = []

    def source(self, root: Path) -> Fixed:
        return self

    def read(self, part: str) -> list[Record]:
        self.reads.append(part)

        def load() -> IntensityImage:
            raise NotImplementedError

        return [Record(name, Path(name), load, group=self.groups.get(name)) for name in self.contents[part]]


def parts(contents: dict[str, list[str]], **options: object) -> Parts:
    return Parts(Path("data"), Fixed(contents), **options)  # type: ignore[arg-type]


def names(chosen: Parts, part: str, whole: bool = False) -> list[str]:
    return [record.name for record in chosen.records(part, whole)]


def flat(count: int = 10) -> dict[str, list[str]]:
    return {"all": [f"{number}{letter}.png" for number in range(count) for letter in "ab"]}


def test_parts_that_exist_are_taken_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    chosen = parts({"train": ["train/b", "train/a"], "val": ["val/c"], "test": ["test/d"]})
    assert {part: names(chosen, part) for part in ("train", "val", "test")} == {
        "train": ["train/b", "train/a"],
        "val": ["val/c"],
        "test": ["test/d"],
    }
    assert caplog.text == ""


def test_parts_are_read_once() -> None:
    source = Fixed({"train": ["train/1", "train/2"]})
    chosen = Parts(Path("data"), source)
    for part in ("train", "val", "train", "test"):
        chosen.records(part)
    assert source.reads == ["train"]


def test_a_share_of_train_selects_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    contents = {"train": [f"train/{name}" for name in flat()["all"]]}
    chosen = parts(contents)
    train, val = names(chosen, "train"), names(chosen, "val")
    assert sorted(train + val) == contents["train"]
    assert len(val) == 4
    assert not {name[:-5] for name in train} & {name[:-5] for name in val}  # a and b of a number stay together
    assert names(chosen, "test") == val
    assert "data has no test/ part" in caplog.text
    assert names(parts(contents, seed=3), "val") != val
    assert len(names(parts(contents, val_fraction=0.5), "val")) == 10


def test_a_folder_without_parts_is_split_or_tested_whole() -> None:
    chosen = parts(flat())
    assert (len(names(chosen, "train")), len(names(chosen, "val"))) == (16, 4)
    assert names(chosen, "test") == names(chosen, "val")
    assert len(names(chosen, "test", whole=True)) == 20


def test_val_is_reported_without_test() -> None:
    assert names(parts({"train": ["train/a"], "val": ["val/b"]}), "test", whole=True) == ["val/b"]


def test_groups_come_from_the_records_then_from_the_names() -> None:
    contents = {"all": [f"{number}.png" for number in range(8)]}
    groups = {name: str(int(name[0]) % 4) for name in contents["all"]}
    chosen = Parts(Path("data"), Fixed(contents, groups))
    sides = [{groups[name] for name in names(chosen, part)} for part in ("train", "val")]
    assert not sides[0] & sides[1]
    assert len(names(chosen, "val")) == 2
    by_pattern = parts(flat(), group_pattern="([ab])$")
    assert {name[-5] for name in names(by_pattern, "val")} in ({"a"}, {"b"})


def test_one_group_is_split_by_file(caplog: pytest.LogCaptureFixture) -> None:
    chosen = parts({"all": ["1a.png", "1b.png", "1c.png", "1d.png", "1e.png"]})
    assert (len(names(chosen, "train")), len(names(chosen, "val"))) == (4, 1)
    assert "they are split one by one" in caplog.text


def test_a_missing_part_is_named() -> None:
    for part in ("train", "val"):
        with pytest.raises(SettingError, match=f"root=data has no {part}/ part"):
            parts({"test": ["test/a"]}).records(part)


def test_lists_replace_folders(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("9b.json\n9a\n")
    lists = {"train": ["2a", "0a", "1a.png"], "val": ["3a"], "test": str(tmp_path / "test.txt")}
    chosen = parts(flat(), lists=lists)
    assert names(chosen, "train") == ["0a.png", "1a.png", "2a.png"]
    assert names(chosen, "val") == ["3a.png"]
    assert names(chosen, "test", whole=True) == ["9a.png", "9b.png"]


def test_lists_reach_into_all_folders() -> None:
    contents = {"train": ["train/a"], "test": ["test/b"]}
    chosen = parts(contents, lists={"train": ["b"], "val": ["a"]})
    assert (names(chosen, "train"), names(chosen, "val")) == (["test/b"], ["train/a"])


def test_what_stands_in_for_missing_lists(caplog: pytest.LogCaptureFixture) -> None:
    chosen = parts(flat(), lists={"train": [f"{number}a" for number in range(10)]})
    assert (len(names(chosen, "train")), len(names(chosen, "val"))) == (8, 2)
    assert names(chosen, "test") == names(chosen, "val")
    assert "there is no list for test" in caplog.text
    with pytest.raises(SettingError) as caught:
        parts(flat(), lists={"test": ["0a"]}).records("val")
    assert str(caught.value.under("data")) == "data.lists.val=null names no image. Name those for val"


def test_no_image_is_in_two_lists() -> None:
    chosen = parts(flat(), lists={"train": ["1a", "1b"], "test": ["1b.png"]})
    with pytest.raises(SettingError, match=r"lists\.test=1b\.png is in the list for train too"):
        chosen.records("train")


def test_names_that_are_not_there_are_named_with_their_list() -> None:
    with pytest.raises(SettingError, match=r"lists\.val=77 is not in the data folder"):
        parts(flat(), lists={"train": ["0a"], "val": ["77"]}).records("train")


def test_lists_are_read_from_files_and_checked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n# y\n")
    assert names_listed({"train": tmp_path / "a.txt", "val": None, "test": ["z"]}) == {"train": ["x"], "test": ["z"]}
    with pytest.raises(SettingError, match=r"lists\.trian=\['0a'\] is not the list of a part"):
        names_listed({"trian": ["0a"]})
    with pytest.raises(UserError, match=r"none\.txt"):
        names_listed({"train": str(tmp_path / "none.txt")})
