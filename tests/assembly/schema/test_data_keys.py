"""The keys of data and augmentation: what they may be."""

from __future__ import annotations

import pytest

from kemr_lightning.assembly.schema.validate import wrong_settings
from tests.assembly.schema.helpers import settings


@pytest.mark.parametrize(
    "overrides",
    [
        "data.root=x data.label_map={a:b,2:null}",
        "data.root=x data.lists={train:file.txt,val:[a,b]}",
        "data.resize=[1280,1024]",
        "data.augmentation=null",
        "data.augmentation.crop_size=null",
        "data.augmentation.paste={_target_:kemr_lightning.data.paste.CopyPaste,p:0.5}",
        "data=synthetic data.count=5",
        "data=synthetic data.count=[3,5]",
        "data=synthetic data.label_map=null",
        "data.root=null",
        "data.follow_links=true",
        "data.epoch_samples=10",
    ],
)
def test_what_is_possible(overrides: str) -> None:
    assert not wrong_settings(settings(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        "data.batch_size=0",
        "data.num_workers=-1",
        "data.num_workers=100000",
        "data.resize=640",
        "data.resize=[0,0]",
        "data.seed=-1",
        "data.val_fraction=0",
        "data.val_fraction=1",
        "data.val_fraction=2",
        "data.cache_mb=-1",
        "data.epoch_samples=0",
        "data.follow_links=1",
        "data.label_map=[a]",
        "data.group_pattern='('",
        "data.lists=5",
        "data.augmentation.crop_size=96",
        "data.augmentation.crop_size=[0,0]",
        "data.augmentation.scale=[2,1]",
        "data.augmentation.scale=1",
        "data.augmentation.contrast=[0,1]",
        "data.augmentation.rotate=-1",
        "data.augmentation.noise=1000",
        "data.augmentation.blur_p=1.5",
        "data.augmentation.turns=maybe",
        "data.augmentation.min_area=-1",
        "data.augmentation.paste=true",
        "data=synthetic data.train_images=0",
        "data=synthetic data.size=[10,10]",
        "data=synthetic data.look=pink",
        "data=synthetic data.overlap=2",
        "data=synthetic data.count=[5,3]",
        "data=synthetic data.width=1",
        "data=synthetic data.label_map=many",
    ],
)
def test_what_is_not(overrides: str) -> None:
    key = overrides.split()[-1].lstrip("+").split("=")[0]
    assert [each.key for each in wrong_settings(settings(overrides))] == [key]
