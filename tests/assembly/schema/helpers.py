"""Configurations for tests of the schema: composed once, with values set in them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from tests.conftest import CONF, compose


@lru_cache
def _composed(groups: tuple[str, ...]) -> DictConfig:
    return compose("paths.run_dir=x", *groups)


def settings(overrides: str) -> dict[str, Any]:
    """The configuration of a command line as plain values.

    Args:
        overrides: Words with blanks between them: choices of groups, then values.
    """
    words = overrides.split()
    groups = tuple(word for word in words if (CONF / word.split("=")[0]).is_dir())
    config = _composed(groups).copy()
    parser = OverridesParser.create()
    for word in words:
        if word not in groups:
            parsed = parser.parse_override(word)
            with open_dict(config):
                OmegaConf.update(config, parsed.key_or_group, _plain(parsed.value()), merge=False, force_add=True)
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return getattr(value, "text", value)
