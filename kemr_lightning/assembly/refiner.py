"""``knowledge=FILE``: put Neural Knowledge DNA in the place of the configured refiner."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from kemr_lightning.core.errors import UserError
from kemr_lightning.refinement.dense_crf import DEFAULT_TOLERANCE, CRFParams
from kemr_lightning.refinement.knowing_refiner import KnowingRefiner
from kemr_lightning.refinement.knowledge import Knowledge

logger = logging.getLogger(__name__)

CRF_KEYS = tuple(CRFParams.__dataclass_fields__)
RUN_KEYS = ("engine", "tolerance")


def refiner_from_file(
    path: str | Path,
    explicit: Mapping[str, Any] | None = None,
    engine: str = "torch",
    tolerance: float = DEFAULT_TOLERANCE,
) -> KnowingRefiner:
    """A refiner that uses a knowledge file.

    Args:
        path: The file.
        explicit: CRF parameters that replace those of every action.
        engine: Of the CRF.
        tolerance: Of the CRF.

    Returns:
        The refiner.

    Raises:
        UserError: The file cannot be used.
    """
    knowledge = Knowledge.load(path)
    if explicit:
        actions = tuple(replace(action, params=replace(action.params, **explicit)) for action in knowledge.actions)
        knowledge = replace(knowledge, actions=actions)
    return KnowingRefiner(knowledge, engine, tolerance)


def use_knowledge(config: DictConfig, checkpoint: str | Path | None) -> None:
    """Replace ``config.refine`` by the knowledge that ``config.knowledge`` names, if it names one.

    What was given as ``refine.*`` on the command line wins, with a notice; ``refine=none`` there wins altogether.

    Args:
        config: The composed configuration, changed in place.
        checkpoint: The model in use, compared with the one the knowledge was learned for; None compares nothing.

    Raises:
        UserError: The file cannot be used.
    """
    if config.get("knowledge") is None:
        return
    path = Path(config.knowledge)
    knowledge = Knowledge.load(path)
    given = _overrides()
    if "refine=none" in given:
        logger.warning("refine=none was given and wins over knowledge=%s: masks are not refined", path)
        return
    if checkpoint is not None:
        knowledge.warn_unless_from(checkpoint)
    settings = OmegaConf.to_container(config.refine, resolve=True) if config.get("refine") is not None else {}
    assert isinstance(settings, dict)
    named = {override.split("=", 1)[0].lstrip("+") for override in given}
    explicit = {key: settings[key] for key in CRF_KEYS if f"refine.{key}" in named and key in settings}
    if explicit:
        shown = ", ".join(f"refine.{key}={value}" for key, value in explicit.items())
        logger.warning("%s was given and wins over knowledge=%s", shown, path)
    for key in ("margin", "outside"):
        if f"refine.{key}" in named:
            raise UserError(f"refine.{key} is part of what knowledge={path} was learned with. Leave one of the two out")
    node = {
        "_target_": "kemr_lightning.assembly.refiner.refiner_from_file",
        "path": str(path),
        "explicit": explicit,
        **{key: settings[key] for key in RUN_KEYS if key in settings},
    }
    with open_dict(config):
        config.refine = node


def _overrides() -> Sequence[str]:
    """What was given on the command line (or by a sweep), nothing when not started through Hydra."""
    if not HydraConfig.initialized():
        return ()
    return list(HydraConfig.get().overrides.task)
