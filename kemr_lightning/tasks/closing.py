"""What a task prints at its end: the results, where everything is and how to continue."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.settings import plain
from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.overrides import override
from kemr_lightning.data.formats import DEFAULT, FORMATS
from kemr_lightning.output.run_summary import print_summary
from kemr_lightning.tasks.next_steps import Finished, next_steps


def report(config: DictConfig, directory: Path, checkpoint: Path | None, classes: int = 1) -> None:
    """Print the results, where everything is and how to continue.

    Args:
        config: The composed configuration.
        directory: The run directory.
        checkpoint: The model to continue with, or None if the run has left none.
        classes: Number of classes that the model knows.
    """
    if not is_first():
        return
    # Without an experiment the configuration's model is the small one.
    experiment = config.name if config.name not in ("run", "demo") else "kemr_tiny"
    root, words = DataFolder.of(config).root, data_words(config)
    finished = Finished(config.task.name, directory, checkpoint, root, experiment, classes, words)
    print_summary(directory, next_steps(finished))


def data_words(config: DictConfig) -> list[str]:
    """The words of a command line that name the data a run has worked on.

    Args:
        config: The composed configuration.
    """
    folder, data = DataFolder.of(config), config.data
    if folder.root is None:
        keys = ("look", "size", "count", "train_images", "val_images", "test_images")
        given = {key: plain(data.get(key)) for key in keys if data.get(key) is not None}
        return ["data=synthetic", *(override(f"data.{key}", value) for key, value in given.items())]
    words = [override("data.root", folder.root)]
    if folder.data_format == DEFAULT:
        return words
    option = FORMATS[folder.data_format].config
    return [override("data.format", folder.data_format) if option is None else override("data", option), *words]
