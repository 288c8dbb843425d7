"""The Lightning module: what it shows the detector, what it returns, what it stores."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Detections, Instances, Sample
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.warp import resize_pixels
from kemr_lightning.training.module import DivergedError, SegmentationModule, model_input
from kemr_lightning.training.schedule import multistep
from tests.models.helpers import picture, rectangles, small_detector
from tests.training.helpers import OneBox, noise

SIZE = (60, 80)


def test_images_become_intensities():
    image = torch.tensor([[0, 51], [102, 255]], dtype=torch.uint8)
    torch.testing.assert_close(model_input(image), torch.tensor([[[0.0, 0.2], [0.4, 1.0]]]))


def test_native_size_by_default():
    module = SegmentationModule(OneBox())
    (found,) = module.predict_step([noise(size=SIZE)], 0)
    assert module.detector.shown[0].shape == (1, 60, 80)
    assert found.boxes.tolist() == [[20, 30, 60, 60]]


def test_masks_come_out_at_the_file_s_size():
    module = SegmentationModule(OneBox(), scale=InputScale((53, 53)))
    # 80 x 60 is fitted into 53 x 40: the height is rounded from 39.75.
    (found,) = module.predict_step([noise(size=SIZE)], 0)
    assert module.detector.shown[0].shape == (1, 40, 53)
    assert found.image_size == (60, 80)
    assert found.boxes.flatten().tolist() == pytest.approx([20, 30, 60, 60], abs=1e-4)
    assert found.patches[0].window == (20, 30, 60, 60)


def test_training_and_prediction_see_the_same_pixels():
    image = noise(size=SIZE).image
    for frame in ((160, 130), (50, 31)):
        size = InputScale(frame).size_of(image)
        trained = resize_pixels(image.numpy(), size)
        torch.testing.assert_close(torch.from_numpy(trained)[None] / 255, model_input(image, size))


def test_losses_are_summed_and_must_be_finite():
    module = SegmentationModule(OneBox())
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign,assignment]
    assert module.training_step([noise(size=SIZE)], 0).item() == 3.0
    module.detector.weight.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"loss_a, loss_b is not finite.*b\.png"):
        module.training_step([noise(size=SIZE, name="b.png")], 0)


def test_the_limit_of_detections_is_reported_once(caplog):
    module = SegmentationModule(OneBox())
    with caplog.at_level(logging.WARNING):
        module.predict_step([noise(size=SIZE, name="first.png"), noise(size=SIZE, name="second.png")], 0)
        module.predict_step([noise(size=SIZE, name="third.png")], 1)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["first.png"]
    caplog.clear()
    module = SegmentationModule(OneBox(max_detections=2))
    module.predict_step([noise(size=SIZE)], 0)
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
        InputScale((1280, 1024)),
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
        "input_width": None,
        "intensity": "uint8 luma, 16 bit by percentile window",
    }
    assert content["state_dict"].keys() == module.state_dict().keys()
    assert {metric for metric in trainer.callback_metrics if metric.startswith("train/loss_stage")} == {
        f"train/loss_stage{k}_{what}" for k in (1, 2, 3) for what in ("class", "box", "mask")
    }


def test_a_detector_that_lacks_something_is_refused_at_once():
    with pytest.raises(
        UserError, match=r"^Identity cannot .* it lacks kind, max_detections, max_views, detect_in_views"
    ):
        SegmentationModule(nn.Identity())
    partly = OneBox()
    del partly.max_detections
    with pytest.raises(UserError, match=r"^OneBox cannot be used as a detector: it lacks max_detections\. "):
        SegmentationModule(partly)


def test_views_are_requested_from_the_detector():
    module = SegmentationModule(OneBox())
    assert module.predict_step([noise(size=SIZE)], 0)[0].scores.tolist() == pytest.approx([0.9])
    module.look_in(3)
    found = module.predict_step([noise(size=SIZE), noise(1, SIZE)], 0)
    assert [each.scores.tolist() for each in found] == [pytest.approx([0.3])] * 2
    assert module.detector.views == [3, 3]
    module.look_in(1)
    module.predict_step([noise(size=SIZE)], 0)
    assert module.detector.views == [3, 3]


def test_impossible_views_are_refused():
    module = SegmentationModule(OneBox())
    for views in (0, 4):
        with pytest.raises(SettingError, match=rf"^views={views} is not possible\. Use 1 \(the image as it is\) to 3$"):
            module.look_in(views)
    with pytest.raises(SettingError, match=r"^views=9 is not possible\. Use 1 \(the image as it is\) to 8$"):
        SegmentationModule(small_detector()).look_in(9)
    module.detector.max_views = 1
    with pytest.raises(SettingError, match=r"^views=2 is not possible, because OneBox views an image once\. Use 1$"):
        module.look_in(2)
    assert module.views == 1


@torch.no_grad()
def test_one_view_is_the_detector_itself_and_more_are_not():
    torch.manual_seed(3)
    module = SegmentationModule(small_detector(score_threshold=0.0)).eval()
    sample = noise(size=(64, 64))
    (plain,) = module.detector([model_input(sample.image)])
    (once,) = module.predict_step([sample], 0)
    assert torch.equal(once.scores, plain.scores)
    module.look_in(4)
    (averaged,) = module.predict_step([sample], 0)
    assert not torch.equal(averaged.boxes[:1], once.boxes[:1])
    assert bool((averaged.scores.diff() <= 0).all())


class Memory:
    """A store in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Detections] = {}
        self.reused = 0

    def get(self, sample: Sample) -> Detections | None:
        self.reused += sample.name in self.kept
        return self.kept.get(sample.name)

    def put(self, sample: Sample, detections: Detections) -> None:
        self.kept[sample.name] = detections

    def tell(self) -> None:
        self.reused = 0


def test_any_store_can_be_put_in():
    module = SegmentationModule(OneBox())
    module.store = Memory()
    first = module.predict_step([noise(1, SIZE), noise(2, SIZE)], 0)
    again = module.predict_step([noise(2, SIZE), noise(3, SIZE), noise(1, SIZE)], 1)
    assert len(module.detector.shown) == 3
    assert module.store.reused == 2
    assert torch.equal(again[2].boxes, first[0].boxes)
    assert torch.equal(again[0].patches[0].values, first[1].patches[0].values)


def test_validation_while_training_looks_once_and_does_not_warn(tmp_path: Path, caplog):
    module = SegmentationModule(OneBox(), partial(torch.optim.SGD, lr=0.1))
    module.look_in(2)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    data = DataLoader([noise(size=SIZE)], batch_size=1, collate_fn=list)
    with caplog.at_level(logging.WARNING, "kemr_lightning"):
        trainer.fit(module, data, data)
        assert module.detector.views == []
        assert not [record for record in caplog.records if record.name.startswith("kemr_lightning")]
        trainer.validate(module, data, verbose=False)
    assert module.detector.views == [2]
    assert "detections, the maximum of this model" in caplog.text


def test_batches_move_to_a_device():
    (moved,) = SegmentationModule(OneBox()).transfer_batch_to_device([noise()], torch.device("meta"), 0)
    assert isinstance(moved.image, Tensor)
    assert moved.image.is_meta
