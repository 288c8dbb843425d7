"""``task=convert``: a data set from Labelme to COCO or back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich import get_console
from rich.progress import track

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.convert import convert_dataset
from kemr_lightning.data.dataset import Record
from kemr_lightning.tasks.start import start

logger = logging.getLogger(__name__)


def convert(config: DictConfig) -> None:
    """Write a data set in another format into the run directory: ``coco/`` or ``labelme/``.

    Args:
        config: The composed configuration. ``data.root`` and ``data.format`` say what to convert.

    Raises:
        UserError: Something in the configuration or the data set has to be mended.
    """
    if OmegaConf.is_missing(config.convert, "to"):
        raise UserError("task=convert needs the format to write. Give convert.to=coco or convert.to=labelme")
    directory = start(config)
    if config.data.get("root") is None:
        raise UserError("task=convert works on a folder. Name it: data=labelme data.root=DIR")
    settings = config.convert
    label_map = config.data.label_map if settings.relabel else None
    converted = convert_dataset(
        Path(config.data.root),
        config.data.get("format", "labelme"),
        settings.to,
        directory / str(settings.to),
        shape_type=settings.shape_type,
        min_iou=settings.min_iou,
        label_map=OmegaConf.to_container(label_map) if OmegaConf.is_config(label_map) else label_map,  # type: ignore[arg-type]
        progress=_progress,
    )
    logger.info("%d images with %d chromosomes: %s", converted.images, converted.instances, converted.folder)
    if converted.lost:
        logger.warning("%d annotations cover no pixel of their image, left out", converted.lost)
    if converted.boxes and settings.to == "labelme":
        logger.warning(
            "%d annotations have a box and no mask. They are rectangles now, which count as masks: outline the "
            "chromosomes before training.",
            converted.boxes,
        )
    logger.info("to use it: data=%s data.root=%s", settings.to, converted.folder)


def _progress(records: Sequence[tuple[str, Record]]) -> Iterable[tuple[str, Record]]:
    console = get_console()
    return track(records, "Converting", console=console, disable=not console.is_terminal)
