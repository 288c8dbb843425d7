"""Refinement of instance masks by a fully connected CRF, and the knowledge that decides which masks to refine."""

from kemr_lightning.refinement.dense_crf import refine_crops, refine_probability
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.parameters import CRFParams
from kemr_lightning.refinement.refinement_errors import RefinementError
from kemr_lightning.refinement.refiner import Refiner

__all__ = ["CRFParams", "Knowledge", "RefinementError", "Refiner", "refine_crops", "refine_probability"]
