"""Checkpoints: the best validated model, and the state of the training to resume from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.files import copy_file
from kemr_lightning.output.csv_log import ContinuedCSVLogger


class CheckpointCallback(ModelCheckpoint):
    """Lightning's checkpoint callback, whose ``last.ckpt`` really is the last state.

    Lightning's own writes it only when a better model is found: a training that was interrupted long after its best
    validation would resume from there. Here it is written after every validation and at the end of the training.
    Before each, the loggers write what they hold, so that nothing is missing from the curves of a resumed training.

    A training that is resumed in another directory copies its best model so far to it, so that ``best.ckpt`` is the
    best of the whole training; Lightning's own forgets that there was one. Wherever it is resumed, ``last.ckpt`` is
    the file that it was resumed from until the first one of its own.
    """

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        earlier, score = Path(state_dict.get("best_model_path") or ""), state_dict.get("best_model_score")
        if self.dirpath is not None and self.save_top_k == 1 and score is not None and earlier.is_file():
            best = Path(self.dirpath) / earlier.name
            if is_first() and best.resolve() != earlier.resolve():
                copy_file(earlier, best)
            paths = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            state_dict = {**state_dict, **paths, "best_k_models": {str(best): score}, "last_model_path": ""}
        super().load_state_dict(state_dict)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        resumed, step = trainer.ckpt_path, 0
        if resumed is not None:
            step = int(trainer._checkpoint_connector._loaded_checkpoint.get("global_step", 0))
            if self.save_last and self.dirpath is not None and is_first():
                last = Path(self.dirpath) / f"{self.CHECKPOINT_NAME_LAST}{self.FILE_EXTENSION}"
                if last.resolve() != Path(resumed).resolve():
                    copy_file(Path(resumed), last)
        for each in trainer.loggers:
            if isinstance(each, ContinuedCSVLogger):
                each.rewind(step)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._follow(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # The end is saved here: by `on_train_end` averaged weights have replaced the trained ones.
        if self._should_save_on_train_epoch_end(trainer) or _is_ending(trainer):
            self._follow(trainer)

    @override
    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        for each in trainer.loggers:
            each.save()
        super()._save_checkpoint(trainer, filepath)

    def _follow(self, trainer: pl.Trainer) -> None:
        """Save ``last.ckpt``, unless this step has been saved already."""
        if self.save_last and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


def _is_ending(trainer: pl.Trainer) -> bool:
    """Whether the epoch that ends is the last one: all steps are done, or the training is to stop."""
    return trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
