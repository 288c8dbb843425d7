"""``task=learn``: learn Neural Knowledge DNA from a checkpoint's masks of images it was not trained on."""

from __future__ import annotations

import csv
import io
import json
import logging
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import hydra
import torch
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kemr_lightning.assembly.build import build_data, trained_module, whole_samples
from kemr_lightning.assembly.checkpoints import find_checkpoint
from kemr_lightning.assembly.device import device_of
from kemr_lightning.core.digests import file_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import write_text
from kemr_lightning.core.run_directory import FIGURES, KNOWLEDGE, KNOWLEDGE_TEXT, LEARN, LEARN_CURVES, LEARNING, STATES
from kemr_lightning.data.split import group_of
from kemr_lightning.learning.examples import Case, examples_of
from kemr_lightning.learning.knowledge_figures import draw_fits, draw_states
from kemr_lightning.learning.learn import Lesson
from kemr_lightning.learning.learn import learn as learn_from
from kemr_lightning.tasks.start import start
from kemr_lightning.training.module import SegmentationModule

logger = logging.getLogger(__name__)

SOURCES = {"val": ("val",), "train": ("train",), "all": ("val", "train"), "auto": ("val", "train")}
ALIKE = 0.01
"""Mean IoU that masks of training images may be ahead of others for ``learn.source=auto`` to learn from both."""

SECONDS_BETWEEN_LINES = 30.0
"""Where the output is no terminal, which shows a bar."""


def learn(config: DictConfig) -> float:
    """Learn and write ``knowledge.safetensors``, its description, curves and figures into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the folder it was trained on.

    Returns:
        The mean IoU that the knowledge gains on the learning images, see `Lesson.figures`.

    Raises:
        UserError: Something in the configuration, the checkpoint or the data has to be mended.
    """
    directory = start(config)
    if config.learn.source not in SOURCES:
        raise UserError(f"learn.source={config.learn.source!r} is unknown. Use one of {', '.join(SOURCES)}")
    checkpoint = find_checkpoint(config)
    module = trained_module(config)
    data = build_data(config, "fit", module.label_names)
    parts = {part: whole_samples(data, part) for part in SOURCES[config.learn.source]}
    if config.learn.source in ("train", "all"):
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
        found = {part: _predict(module, samples, pattern, bar, device_of(config)) for part, samples in parts.items()}
        figures = _part_figures(found)
        source = str(config.learn.source)
        if source == "auto":
            source = _held_out_or_all(figures)
            found = {part: found[part] for part in SOURCES[source]}
        cases = [case for part in found.values() for case in part]
        bars: dict[str, Any] = {}
        last_line = time.monotonic()

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal last_line
            if not bar.console.is_terminal and time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                logger.info("%s: %d of %d", stage, done, total)
            if stage not in bars:
                bars[stage] = bar.add_task(stage, total=total)
            bar.update(bars[stage], completed=done, total=total)

        assert checkpoint is not None
        origin = {
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": file_digest(checkpoint),
            "data": f"{Path(str(config.data.get('root', 'synthetic'))).name}, {source} images",
        }
        lesson = learn_from(cases, hydra.utils.instantiate(config.learn.settings), origin, tell)
    lesson.figures |= {f"initial masks of {part} images": values for part, values in figures.items()}
    _write(lesson, directory)
    chosen = lesson.figures["experiences"]
    return chosen["iou_after"] - chosen["iou_before"]


@torch.no_grad()
def _predict(
    module: SegmentationModule, samples: Any, group_pattern: str, bar: Progress, device: torch.device
) -> list[Case]:
    """The model's instances of every annotated image."""
    module.eval()
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


def _part_figures(parts: Mapping[str, Sequence[Case]]) -> dict[str, dict[str, float]]:
    """Mean IoU of the initial masks of each part: equal where the model has not learned its images by heart."""
    figures = {}
    for part, cases in parts.items():
        ious = [example.iou(example.crop.crop(example.crop.prob)) for example in examples_of(cases, 0)]
        figures[part] = {"images": len(cases), "iou_before": sum(ious) / max(1, len(ious))}
    return figures


def _held_out_or_all(figures: Mapping[str, Mapping[str, float]]) -> str:
    """``"all"`` if the masks of training images are like those of others, so that more can be learned from."""
    ahead = figures["train"]["iou_before"] - figures["val"]["iou_before"]
    source = "all" if ahead <= ALIKE else "val"
    logger.info(
        "initial masks have a mean IoU of %.4f on the training images and %.4f on those left out: learning from %s",
        figures["train"]["iou_before"],
        figures["val"]["iou_before"],
        "both" if source == "all" else "those left out, for the others were learned by heart",
    )
    return source


def _write(lesson: Lesson, directory: Path) -> None:
    path = directory / KNOWLEDGE
    lesson.knowledge.save(path)
    description = lesson.knowledge.describe()
    write_text(directory / KNOWLEDGE_TEXT, description + "\n")
    write_text(directory / LEARN, json.dumps(lesson.figures, indent=1) + "\n")
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["part", "start_or_fold", "step", "loss", "iou"])
    rows.writerows(["evidence", fold, epoch, loss, ""] for fold, epoch, loss in lesson.evidence_curve)
    for name, fits in lesson.fits.items():
        rows.writerows([name, rank, *point] for rank, fit in enumerate(fits) for point in fit.history)
    write_text(directory / LEARN_CURVES, table.getvalue())
    draw_fits(lesson.fits, lesson.evidence_curve, directory / FIGURES / LEARNING)
    if lesson.knowledge.experiences is not None:
        names = [action.name for action in lesson.knowledge.actions]
        draw_states(lesson.knowledge.experiences, names, directory / FIGURES / STATES)
    logger.info("%s", description)
    for name, values in lesson.figures.items():
        if "iou_after" not in values:
            logger.info("%s: mean IoU %.4f", name, values["iou_before"])
            continue
        logger.info(
            "%s, on the learning images: mean IoU %.4f -> %.4f, %.1f %% gain more than 0.02, %.1f %% lose more",
            name,
            values["iou_before"],
            values["iou_after"],
            100 * values["gained"],
            100 * values["lost"],
        )
    logger.info("use it: python run.py task=test ckpt=FILE knowledge=%s data.root=DIR", path)
