"""What every task does first: seed, check what all tasks need, and write the resolved configuration."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.assembly.written_labels import settle_labels
from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import write_text
from kemr_lightning.core.run_directory import CONFIG


def start(config: DictConfig) -> Path:
    """Seed every generator, check what every task needs and write the resolved configuration.

    Args:
        config: The composed configuration.

    Returns:
        The run directory.

    Raises:
        UserError: ``data.root`` is not given, or another setting of ``data`` is wrong.
    """
    settle_labels(config)
    if OmegaConf.is_missing(config.data, "root") or ("root" in config.data and config.data.root is None):
        raise UserError(
            "data.root is not given. Name the folder of images and annotations (data.root=DIR), or use data=synthetic"
        )
    pl.seed_everything(config.seed, workers=True, verbose=False)
    directory = Path(config.paths.run_dir)
    if is_first():
        write_text(directory / CONFIG, OmegaConf.to_yaml(config, resolve=True))
    return directory
