"""KEMR-Net: chromosome instance segmentation with knowledge-carrying dense-CRF mask refinement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kemr_lightning.prediction.inference import Model
    from kemr_lightning.refinement import CRFParams

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(
    checkpoint: str | Path = "pretrained",
    knowledge: str | Path | None = None,
    refine: CRFParams | Literal["default"] | None = "default",
    views: int = 1,
) -> Model:
    """Load a trained model for use from Python.

    Args:
        checkpoint: A ``.ckpt`` file that a training run wrote, or ``"pretrained"``: the model of the package.
        knowledge: A Neural Knowledge DNA file, which then refines the masks.
        refine: Without knowledge, the parameters of the CRF that refines the masks; None leaves the detector's own.
        views: Number of turned and mirrored views of an image that are averaged, 1 to 8: better, and slower by that
            factor.

    Returns:
        A model whose ``predict(image)`` takes a path, a PIL image or an array and returns `Instances`.

    Raises:
        UserError: A file is missing, damaged or from another program.
    """
    # Imported here, so that `import kemr_lightning` stays quick.
    from kemr_lightning.prediction.inference import Model
    from kemr_lightning.refinement import CRFParams
    from kemr_lightning.training.weights_file import PRETRAINED, SHIPPED

    file = SHIPPED if checkpoint == PRETRAINED else checkpoint
    return Model.load(file, CRFParams() if refine == "default" else refine, knowledge, views)
