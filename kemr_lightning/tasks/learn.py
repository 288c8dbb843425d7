"""``task=learn``: learn Neural Knowledge DNA from a checkpoint's masks of images it was not trained on."""

from __future__ import annotations

import csv
import io
import json
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import hydra
import torch
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kemr_lightning.data.split import group_of
from kemr_lightning.errors import UserError
from kemr_lightning.learning.examples import Case, examples_of
from kemr_lightning.learning.learn import Lesson
from kemr_lightning.learning.learn import learn as learn_from
from kemr_lightning.module import SegmentationModule
from kemr_lightning.output.files import write_text
from kemr_lightning.output.knowledge_figures import draw_fits, draw_states
from kemr_lightning.refinement.knowledge import file_digest
from kemr_lightning.tasks import setup

logger = logging.getLogger(__name__)

SOURCES = {"val": ("val",), "train": ("train",), "all": ("val", "train")}
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
    if config.learn.source not in SOURCES:
        raise UserError(f"learn.source={config.learn.source!r} is unknown. Use one of {', '.join(SOURCES)}")
    checkpoint = setup.find_checkpoint(config)
    module = setup.trained_module(config)
    data = setup.build_data(config, "fit", module.label_names)
    parts = {part: setup.whole_samples(data, part) for part in SOURCES[config.learn.source]}
    if config.learn.source != "val":
        logger.warning(
            "learn.source=%s: the model was trained on these images, its masks of others may be worse; compare the "
            "parts' mean IoU in learn.json",
            config.learn.source,
        )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        pattern = str(config.data.get("group_pattern", "(.*)"))
        cases = [case for samples in parts.values() for case in _predict(module, samples, pattern, bar)]
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
    lesson.figures |= _part_figures({part: len(samples) for part, samples in parts.items()}, cases)
    _write(lesson, directory)
    figures = lesson.figures["experiences"]
    return figures["iou_after"] - figures["iou_before"]


@torch.no_grad()
def _predict(module: SegmentationModule, samples: Any, group_pattern: str, bar: Progress) -> list[Case]:
    """The model's instances of every annotated image."""
    module.eval()
    device = setup.best_device()
    module.to(device)
    cases = []
    for index in bar.track(range(len(samples)), description="initial masks"):
        sample = samples[index]
        if sample.instances is None or sample.instances.patches is None:
            raise UserError(f"{sample.name} has no masks to learn from. task=learn needs outlines, not boxes")
        (initial,) = module.predict_step([sample.to(device)], index)
        group = group_of(PurePosixPath(sample.name).stem, group_pattern)
        cases.append(Case(sample.image, initial.to("cpu"), sample.instances, zlib.crc32(group.encode())))
    if module.store is not None:
        module.store.tell()
    return cases


def _part_figures(counts: dict[str, int], cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """Mean IoU of the initial masks of each part: equal where the model has not learned its images by heart."""
    figures, start = {}, 0
    for part, count in counts.items():
        ious = [
            example.iou(example.crop.crop(example.crop.prob))
            for example in examples_of(cases[start : start + count], 0)
        ]
        figures[f"initial masks of {part} images"] = {"images": count, "iou_before": sum(ious) / max(1, len(ious))}
        start += count
    return figures


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
        if "iou_after" not in values:
            logger.info("%s: mean IoU %.4f", name, values["iou_before"])
            continue
        logger.info(
            "%s, out of sample: mean IoU %.4f -> %.4f, %.1f %% gain more than 0.02, %.1f %% lose more",
            name,
            values["iou_before"],
            values["iou_after"],
            100 * values["gained"],
            100 * values["lost"],
        )
    logger.info("use it: python run.py task=test ckpt=FILE knowledge=%s data.root=DIR", path)
