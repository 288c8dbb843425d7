"""Loaders over synthetic metaphases, built by hand and from the configuration."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.synthetic import SyntheticDataModule, SyntheticDataset
from kemr_lightning.data.synthetic.settings import MetaphaseSettings
from tests.data.synthetic.helpers import SMALL, digest

CONF = Path(__file__).resolve().parents[3] / "conf"
SIZE = (160, 128)


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=["data=synthetic", *overrides])


def test_training_images_alone_are_augmented() -> None:
    augmentation = Augmentation(crop_size=(96, 96))
    data = SyntheticDataModule(4, 2, 2, size=SIZE, augmentation=augmentation, seed=5)
    data.setup("fit")
    assert data.label_names == ["chromosome"]
    batches = list(data.train_dataloader())
    assert [len(batch) for batch in batches] == [2, 2]
    assert [sample.image_size for batch in batches for sample in batch] == [(96, 96)] * 4
    assert digest(next(iter(data.train_dataloader()))) == digest(batches[0])
    tested = [batch[0] for batch in data.test_dataloader()]
    assert [sample.name for sample in tested] == ["test/synthetic_00001.png", "test/synthetic_00002.png"]
    assert digest(tested) == digest([SyntheticDataset(2, SMALL, seed=5, split="test")[index] for index in range(2)])
    validated = [batch[0] for batch in data.val_dataloader()]
    assert [sample.image_size for sample in validated] == [(128, 160)] * 2
    assert digest(validated) != digest(tested)


def test_epochs_may_be_longer_than_the_images() -> None:
    data = SyntheticDataModule(2, 1, 1, size=SIZE, augmentation=Augmentation((64, 64)), epoch_samples=6, batch_size=3)
    samples = [sample for batch in data.train_dataloader() for sample in batch]
    assert sorted(sample.image_id for sample in samples) == [1, 1, 1, 2, 2, 2]
    assert len({digest([sample]) for sample in samples}) == 6


def test_other_classes_than_the_model_s_are_refused() -> None:
    data = SyntheticDataModule(1, 1, 1, size=SIZE)
    data.label_names = ["1", "2"]
    with pytest.raises(SettingError, match="Try null") as raised:
        data.setup("test")
    assert raised.value.setting == "label_map"
    data.label_names = ["chr"]
    data.setup("test")
    many = SyntheticDataModule(1, 1, 1, size=SIZE, label_map=None)
    many.setup("test")
    many.label_names = ["chr"]
    with pytest.raises(SettingError, match="Try single"):
        many.setup("test")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_part_needs_an_image(split: str) -> None:
    with pytest.raises(SettingError) as raised:
        SyntheticDataModule(**{f"{split}_images": 0})
    assert raised.value.setting == f"{split}_images"


def test_size_is_the_frame_of_the_model_unless_given() -> None:
    assert SyntheticDataModule().val.settings.image_size == (576, 768)
    assert SyntheticDataModule(resize=(320, 256)).val.settings.image_size == (256, 320)
    assert SyntheticDataModule(resize=(320, 256), size=SIZE).val.settings.image_size == (128, 160)


def test_configuration_makes_the_data_module() -> None:
    data = hydra.utils.instantiate(composed("data.size=[160,128]", "data.count=[3,5]", "data.train_images=2").data)
    assert isinstance(data, SyntheticDataModule)
    assert len(data.train) == 2
    assert data.train.settings.image_size == (128, 160)
    assert data.test.settings.count_range == (3, 5)
    assert data.train.augmentation is not None
    assert data.train[0].image_size == (384, 384)


def test_configuration_makes_clinical_scenes() -> None:
    data = hydra.utils.instantiate(composed("data=clinical", "data.look=qband", "data.width=[8,12]").data)
    assert isinstance(data, SyntheticDataModule)
    assert data.train.settings == MetaphaseSettings(None, None, "qband", None, [8, 12], "clinical")
    resized = hydra.utils.instantiate(composed("data=clinical", "data.resize=[320,256]").data)
    assert resized.train.settings.size is None
    sample = data.train[0]
    assert sample.image_size == (384, 384)
    assert sample.instances is not None


@pytest.mark.parametrize(
    "wrong",
    [
        "data.look=blue",
        "data.look=dapi",
        "data.scene=messy",
        "data.width=[20,10]",
        "data.size=[32,32]",
        "data.size=320",
        "data.count=[9,3]",
        "data.overlap=2",
        "data.label_map=double",
        "data.val_images=0",
        "data.augmentation.crop_size=[96]",
        "data.augmentation.scale=[0,1]",
        "data.augmentation.paste.near=1.5",
    ],
)
def test_wrong_settings_are_named_as_in_the_configuration(wrong: str) -> None:
    paste = ["data.augmentation.paste={_target_: kemr_lightning.data.paste.CopyPaste}"] if "paste" in wrong else []
    config = composed(*paste, wrong.replace("data.augmentation.paste.", "+data.augmentation.paste."))
    with pytest.raises(SettingError) as raised, settings_under("data"):
        hydra.utils.instantiate(config.data)
    assert raised.value.setting == wrong.split("=")[0]
    assert str(raised.value).startswith(wrong.replace(",", ", "))
