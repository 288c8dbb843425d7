"""The keys of ``trainer``, ``optimizer``, ``scheduler``, ``callbacks`` and ``logger``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kemr_lightning.assembly.schema.groups import built, known, named
from kemr_lightning.assembly.schema.kinds import (
    batches,
    choice,
    count,
    described,
    duration,
    flag,
    fraction,
    listed,
    not_negative,
    number,
    positive,
    some,
    text,
    texts,
    whole,
    yes_no_or,
)

_limit = described(choice(-1) | some, "a whole number, 1 or more, or -1 for no limit")
_evaluated = described(choice(0, 0.0) | batches, "a number of batches, up to 1.0 a fraction of them, or 0 for none")
_none_to_overfit = described(
    choice(0, 0.0), "0; to train on a few images alone, name them: data.lists={train: FILE, val: FILE, test: FILE}"
)
_text_or_node = described(text | built(), "a name, or a node with a _target_")
_devices = described(
    choice("auto", -1) | whole(1, 4096) | listed(count, "numbers"),
    "auto, a number of devices, or a list of their numbers",
)
_precisions = (
    64,
    32,
    16,
    "64",
    "32",
    "16",
    "bf16",
    "64-true",
    "32-true",
    "16-true",
    "bf16-true",
    "16-mixed",
    "bf16-mixed",
)

TRAINER = built(
    known(
        ("lightning.Trainer", "lightning.pytorch.Trainer"),
        {
            "accelerator": text,
            "strategy": _text_or_node,
            "devices": _devices,
            "num_nodes": whole(1, 100_000),
            "precision": choice(*_precisions, None),
            "fast_dev_run": described(
                Annotated[bool, Field(strict=True)] | count, "true, false or a number of batches"
            ),
            "max_epochs": _limit | None,
            "min_epochs": some | None,
            "max_steps": _limit,
            "min_steps": some | None,
            "max_time": duration | None,
            "limit_train_batches": batches | None,
            "limit_val_batches": _evaluated | None,
            "limit_test_batches": _evaluated | None,
            "overfit_batches": _none_to_overfit,
            "val_check_interval": described(batches | duration, "a number of steps, a fraction of an epoch, or a time")
            | None,
            "check_val_every_n_epoch": some | None,
            "num_sanity_val_steps": whole(-1) | None,
            "log_every_n_steps": some,
            "enable_checkpointing": flag | None,
            "enable_progress_bar": flag | None,
            "enable_model_summary": flag | None,
            "accumulate_grad_batches": some,
            "gradient_clip_val": not_negative | None,
            "gradient_clip_algorithm": choice("norm", "value", None),
            "deterministic": yes_no_or("warn", None),
            "benchmark": flag | None,
            "inference_mode": flag,
            "use_distributed_sampler": flag,
            "profiler": _text_or_node | None,
            "detect_anomaly": flag,
            "plugins": described(listed(built(), "", least=0) | built() | None, "a list of nodes with a _target_"),
            "sync_batchnorm": flag,
            "reload_dataloaders_every_n_epochs": count,
            "default_root_dir": text | None,
        },
    )
)

_rates: dict[str, Any] = {"lr": not_negative, "weight_decay": not_negative, "maximize": flag, "foreach": flag | None}
_adam: dict[str, Any] = {
    **_rates,
    "betas": listed(number(0, below=1), "two numbers, 0 or more and below 1", 2, 2),
    "eps": not_negative,
    "amsgrad": flag,
    "capturable": flag,
    "differentiable": flag,
    "fused": flag | None,
}
_momentum: dict[str, Any] = {
    "momentum": not_negative,
    "dampening": not_negative,
    "nesterov": flag,
    "fused": flag | None,
}

OPTIMIZER = built(
    known("torch.optim.Adam", {**_adam, "decoupled_weight_decay": flag}),
    known("torch.optim.AdamW", _adam),
    known("torch.optim.SGD", {**_rates, **_momentum}),
)

SCHEDULER = built(
    known(
        ("kemr_lightning.training.schedule.warmup_cosine", "kemr_lightning.schedule.warmup_cosine"),
        {"warmup_fraction": fraction, "final_fraction": fraction},
    ),
    known(
        ("kemr_lightning.training.schedule.multistep", "kemr_lightning.schedule.multistep"),
        {
            "milestones": listed(some, "a list of steps, 1 or more", ordered=True),
            "gamma": positive,
            "warmup_steps": count,
        },
    ),
)

_directory: dict[str, Any] = {"directory": text | None}
_every: dict[str, Any] = {"every_n_train_steps": count | None, "every_n_epochs": count | None}

_checkpoint: dict[str, Any] = {
    **_every,
    "dirpath": text | None,
    "filename": text | None,
    "monitor": text | None,
    "verbose": flag,
    "save_last": yes_no_or("link", None),
    "save_top_k": whole(-1),
    "save_on_exception": flag,
    "save_weights_only": flag,
    "mode": choice("max", "min"),
    "auto_insert_metric_name": flag,
    "save_on_train_epoch_end": flag | None,
    "enable_version_counter": flag,
}

_callback = built(
    known("kemr_lightning.callbacks.timing.TimingCallback", _directory),
    known("kemr_lightning.callbacks.refinement.RefinementCallback", {**_directory, "label_names": texts | None}),
    known("kemr_lightning.callbacks.save_checkpoints.CheckpointCallback", _checkpoint),
    known("kemr_lightning.callbacks.log_interval.LogIntervalCallback", {"points": some}),
    known(
        "lightning.pytorch.callbacks.LearningRateMonitor",
        {"logging_interval": choice("step", "epoch", None), "log_momentum": flag, "log_weight_decay": flag},
    ),
    known("kemr_lightning.callbacks.ema.EMACallback", {"decay": number(0, below=1)}),
    known(
        "kemr_lightning.callbacks.progress.ProgressCallback",
        {"seconds_between_lines": not_negative, "refresh_rate": count},
    ),
    known(
        "kemr_lightning.callbacks.figures.FiguresCallback",
        {**_directory, "val_images": count, "test_images": count, "score": fraction},
    ),
    known("kemr_lightning.callbacks.tables.TablesCallback", {**_directory, "images": count, "val_images": count}),
    known("kemr_lightning.callbacks.keep_knowledge.KnowledgeCallback", _directory),
    known("kemr_lightning.callbacks.requeue.RequeueCallback", _directory),
    known("kemr_lightning.callbacks.stopping.StoppingCallback", _directory),
    known("kemr_lightning.callbacks.finite_loss.FiniteLossCallback", {**_directory, "skip": count}),
)

CALLBACKS = named(_callback | None)

_settings = built(
    known(
        "wandb.Settings",
        {
            "silent": flag,
            "console": text,
            "init_timeout": positive,
            "finish_timeout": positive,
            "finish_timeout_raises": flag,
            "x_stats_sampling_interval": positive,
        },
        more=True,
    )
)

_logger = built(
    known("kemr_lightning.output.csv_log.ContinuedCSVLogger", {"save_dir": text}),
    known(
        "kemr_lightning.output.wandb_run.RunLogger",
        {
            **dict.fromkeys(("project", "name", "job_type", "entity", "group", "notes", "id", "dir"), text | None),
            **dict.fromkeys(("version", "prefix", "checkpoint_name", "resume"), text | None),
            "save_dir": text,
            "tags": texts | None,
            "offline": flag | None,
            "log_model": yes_no_or("all"),
            "save_code": flag | None,
            "add_file_policy": choice("mutable", "immutable"),
            "settings": _settings | None,
        },
    ),
)

LOGGER = named(_logger | None)
