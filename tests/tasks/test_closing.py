"""What a task prints at its end: the words that name its data. The rest is in `tests/output/test_summary.py`."""

from __future__ import annotations

from kemr_lightning.tasks.closing import data_words
from tests.conftest import compose


def test_the_words_of_a_command_name_the_data() -> None:
    assert data_words(compose("data.root=some folder").data) == ["data.root=some folder"]
    assert data_words(compose("data=coco", "data.root=in").data) == ["data=coco", "data.root=in"]
    words = data_words(compose("experiment=demo").data)
    assert words[:3] == ["data=synthetic", "data.look=gband", "data.size=[768,576]"]
    assert compose(*words).data.test_images == 12
