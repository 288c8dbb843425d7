"""What to know about the annotations before a training or test: regions to ignore, groups, and how many count."""

from __future__ import annotations

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.regions import brush_masks, far_apart

logger = logging.getLogger(__name__)

SCORED = "metric.max_detections"
"""The setting of how many detections of an image and class AP counts."""


def found_key(config: DictConfig) -> str:
    """The setting of how many detections of an image the configured model gives."""
    return "model.heads.detections" if "heads" in config.model else "model.detections"


def scored_limit(config: DictConfig) -> int | None:
    """How many detections of an image and class AP counts; None if the metric has no such setting."""
    return _number(OmegaConf.select(config, SCORED))


def found_limit(config: DictConfig) -> int | None:
    """How many detections of an image the configured model gives; None if its settings do not say."""
    return _number(OmegaConf.select(config, found_key(config)))


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def tell_of_limits(config: DictConfig, data: Any, most_found: int, key: str | None = None) -> None:
    """Warn of images with more annotated instances than are scored, or than the model finds.

    Args:
        config: The composed configuration.
        data: The data module, set up; data that are made are not checked.
        most_found: How many detections of an image the model gives.
        key: The setting of this number; None if the model is trained already and cannot be changed.
    """
    if not isinstance(data, SegmentationDataModule):
        return
    counts = {
        record.name: sum(not annotation.crowd for annotation in record.annotations or ())
        for part in (data.train, data.val, data.test)
        if part is not None
        for record in part.records
    }
    if not counts:
        return
    name = max(counts, key=lambda each: counts[each])
    scored = scored_limit(config)
    if scored is not None and counts[name] > scored:
        logger.warning(
            "%s has %d instances, and AP counts %d detections of an image: perfect predictions would not score 100. "
            "%s=%d counts all",
            *(name, counts[name], scored, SCORED, counts[name]),
        )
    if counts[name] > most_found:
        cure = "Train one with more" if key is None else f"{key}={2 * counts[name]} lets it find more"
        logger.warning(
            "%s has %d instances, and the model finds at most %d in an image. %s", name, counts[name], most_found, cure
        )


def tell_of_regions(data: Any) -> None:
    """Say what is annotated and no instance, and warn of what is probably meant otherwise.

    Args:
        data: The data module, set up; data that are made are not checked.
    """
    if not isinstance(data, SegmentationDataModule):
        return
    for part in ("train", "val", "test"):
        dataset = getattr(data, part)
        annotations = [a for record in (dataset.records if dataset else ()) for a in record.annotations or ()]
        crowds = sum(annotation.crowd for annotation in annotations)
        if crowds:
            logger.info("%s: %d annotations are regions to ignore: nothing in them is learned or scored", part, crowds)
        if drawn := brush_masks(annotations):
            logger.warning(
                "%s: %d of %d annotations are crowds (iscrowd=1) but look like single chromosomes, as CVAT exports "
                "masks drawn with its brush. If they are, data.crowds=instances keeps them",
                *(part, drawn, len(annotations)),
            )
        joined = [a for a in annotations if a.group_id is not None and len(a.polygons) + len(a.patches) > 1]
        if far := sum(far_apart(annotation) is not None for annotation in joined):
            logger.warning(
                "%s: in %d of %d groups the shapes lie far apart. A group_id joins shapes to one chromosome; if it "
                "stands for pairs of homologous ones, data.groups=separate takes each shape by itself",
                *(part, far, len(joined)),
            )
