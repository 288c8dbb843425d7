"""``task=learn``: learn Neural Knowledge DNA from a checkpoint's masks of annotated images."""

from __future__ import annotations

import logging
from functools import partial

from omegaconf import DictConfig

from kemr_lightning.assembly.build import build_data, trained_module, whole_samples
from kemr_lightning.assembly.checkpoints import needed_checkpoint
from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.device import device_of
from kemr_lightning.assembly.settings import check_keys, read_settings
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.core.overrides import override, shell_word
from kemr_lightning.core.run_directory import KNOWLEDGE
from kemr_lightning.learning.learn import OneGroupError
from kemr_lightning.learning.learn import learn as learn_from
from kemr_lightning.learning.learning_source import choose_source
from kemr_lightning.learning.lesson_files import write_lesson
from kemr_lightning.learning.masked_images import gather_masked_images
from kemr_lightning.learning.settings import PARTS, LearnSettings
from kemr_lightning.tasks.progress import Stages
from kemr_lightning.tasks.start import start
from kemr_lightning.training.provenance import provenance

logger = logging.getLogger(__name__)


def learn(config: DictConfig) -> float:
    """Learn, and write ``knowledge.safetensors``, its description, curves and figures into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the folder it was trained on.

    Returns:
        The mean IoU that the knowledge gains on the learning images.

    Raises:
        UserError: Something in the configuration, the checkpoint or the data has to be fixed.
    """
    directory = start(config)
    settings = settings_of(config)
    checkpoint = needed_checkpoint(config)
    module = trained_module(config, checkpoint)
    data = build_data(config, "fit", module.label_names)
    samples = {part: whole_samples(data, part) for part in PARTS[settings.source]}
    folder = DataFolder.of(config)
    device = device_of(config)
    with Stages() as stages:
        with settings_under("data"):
            parts = {
                part: gather_masked_images(
                    module,
                    images,
                    device,
                    folder.group_pattern,
                    partial(stages.track, stage=f"initial masks of {part} images"),
                )
                for part, images in samples.items()
            }
        source = choose_source(settings.source, parts)
        origin = provenance(checkpoint, folder.name, source.name)
        try:
            lesson = learn_from(source, settings, origin, stages.tell)
        except OneGroupError as error:
            raise UserError(f"{error}: {override('data.group_pattern', folder.group_pattern)}") from error
    write_lesson(lesson, directory)
    knowledge = shell_word("knowledge", directory / KNOWLEDGE)
    logger.info("use it: python run.py task=test ckpt=FILE %s data.root=DIR", knowledge)
    return lesson.gain


def settings_of(config: DictConfig) -> LearnSettings:
    """The settings that ``learn`` and ``learn.settings`` give.

    Args:
        config: The composed configuration.

    Raises:
        SettingError: A setting is unknown or out of range.
    """
    check_keys(config, "learn", ("source", "settings"))
    with settings_under("", source="learn.source"):
        return read_settings(config, "learn.settings", LearnSettings, source=str(config.learn.source))
