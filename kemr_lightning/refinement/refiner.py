"""The CRF on the instances of one image: crop them, refine the crops, put the masks back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import DEFAULT_TOLERANCE, check_engine, luma, refine_packed
from kemr_lightning.refinement.engines import DEFAULT_ENGINE
from kemr_lightning.refinement.parameters import CRFParams
from kemr_lightning.refinement.refinement_errors import RefinementError, RefinementSettingError
from kemr_lightning.refinement.surroundings import Window, grown


class Refiner:
    """Refines every instance of an image on its own patch and a margin around it.

    Args:
        params: The CRF's parameters.
        engine: A name in `ENGINES`.
        margin: Pixels around the patch that the CRF sees, cut at the image's border. They give the kernels their
            surroundings; 10 are enough for an appearance kernel that reaches a few pixels.
        tolerance: Intended largest difference of a probability from the exact mean field.
        outside: Probability assumed on the margin, in [0, 0.5). 0 closes the border: the initial mask says "nothing
            here", and refinement stays within the patch. Above 0 the mask may grow into the margin where the image
            agrees, and refined patches include it; 0.45 brings back an end that the box cut off, 0.3 a rim.

    Raises:
        RefinementSettingError: An unknown engine, or an option outside its range.
    """

    def __init__(
        self,
        params: CRFParams,
        engine: str = DEFAULT_ENGINE,
        margin: int = 10,
        tolerance: float = DEFAULT_TOLERANCE,
        outside: float = 0.0,
    ) -> None:
        check_engine(engine, tolerance)
        if isinstance(margin, bool) or not isinstance(margin, int) or margin < 0:
            problem = "must be a whole number of pixels, 0 or more"
            raise RefinementSettingError("margin", repr(margin), problem, "10 are enough for most parameters")
        if not 0 <= outside < 0.5:
            cure = "0 keeps masks within their patches, 0.3 to 0.45 lets them grow"
            raise RefinementSettingError("outside", outside, "must be at least 0 and below 0.5", cure)
        self.params = params
        self.engine = engine
        self.margin = margin
        self.tolerance = tolerance
        self.outside = outside

    @classmethod
    def from_values(
        cls,
        engine: str = DEFAULT_ENGINE,
        margin: int = 10,
        tolerance: float = DEFAULT_TOLERANCE,
        outside: float = 0.0,
        **parameters: Any,
    ) -> Refiner:
        """A refiner from flat values, as a configuration gives them.

        Args:
            engine: As for the class.
            margin: As for the class.
            tolerance: As for the class.
            outside: As for the class.
            parameters: Fields of `CRFParams`.

        Raises:
            RefinementSettingError: A value outside its range, or an unknown parameter.
        """
        return cls(CRFParams.from_mapping(parameters), engine, margin, tolerance, outside)

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
            RefinementError: The image is not the instances' image, a patch leaves it, or a probability is NaN or not in
                [0, 1] (the message names the instance).
        """
        check_instances(image, instances)
        if not instances.patches:
            return instances
        crops, windows = self.crop(image, instances)
        used = self.params if params is None else params
        refined = crops.unpack(refine_packed(crops, used, self.engine, self.tolerance))
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

    def crop(self, image: Tensor, instances: Instances) -> tuple[Crops, list[Window]]:
        """The crops that the CRF works on, and their windows in the image: patches grown by the margin."""
        intensity = luma(image)
        height, width = intensity.shape
        windows: list[Window] = []
        pixels, probabilities = [], []
        for patch in instances.patches or []:
            inner = patch.window
            window = x0, y0, x1, y1 = grown(inner, self.margin, height, width)
            around = (inner[0] - x0, x1 - inner[2], inner[1] - y0, y1 - inner[3])
            windows.append(window)
            pixels.append(intensity[y0:y1, x0:x1].to(patch.values.device))
            probabilities.append(F.pad(patch.values.float(), around, value=self.outside))
        return Crops.pack(pixels, probabilities), windows


def check_instances(image: Tensor, instances: Instances) -> None:
    """Check that instances are those of an image.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``.
        instances: With or without patches.

    Raises:
        RefinementError: The image has another size, or a patch is empty or leaves the image (the message names the
            first such instance).
    """
    size = tuple(image.shape[:2])
    if size != tuple(instances.image_size):
        raise RefinementError(f"the image has size {size}, the instances belong to one of {instances.image_size}")
    for index, patch in enumerate(instances.patches or []):
        x0, y0, x1, y1 = patch.window
        if x0 < 0 or y0 < 0 or x1 > size[1] or y1 > size[0] or patch.values.numel() == 0:
            raise RefinementError(f"instance {index}: its patch {patch.window} is empty or leaves the image")
