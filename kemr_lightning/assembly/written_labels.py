"""Label names as they were written on the command line, where Hydra has made numbers and truth values of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antlr4 import CommonTokenStream, InputStream  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser
from omegaconf import DictConfig, open_dict

from kemr_lightning.assembly.settings import plain
from kemr_lightning.core.errors import settings_under
from kemr_lightning.core.overrides import key_of
from kemr_lightning.data.labels import as_label_map, text_of

KEYS = ("label_map", "ignore_labels")
"""Settings of ``data`` that hold names of labels."""


def settle_labels(config: DictConfig) -> None:
    """Give ``data.label_map`` and ``data.ignore_labels`` the names that were written, and read a file of names.

    The configuration is changed in place, so that everything that reads it, today or from the run directory, sees the
    same names.

    Args:
        config: The composed configuration.

    Raises:
        SettingError: ``data.label_map`` is not a label map.
        UserError: Its file cannot be read.
    """
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    with open_dict(config):
        for key in KEYS:
            words = [word for word in overrides if key_of(word) == f"data.{key}"]
            if words and key in config.data:
                config.data[key] = as_written(plain(config.data[key]), words[-1].partition("=")[2])
        if "root" in config.data and "label_map" in config.data:
            value = plain(config.data.label_map)
            if isinstance(value, str):
                with settings_under("data"):
                    config.data.label_map = as_label_map(value)


def as_written(value: Any, text: str) -> Any:
    """A mapping or list with its names as they stand in an override; anything else as it is.

    Args:
        value: What Hydra has made of the override. Names whose text it shows anyway stay as they are.
        text: The override's value.
    """
    written = _texts(text)
    if isinstance(value, list) and isinstance(written, list) and len(value) == len(written):
        return [_name(one, other) for one, other in zip(value, written, strict=True)]
    if isinstance(value, Mapping) and isinstance(written, Mapping):
        if len(written) > len(value):  # Python takes 1, 1.0 and true for one key
            return written
        if len(written) < len(value):  # only a part of the mapping is from this override
            return value
        pairs = zip(value.items(), written.items(), strict=True)
        return {_name(old, old_text): _name(new, new_text) for (old, new), (old_text, new_text) in pairs}
    return value


def _name(value: Any, text: Any) -> Any:
    """The written name, unless the value is null or says the same."""
    return value if value is None or not isinstance(text, str) or text_of(value) == text else text


class _Texts(HydraOverrideVisitor):
    """Hydra's own reading of an override's value, with the text of numbers and truth values instead of them."""

    def _createPrimitive(self, ctx: Any) -> Any:
        value = super()._createPrimitive(ctx)
        if isinstance(value, QuotedString):
            return value.text
        return value if value is None or isinstance(value, str) else ctx.getText().strip()


def _texts(text: str) -> Any:
    """The value of an override with all names as text; None if it cannot be read by itself."""
    listener = HydraErrorListener()
    lexer = OverrideLexer(InputStream(text))
    lexer.mode(OverrideLexer.VALUE_MODE)
    parser = OverrideParser(CommonTokenStream(lexer))
    for part in (lexer, parser):
        part.removeErrorListeners()
        part.addErrorListener(listener)
    try:
        return _Texts(create_functions()).visit(parser.value())  # type: ignore[no-untyped-call]
    except HydraException:
        return None
