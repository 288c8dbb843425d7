"""``task=convert``: a data set in another annotation format."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.convert import Converted, convert_dataset
from kemr_lightning.data.formats import DEFAULT, FORMATS
from kemr_lightning.data.labels import LabelMap
from kemr_lightning.tasks.progress import track
from kemr_lightning.tasks.start import start

logger = logging.getLogger(__name__)

_KEYS = {
    "root": "data.root",
    "data_format": "data.format",
    "label_map": "data.label_map",
    "target": "convert.to",
    "shape_type": "convert.shape_type",
    "min_iou": "convert.min_iou",
}
"""Where the settings of a conversion stand in the configuration."""


@dataclass(frozen=True)
class ConvertSettings:
    """What to convert, and into what.

    Attributes:
        root: The data folder.
        data_format: Name of its format.
        target: Name of the format to write.
        options: How masks are written.
        label_map: Renames the labels; None keeps them.
    """

    root: Path
    data_format: str
    target: str
    options: WriteOptions
    label_map: LabelMap

    @classmethod
    def of(cls, config: DictConfig) -> ConvertSettings:
        """The settings of a configuration.

        Raises:
            UserError: The format to write or the data folder is not given, or a value is wrong.
        """
        settings = config.convert
        if OmegaConf.is_missing(settings, "to"):
            raise UserError(
                f"task=convert needs the format to write. Give convert.to={' or convert.to='.join(FORMATS)}"
            )
        if config.data.get("root") is None:
            raise UserError("task=convert works on a folder. Name it: data=labelme data.root=DIR")
        label_map = config.data.get("label_map") if settings.relabel else None
        return cls(
            root=Path(config.data.root),
            data_format=config.data.get("format", DEFAULT),
            target=str(settings.to),
            options=WriteOptions(settings.shape_type, settings.min_iou),
            label_map=OmegaConf.to_container(label_map) if OmegaConf.is_config(label_map) else label_map,  # type: ignore[arg-type]
        )


def convert(config: DictConfig) -> None:
    """Write a data set in another format into a folder of the run directory with the format's name.

    Args:
        config: The composed configuration. ``data.root`` and ``data.format`` say what to convert.

    Raises:
        UserError: Something in the configuration or the data set has to be corrected.
    """
    directory = start(config)
    with settings_under("", **_KEYS):
        settings = ConvertSettings.of(config)
        converted = convert_dataset(
            settings.root,
            settings.data_format,
            settings.target,
            directory / settings.target,
            options=settings.options,
            label_map=settings.label_map,
            progress=functools.partial(track, description="Converting"),
        )
    _tell(converted, settings.target)


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
    logger.info("to use it: %s=%s data.root=%s", key, FORMATS[target].config or target, converted.folder)
