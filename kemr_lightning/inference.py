"""A trained model for use from Python: ``kemr_lightning.load("FILE.ckpt").predict("image.png")``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from kemr_lightning.checkpoint import load_module
from kemr_lightning.data.image import read_image, to_intensity
from kemr_lightning.instances import Instances, Sample
from kemr_lightning.module import SegmentationModule
from kemr_lightning.refinement import CRFParams, Refiner

ARRAY_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "F")
"""PIL modes whose arrays are intensities or RGB; others (palettes, CMYK, ...) are converted first."""


class Model:
    """Predicts the instances of single images.

    Args:
        module: A trained module.
        refiner: Refines its masks; None leaves them as they are.
    """

    def __init__(self, module: SegmentationModule, refiner: Refiner | None = None) -> None:
        self.module = module.eval()
        self.refiner = refiner

    @classmethod
    def load(cls, checkpoint: str | Path, refine: CRFParams | None) -> Model:
        """See `kemr_lightning.load`."""
        return cls(load_module(checkpoint), None if refine is None else Refiner(refine))

    @property
    def label_names(self) -> list[str]:
        """Names of labels 1, 2, ..."""
        return self.module.label_names

    def to(self, device: torch.device | str) -> Model:
        """Move the model to another device."""
        self.module.to(device)
        return self

    @torch.inference_mode()
    def predict(self, image: str | Path | Image.Image | npt.NDArray[Any] | Tensor) -> Instances:
        """Find the instances of an image.

        Args:
            image: A file, a PIL image, or an array: ``(H, W)`` or ``(H, W, C)`` with 3 or 4 channels, 8 or 16 bit.

        Returns:
            Instances at the image's size, on the CPU, by falling score.

        Raises:
            UserError: The image cannot be read.
        """
        pixels = torch.from_numpy(np.array(read(image)))
        sample = Sample(pixels, "image", 1).to(self.module.device)
        (instances,) = self.module.predict_step([sample], 0)
        if self.refiner is not None:
            instances = self.refiner(sample.image, instances)
        return instances.to("cpu")


def read(image: str | Path | Image.Image | npt.NDArray[Any] | Tensor) -> npt.NDArray[np.uint8]:
    """``(H, W)`` uint8 intensity of a file, a PIL image or an array, by the same rules as the data module's.

    Raises:
        UserError: The file cannot be read, or the array is no image.
    """
    if isinstance(image, str | Path):
        return read_image(image).pixels
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        image = np.asarray(upright if upright.mode in ARRAY_MODES else upright.convert("RGB"))
    return to_intensity(np.asarray(image)).pixels
