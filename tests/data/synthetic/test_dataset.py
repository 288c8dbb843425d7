"""Data sets of metaphases: the same in any order and process, and consistent in themselves."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.synthetic import MetaphaseSettings, SyntheticDataset
from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES, ideogram
from tests.data.synthetic.helpers import SMALL, digest

ROOT = Path(__file__).resolve().parents[3]


def test_same_images_in_any_order_and_process() -> None:
    here = SyntheticDataset(3, SMALL, seed=7)
    backwards = [here[index] for index in (2, 1, 0)][::-1]
    code = (
        "import sys; sys.path[:0] = ['.']\n"
        "from tests.data.synthetic.helpers import SMALL, digest\n"
        "from kemr_lightning.data.synthetic import SyntheticDataset\n"
        "there = SyntheticDataset(5, SMALL, seed=7)\n"
        "print(digest([there[index] for index in range(3)]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=300
    )
    assert run.stdout.split()[-1] == digest(backwards)


def test_seeds_splits_and_images_differ() -> None:
    sets = [SyntheticDataset(2, SMALL, seed=seed, split=split) for seed in (0, 1) for split in ("train", "val", "test")]
    assert len({digest([data[index]]) for data in sets for index in range(2)}) == 12


def test_samples_are_consistent() -> None:
    data = SyntheticDataset(3, MetaphaseSettings((320, 256), overlap=1.0), seed=2)
    crossings = 0
    for index in range(3):
        sample = data[index]
        assert sample.image.dtype == torch.uint8
        assert sample.image_size == (256, 320)
        assert sample.image_id == index + 1
        instances = sample.instances
        assert instances is not None
        assert instances.patches is not None
        assert set(instances.labels.tolist()) == {1}
        for box, patch in zip(instances.boxes.tolist(), instances.patches, strict=True):
            rows, columns = torch.nonzero(patch.values, as_tuple=True)
            x0, y0 = patch.x0, patch.y0
            assert box == [
                columns.min() + x0,
                rows.min() + y0,
                columns.max() + x0 + 1,
                rows.max() + y0 + 1,
            ]
            assert patch.values.dtype == torch.bool
        crossings += int((instances.masks().sum(dim=0) > 1).sum())
    assert crossings > 50


def test_whole_cell_follows_the_karyotype() -> None:
    data = SyntheticDataset(1, MetaphaseSettings((768, 576), count=46, look="gband"), label_map=None, seed=1)
    scene = data.metaphase(0)
    sample = data[0]
    assert sample.instances is not None
    assert data.label_names == list(CHROMOSOME_NAMES)
    counts = torch.bincount(sample.instances.labels, minlength=25)
    assert counts.sum() >= 44  # a few may lie beyond the border
    assert counts[1:23].max() == 2
    lengths = np.array([shape.length for shape in scene.shapes])
    megabases = np.array([ideogram(name).length for name in scene.names])
    assert np.corrcoef(lengths, megabases)[0, 1] > 0.97
    assert 4 < lengths.max() / lengths.min() < 7.5


@pytest.mark.parametrize(("size", "widths", "count"), [((320, 256), (7.5, 10.5), 17), ((768, 576), (10, 14), 46)])
def test_default_sizes(size: tuple[int, int], widths: tuple[float, float], count: int) -> None:
    scene = SyntheticDataset(1, MetaphaseSettings(size), seed=3).metaphase(0)
    assert count - 3 <= len(scene.names) <= count
    mean = np.mean([2 * shape.half_width.mean() for shape in scene.shapes])
    assert widths[0] < mean < widths[1]
    assert scene.image.shape == size[::-1]


def test_the_default_is_a_metaphase_of_768_by_576() -> None:
    assert SyntheticDataset(1).settings == MetaphaseSettings((768, 576), None, "mixed", None, None, "plain")
    assert SyntheticDataset(1).settings.image_size == (576, 768)


@pytest.mark.parametrize(("options", "setting"), [({"label_map": "double"}, "label_map"), ({"length": -1}, "length")])
def test_wrong_options_name_themselves(options: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingError) as raised:
        SyntheticDataset(**{"length": 1, "settings": SMALL, **options})
    assert raised.value.setting == setting


def test_names_and_length() -> None:
    data = SyntheticDataset(2, SMALL, split="val")
    assert len(data) == 2
    assert data.name(1) == data[1].name == "val/synthetic_00002.png"
    for index in (2, -1):
        with pytest.raises(IndexError):
            data[index]


def test_outlines_and_masks_are_those_of_the_same_chromosomes() -> None:
    data = SyntheticDataset(1, SMALL, label_map=None, seed=3)
    scene = data.metaphase(0)
    labels = [data.label_ids[annotation.label] for annotation in data.annotations(scene)]
    assert labels == data.instances(scene).labels.tolist()
    for annotation, box in zip(data.annotations(scene), data.instances(scene).boxes, strict=True):
        # A pixel of the mask is covered by half at least, so its box ends within a pixel of the outline's, cut.
        x0, y0, x1, y1 = annotation.bounds()
        cut = [max(x0, 0), max(y0, 0), min(x1, 160), min(y1, 128)]
        assert np.abs(np.array(cut) - box.numpy()).max() < 1.5


def test_the_cache_changes_nothing_and_stays_at_home() -> None:
    kept, forgetful = SyntheticDataset(3, SMALL, seed=1), SyntheticDataset(3, SMALL, seed=1, cache_mb=0)
    first = [kept[index] for index in range(3)]
    first[0].image.zero_()  # whoever gets a sample may change it
    assert digest([kept[index] for index in range(3)]) == digest([forgetful[index] for index in range(3)])
    sent = pickle.dumps(kept)
    assert len(sent) < 20_000 < first[0].image.numel()
    assert digest([pickle.loads(sent)[1]]) == digest([kept[1]])


def test_augmentation_follows_the_epoch() -> None:
    data = SyntheticDataset(2, SMALL, augmentation=Augmentation((64, 64)), scale=InputScale((320, 256)))
    assert data[1].image_size == (64, 64)
    assert digest([data[1]]) == digest([data[(1, 0)]])
    assert digest([data[(1, 4)]]) == digest([data[(1, 4)]]) != digest([data[(1, 5)]])


def test_the_cache_counts_the_bytes_of_images_of_any_size() -> None:
    settings = MetaphaseSettings(None, (2, 4), width=(4, 12), scene="clinical")
    kept, forgetful = SyntheticDataset(6, settings, cache_mb=1), SyntheticDataset(6, settings, cache_mb=0)
    order = [0, 1, 2, 3, 4, 5, 0, 3, 1]
    assert digest([kept[index] for index in order]) == digest([forgetful[index] for index in order])
    held = sum(2 * image.nbytes for image, _, _ in kept._cache.values())
    assert held <= 2**20
    assert kept._cache_left == 2**20 - held
    assert not forgetful._cache
    assert pickle.loads(pickle.dumps(kept))._cache_left == 2**20
