"""Checkpoints: the best validated model, and the state of the training to resume from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from kemr_lightning.core.distributed import is_first


class CheckpointCallback(ModelCheckpoint):
    """Lightning's checkpoint callback, whose ``last.ckpt`` really is the last state.

    Lightning's own writes it only when a better model is found: a training that was interrupted long after its best
    validation would resume from there. Here it is written after every validation and at the end of the training.

    A training that is resumed in another directory copies its best model so far to it, so that ``best.ckpt`` is the
    best of the whole training; Lightning's own forgets that there was one.
    """

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        earlier, score = Path(state_dict.get("best_model_path") or ""), state_dict.get("best_model_score")
        if self.dirpath is not None and self.save_top_k == 1 and score is not None and earlier.is_file():
            best = Path(self.dirpath) / earlier.name
            if is_first() and best.resolve() != earlier.resolve():
                best.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(earlier, best)
            paths = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            state_dict = {**state_dict, **paths, "best_k_models": {str(best): score}, "last_model_path": ""}
        super().load_state_dict(state_dict)

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

    def _follow(self, trainer: pl.Trainer) -> None:
        """Save ``last.ckpt``, unless this step has been saved already."""
        if self.save_last and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


def _is_ending(trainer: pl.Trainer) -> bool:
    """Whether the epoch that ends is the last one: all steps are done, or the training is to stop."""
    return trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
