"""Names of labels reach the tasks as they were written on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from kemr_lightning.assembly.written_labels import as_written, settle_labels
from kemr_lightning.core.errors import SettingError
from tests.conftest import compose


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("{1e5:a, b:1e5}", {1e5: "a", "b": 1e5}, {"1e5": "a", "b": "1e5"}),
        ("{1_000: true, False: inf}", {1000: True, False: float("inf")}, {"1_000": True, "False": float("inf")}),
        ("{1:1, X: null}", {1: 1, "X": None}, {1: 1, "X": None}),
        ("{a: 'true', b: \"1e5\"}", {"a": "true", "b": "1e5"}, {"a": "true", "b": "1e5"}),
        ("[1e5, on, 'x']", [1e5, "on", "x"], ["1e5", "on", "x"]),
        ("single", "single", "single"),
        ("null", None, None),
        ("{", {"a": "b"}, {"a": "b"}),
        ("{1: a, true: b, 1.0: c}", {1: "c"}, {"1": "a", "true": "b", "1.0": "c"}),
        ("{c: d}", {"a": "b", "c": "d"}, {"a": "b", "c": "d"}),
    ],
)
def test_numbers_and_truth_values_get_their_text_back(text: str, value: Any, expected: Any) -> None:
    assert as_written(value, text) == expected


def test_a_file_becomes_the_mapping_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text("1e5: on\nno:\n")
    config = compose("data.root=x", f"data.label_map='{tmp_path / 'names.yaml'}'")
    settle_labels(config)
    assert OmegaConf.to_container(config.data.label_map) == {"1e5": "on", "no": None}
    with pytest.raises(SettingError, match=r"^data\.label_map=merge is unknown"):
        settle_labels(compose("data.root=x", "data.label_map=merge"))
    plain = compose("data.root=x")
    settle_labels(plain)
    assert plain == compose("data.root=x")
