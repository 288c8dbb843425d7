"""Where an image is stained: the pixels that stand out from its background."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.data.warp import Image, background_level

USUAL_FRACTION = 0.8
"""Fraction of Otsu's threshold. Stains fade towards the outline, and annotators draw outside the fading: with this
fraction stained regions are as wide as annotated outlines."""

FAINTEST = 8.0
"""Grey levels between stain and background below which there is nothing but noise."""

_SMOOTHING = 1.0
"""Standard deviation in pixels of the blur that keeps camera noise from splitting regions."""


def stained(image: Image, fraction: float = USUAL_FRACTION) -> npt.NDArray[np.bool_]:
    """Separate stain from background.

    The stain is on the side of the background level that has more of the image's contrast: darker in brightfield,
    brighter in fluorescence. A pixel is stained if it is beyond a fraction of Otsu's threshold (1979) on that side.

    Args:
        image: ``(H, W)`` uint8, dark on bright or bright on dark.
        fraction: Of Otsu's threshold.

    Returns:
        ``(H, W)`` bool.
    """
    background = background_level(image)
    difference = cv2.GaussianBlur(image, (0, 0), _SMOOTHING).astype(np.float32) - background
    signal = difference if difference.clip(min=0).mean() > (-difference).clip(min=0).mean() else -difference
    top = float(np.percentile(signal, 99.8))
    if top < FAINTEST:
        return np.zeros(image.shape, dtype=bool)
    levels = (signal / top * 255).clip(0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    beyond: npt.NDArray[np.bool_] = levels > fraction * threshold
    return beyond
