"""Which images to learn from: those the model was not trained on, those it was trained on, or both."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kemr_lightning.core.run_directory import LEARN
from kemr_lightning.learning.examples import examples_of
from kemr_lightning.learning.masked_images import MaskedImage
from kemr_lightning.learning.settings import PARTS

logger = logging.getLogger(__name__)

ALIKE = 0.01
"""Mean IoU by which the masks of training images may be ahead of the others for ``auto`` to learn from both."""


@dataclass(frozen=True)
class LearningSource:
    """The images that are learned from.

    Attributes:
        name: Which they are: ``"train"``, ``"val"`` or ``"all"``.
        cases: The images.
        figures: Of each part that was predicted, even one that is not learned from: ``images`` (their number) and
            ``iou_before`` (mean IoU of the initial masks).
    """

    name: str
    cases: Sequence[MaskedImage]
    figures: Mapping[str, dict[str, float]]


def choose_source(wanted: str, parts: Mapping[str, Sequence[MaskedImage]]) -> LearningSource:
    """Decide which images to learn from, and log why or warn what it means.

    Args:
        wanted: ``"val"``, ``"train"``, ``"all"`` or ``"auto"``.
        parts: The cases of each part that `PARTS` names for ``wanted``.

    Returns:
        The chosen images.
    """
    figures = {part: initial_figures(cases) for part, cases in parts.items()}
    name = _held_out_or_all(figures) if wanted == "auto" else wanted
    if wanted in ("train", "all"):
        logger.warning(
            "some of these images were used to train the model, whose masks of other images may be worse. Compare the "
            "mean IoU of the initial masks of both parts in %s",
            LEARN,
        )
    return LearningSource(name, [case for part in PARTS[name] for case in parts[part]], figures)


def initial_figures(cases: Sequence[MaskedImage]) -> dict[str, float]:
    """The number of images and the mean IoU of their matched initial masks (0 without any).

    Args:
        cases: The images of one part.

    Returns:
        ``images`` and ``iou_before``.
    """
    ious = [example.iou(example.initial) for example in examples_of(cases, 0)]
    return {"images": len(cases), "iou_before": sum(ious) / max(1, len(ious))}


def _held_out_or_all(figures: Mapping[str, Mapping[str, float]]) -> str:
    """``"all"`` if the masks of training images are no better than others, so that there is more to learn from."""
    ahead = figures["train"]["iou_before"] - figures["val"]["iou_before"]
    name = "all" if ahead <= ALIKE else "val"
    logger.info(
        "initial masks have a mean IoU of %.4f on the training images and %.4f on the held-out ones: learning from %s",
        figures["train"]["iou_before"],
        figures["val"]["iou_before"],
        "both" if name == "all" else "the held-out ones, as the model knows the others by heart",
    )
    return name
