"""Samples of records: sizes, the cache, and whole images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.dataset import SampleDataset
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.record import Record


def decoded(pixels: np.ndarray) -> Callable[[], IntensityImage]:
    return lambda: IntensityImage(pixels)


def test_training_images_are_fitted_and_the_others_are_not() -> None:
    pixels = np.zeros((40, 60), dtype=np.uint8)
    pixels[10:30, 10:40] = 200
    box = np.array([[10.0, 10.0], [40.0, 10.0], [40.0, 30.0], [10.0, 30.0]])
    record = Record("a.png", Path("a.png"), decoded(pixels), (Annotation("a", polygons=(box,)),))
    whole = Augmentation(
        crop_size=None,
        resample_p=0,
        turns=False,
        brightness=0,
        contrast=(1, 1),
        gamma=(1, 1),
        shading=0,
        noise=0,
        blur_p=0,
    )
    sample = SampleDataset([record], ["a"], whole, scale=InputScale((120, 100)))[0]
    assert sample.image.shape == (80, 120)
    assert sample.instances.boxes.tolist() == [[20, 20, 80, 60]]
    inside = sample.image[sample.instances.masks()[0]]
    assert inside.float().mean() > 195
    plain = SampleDataset([record], ["a"], None, scale=InputScale((120, 100)))[0]
    assert plain.image.shape == (40, 60)


def test_the_cache_is_bounded_and_samples_are_copies() -> None:
    count = {"loads": 0}

    def load() -> IntensityImage:
        count["loads"] += 1
        return IntensityImage(np.zeros((1024, 512), dtype=np.uint8))

    records = [Record(f"{n}.png", Path("x"), load, ()) for n in range(4)]
    dataset = SampleDataset(records, [], cache_mb=1)
    for index in (0, 1, 0, 1):
        dataset[index].image.fill_(7)
    assert count["loads"] == 2
    assert int(dataset[0].image.max()) == 0
    for index in (2, 3, 0):
        _ = dataset[index]
    assert count["loads"] == 5
    with pytest.raises(IndexError):
        dataset[4]


def test_preloading_fills_the_cache_and_no_more() -> None:
    count = {"loads": 0}

    def load() -> IntensityImage:
        count["loads"] += 1
        return IntensityImage(np.zeros((1024, 512), dtype=np.uint8))

    dataset = SampleDataset([Record(f"{n}.png", Path("x"), load, ()) for n in range(3)], [], cache_mb=1)
    assert dataset.preload() == []
    assert count["loads"] == 3
    _ = dataset[0], dataset[1]
    assert count["loads"] == 3
    _ = dataset[2]
    assert count["loads"] == 4


def test_annotations_that_cover_nothing_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    speck = np.array([[5.0, 5.0], [5.1, 5.0], [5.1, 5.1]])
    annotations = tuple(Annotation("a", polygons=(speck + shift,)) for shift in (0, 100))
    record = Record("a.png", Path("a.png"), decoded(np.zeros((20, 20), dtype=np.uint8)), annotations)
    dataset = SampleDataset([record], ["a"])
    for _ in range(2):
        assert len(dataset[0].instances) == 0
    assert caplog.text.count("a.png: 2 annotations cover no pixel") == 1


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (40, 60), dtype=np.uint8)


def test_plain_samples_are_whole_and_unaugmented() -> None:
    records = [Record(f"{seed}.png", Path("x"), decoded(noise(seed)), ()) for seed in range(2)]
    augmented = SampleDataset(records, ["a"], Augmentation(crop_size=(32, 32)), scale=InputScale((120, 80)), seed=3)
    assert augmented[1].image.shape == (32, 32)
    plain = augmented.plain()
    assert [plain[index].name for index in range(2)] == ["0.png", "1.png"]
    assert all(torch.equal(plain[seed].image, torch.from_numpy(noise(seed))) for seed in range(2))
    assert plain.label_names == ["a"]
    assert augmented[1].image.shape == (32, 32)


def test_items_depend_on_seed_epoch_and_index_alone() -> None:
    records = [Record(f"{seed}.png", Path("x"), decoded(noise(seed)), ()) for seed in range(2)]

    def image(seed: int, key: int | tuple[int, int]) -> torch.Tensor:
        return SampleDataset(records, [], Augmentation(crop_size=(32, 32)), seed=seed)[key].image

    assert torch.equal(image(0, 1), image(0, (1, 0)))
    others = [image(0, (1, 1)), image(1, (1, 0)), image(0, (0, 0))]
    assert not any(torch.equal(image(0, (1, 0)), other) for other in others)


def test_damaged_images_are_named_when_preloading() -> None:
    def damaged() -> IntensityImage:
        raise UserError("b.png cannot be decoded")

    records = [Record("a.png", Path("x"), decoded(noise())), Record("b.png", Path("x"), damaged)]
    dataset = SampleDataset(records, [])
    assert dataset.preload() == ["b.png cannot be decoded"]
    assert dataset[0].instances is None


def no_pixels() -> IntensityImage:
    return IntensityImage(np.zeros((1024, 1024), dtype=np.uint8))


def test_worker_processes_get_no_decoded_images() -> None:
    dataset = SampleDataset([Record("a.png", Path("x"), no_pixels)], [], cache_mb=4)
    before = len(pickle.dumps(dataset))
    dataset.preload()
    assert len(pickle.dumps(dataset)) == before
    copied = pickle.loads(pickle.dumps(dataset))
    assert copied[0].image.shape == (1024, 1024)
