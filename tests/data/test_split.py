"""Splits: what belongs together stays together, and the same seed gives the same parts."""

from pathlib import Path

import numpy as np
import pytest

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.split import group_of, grouped_split, part_mentioned, part_named, read_list, select, split_name


def test_parts_of_one_number_belong_together() -> None:
    names = ["original_104a.jpg", "original_104b.jpg", "original_104.jpg", "original_10.jpg", "train/original_104c.jpg"]
    groups = [group_of(name) for name in names]
    assert groups == ["original_104", "original_104", "original_104", "original_10", "train/original_104"]
    assert [group_of(name) for name in ("A0102XY.png", "plain.png", "case_7B.png")] == [
        *("A0102XY.png", "plain.png", "case_7B.png")
    ]


def test_own_patterns() -> None:
    assert group_of("x/A0102XY.png", r"^A\d\d") == "x/A01"
    assert group_of("case7_slide3.png", r"(case\d+)_") == "case7"
    with pytest.raises(SettingError, match=r"group_pattern=\( is not a regular expression"):
        group_of("a", "(")


@pytest.mark.parametrize("seed", range(30))
def test_groups_are_not_split_and_the_aim_is_met(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [f"g{int(number)}" for number in rng.integers(0, 25, 80)]
    first, second = grouped_split(groups, 0.2, seed)
    assert sorted(first + second) == list(range(80))
    assert not {groups[i] for i in first} & {groups[i] for i in second}
    assert abs(len(second) - 16) <= max(groups.count(group) for group in groups) / 2


def test_the_split_follows_the_seed_and_not_the_order() -> None:
    groups = [f"g{number}" for number in range(40)]
    second = {groups[i] for i in grouped_split(groups, 0.2, 5)[1]}
    turned = groups[::-1]
    assert {turned[i] for i in grouped_split(turned, 0.2, 5)[1]} == second
    assert {groups[i] for i in grouped_split(groups, 0.2, 6)[1]} != second


def test_small_sets() -> None:
    assert grouped_split(["a"], 0.2, 0) == ([0], [])
    assert grouped_split(["a", "a"], 0.2, 0) == ([0, 1], [])
    first, second = grouped_split(["a", "b"], 0.2, 0)
    assert len(first) == len(second) == 1
    assert grouped_split([], 0.2, 0) == ([], [])


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("# mine\nb.png\n\n a.json \n")
    assert read_list(path) == ["b.png", "a.json"]
    path.write_text("\n# nothing\n")
    with pytest.raises(UserError, match="empty"):
        read_list(path)
    with pytest.raises(UserError, match=r"none\.txt"):
        read_list(tmp_path / "none.txt")


def test_names_are_found_with_or_without_folder_and_ending() -> None:
    names = ["train/a.png", "train/b.png", "test/a.png", "c.d.png"]
    assert select(names, ["b", "test/a.png", "./train/a.json", "c.d", "b.png"], "list") == [1, 2, 0, 3]
    with pytest.raises(SettingError, match="list=z is not in the data folder"):
        select(names, ["z"], "list")
    with pytest.raises(SettingError, match=r"list=a matches 2 files \(train/a\.png, test/a\.png\)\. Add its folder"):
        select(names, ["a"], "list")


def test_other_spellings_are_found_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    names = ["x/Zelle \u00fc.PNG", "B.png", "b.png", "c.png", "C.tif"]
    assert select(names, ["X\\zelle%20u\u0308.png", "zelle u\u0308", "b.png"], "list") == [0, 2]
    assert "is taken for x/Zelle \u00fc.PNG" in caplog.text
    with pytest.raises(SettingError, match=r"list=B%2Epng matches 2 files \(B\.png, b\.png\)"):
        select(names, ["B%2Epng"], "list")


def test_parts_by_name() -> None:
    parts = {
        "train": ("train", "Train", "TRAINING", "trainset", "Train_set", "train2017", "train-2017"),
        "val": ("val", "valid", "Validation", "DEV"),
        "test": ("test", "Tests", "testing", "test set"),
    }
    for part, words in parts.items():
        assert [part_named(word) for word in words] == [part] * len(words)
    for word in ("", "trains", "train_old", "train2", "train_images", "contest", "2017"):
        assert part_named(word) is None


def test_words_that_mention_a_part() -> None:
    names = ("instances_Train2017", "old-train", "test images", "Valid", "train_set", "attest", "a")
    assert [part_mentioned(name) for name in names] == ["train", "train", "test", "val", "train", None, None]


def test_versions_of_an_image_belong_together() -> None:
    one = "train/case_12a_png.rf.0123456789abcdef0123456789abcdef.jpg"
    two = "train/case_12b_jpg.rf.fedcba9876543210fedcba9876543210.jpg"
    assert group_of(one) == group_of(two) == "train/case_12"
    assert group_of("CELL_JPG.rf.0123456789abcdef.png") == group_of("CELL_JPG.rf.1123456789abcdef.png") == "CELL"
    assert group_of("other.rf.x.png") == "other.rf.x.png"


def test_the_part_of_a_name_is_its_folder() -> None:
    assert split_name("train/sub/a.png", ["train", "test"]) == ("train", "sub/a.png")
    assert split_name("Training/a.png", ["train", "test"]) == ("train", "a.png")
    assert split_name("val/a.png", ["train", "test"]) == ("all", "val/a.png")
    assert split_name("train", ["train"]) == ("all", "train")
    assert split_name("train/a.png", ["all"]) == ("all", "train/a.png")
