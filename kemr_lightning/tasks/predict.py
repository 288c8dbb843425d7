"""``task=predict``: instances of a folder of images, as Labelme files, COCO results, pictures and a table."""

from __future__ import annotations

from omegaconf import DictConfig

from kemr_lightning.callbacks.predictions import PredictionWriter
from kemr_lightning.checkpoint import load_module
from kemr_lightning.tasks import setup


def predict(config: DictConfig) -> None:
    """Predict every image of a folder and write the results into the run directory.

    Args:
        config: The composed configuration. ``ckpt`` is the model, ``data.root`` the folder; it needs no annotations.

    Raises:
        UserError: Something in the configuration, the checkpoint or the folder has to be mended.
    """
    directory = setup.start(config)
    checkpoint = setup.needed_checkpoint(config)
    module = load_module(checkpoint)
    refiner = setup.build_refiner(config, checkpoint)
    data = setup.build_data(config, "predict", module.label_names)
    writer = PredictionWriter(directory, module.label_names, config.predict.score, config.predict.overlays)
    trainer = setup.build_trainer(config, refiner, [writer], log=False)
    trainer.predict(module, datamodule=data, return_predictions=False)
    setup.report(config, directory, checkpoint)
