"""Refinement of instance masks by a fully connected CRF."""

from kemr_lightning.refinement.dense_crf import CRFParams, RefinementError, refine_crops, refine_probability
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.refiner import Refiner

__all__ = ["CRFParams", "Knowledge", "RefinementError", "Refiner", "refine_crops", "refine_probability"]
