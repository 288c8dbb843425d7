"""The files of a lesson: knowledge, figures of learning, curves and pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import write_csv, write_json
from kemr_lightning.core.run_directory import FIGURES, LEARN, LEARN_CURVES, LEARNING, STATES
from kemr_lightning.learning.knowledge_figures import draw_fits, draw_states
from kemr_lightning.learning.learn import Lesson
from kemr_lightning.output.knowledge_files import write_knowledge
from kemr_lightning.refinement.experiences import HARM

logger = logging.getLogger(__name__)

CURVE_COLUMNS = ("part", "start_or_fold", "step", "loss", "iou")


def write_lesson(lesson: Lesson, directory: Path) -> None:
    """Write a lesson's files and log the knowledge and its figures.

    Args:
        lesson: What was learned.
        directory: The run directory.
    """
    write_knowledge(lesson.knowledge, directory)
    write_json(directory / LEARN, lesson.figures, indent=1)
    rows = (dict(zip(CURVE_COLUMNS, row, strict=True)) for row in _curve_rows(lesson))
    write_csv(directory / LEARN_CURVES, CURVE_COLUMNS, rows)
    draw_fits(lesson.fits, lesson.evidence_curve, directory / FIGURES / LEARNING)
    if lesson.knowledge.experiences is not None:
        names = [action.name for action in lesson.knowledge.actions]
        draw_states(lesson.knowledge.experiences, names, directory / FIGURES / STATES)
    logger.info("%s", lesson.knowledge.describe())
    for name, figures in lesson.figures.items():
        logger.info("%s", _line(name, figures))


def _curve_rows(lesson: Lesson) -> Iterator[list[Any]]:
    """The rows of the curves' table, its columns as in `CURVE_COLUMNS`."""
    for fold, epoch, loss in lesson.evidence_curve:
        yield ["evidence", fold, epoch, loss, ""]
    for name, fits in lesson.fits.items():
        for rank, fit in enumerate(fits):
            for point in fit.history:
                yield [name, rank, *point]


def _line(name: str, figures: Mapping[str, float]) -> str:
    """The figures of an action, the rule or a part's initial masks in one line."""
    if "iou_after" not in figures:
        return f"{name}: mean IoU {figures['iou_before']:.4f}"
    return (
        f"{name}, on the learning images: mean IoU {figures['iou_before']:.4f} -> {figures['iou_after']:.4f}, "
        f"{100 * figures['gained']:.1f} % gain more than {HARM}, {100 * figures['lost']:.1f} % lose more"
    )
