"""Training on several data sets at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.mixture import Chain, MixtureDataModule, WeightedMixture
from kemr_lightning.data.synthetic import SyntheticDataModule

TINY = partial(SyntheticDataModule, train_images=3, val_images=2, test_images=1, size=[128, 96], count=3)
SEEN = Augmentation((64, 64))


def mixture(**settings: object) -> MixtureDataModule:
    sources = {"dark": partial(TINY, look="gband"), "bright": partial(TINY, look="fluorescence")}
    return MixtureDataModule(**{"sources": sources, "augmentation": SEEN, **settings})  # type: ignore[arg-type]


def is_dark_on_bright(image: torch.Tensor) -> bool:
    return bool(image.float().median() > 128)


def test_samples_come_by_weight() -> None:
    data = mixture(weights={"dark": 3}, epoch_samples=200, augmentation=Augmentation((64, 64), invert_p=0.0))
    data.setup("fit")
    assert data.train is not None
    dark = sum(is_dark_on_bright(data.train[(index, 0)].image) for index in range(200))
    assert 130 <= dark <= 170  # 150 expected, 6 standard deviations of 6.1 would be 37


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    first, second = mixture(), mixture()
    first.setup("fit")
    second.setup("fit")
    assert first.train is not None
    assert second.train is not None
    late = second.train[(5, 3)].image
    assert torch.equal(first.train[(5, 3)].image, late)
    assert not torch.equal(first.train[(5, 4)].image, late)
    assert first.train[(5, 3)].image_id == 6


def test_validation_is_that_of_all_sources_with_ids_of_its_own() -> None:
    data = mixture()
    data.setup()
    assert data.val is not None
    assert data.test is not None
    assert [data.val[index].image_id for index in range(len(data.val))] == [1, 2, 3, 4]
    assert [is_dark_on_bright(data.val[index].image) for index in range(4)] == [True, True, False, False]
    assert len(data.test) == 2
    with pytest.raises(IndexError):
        data.val[4]


def test_sources_that_do_not_validate_only_train() -> None:
    data = mixture(validate=["bright"])
    data.setup("fit")
    assert data.val is not None
    assert len(data.val) == 2
    assert isinstance(data.train, WeightedMixture)
    assert len(data.train.parts) == 2


def test_a_source_of_weight_zero_does_not_train() -> None:
    data = mixture(weights={"dark": 0})
    data.setup("fit")
    assert data.train is not None
    assert len(data.train.parts) == 1
    assert len(data.train) == 3


def test_settings_are_shared_unless_a_source_has_its_own() -> None:
    data = mixture(sources={"a": TINY, "b": partial(TINY, seed=9)}, seed=4, scale="auto")
    assert [source.seed for source in data.sources.values()] == [4, 9]
    assert all(source.scale.width for source in data.sources.values())


def test_loaders_give_batches() -> None:
    data = mixture(batch_size=2)
    data.setup("fit")
    assert [len(batch) for batch in data.train_dataloader()] == [2, 2, 2]
    assert [len(batch) for batch in data.val_dataloader()] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sources": {}}, "sources"),
        ({"weights": {"gray": 1}}, r"weights\.gray"),
        ({"weights": {"dark": -1}}, r"weights\.dark"),
        ({"weights": {"dark": 0, "bright": 0}}, "weights"),
        ({"validate": ["gray"]}, "validate"),
    ],
)
def test_wrong_settings_are_named(settings: dict, named: str) -> None:
    with pytest.raises(SettingError, match=named):
        mixture(**settings)


def test_a_source_of_other_classes_is_refused() -> None:
    data = mixture(sources={"one": TINY, "many": partial(TINY, label_map=None)})
    with pytest.raises(SettingError, match=r"sources\.many"):
        data.setup("fit")


def test_a_chain_of_nothing_is_empty(tmp_path: Path) -> None:
    assert len(Chain([])) == 0
