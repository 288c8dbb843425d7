"""The schema and `conf/` agree: every key is known, every default is possible; what is not is said well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from kemr_lightning.assembly.schema.validate import all_keys, text_keys, wrong_settings
from tests.conftest import CONF, compose

OPTIONS = [
    f"{folder}={path.stem}"
    for folder in ("experiment", "model", "data", "augmentation", "metric", "refine", "callbacks", "logger")
    for path in sorted((CONF / folder).glob("*.yaml"))
] + [
    f"{folder}={path.stem}"
    for folder in ("optimizer", "scheduler", "trainer", "budget", "task", "paths")
    for path in sorted((CONF / folder).glob("*.yaml"))
]


def resolved(*overrides: str) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(compose("paths.run_dir=x", *overrides), resolve=True))


@pytest.mark.parametrize("option", OPTIONS)
def test_conf_has_no_key_that_the_schema_does_not_know(option: str) -> None:
    for wrong in wrong_settings(resolved(option)):
        pytest.fail(
            f"conf/ ({option}) has a key or value that the schema does not allow: {wrong.key}={wrong.value} "
            f"{wrong.problem}. Add a line for it to kemr_lightning/assembly/schema/*_keys.py"
        )


def numbers(node: Any, place: str = "") -> Iterator[str]:
    """The dotted keys of all numbers of a configuration."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict):
            yield from numbers(value, f"{place}{key}.")
        elif isinstance(value, int | float | bool):
            yield f"{place}{key}"


OWN = ("predict", "learn", "tune", "compare", "convert", "doctor", "outline", "search")
"""Settings that the tasks check themselves."""


@pytest.mark.parametrize(
    "option", ["experiment=kemr_tiny", "experiment=kemr_r101", "experiment=demo", "model=blendmask_r101"]
)
def test_every_number_has_a_kind(option: str) -> None:
    settings = resolved(option, "data.root=x") if "demo" not in option else resolved(option)
    unchecked = []
    for key in numbers(settings):
        if key.startswith(OWN):
            continue
        changed = OmegaConf.to_container(OmegaConf.create(settings))
        node: Any = changed
        *path, last = key.split(".")
        for part in path:
            node = node[part]
        node[last] = "a text"
        if key not in [each.key for each in wrong_settings(cast(dict[str, Any], changed))]:
            unchecked.append(key)
    assert not unchecked


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+data.batchsize=3", "data.batchsize=3 is not a setting. Did you mean data.batch_size?"),
        ("+callbacks.ema.dcay=0.5", "callbacks.ema.dcay=0.5 is not a setting. Did you mean callbacks.ema.decay?"),
        ("+trainer.precison=16", "trainer.precison=16 is not a setting. Did you mean trainer.precision?"),
        ("+trainer.crop_size=3", "trainer.crop_size=3 is not a setting. Did you mean data.augmentation.crop_size?"),
        ("+optimizer.warmth=3", "optimizer.warmth=3 is not a setting. There are lr, weight_decay, maximize"),
        ("+callbacks.mine.x=1", "callbacks.mine={'x': 1} has no _target_. Choose one of conf/ for it"),
        (
            "data.augmentation=5",
            "data.augmentation=5 is not a group of settings. Leave it out, or set data.augmentation",
        ),
        ("paths=5", "paths=5 is not a group of settings"),
        ("data.batch_size=two", "data.batch_size=two is not a number. Give a whole number from 1 to 4096"),
        ("data.turn=null", "data.turn=null is not a setting"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_meant(override: str, said: str) -> None:
    config = compose("data.root=x", "paths.run_dir=x")
    key, value = override.lstrip("+").split("=")
    settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    node: Any = settings
    *path, last = key.split(".")
    for part in path:
        node = node.setdefault(part, {})
    node[last] = OmegaConf.create(f"v: {value}").v
    (wrong,) = wrong_settings(settings)
    assert said in f"{wrong.key}={wrong.value} {wrong.problem}. {wrong.cure}"


def test_a_float_where_a_whole_number_belongs_is_marked() -> None:
    settings = resolved("data.root=x")
    settings["trainer"]["max_steps"] = 1e3
    settings["data"]["batch_size"] = 1.5
    assert {each.key: each.whole for each in wrong_settings(settings)} == {
        "trainer.max_steps": True,
        "data.batch_size": False,
    }


def test_keys_of_texts() -> None:
    single, several = text_keys()
    assert {"data.root", "ckpt", "init", "knowledge", "name", "model.weights", "callbacks.monitor"} <= single
    assert not {"seed", "data.batch_size", "data.label_map"} & single
    assert {"runs", "experiments", "logger.tags"} <= several
    assert {*single, *several} <= all_keys()
