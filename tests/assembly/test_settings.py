"""A node of the configuration as a dataclass, its faults named with their keys."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from kemr_lightning.assembly.settings import plain, read_settings
from kemr_lightning.core.errors import SettingError


@dataclass(frozen=True)
class Bake:
    minutes: int
    heat: float = 180.0
    cook: str = "anyone"

    def __post_init__(self) -> None:
        if self.minutes < 1:
            raise SettingError("minutes", self.minutes, "is too short", "Give at least 1")


def test_values_are_resolved_and_others_added() -> None:
    config = OmegaConf.create({"time": 30, "bake": {"minutes": "${time}", "heat": 200.0}})
    assert read_settings(config, "bake", Bake, cook="me") == Bake(30, 200.0, "me")


def test_a_whole_number_may_be_written_like_1e1() -> None:
    made = read_settings(OmegaConf.create({"bake": {"minutes": 1e1, "heat": 2e2}}), "bake", Bake, cook="me")
    assert (made.minutes, made.heat) == (10, 200.0)
    assert isinstance(made.minutes, int)
    assert isinstance(made.heat, float)


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ({"minutes": 0}, r"^bake\.minutes=0 is too short\. Give at least 1$"),
        (
            {"minutes": 1, "colour": "brown"},
            r"^bake\.colour=brown is not a setting\. The settings are minutes, heat$",
        ),
        ({"minutes": 1, "cook": "you"}, r"^bake\.cook=you is not a setting"),
        (None, r"^bake=null is not a group of settings\. Leave it as it is, or set bake\.minutes or bake\.heat$"),
        (3, r"^bake=3 is not a group of settings"),
    ],
)
def test_faults_are_named_with_their_keys(node: object, line: str) -> None:
    with pytest.raises(SettingError, match=line):
        read_settings(OmegaConf.create({"bake": node}), "bake", Bake, cook="me")


def test_a_node_below_another_one() -> None:
    config = OmegaConf.create({"day": {"bake": {"minutes": 0}}})
    with pytest.raises(SettingError, match=r"^day\.bake\.minutes=0 is too short"):
        read_settings(config, "day.bake", Bake)


def test_an_error_in_what_was_added_keeps_its_name() -> None:
    config = OmegaConf.create({"bake": {"heat": 200.0}})
    with pytest.raises(SettingError, match=r"^minutes=0 is too short"):
        read_settings(config, "bake", Bake, minutes=0)


def test_nodes_become_plain_values() -> None:
    config = OmegaConf.create({"a": 1, "map": {"b": "${a}", "c": None}, "list": ["${a}", 2]})
    made = plain(config)
    assert made == {"a": 1, "map": {"b": 1, "c": None}, "list": [1, 2]}
    assert (type(made["map"]), type(made["list"])) == (dict, list)
    assert plain("text") == "text"
    assert plain(None) is None
