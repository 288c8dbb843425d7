"""The device that a configuration asks for."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from kemr_lightning.core.errors import SettingError


def device_of(config: DictConfig) -> torch.device:
    """The device that ``trainer.accelerator`` stands for; the first one, whatever ``trainer.devices`` says.

    Args:
        config: The composed configuration.

    Raises:
        SettingError: There is no such accelerator.
    """
    try:
        trainer = pl.Trainer(
            accelerator=config.trainer.accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError) as error:
        raise SettingError(
            "trainer.accelerator", config.trainer.accelerator, f"cannot be had ({error})", "auto takes what there is"
        ) from error
    device: torch.device = trainer.strategy.root_device
    return device
