"""The Lightning module: what it shows the detector, what it gives back, what it stores."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Detections, Instances, Sample
from kemr_lightning.data.warp import resize_pixels
from kemr_lightning.training.module import SegmentationModule, model_input
from kemr_lightning.training.schedule import multistep
from tests.models.helpers import picture, rectangles, small_detector


class OneBox(nn.Module):
    """Finds the same part of every image; remembers what it was shown."""

    max_detections = 1

    def __init__(self, loss: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(loss))
        self.shown: list[torch.Tensor] = []

    def forward(self, images, targets=None):
        self.shown += images
        if targets is not None:
            return {"loss_a": self.weight * 1.0, "loss_b": self.weight * 2.0}
        result = []
        for image in images:
            height, width = image.shape[-2:]
            box = torch.tensor([[0.25 * width, 0.5 * height, 0.75 * width, float(height)]])
            one = torch.ones(1)
            result.append(Detections(box, one * 0.9, one.long(), torch.ones(1, 28, 28), box, None))
        return result


def sample(size: tuple[int, int] = (60, 80), name: str = "a.png") -> Sample:
    generator = torch.Generator().manual_seed(0)
    return Sample(torch.randint(0, 256, size, dtype=torch.uint8, generator=generator), name, 1)


def test_images_become_intensities():
    image = torch.tensor([[0, 51], [102, 255]], dtype=torch.uint8)
    torch.testing.assert_close(model_input(image), torch.tensor([[[0.0, 0.2], [0.4, 1.0]]]))


def test_native_size_by_default():
    module = SegmentationModule(OneBox())
    (found,) = module.predict_step([sample()], 0)
    assert module.detector.shown[0].shape == (1, 60, 80)
    assert found.boxes.tolist() == [[20, 30, 60, 60]]


def test_masks_come_out_at_the_file_s_size():
    module = SegmentationModule(OneBox(), input_size=[53, 53])
    # 80 x 60 is fitted into 53 x 40: the height is rounded from 39.75.
    (found,) = module.predict_step([sample()], 0)
    assert module.detector.shown[0].shape == (1, 40, 53)
    assert found.image_size == (60, 80)
    assert found.boxes.flatten().tolist() == pytest.approx([20, 30, 60, 60], abs=1e-4)
    assert found.patches[0].window == (20, 30, 60, 60)


def test_training_and_prediction_see_the_same_pixels():
    image = sample().image
    for frame in ((160, 130), (50, 31)):
        trained = resize_pixels(image.numpy(), frame)
        torch.testing.assert_close(torch.from_numpy(trained)[None] / 255, model_input(image, frame))


def test_losses_are_summed_and_must_be_finite():
    module = SegmentationModule(OneBox())
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign,assignment]
    assert module.training_step([sample()], 0).item() == 3.0
    module.detector.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"loss_a, loss_b is not finite.*b\.png"):
        module.training_step([sample(name="b.png")], 0)


def test_the_limit_of_detections_is_told_once(caplog):
    module = SegmentationModule(OneBox())
    with caplog.at_level(logging.WARNING):
        module.predict_step([sample(name="first.png"), sample(name="second.png")], 0)
        module.predict_step([sample(name="third.png")], 1)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["first.png"]
    caplog.clear()
    module = SegmentationModule(OneBox())
    module.detector.max_detections = 2
    module.predict_step([sample()], 0)
    assert not caplog.records


def test_no_training_without_an_optimizer():
    with pytest.raises(ValueError, match="optimizer"):
        SegmentationModule(OneBox()).configure_optimizers()


def test_frozen_parameters_are_not_optimised():
    detector = small_detector()
    detector.backbone.stem.requires_grad_(False)
    module = SegmentationModule(detector, partial(torch.optim.SGD, lr=0.1))
    optimised = {id(parameter) for group in module.configure_optimizers().param_groups for parameter in group["params"]}
    assert optimised == {id(parameter) for parameter in detector.parameters() if parameter.requires_grad}


def test_a_training_run_and_its_checkpoint(tmp_path: Path):
    torch.manual_seed(0)
    targets = [rectangles([(8, 8, 40, 24)], (64, 64)), Instances.empty((64, 64))]
    images = [(picture(target)[0] * 255).to(torch.uint8) for target in targets]
    data = [
        Sample(image, f"{i}.png", i + 1, target) for i, (image, target) in enumerate(zip(images, targets, strict=True))
    ]
    config = {"_target_": "somewhere", "num_classes": 2, "heads": {"variant": "mmdetection"}}
    module = SegmentationModule(
        small_detector(),
        partial(torch.optim.SGD, lr=0.01),
        partial(multistep, milestones=(2,), gamma=0.1),
        config,
        ["long", "short"],
        [1280, 1024],
    )
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(data, batch_size=2, collate_fn=list))
    assert trainer.global_step == 3
    # The schedule is stepped every step: two at 0.01, the third and what follows at 0.001.
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.001)
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    assert {name.split(".")[1] for name in changed} == {"backbone", "rpn", "heads"}
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["hyper_parameters"] == {
        "model": config,
        "label_names": ["long", "short"],
        "input_size": [1280, 1024],
        "intensity": "uint8 luma, 16 bit by percentile window",
    }
    assert content["state_dict"].keys() == module.state_dict().keys()
    assert {metric for metric in trainer.callback_metrics if metric.startswith("train/loss_stage")} == {
        f"train/loss_stage{k}_{what}" for k in (1, 2, 3) for what in ("class", "box", "mask")
    }
