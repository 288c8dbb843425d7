"""The keys of trainer, optimiser, schedule, callbacks and loggers: what they may be."""

from __future__ import annotations

import pytest

from kemr_lightning.assembly.schema.validate import wrong_settings
from tests.assembly.schema.helpers import settings


@pytest.mark.parametrize(
    "overrides",
    [
        "trainer.max_steps=-1",
        "trainer.max_epochs=5",
        "trainer.max_time='00:01:00:00'",
        "trainer.limit_val_batches=0",
        "trainer.limit_train_batches=0.5",
        "trainer.devices=auto",
        "trainer.devices=[0,1]",
        "trainer=ddp",
        "+trainer.precision=bf16-mixed",
        "+trainer.strategy=ddp_spawn",
        "optimizer.lr=0",
        "optimizer=adam +optimizer.betas=[0.9,0.99]",
        "optimizer._target_=torch.optim.RMSprop +optimizer.alpha=0.9",
        "scheduler=multistep scheduler.milestones=[10,20]",
        "callbacks.ema=null",
        "callbacks.figures.val_images=0",
        "logger.wandb=null",
        "logger.wandb.log_model=all",
        "+logger.wandb.settings.x_disable_stats=true",
        "trainer.val_check_interval=0.25",
    ],
)
def test_what_is_possible(overrides: str) -> None:
    assert not wrong_settings(settings(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        "trainer.max_steps=0",
        "trainer.max_steps=1.5",
        "trainer.max_epochs=0",
        "trainer.max_epochs=-2",
        "trainer.devices=0",
        "trainer.devices=many",
        "trainer.limit_train_batches=0",
        "trainer.limit_train_batches=1.5",
        "trainer.limit_val_batches=-1",
        "trainer.val_check_interval=0",
        "trainer.check_val_every_n_epoch=0",
        "trainer.gradient_clip_val=-1",
        "trainer.log_every_n_steps=0",
        "trainer.num_sanity_val_steps=-2",
        "trainer.max_time=1h",
        "trainer.enable_model_summary=maybe",
        "+trainer.precision=7",
        "+trainer.overfit_batches=1",
        "+trainer.accumulate_grad_batches=0",
        "+trainer.plugins=5",
        "+trainer.callbacks=[]",
        "optimizer.lr=-1",
        "optimizer.lr=nan",
        "optimizer.weight_decay=-1",
        "+optimizer.betas=[0.9,1]",
        "+optimizer.beta=0.9",
        "scheduler.warmup_fraction=2",
        "scheduler.final_fraction=-1",
        "scheduler=multistep scheduler.gamma=0",
        "scheduler=multistep scheduler.milestones=[20,10]",
        "scheduler=multistep scheduler.warmup_steps=-1",
        "callbacks.ema.decay=1",
        "callbacks.ema.decay=2",
        "callbacks.checkpoint.mode=most",
        "callbacks.checkpoint.monitor=5",
        "+callbacks.checkpoint.save_top_k=-2",
        "callbacks.log_interval.points=0",
        "callbacks.figures.score=2",
        "callbacks.tables.images=-1",
        "callbacks.progress.seconds_between_lines=-1",
        "callbacks.learning_rate.logging_interval=day",
        "logger.wandb.offline=maybe",
        "logger.wandb.log_model=some",
        "logger.wandb.settings.init_timeout=0",
        "+logger.wandb.colour=red",
    ],
)
def test_what_is_not(overrides: str) -> None:
    key = overrides.split()[-1].lstrip("+").split("=")[0]
    assert [each.key for each in wrong_settings(settings(overrides))] == [key]
