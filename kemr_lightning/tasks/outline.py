"""``task=outline``: outlines for a data set of boxes."""

from __future__ import annotations

import functools
import logging
from dataclasses import fields

from omegaconf import DictConfig
from torch import Tensor

from kemr_lightning.assembly.checkpoints import needed_checkpoint
from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.device import device_of
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.assembly.settings import check_keys
from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.core.instances import Instances
from kemr_lightning.core.overrides import shell_word
from kemr_lightning.core.run_directory import OUTLINED
from kemr_lightning.outlining.outline_dataset import Outlined, Predict, outline_dataset
from kemr_lightning.outlining.settings import OutlineSettings
from kemr_lightning.prediction.inference import Model, usual_tiling
from kemr_lightning.tasks.progress import track
from kemr_lightning.tasks.start import start
from kemr_lightning.training.checkpoint import load_module

logger = logging.getLogger(__name__)

_KEYS = {"root": "data.root", "data_format": "data.format", "label_map": "data.label_map"}


def outline(config: DictConfig) -> None:
    """Write a data set of boxes with outlines into a folder of the run directory.

    Args:
        config: The composed configuration. ``data`` says what to outline, ``ckpt`` with which model.

    Raises:
        UserError: Something in the configuration or the data set has to be corrected.
    """
    directory = start(config)
    names = [field.name for field in fields(OutlineSettings)]
    given = check_keys(config, "outline", ["model", *names])
    use_model = given.pop("model", True)
    if not isinstance(use_model, bool):
        raise SettingError("outline.model", use_model, "is neither true nor false", "Use one of them")
    with settings_under("outline"):
        settings = OutlineSettings(**given)
    data = DataFolder.of(config)
    root = data.needed("task=outline works on a folder")
    predict = _predictor(config) if use_model else None
    with settings_under("", **_KEYS):
        outlined = outline_dataset(
            root,
            data.data_format,
            directory / OUTLINED,
            data.label_map,
            predict,
            settings,
            functools.partial(track, description="Outlining"),
        )
    _tell(outlined)


def _predictor(config: DictConfig) -> Predict:
    """The model, with its refinement."""
    checkpoint = needed_checkpoint(config)
    module = load_module(checkpoint)
    module.look_in(config.views)
    model = Model(module, build_refiner(config, checkpoint), usual_tiling(module)).to(device_of(config))

    def predict(pixels: Tensor) -> Instances:
        return model(pixels).final

    return predict


def _tell(outlined: Outlined) -> None:
    """Log what was outlined and how to use it."""
    boxes = outlined.instances - outlined.by_stain - outlined.by_model - outlined.before
    logger.info(
        "%d images with %d chromosomes: %d outlined by their stain, %d by the model, %d left as tight boxes: %s",
        outlined.images,
        outlined.instances,
        outlined.by_stain,
        outlined.by_model,
        boxes,
        outlined.folder,
    )
    words = ["data=coco", shell_word("data.root", outlined.folder)]
    logger.info("to train on it: python run.py experiment=kemr_tiny %s", " ".join(words))
