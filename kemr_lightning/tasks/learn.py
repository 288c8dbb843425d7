"""``task=learn``: learn Neural Knowledge DNA from a checkpoint's masks of images it was not trained on."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kemr_lightning.data.dataset import SampleDataset
from kemr_lightning.data.split import group_of
from kemr_lightning.errors import UserError
from kemr_lightning.learning.examples import Case
from kemr_lightning.learning.learn import Lesson
from kemr_lightning.learning.learn import learn as learn_from
from kemr_lightning.module import SegmentationModule
from kemr_lightning.output.files import write_text
from kemr_lightning.output.knowledge_figures import draw_fits, draw_states
from kemr_lightning.refinement.knowledge import file_digest
from kemr_lightning.tasks import setup

logger = logging.getLogger(__name__)

KNOWLEDGE_FILE = "knowledge.safetensors"


def learn(config: DictConfig) -> float:
    """Learn and write ``knowledge.safetensors``, its description, curves and figures into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the folder it was trained on.

    Returns:
        The mean IoU that the knowledge gains out of sample.

    Raises:
        UserError: Something in the configuration, the checkpoint or the data has to be mended.
    """
    directory = setup.start(config)
    if config.learn.source not in ("val", "train"):
        raise UserError(f"learn.source={config.learn.source!r} is unknown. Use val or train")
    checkpoint = setup.find_checkpoint(config)
    module = setup.trained_module(config)
    data = setup.build_data(config, "fit", module.label_names)
    samples = _samples(data, config.learn.source)
    if config.learn.source == "train":
        logger.warning("learn.source=train: the model knows these images, its masks of others will be worse")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        cases = _predict(module, samples, str(config.data.get("group_pattern", "(.*)")), bar)
        bars: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = bar.add_task(stage, total=total)
            bar.update(bars[stage], completed=done, total=total)

        assert checkpoint is not None
        origin = {
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": file_digest(checkpoint),
            "data": f"{Path(str(config.data.get('root', 'synthetic'))).name}, {config.learn.source} images",
        }
        lesson = learn_from(cases, hydra.utils.instantiate(config.learn.settings), origin, tell)
    _write(lesson, directory)
    figures = lesson.figures["experiences"]
    return figures["iou_after"] - figures["iou_before"]


def _samples(data: setup.DataModule, source: str) -> Any:
    """Whole, unaugmented samples of a part."""
    part = data.val if source == "val" else data.train
    if part is None or len(part) == 0:
        raise UserError("task=learn found no images to learn from. Check data.root")
    if isinstance(part, SampleDataset):
        return SampleDataset(part.records, part.label_names)
    return part


@torch.no_grad()
def _predict(module: SegmentationModule, samples: Any, group_pattern: str, bar: Progress) -> list[Case]:
    """The model's instances of every annotated image."""
    module.eval()
    device = setup.best_device()
    module.to(device)
    names: dict[str, int] = {}
    cases = []
    for index in bar.track(range(len(samples)), description="initial masks"):
        sample = samples[index]
        if sample.instances is None or sample.instances.patches is None:
            raise UserError(f"{sample.name} has no masks to learn from. task=learn needs outlines, not boxes")
        (initial,) = module.predict_step([sample.to(device)], index)
        group = names.setdefault(group_of(sample.name, group_pattern), len(names))
        cases.append(Case(sample.image, initial.to("cpu"), sample.instances, group))
    if module.store is not None:
        module.store.tell()
    return cases


def _write(lesson: Lesson, directory: Path) -> None:
    path = directory / KNOWLEDGE_FILE
    lesson.knowledge.save(path)
    description = lesson.knowledge.describe()
    write_text(directory / "knowledge.txt", description + "\n")
    write_text(directory / "learn.json", json.dumps(lesson.figures, indent=1) + "\n")
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["part", "start_or_fold", "step", "loss", "iou"])
    rows.writerows(["evidence", fold, epoch, loss, ""] for fold, epoch, loss in lesson.evidence_curve)
    for name, fits in lesson.fits.items():
        rows.writerows([name, rank, *point] for rank, fit in enumerate(fits) for point in fit.history)
    write_text(directory / "learn.csv", table.getvalue())
    draw_fits(lesson.fits, lesson.evidence_curve, directory / "figures" / "learning.png")
    if lesson.knowledge.experiences is not None:
        names = [action.name for action in lesson.knowledge.actions]
        draw_states(lesson.knowledge.experiences, names, directory / "figures" / "states.png")
    logger.info("%s", description)
    for name, values in lesson.figures.items():
        logger.info(
            "%s, out of sample: mean IoU %.4f -> %.4f, %.1f %% gain more than 0.02, %.1f %% lose more",
            name,
            values["iou_before"],
            values["iou_after"],
            100 * values["gained"],
            100 * values["lost"],
        )
    logger.info("use it: python run.py task=test ckpt=FILE knowledge=%s data.root=DIR", path)
