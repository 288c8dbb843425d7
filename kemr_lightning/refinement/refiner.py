"""Crop, refine, put back: the CRF on the instances of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import (
    DEFAULT_TOLERANCE,
    CRFParams,
    RefinementError,
    check_engine,
    refine_packed,
    to_intensity,
)


class Refiner:
    """Refine every instance of an image on its own patch and a margin about it.

    Args:
        params: The CRF's parameters.
        engine: ``"torch"``, ``"pydensecrf"`` or ``"exact"``.
        margin: Pixels about the patch that the CRF sees, clipped to the image. They give the kernels their
            surroundings; 10 is enough at small sigma_alpha.
        tolerance: Intended largest difference of a probability from the exact mean field.
        outside: Probability assumed on the margin, in [0, 0.5). 0 closes the border: the initial mask says "nothing
            here", and refinement moves within the patch. Above 0 the mask may grow into the margin where the image
            agrees, and refined patches include it; 0.45 brings back an end that the box cut off, 0.3 a rim.

    Raises:
        RefinementError: An unknown engine or an option outside its range.
    """

    def __init__(
        self,
        params: CRFParams,
        engine: str = "torch",
        margin: int = 10,
        tolerance: float = DEFAULT_TOLERANCE,
        outside: float = 0.0,
    ) -> None:
        check_engine(engine, tolerance)
        if isinstance(margin, bool) or not isinstance(margin, int) or margin < 0:
            raise RefinementError(f"refine.margin must be a whole number of pixels, 0 or more, not {margin!r}.")
        if not 0 <= outside < 0.5:
            raise RefinementError(f"refine.outside must be at least 0 and below 0.5, not {outside}.")
        self.params = params
        self.engine = engine
        self.margin = margin
        self.tolerance = tolerance
        self.outside = outside

    @classmethod
    def from_values(
        cls,
        sigma_alpha: float,
        sigma_beta: float,
        sigma_gamma: float,
        w1: float,
        w2: float,
        iterations: int,
        temperature: float = 1.0,
        engine: str = "torch",
        margin: int = 10,
        tolerance: float = DEFAULT_TOLERANCE,
        outside: float = 0.0,
    ) -> Refiner:
        """A refiner from flat values, as a config gives them; see `CRFParams` and the class."""
        params = CRFParams(sigma_alpha, sigma_beta, sigma_gamma, w1, w2, iterations, temperature)
        return cls(params, engine, margin, tolerance, outside)

    @torch.no_grad()
    def __call__(
        self, image: Tensor, instances: Instances, params: CRFParams | Sequence[CRFParams] | None = None
    ) -> Instances:
        """Refine the instances of one image.

        Args:
            image: ``(H, W)`` uint8 (or ``(H, W, 3)``).
            instances: Instances on this image; without patches they come back as they are.
            params: Instead of the refiner's own: one set, or one per instance.

        Returns:
            The same boxes, scores, labels and disagreement with new patches of float32 probabilities on the same
            windows (grown by the margin if ``outside`` is above 0).

        Raises:
            RefinementError: The image is not the instances' image, or a probability has NaN (says which instance).
        """
        if tuple(image.shape[:2]) != tuple(instances.image_size):
            raise RefinementError(
                f"the image has size {tuple(image.shape[:2])}, the instances belong to one of {instances.image_size}."
            )
        if not instances.patches:
            return instances
        crops, windows = self.crop(image, instances)
        refined = crops.unpack(
            refine_packed(crops, self.params if params is None else params, self.engine, self.tolerance)
        )
        patches = []
        for patch, window, values in zip(instances.patches, windows, refined, strict=True):
            if self.outside > 0:
                patches.append(Patch(window[0], window[1], values.clone()))
                continue
            height, width = patch.values.shape
            top, left = patch.y0 - window[1], patch.x0 - window[0]
            # A copy, so that a patch does not keep the crops of the whole image alive.
            patches.append(Patch(patch.x0, patch.y0, values[top : top + height, left : left + width].clone()))
        return replace(instances, patches=patches)

    def crop(self, image: Tensor, instances: Instances) -> tuple[Crops, list[tuple[int, int, int, int]]]:
        """The crops the CRF works on, and their windows ``(x0, y0, x1, y1)``: patches grown by the margin."""
        intensity = to_intensity(image)
        height, width = intensity.shape
        check_windows(instances.patches or [], height, width)
        windows: list[tuple[int, int, int, int]] = []
        pixels, chances = [], []
        for patch in instances.patches or []:
            x0, y0, x1, y1 = patch.window
            grown = (
                max(x0 - self.margin, 0),
                max(y0 - self.margin, 0),
                min(x1 + self.margin, width),
                min(y1 + self.margin, height),
            )
            around = (x0 - grown[0], grown[2] - x1, y0 - grown[1], grown[3] - y1)
            windows.append(grown)
            pixels.append(intensity[grown[1] : grown[3], grown[0] : grown[2]].to(patch.values.device))
            chances.append(F.pad(patch.values.float(), around, value=self.outside))
        return Crops.pack(pixels, chances), windows


def check_windows(patches: Sequence[Patch], height: int, width: int) -> None:
    """Raise `RefinementError` naming the first instance whose patch is empty or not within the image."""
    for index, patch in enumerate(patches):
        x0, y0, x1, y1 = patch.window
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height or patch.values.numel() == 0:
            raise RefinementError(f"instance {index}: its patch {patch.window} is empty or leaves the image.")
