"""The knowledge that refined a test's masks, kept with the run and as an artifact in W&B."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
from typing_extensions import override

from kemr_lightning.callbacks.evaluation import run_directory_of
from kemr_lightning.callbacks.refinement import refinement_of
from kemr_lightning.core.contracts import MaskRefiner
from kemr_lightning.output.knowledge_files import log_knowledge, write_knowledge
from kemr_lightning.output.wandb_run import attempt, run_of
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from kemr_lightning.refinement.refiner import Refiner


class KnowledgeCallback(pl.Callback):
    """Writes ``knowledge.safetensors`` and ``knowledge.txt`` after a test, and logs them to W&B as an artifact.

    It is the knowledge that was used: that of the given file, with what the configuration overrides, or the configured
    CRF as knowledge without experiences. Nothing is written without a refiner, or if no file can hold what it does.

    Args:
        directory: The run directory; None for the trainer's ``default_root_dir``.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = directory

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        knowledge = knowledge_of(refinement_of(trainer).refiner)
        if knowledge is None or not trainer.is_global_zero:
            return
        files = write_knowledge(knowledge, run_directory_of(trainer, self.directory))
        run = run_of(trainer)
        if run is not None:
            attempt(lambda: log_knowledge(run, knowledge, files))


def knowledge_of(refiner: MaskRefiner | None) -> Knowledge | None:
    """The knowledge that a refiner works with.

    Args:
        refiner: A refiner, or None.

    Returns:
        The knowledge; None if there is none, or if a file cannot hold it: that of a CRF which assumes a probability
        ``outside`` the mask's window, or of a refiner that the package does not know.
    """
    if isinstance(refiner, KnowledgeRefiner):
        return refiner.knowledge
    if isinstance(refiner, Refiner) and refiner.outside == 0:
        return replace(from_params(refiner.params, {"found_by": "the configuration"}), margin=refiner.margin)
    return None
