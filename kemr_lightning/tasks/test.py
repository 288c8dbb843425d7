"""``task=test``: score a trained model on annotated images."""

from __future__ import annotations

from omegaconf import DictConfig

from kemr_lightning.assembly.annotation_notices import tell_of_limits, tell_of_regions
from kemr_lightning.assembly.build import build_data, build_metric, build_trainer, logging_closed, trained_module
from kemr_lightning.assembly.checkpoints import needed_checkpoint
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.output.wandb_run import log_checkpoint
from kemr_lightning.tasks.closing import report
from kemr_lightning.tasks.start import start
from kemr_lightning.training.initial_predictions import tell_of_store


def test(config: DictConfig) -> float | None:
    """Test a checkpoint and write its files into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` is the model; a folder without parts is scored whole.

    Returns:
        MaskAP of the final masks in percent, or None without annotations.

    Raises:
        UserError: Something in the configuration, the checkpoint or the data has to be fixed.
    """
    directory = start(config)
    checkpoint = needed_checkpoint(config)
    refiner = build_refiner(config, checkpoint)
    module = trained_module(config, checkpoint)
    data = build_data(config, "test", module.label_names)
    tell_of_regions(data)
    tell_of_limits(config, data, module.detector.max_detections)
    with logging_closed():
        trainer = build_trainer(config, refiner, build_metric(config))
        trainer.test(module, datamodule=data, verbose=False)
        log_checkpoint(trainer, checkpoint)
    tell_of_store(module)
    report(config, directory, checkpoint)
    score = trainer.callback_metrics.get("test/MaskAP")
    return None if score is None else float(score)
