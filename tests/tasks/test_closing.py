"""The words that name the data of a run, in the commands that are printed at its end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kemr_lightning.tasks import closing
from kemr_lightning.tasks.closing import data_words
from tests.conftest import compose


def test_the_words_of_a_command_name_the_data() -> None:
    assert data_words(compose("data.root=some folder").data) == ["data.root=some folder"]
    assert data_words(compose("data=coco", "data.root=in").data) == ["data=coco", "data.root=in"]
    words = data_words(compose("experiment=demo").data)
    assert words[:3] == ["data=synthetic", "data.look=gband", "data.size=[768,576]"]
    assert compose(*words).data.test_images == 12


@pytest.mark.parametrize("overrides", [("data=coco",), ("data.format=coco",), ("data=labelme",)])
def test_they_mean_the_format_however_it_was_given(overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = overrides[0].removeprefix("data=") if overrides[0].startswith("data=") else "labelme"
    hydra = SimpleNamespace(runtime=SimpleNamespace(choices={"data": chosen}))
    monkeypatch.setattr(closing.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(closing.HydraConfig, "get", lambda: hydra)
    data = compose(*overrides, "data.root=in").data
    again = compose(*data_words(data)).data
    assert (again.format, again.root) == (data.format, "in")
