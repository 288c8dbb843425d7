"""What a task prints at its end."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.overrides import override
from kemr_lightning.output.run_summary import next_after, print_summary


def report(config: DictConfig, directory: Path, checkpoint: Path | None, classes: int = 1) -> None:
    """Print the results, where everything is and how to go on.

    Args:
        config: The composed configuration.
        directory: The run directory.
        checkpoint: The model to go on with, or None if the run has left none.
        classes: How many the model has.
    """
    if not is_first():
        return
    # Without an experiment the configuration's model is the small one.
    experiment = config.name if config.name not in ("run", "demo") else "kemr_tiny"
    root = config.data.get("root")
    commands = next_after(config.task.name, directory, checkpoint, root, experiment, classes, data_words(config.data))
    print_summary(directory, commands)


def data_words(data: DictConfig) -> list[str]:
    """The words of a command line that name the data a run has worked on.

    Args:
        data: The resolved ``data`` node.
    """
    if data.get("root") is not None:
        return [*(["data=coco"] if data.get("format") == "coco" else []), override("data.root", data.root)]
    named = {key: data.get(key) for key in ("look", "size", "count", "train_images", "val_images", "test_images")}
    given = {key: value for key, value in named.items() if value is not None}
    return ["data=synthetic", *(f"data.{key}={str(value).replace(' ', '')}" for key, value in given.items())]
