"""What refines the masks: the configured CRF, or the Neural Knowledge DNA that ``knowledge=FILE`` puts in its place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import hydra
from omegaconf import DictConfig

from kemr_lightning.assembly.settings import given_overrides, plain
from kemr_lightning.core.contracts import MaskRefiner
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.core.overrides import key_of
from kemr_lightning.refinement.dense_crf import DEFAULT_TOLERANCE, CRFParams
from kemr_lightning.refinement.engines import DEFAULT_ENGINE
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner

logger = logging.getLogger(__name__)

CRF_KEYS = tuple(CRFParams.__dataclass_fields__)
LEARNED_WITH = ("margin", "outside")
"""Settings of a refiner that belong to the knowledge and cannot be chosen beside it."""


def build_refiner(config: DictConfig, checkpoint: str | Path | None = None) -> MaskRefiner | None:
    """Build what refines the masks.

    With ``knowledge``, what was given as ``refine.*`` on the command line takes precedence over it, with a notice;
    ``refine=none`` there overrides it altogether.

    Args:
        config: The composed configuration: its ``knowledge``, or else its ``refine``.
        checkpoint: The model in use, compared with the one the knowledge was learned for; None compares nothing.

    Returns:
        The refiner, or None for no refinement.

    Raises:
        UserError: The knowledge file or a parameter is wrong.
    """
    given = given_overrides()
    if config.get("knowledge") is not None and "refine=none" not in given:
        return _knowing_refiner(config, checkpoint, {key_of(word) for word in given})
    if config.get("knowledge") is not None:
        Knowledge.load(config.knowledge)  # a file that is wrong is said to be so, used or not
        logger.warning("refine=none was given and overrides knowledge=%s: masks are not refined", config.knowledge)
    if config.refine is None:
        return None
    with settings_under("refine"):
        return cast(MaskRefiner, hydra.utils.instantiate(config.refine))


def _knowing_refiner(config: DictConfig, checkpoint: str | Path | None, named: set[str]) -> KnowledgeRefiner:
    """The refiner of ``knowledge``, with what the command line has named of ``refine``."""
    path = Path(config.knowledge)
    knowledge = Knowledge.load(path)
    if checkpoint is not None:
        knowledge.warn_unless_from(checkpoint)
    settings = _settings(config)
    for key in LEARNED_WITH:
        if f"refine.{key}" in named:
            raise UserError(f"refine.{key} is part of what knowledge={path} was learned with. Leave one of the two out")
    explicit = explicit_parameters(config)
    if explicit:
        shown = ", ".join(f"refine.{key}={value}" for key, value in explicit.items())
        logger.warning("%s was given and overrides knowledge=%s", shown, path)
        with settings_under("refine"):
            knowledge = with_parameters(knowledge, explicit)
    with settings_under("refine"):
        return KnowledgeRefiner(
            knowledge, settings.get("engine", DEFAULT_ENGINE), float(settings.get("tolerance", DEFAULT_TOLERANCE))
        )


def explicit_parameters(config: DictConfig) -> dict[str, Any]:
    """The CRF parameters that the command line names, and their values.

    Args:
        config: The composed configuration.
    """
    named, settings = {key_of(word) for word in given_overrides()}, _settings(config)
    return {key: settings[key] for key in CRF_KEYS if f"refine.{key}" in named and key in settings}


def with_parameters(knowledge: Knowledge, explicit: Mapping[str, Any]) -> Knowledge:
    """The same knowledge with some CRF parameters replaced in every action.

    Args:
        knowledge: What was learned.
        explicit: Fields of `CRFParams`.

    Raises:
        UserError: A parameter is out of range.
    """
    actions = tuple(replace(action, params=replace(action.params, **explicit)) for action in knowledge.actions)
    return replace(knowledge, actions=actions)


def _settings(config: DictConfig) -> dict[str, Any]:
    if config.get("refine") is None:
        return {}
    return {str(key): value for key, value in plain(config.refine).items()}
