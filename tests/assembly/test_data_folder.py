"""What the configuration says about the data folder, in plain values."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.core.errors import UserError
from kemr_lightning.data.formats import DEFAULT
from kemr_lightning.data.split import GROUP_PATTERN
from tests.conftest import compose


def test_the_settings_are_plain_values() -> None:
    words = ("data=coco", "data.root='my images/'", "data.label_map={a: b, c: null}", "data.resize=[320,256]")
    folder = DataFolder.of(compose(*words, "data.lists={test: [x]}", "data.group_pattern='^(.)'"))
    lists = {"test": ["x"]}
    assert folder == DataFolder("my images/", "coco", {"a": "b", "c": None}, "^(.)", lists, [320, 256])
    assert (type(folder.label_map), type(folder.lists), type(folder.resize)) == (dict, dict, list)
    assert folder.name == "my images/"
    assert DataFolder.of(compose("data.label_map={1: 23, 2: null}")).label_map == {"1": "23", "2": None}
    assert folder.needed("task=x") == Path("my images")


@pytest.mark.parametrize("overrides", [(), ("data=synthetic",), ("data.root=null",)])
def test_without_a_folder(overrides: tuple[str, ...]) -> None:
    folder = DataFolder.of(compose(*overrides))
    assert (folder.root, folder.name, folder.data_format) == (None, "synthetic", DEFAULT)
    assert folder.group_pattern == GROUP_PATTERN
    assert folder.label_map == "single"
    with pytest.raises(UserError, match=r"^task=x needs a folder\. Name it: data=labelme data\.root=DIR$"):
        folder.needed("task=x needs a folder")
