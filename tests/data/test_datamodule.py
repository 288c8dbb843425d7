"""Data sets and loaders: parts, labels, order, seeds, sizes, and errors before training."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from PIL import Image

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.dataset import SampleDataset
from tests.conftest import compose
from tests.data.helpers import TRIANGLE, same_instances, shape, write_labelme_file

SMALL = Augmentation(crop_size=(32, 32), min_area=1)


def folder(root: Path, parts: dict[str, list[str]]) -> Path:
    """Labelme files of random pixels."""
    rng = np.random.default_rng(0)
    for part, stems in parts.items():
        for stem in stems:
            image = rng.integers(0, 255, (40, 60), dtype=np.uint8)
            write_labelme_file(root / part, stem, [shape(TRIANGLE, label=stem[0])], image)
    return root


def names(dataset: SampleDataset | None) -> list[str]:
    assert dataset is not None
    return [record.name for record in dataset.records]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return folder(tmp_path / "flat", {"": [f"{n}{letter}" for n in range(10) for letter in "ab"]})


def test_folders(tmp_path: Path) -> None:
    root = folder(tmp_path, {"train": ["b1", "a1"], "val": ["c1"], "test": ["d1", "d2"]})
    data = SegmentationDataModule(root)
    data.setup("fit")
    data.setup("test")
    assert names(data.train) == ["train/a1.png", "train/b1.png"]
    assert names(data.val) == ["val/c1.png"]
    assert names(data.test) == ["test/d1.png", "test/d2.png"]
    assert data.label_names == ["chromosome"]
    (batch,) = list(data.val_dataloader())
    (sample,) = batch
    assert isinstance(sample, Sample)
    assert (sample.name, sample.image_id) == ("val/c1.png", 1)
    assert sample.image.dtype == torch.uint8
    assert sample.path == str(root / "val" / "c1.png")
    assert [s.image_id for batch in data.test_dataloader() for s in batch] == [1, 2]


def test_without_val_a_grouped_part_of_train_selects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder(tmp_path, {"train": [f"{n}{letter}" for n in range(10) for letter in "ab"]})
    data = SegmentationDataModule(root)
    data.setup("fit")
    data.setup("test")
    assert len(names(data.val)) == 4
    assert sorted(names(data.train) + names(data.val)) == sorted(f"train/{n}{c}.png" for n in range(10) for c in "ab")
    groups = [{name[:-5] for name in names(dataset)} for dataset in (data.train, data.val)]
    assert not groups[0] & groups[1]
    assert names(data.test) == names(data.val)
    assert "no test/ part" in caplog.text
    again = SegmentationDataModule(root)
    again.setup("fit")
    assert names(again.val) == names(data.val)
    other = SegmentationDataModule(root, seed=3)
    other.setup("fit")
    assert names(other.val) != names(data.val)


def test_val_is_reported_without_test(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = SegmentationDataModule(folder(tmp_path, {"train": ["a1"], "val": ["b1"]}))
    data.setup("test")
    assert names(data.test) == ["val/b1.png"]
    assert "no test/ part" in caplog.text
    assert data.train is None


def test_a_flat_folder_is_split_or_scored_whole(flat: Path) -> None:
    data = SegmentationDataModule(flat)
    data.setup("fit")
    data.setup("test")
    assert (len(names(data.train)), len(names(data.val))) == (16, 4)
    assert data.test is data.val
    whole = SegmentationDataModule(flat)
    whole.score_all = True
    whole.setup("test")
    assert len(names(whole.test)) == 20


@pytest.mark.parametrize("part", ["train", "val"])
def test_there_is_something_to_learn_and_to_choose_by(tmp_path: Path, part: str) -> None:
    root = folder(tmp_path, {"train": ["a", "b"], "val": ["c"], "test": ["d"]})
    for path in (root / part).glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"shapes": []}))
    with pytest.raises(UserError, match=f"has no instance in its [12] images for {part}"):
        SegmentationDataModule(root).setup("fit")
    SegmentationDataModule(root).setup("test")


def test_labels(tmp_path: Path) -> None:
    root = folder(tmp_path, {"train": ["b1", "a1", "c1"], "val": ["a2"], "test": ["d1", "b2"]})
    kept = SegmentationDataModule(root, label_map=None)
    kept.setup("fit")
    assert kept.label_names == ["a", "b", "c"]
    assert [kept.train[i].instances.labels.tolist() for i in range(3)] == [[1], [2], [3]]
    kept.setup("test")
    assert [len(kept.test[i].instances) for i in range(2)] == [1, 0]  # the model knows no d

    mapped = SegmentationDataModule(root, label_map={"a": "x", "b": "x", "c": None})
    mapped.setup("fit")
    assert mapped.label_names == ["x"]
    assert [len(mapped.train[i].instances) for i in range(3)] == [1, 1, 0]
    with pytest.raises(SettingError, match=r"does not name the label 'd' of test/d1\.png"):
        mapped.setup("test")
    with pytest.raises(SettingError, match="label_map=merge is unknown"):
        SegmentationDataModule(root, label_map="merge").setup("fit")

    given = SegmentationDataModule(root, label_map=None)
    given.label_names = ["c", "b"]
    given.setup("test")
    assert [given.test[i].instances.labels.tolist() for i in range(2)] == [[2], []]
    one = SegmentationDataModule(root)
    one.label_names = ["chr"]
    one.setup("test")
    assert one.test[0].instances.labels.tolist() == [1]


def test_classes_of_a_model(tmp_path: Path) -> None:
    """What 24-class models need: classes in the order of a karyotype, and their own names when they are scored."""
    root = tmp_path / "data"
    for index, label in enumerate(("10", "X", "2", "1", "Y")):
        write_labelme_file(root, f"image_{index}", [shape(TRIANGLE, label=label)])
    data = SegmentationDataModule(root, label_map=None)
    data.setup("fit")
    assert data.label_names == ["1", "2", "10", "X", "Y"]
    # The default of data.label_map is for models of one class; a model of several keeps the labels it knows.
    scored = SegmentationDataModule(root, label_map="single")
    scored.label_names, scored.score_all = ["1", "2", "X"], True
    scored.setup("test")
    assert scored.test is not None
    labels = [sample.instances.labels.tolist() for sample in scored.test if sample.instances is not None]
    assert labels == [[], [3], [2], [1], []]


def test_a_training_keeps_the_classes_of_its_initial_weights(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for index, label in enumerate(("2", "X", "2")):
        write_labelme_file(root, f"image_{index}", [shape(TRIANGLE, label=label)])
    for earlier, expected in (
        (["1", "2", "X"], ["1", "2", "X"]),
        (["1", "2"], ["2", "X"]),
        (["chromosome"], ["2", "X"]),
        ([], ["2", "X"]),
    ):
        data = SegmentationDataModule(root, label_map=None)
        data.earlier_names = earlier
        data.setup("fit")
        assert data.label_names == expected
    data = SegmentationDataModule(root)
    data.earlier_names = ["1", "2", "X"]
    data.setup("fit")
    assert data.label_names == ["chromosome"]


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_missing_or_empty_root_is_named(tmp_path: Path, stage: str) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=str(root)):
            SegmentationDataModule(root).setup(stage)


def test_damaged_images_are_named_at_setup(tmp_path: Path) -> None:
    root = folder(tmp_path, {"train": ["a1", "b1", "c1"], "val": ["d1"], "test": ["e1", "f1"]})
    for name in ("train/b1.png", "test/f1.png"):
        path = root / name
        path.write_bytes(path.read_bytes()[:900])
    data = SegmentationDataModule(root)
    with pytest.raises(UserError, match=r"train/b1\.png cannot be decoded"):
        data.setup("fit")
    with pytest.raises(UserError, match=r"test/f1\.png cannot be decoded"):
        data.setup("test")


def test_boxes_are_no_training_data(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(tmp_path / "b.png")
    images = [{"id": n, "file_name": name, "height": 40, "width": 60} for n, name in enumerate(("a.png", "b.png"))]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 10, 10]} for n in range(2)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "chr"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    data = SegmentationDataModule(tmp_path, format="coco")
    with pytest.raises(UserError, match="boxes without masks"):
        data.setup("fit")
    data.setup("test")
    (sample,) = next(iter(data.test_dataloader()))
    assert sample.instances.patches is None
    assert sample.instances.boxes.tolist() == [[1, 2, 11, 12]]


def test_boxes_among_masks_train_and_do_not_score(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in range(2)]
    annotations = [{"id": n, "image_id": n // 2, "category_id": 1, "bbox": [1, 2, 10, 10]} for n in range(4)]
    for annotation in annotations[::2]:
        annotation["segmentation"] = [[20, 20, 40, 20, 40, 30, 20, 30]]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "chr"}]}
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for n in range(2):
            Image.fromarray(np.full((40, 60), n + 9 * len(part), dtype=np.uint8)).save(tmp_path / part / f"{n}.png")
        (tmp_path / part / "a.json").write_text(json.dumps(content))
    data = SegmentationDataModule(tmp_path, format="coco", augmentation=Augmentation(None), scale=None)
    data.setup("train")
    data.setup("test")
    assert data.val is None
    assert data.train is not None
    assert data.test is not None
    outlined = data.train[0].instances.outlined
    assert sorted(outlined.tolist()) == [False, True]
    assert len(data.test[0].instances) == 1
    assert "2 of 4 annotations for test have a box and no mask, left out" in caplog.text


def test_formats_are_checked(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"format=dota is unknown\. Use one of coco, cvat"):
        SegmentationDataModule(tmp_path, format="dota")


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_follow_seed_and_epoch(flat: Path, workers: int) -> None:
    def epoch(number: int, seed: int = 0, workers: int = workers) -> list[Sample]:
        data = SegmentationDataModule(flat, augmentation=SMALL, batch_size=3, num_workers=workers, seed=seed)
        data.setup("fit")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(number)
        batches = list(loader)
        assert [len(batch) for batch in batches] == [3] * 5
        return [sample for batch in batches for sample in batch]

    first, same, inline = epoch(0), epoch(0), epoch(0, workers=0)
    for one, two, three in zip(first, same, inline, strict=True):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.image, three.image)
        assert one.image.shape == (32, 32)
        assert same_instances(one.instances, two.instances)
    later, other = epoch(1), epoch(0, seed=1)
    by_name = {sample.name: sample.image for sample in first}
    assert not any(torch.equal(by_name.get(sample.name, torch.zeros(0)), sample.image) for sample in later + other)


class Listener(LightningModule):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[float]] = []

    def training_step(self, batch: list[Sample], index: int) -> torch.Tensor:
        self.seen.append([float(sample.image.float().mean()) for sample in batch])
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_every_epoch_of_a_trainer_brings_new_samples_and_reruns_the_same(flat: Path) -> None:
    runs = []
    for _ in range(2):
        data = SegmentationDataModule(flat, augmentation=SMALL, batch_size=4)
        module = Listener()
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=3,
            logger=False,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
        runs.append([value for batch in module.seen for value in batch])
    assert runs[0] == runs[1]
    assert len(runs[0]) == len(set(runs[0])) == 48


@pytest.mark.parametrize("name", ["labelme", "coco"])
def test_configs_build(name: str, tmp_path: Path) -> None:
    config = compose(f"data={name}", f"data.root={tmp_path}", "seed=4")
    data = instantiate(config.data)
    assert isinstance(data, SegmentationDataModule)
    assert data.format == name
    assert data.seed == 4
    assert data.augmentation == Augmentation(
        crop_size=[384, 384], scale=[0.8, 1.25], contrast=[0.75, 1.33], gamma=[0.75, 1.33]
    )


def test_regions_to_ignore_and_groups_are_read_as_they_are_meant(tmp_path: Path) -> None:
    far = [[x + 25, y] for x, y in TRIANGLE[::-1]]
    near = [[x * 0.2, y * 0.2] for x, y in TRIANGLE]
    shapes = [shape(near, group_id=1), shape([[x + 30, y] for x, y in near], group_id=1), shape(far, "__ignore__")]
    for part in ("train", "val", "test"):
        write_labelme_file(tmp_path / part, part, shapes)
    data = SegmentationDataModule(tmp_path)
    data.setup("test")
    assert data.test is not None
    sample = data.test[0]
    assert sample.instances is not None
    assert sample.instances.ignored is not None
    assert (len(sample.instances), len(sample.instances.ignored)) == (1, 1)
    apart = SegmentationDataModule(tmp_path, groups="separate", ignore_labels=[])
    apart.setup("test")
    assert apart.test is not None
    assert len(apart.test[0].instances or ()) == 3


def test_nothing_but_crowds_names_the_setting(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_labelme_file(tmp_path / part, part, [shape(TRIANGLE, "ignore")])
    with pytest.raises(SettingError, match=r"^ignore_labels=.* leaves no instance in the 1 images for train: all 1"):
        SegmentationDataModule(tmp_path).setup("fit")
    for part in ("train", "val"):
        coco = {
            "images": [{"id": 1, "file_name": f"{part}.png"}],
            "categories": [{"id": 1, "name": "chr"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 9, 9], "iscrowd": 1}],
        }
        coco["annotations"][0]["segmentation"] = [[5, 5, 14, 5, 14, 14, 5, 14]]
        (tmp_path / part / f"{part}.json").write_text(json.dumps(coco))
    with pytest.raises(SettingError, match=r"^crowds=ignore leaves no .* crowds \(iscrowd=1\).* use instances"):
        SegmentationDataModule(tmp_path, format="coco").setup("fit")
    kept = SegmentationDataModule(tmp_path, format="coco", crowds="instances")
    kept.setup("fit")
    assert kept.train is not None
