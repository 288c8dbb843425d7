"""The commands that a person may want to give after a task, as the task prints them at its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kemr_lightning.core.overrides import override
from kemr_lightning.core.run_directory import LABELME, OFFLINE_RUNS, WANDB
from kemr_lightning.training.weights_file import PRETRAINED, SHIPPED

RUN = ("python", "run.py")

Step = tuple[str, list[str]]
"""What a command is for, and its words."""


@dataclass(frozen=True)
class Finished:
    """A task that has come to its end.

    Attributes:
        task: ``"train"``, ``"test"`` or ``"predict"``.
        directory: The run directory.
        checkpoint: The model to continue with, or None if there is none.
        data_root: The data root, or None for synthetic images.
        experiment: The experiment to train again with.
        classes: Number of classes that the model knows.
        data: The words of a command line that name the data.
    """

    task: str
    directory: Path
    checkpoint: Path | None
    data_root: str | None = None
    experiment: str = "kemr_tiny"
    classes: int = 1
    data: list[str] = field(default_factory=list)


def next_steps(finished: Finished) -> list[Step]:
    """What a person may want to do after a task."""
    if finished.task == "predict":
        return list(_after_prediction(finished))
    return [*_with_the_model(finished), *_with_wandb(finished.directory)]


def _after_prediction(finished: Finished) -> Iterator[Step]:
    folder = finished.directory / LABELME
    if finished.data_root and not folder.is_dir():
        folder = Path(finished.data_root)  # the Labelme files were written beside the images
    again = [*RUN, override("experiment", finished.experiment), override("data.root", folder)]
    if finished.classes > 1:
        again.append("data.label_map=null")
    if finished.checkpoint is not None:
        again.append(override("init", _name_of(finished.checkpoint)))
    yield "open and correct the masks", ["labelme", str(folder)]
    yield "train on the corrected masks", again


def _with_the_model(finished: Finished) -> Iterator[Step]:
    if finished.checkpoint is None:
        return
    model = override("ckpt", _name_of(finished.checkpoint))
    yield "find chromosomes in images of your own", [*RUN, "task=predict", model, "data.root=FOLDER"]
    yield "score the model on other annotations", [*RUN, "task=test", model, "data.root=FOLDER"]
    if finished.task == "train":
        learn = [*RUN, "task=learn", override("experiment", finished.experiment), model, *finished.data]
        sigmas = ["refine.sigma_alpha=2,3,5", "refine.sigma_beta=9,15,26"]
        yield "learn how to refine this model's masks", learn
        yield "try other CRF settings", [*RUN, "-m", "experiment=sigma_sweep", model, *sigmas, *finished.data]


def _name_of(checkpoint: Path) -> str | Path:
    """What a checkpoint is called on the command line."""
    return PRETRAINED if checkpoint == SHIPPED else checkpoint


def _with_wandb(directory: Path) -> Iterator[Step]:
    if not (directory / WANDB).is_dir():
        return
    yield "look at the curves in the terminal", ["wandb", "leet", str(directory / WANDB)]
    runs = sorted((directory / WANDB).glob(OFFLINE_RUNS))
    if runs:
        yield "send the run to your W&B account", ["wandb", "sync", str(runs[-1])]
