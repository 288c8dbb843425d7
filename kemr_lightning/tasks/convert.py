"""``task=convert``: a data set in another annotation format."""

from __future__ import annotations

import functools
import logging

from omegaconf import DictConfig, OmegaConf

from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.settings import read_settings
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.core.overrides import shell_word
from kemr_lightning.data.convert import Converted, ConvertSettings, convert_dataset
from kemr_lightning.data.formats import FORMATS, written
from kemr_lightning.tasks.progress import track
from kemr_lightning.tasks.start import start

logger = logging.getLogger(__name__)

_KEYS = {
    "root": "data.root",
    "data_format": "data.format",
    "label_map": "data.label_map",
    "target": "convert.to",
}
"""Where the arguments of a conversion stand in the configuration."""


def convert(config: DictConfig) -> None:
    """Write a data set in another format into a folder of the run directory with the format's name.

    Args:
        config: The composed configuration. ``data.root`` and ``data.format`` say what to convert.

    Raises:
        UserError: Something in the configuration or the data set has to be corrected.
    """
    directory = start(config)
    if isinstance(config.convert, DictConfig) and OmegaConf.is_missing(config.convert, "to"):
        raise UserError(f"task=convert needs the format to write. Give convert.to={' or convert.to='.join(written())}")
    settings = read_settings(config, "convert", ConvertSettings)
    data = DataFolder.of(config)
    root = data.needed("task=convert works on a folder")
    with settings_under("", **_KEYS):
        converted = convert_dataset(
            root,
            data.data_format,
            settings.to,
            directory / settings.to,
            options=settings.options(),
            label_map=data.label_map if settings.relabel else None,
            regions=data.regions,
            reading=data.reading,
            progress=functools.partial(track, description="Converting"),
        )
    _tell(converted, settings.to)


def _tell(converted: Converted, target: str) -> None:
    """Log what was written and how to use it."""
    logger.info("%d images with %d chromosomes: %s", converted.images, converted.instances, converted.folder)
    if converted.lost:
        logger.warning("%d annotations cover no pixel of their image, left out", converted.lost)
    if converted.boxes and converted.boxes_become_masks:
        logger.warning(
            "%d annotations have a box and no mask. They are rectangles now, which count as masks: outline the "
            "chromosomes before training.",
            converted.boxes,
        )
    key = "data" if FORMATS[target].config is not None else "data.format"
    words = shell_word(key, FORMATS[target].config or target), shell_word("data.root", converted.folder)
    logger.info("to use it: %s %s", *words)
