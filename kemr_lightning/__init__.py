"""KEMR-Net: chromosome instance segmentation with knowledge-carrying dense-CRF mask refinement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kemr_lightning.inference import Model

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(checkpoint: str | Path, knowledge: str | Path | None = None) -> Model:
    """Load a trained model for use from Python.

    Args:
        checkpoint: A ``.ckpt`` file that a training run wrote.
        knowledge: A Neural Knowledge DNA file; with it, masks come out refined.

    Returns:
        An object whose ``predict(image)`` takes a path, a PIL image or an array and returns `Instances`.

    Raises:
        UserError: A file is missing, damaged or of another program.
    """
    from kemr_lightning.inference import Model  # torch and torchvision load only when a model is asked for

    return Model.load(checkpoint, knowledge)
