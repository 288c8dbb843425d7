"""A trained model for use from Python: ``kemr_lightning.load("FILE.ckpt").predict("image.png")``."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from kemr_lightning.core.contracts import MaskRefiner, Prediction
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.data.image import read_image, to_intensity
from kemr_lightning.prediction.tiling import Tiling, predict_tiles
from kemr_lightning.refinement import CRFParams, Refiner
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.training.module import SegmentationModule

logger = logging.getLogger(__name__)

UNLIKELY = 0.3
"""Detections with lower scores are hardly ever chromosomes."""

ARRAY_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "F")
"""PIL modes whose arrays are intensities or RGB; others (palettes, CMYK, ...) are converted first."""


class Model:
    """Predicts the instances of single images.

    Args:
        module: A trained module.
        refiner: Refines its masks; None leaves them as they are.
        tiling: How large images are cut into tiles; None never cuts them.
    """

    def __init__(
        self,
        module: SegmentationModule,
        refiner: MaskRefiner | None = None,
        tiling: Tiling | None = None,
    ) -> None:
        self.module = module.eval()
        self.refiner = refiner
        self.tiling = tiling
        self._limit_told = False
        self.missed = False
        """Whether an image may have more chromosomes than the model gives at most."""

    @classmethod
    def load(
        cls, checkpoint: str | Path, refine: CRFParams | None, knowledge: str | Path | None = None, views: int = 1
    ) -> Model:
        """See `kemr_lightning.load`."""
        module = load_module(checkpoint)
        module.look_in(views)
        refiner: MaskRefiner | None = None
        if knowledge is not None:
            known = Knowledge.load(knowledge)
            known.warn_unless_from(checkpoint)
            refiner = KnowledgeRefiner(known)
        elif refine is not None:
            refiner = Refiner(refine)
        return cls(module, refiner, usual_tiling(module))

    @property
    def label_names(self) -> list[str]:
        """Names of labels 1, 2, ..."""
        return self.module.label_names

    def to(self, device: torch.device | str) -> Model:
        """Move the model to another device."""
        self.module.to(device)
        return self

    def predict(self, image: str | Path | Image.Image | npt.NDArray[Any] | Tensor) -> Instances:
        """Find the instances of an image.

        Args:
            image: A file, a PIL image, or an array: ``(H, W)`` or ``(H, W, C)`` with 3 or 4 channels, 8 or 16 bit.

        Returns:
            Instances at the image's size, on the CPU, in descending order of score.

        Raises:
            UserError: The image cannot be read.
        """
        return self(torch.from_numpy(np.array(to_pixels(image)))).final

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, name: str = "image") -> Prediction:
        """Find the instances of an image, before and after refinement.

        Args:
            pixels: ``(H, W)`` uint8, on any device.
            name: The image's name in messages.

        Returns:
            The prediction, on the CPU.
        """
        limit = self.module.detector.max_detections
        # The factor of the image as a whole, which its tiles share.
        factor = self.module.scale.factor(pixels.cpu().numpy())
        tiling = None if self.tiling is None else self.tiling.seen_at(factor)
        found = predict_tiles(functools.partial(self._detect, name, factor), pixels, tiling, limit)
        if found.full:
            self._warn_at_limit(name, found.full)
        refined = None
        if self.refiner is not None:
            device = self.module.device
            refined = self.refiner(pixels.to(device), found.instances.to(device)).to("cpu")
        return Prediction(found.instances.to("cpu"), refined, found.cut)

    def _detect(self, name: str, factor: float, pixels: Tensor) -> Instances:
        (instances,) = self.module.find([Sample(pixels.to(self.module.device), name, 1)], factor)
        return instances

    def _warn_at_limit(self, name: str, full: Sequence[Instances]) -> None:
        """Warn that an image, or a tile of it, has the maximum number of instances that the model gives.

        These are the instances with the highest scores, so whatever was left out scores below the lowest of them. Where
        that is too low to matter, one warning is enough for all images.

        Args:
            name: The image's name.
            full: The instances of each such image or tile.
        """
        lowest = max(float(instances.scores.min()) for instances in full)
        if lowest < UNLIKELY and self._limit_told:
            return
        self._limit_told = True
        self.missed |= lowest >= UNLIKELY
        cure = ". Smaller tiles, or a model built with a higher `detections`, would show it"
        logger.warning(
            "%s: the model has given as many detections as it can (%d); what it left out has scores below %.2f%s",
            *(name, len(full[0]), lowest, cure if lowest >= UNLIKELY else ""),
        )


def usual_tiling(module: SegmentationModule) -> Tiling | None:
    """Tiles for models that see images at their own size; those with a frame fit the whole image into it."""
    return Tiling() if module.scale.frame is None else None


def to_pixels(image: str | Path | Image.Image | npt.NDArray[Any] | Tensor) -> npt.NDArray[np.uint8]:
    """The intensities of a file, a PIL image or an array, by the same rules as those of a data set's images.

    Args:
        image: As in `Model.predict`.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UserError: The file cannot be read, or the array is not an image.
    """
    if isinstance(image, str | Path):
        return read_image(image).pixels
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        image = np.asarray(upright if upright.mode in ARRAY_MODES else upright.convert("RGB"))
    return to_intensity(np.asarray(image)).pixels
