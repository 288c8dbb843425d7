"""The words that name the data of a run, in the commands that are printed at its end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kemr_lightning.data.formats import FORMATS
from kemr_lightning.tasks.closing import data_words
from tests.conftest import compose


def test_the_words_of_a_command_name_the_data() -> None:
    assert data_words(compose("data.root=some folder")) == ["data.root=some folder"]
    assert data_words(compose("data=coco", "data.root=in")) == ["data=coco", "data.root=in"]
    words = data_words(compose("experiment=demo"))
    assert words[:3] == ["data=synthetic", "data.look=gband", "data.size=[768,576]"]
    assert compose(*words).data.test_images == 12


@pytest.mark.parametrize("overrides", [("data=coco",), ("data.format=coco",), ("data=labelme",)])
def test_they_mean_the_format_however_it_was_given(overrides: tuple[str, ...]) -> None:
    config = compose(*overrides, "data.root=in")
    again = compose(*data_words(config)).data
    assert (again.format, again.root) == (config.data.format, "in")


def test_a_format_without_a_configuration_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "mine", SimpleNamespace(config=None))  # type: ignore[arg-type]
    words = data_words(compose("data.format=mine", "data.root=in"))
    assert words == ["data.format=mine", "data.root=in"]
