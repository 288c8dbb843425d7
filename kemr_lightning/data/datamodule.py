"""Loaders over a data folder: what is for training, validation, test and prediction, and how batches are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.coco import CocoSource
from kemr_lightning.data.dataset import LabelMap, Record, SampleDataset, map_labels, names_of
from kemr_lightning.data.folder import LabelmeSource, raise_faults, unannotated_records
from kemr_lightning.data.loading import TrainingLoader, evaluation_loader
from kemr_lightning.data.samplers import EpochSampler, Share
from kemr_lightning.data.split import GROUP_PATTERN, SPLITS, group_of, grouped_split, read_list, select

log = logging.getLogger(__name__)


class Source(Protocol):
    """An annotation format's view of a data folder."""

    parts: list[str]

    def read(self, part: str) -> list[Record]:
        """The records of one part."""


SOURCES: Mapping[str, Callable[[Path], Source]] = {"labelme": LabelmeSource, "coco": CocoSource}
"""Annotation formats."""


class SegmentationDataModule(LightningDataModule):
    """Training, validation, test and prediction samples from one folder.

    `train/` trains, `val/` selects, `test/` is reported. Without `val/` a seeded part of `train/` selects, what belongs
    together staying together; without `test/` the validation images are reported, with a warning. A folder without
    `train/` is split in the same way; `score_all` tests all of it instead.
    """

    def __init__(
        self,
        root: str | Path,
        format: str = "labelme",
        augmentation: Augmentation | None = None,
        resize: Sequence[int] | None = None,
        batch_size: int = 2,
        num_workers: int = 0,
        label_map: LabelMap = "single",
        group_pattern: str = GROUP_PATTERN,
        val_fraction: float = 0.2,
        lists: Mapping[str, str | Path | Sequence[str] | None] | None = None,
        epoch_samples: int | None = None,
        cache_mb: int = 512,
        seed: int = 0,
    ) -> None:
        """Take the settings; files are read in `setup`.

        Args:
            root: The data folder.
            format: ``"labelme"`` or ``"coco"``.
            augmentation: For training images; None trains on whole images as they are.
            resize: ``(width, height)`` that images are fitted into, or None. Only training images are resized here.
            batch_size: Training images in a batch of one process; evaluation has 1, images differing in size.
            num_workers: Worker processes of the training loader; evaluation uses as many.
            label_map: See `kemr_lightning.data.dataset.LabelMap`.
            group_pattern: See `kemr_lightning.data.split.group_of`.
            val_fraction: Part that is split off where there is no validation folder.
            lists: ``train``, ``val``, ``test``: names, or a text file of names. They replace the folders.
            epoch_samples: Training samples in an epoch; None takes every image once.
            cache_mb: Memory for decoded images, per process.
            seed: Seed of the split, the order and the augmentation.
        """
        super().__init__()
        if format not in SOURCES:
            raise UserError(f"data.format={format!r} is unknown. Use one of {', '.join(sorted(SOURCES))}.")
        self.root = Path(root)
        self.format = format
        self.augmentation = augmentation
        self.resize = resize
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.label_map = label_map
        self.group_pattern = group_pattern
        self._told: set[str] = set()
        self.val_fraction = val_fraction
        self.lists = {name: source for name, source in (lists or {}).items() if source is not None}
        self.epoch_samples = epoch_samples
        self.cache_mb = cache_mb
        self.seed = seed
        self.score_all = False
        """Set by a task that only scores: a folder without parts is then tested whole."""
        self.label_names: list[str] = []
        """Name of label 1, 2, …: known after `setup`, or set before it to those of a checkpoint."""
        self.earlier_names: list[str] = []
        """Those of a checkpoint that a training starts from: kept where they cover the data's, so that its weights for
        a class go on with that class, also if some classes do not occur."""
        self.train: SampleDataset | None = None
        self.val: SampleDataset | None = None
        self.test: SampleDataset | None = None
        self.predict: SampleDataset | None = None
        self._source: Source | None = None
        self._sources_read: dict[str, list[Record]] = {}
        self._renamed: dict[str, list[Record]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``; None is the first three.

        Raises:
            UserError: The folder is missing or empty, or a file in it is broken.
        """
        if stage == "predict":
            records = unannotated_records(self.root, self.root)
            self.predict = SampleDataset(records, self.label_names, cache_mb=0)
            return
        if not self.root.is_dir():
            raise UserError(f"data.root={self.root} is no folder. Give the folder that holds the images.")
        fit, test = stage in ("fit", "validate", None), stage in ("test", None)
        wanted = (["train", "val"] if fit else []) + (["test"] if test else [])
        parts = {part: self._records(part) for part in wanted}
        self._settle_names(parts)
        for part, records in parts.items():
            if not records:
                raise UserError(f"data.root={self.root} has no annotated images for {part}. Add some.")
        if stage in ("fit", None):
            for part in ("train", "val"):
                _need_masks(parts[part], f"data.root={self.root}", part)
            self.train = self.train or self._dataset(parts["train"], training=True)
        if fit:
            self.val = self.val or self._dataset(parts["val"])
        if test and self.test is None:
            names = [record.name for record in parts["test"]]
            shared = self.val is not None and [record.name for record in self.val.records] == names
            self.test = self.val if shared else self._dataset(parts["test"])

    def _dataset(self, records: Sequence[Record], training: bool = False) -> SampleDataset:
        augmentation = self.augmentation if training else None
        resize = self.resize if training else None
        dataset = SampleDataset(records, self.label_names, augmentation, resize, self.seed, self.cache_mb)
        # A damaged image should stop a run before its first step, not hours later.
        raise_faults(dataset.preload(), self.root)
        return dataset

    def _settle_names(self, parts: Mapping[str, list[Record]]) -> None:
        """Choose the class names, unless they are chosen: then say which of the data's are not among them."""
        present = names_of([record for records in parts.values() for record in records])
        if not self.label_names:
            covered = len(self.earlier_names) > 1 and set(present) <= set(self.earlier_names)
            self.label_names = list(self.earlier_names) if covered else present
        elif len(self.label_names) > 1 and (unknown := sorted(set(present) - set(self.label_names))):
            log.warning("labels %s are not among the model's %s: left out", unknown, self.label_names)

    def _records(self, part: str) -> list[Record]:
        """The records of one part, its labels renamed."""
        if part not in self._renamed:
            # single, the default, is for models of one class; those of several keep the labels.
            several = len(self.label_names) > 1 and self.label_map == "single"
            records = map_labels(self._choose(part), None if several else self.label_map)
            if len(self.label_names) == 1:
                records = map_labels(records, dict.fromkeys(names_of(records), self.label_names[0]))
            self._renamed[part] = records
        return self._renamed[part]

    def _parts_available(self) -> list[str]:
        if self._source is None:
            self._source = SOURCES[self.format](self.root)
        return self._source.parts

    def _files(self, part: str) -> list[Record]:
        """What the source has for a part, read once."""
        if part not in self._sources_read and self._source is not None:
            self._sources_read[part] = self._source.read(part)
        return self._sources_read[part]

    def _choose(self, part: str) -> list[Record]:
        """The files of one part; where it is missing, what stands in for it."""
        if self.lists:
            return self._choose_listed(part)
        available = self._parts_available()
        if part in available:
            records = self._files(part)
            return records if part != "train" or "val" in available else self._split_off(records, f"{part}/")[0]
        if available == ["all"]:
            everything = self._files("all")
            if part == "test" and self.score_all:
                return everything
            if part == "test":
                log.warning("%s has no test/ part: the validation images are reported, which flatters.", self.root)
            return self._split_off(everything, str(self.root))[part != "train"]
        if part == "test":
            log.warning("%s has no test/ part: the validation images are reported, which flatters.", self.root)
            return self._choose("val")
        if part == "val" and "train" in available:
            return self._split_off(self._files("train"), "train/")[1]
        raise UserError(f"data.root={self.root} has no {part}/ part. Add it, or put all images into one folder.")

    def _choose_listed(self, part: str) -> list[Record]:
        everything = [record for name in self._parts_available() for record in self._files(name)]
        chosen = {}
        for name, listed in self.lists.items():
            if name not in SPLITS:
                raise UserError(f"data.lists has {name!r}. Use train, val and test.")
            wanted = read_list(listed) if isinstance(listed, str | Path) else list(listed)
            positions = select([record.name for record in everything], wanted, f"data.lists.{name}")
            chosen[name] = sorted((everything[position] for position in positions), key=lambda record: record.name)
        _refuse_shared(chosen)
        if part in ("train", "val") and "val" not in chosen and "train" in chosen:
            return self._split_off(chosen["train"], "data.lists.train")[part == "val"]
        if part == "test" and "test" not in chosen:
            log.warning("data.lists has no test: the validation images are reported, which flatters.")
            return self._choose_listed("val")
        if part not in chosen:
            raise UserError(f"data.lists has no {part}. Add it.")
        return chosen[part]

    def _split_off(self, records: list[Record], where: str) -> tuple[list[Record], list[Record]]:
        groups = [record.group or group_of(record.name, self.group_pattern) for record in records]
        if len(set(groups)) == 1 and len(records) > 1:
            log.warning("%s: all images belong together by data.group_pattern; they are split one by one.", where)
            groups = [record.name for record in records]
        first, second = grouped_split(groups, self.val_fraction, self.seed)
        if where not in self._told:
            self._told.add(where)
            log.info("%s: %d images for training, %d for validation", where, len(first), len(second))
        return [records[position] for position in first], [records[position] for position in second]

    def train_dataloader(self) -> DataLoader[Sample]:
        """Seeded, shuffled training batches."""
        dataset = _prepared(self.train, "train")
        sampler = EpochSampler(len(dataset), self.seed, self.epoch_samples, Share.under(self.trainer))
        return TrainingLoader(dataset, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the validation images in order, one a batch."""
        return self._in_order(_prepared(self.val, "val"))

    def test_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the test images in order, one a batch."""
        return self._in_order(_prepared(self.test, "test"))

    def predict_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the folder's images in order, one a batch."""
        return self._in_order(_prepared(self.predict, "predict"))

    def _in_order(self, dataset: SampleDataset) -> DataLoader[Sample]:
        return evaluation_loader(dataset, len(dataset), Share.under(self.trainer), self.num_workers)


def _need_masks(records: Sequence[Record], where: str, part: str) -> None:
    """Refuse to train, or to choose a model, on images without anything to learn or score."""
    for record in records:
        if any(annotation.box_only for annotation in record.annotations or ()):
            raise UserError(
                f"{record.name} has boxes without masks: masks are needed for {part}. Use task=test for boxes."
            )
    if not any(record.annotations for record in records):
        raise UserError(
            f"{where}: none of the {len(records)} images for {part} has an instance. Annotate some, and check "
            "data.label_map."
        )


def _refuse_shared(chosen: Mapping[str, Sequence[Record]]) -> None:
    """Refuse an image that two lists name: a model would be chosen or scored by what it was trained on."""
    seen: dict[str, str] = {}
    for part, records in chosen.items():
        for record in records:
            other = seen.setdefault(record.name, part)
            if other != part:
                raise UserError(f"data.lists names {record.name} for {other} and {part}. Keep it in one of them.")


def _prepared(dataset: SampleDataset | None, part: str) -> SampleDataset:
    if dataset is None:
        raise RuntimeError(f"setup() has not prepared the {part} data")
    return dataset
