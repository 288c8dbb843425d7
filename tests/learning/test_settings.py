from __future__ import annotations

from typing import Any

import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.learning.settings import PARTS, LearnSettings


def test_every_source_is_accepted() -> None:
    for source in ("val", "train", "all", "auto"):
        assert LearnSettings(source=source).source in PARTS


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("source", "test"),
        ("folds", 1),
        ("evidence_epochs", 0),
        ("evidence_width", 0),
        ("crf_steps", 0),
        ("iterations", 0),
        ("iterations", 2.5),
        ("margin", -1),
        ("margin", True),
    ],
)
def test_values_out_of_range_are_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(SettingError) as caught:
        LearnSettings(**{setting: value})
    assert (caught.value.setting, caught.value.value) == (setting, value)


def test_least_values_are_accepted() -> None:
    settings = LearnSettings(folds=2, evidence_epochs=1, evidence_width=1, crf_steps=1, iterations=1, margin=0)
    assert settings.evidence_epochs == 1
    assert LearnSettings(evidence_epochs=None).evidence_epochs is None
