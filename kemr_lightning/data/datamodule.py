"""Loaders over a data folder, for training, validation and testing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.annotation import EVERY_CLASS, Annotation
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.dataset import SampleDataset
from kemr_lightning.data.faults import raise_faults
from kemr_lightning.data.folder import READ_SUFFIXES, check_links
from kemr_lightning.data.formats import DEFAULT, format_named
from kemr_lightning.data.image import MAX_PIXELS, Reading, tell_channels
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.intensity import Channel
from kemr_lightning.data.labels import LabelMap, as_label_map, labels_of, map_labels, names_of
from kemr_lightning.data.loading import TrainingLoader, evaluation_loader
from kemr_lightning.data.parts import Lists, Parts
from kemr_lightning.data.record import Record
from kemr_lightning.data.regions import IGNORE_LABELS, Regions
from kemr_lightning.data.samplers import EpochSampler, Share
from kemr_lightning.data.split import GROUP_PATTERN

log = logging.getLogger(__name__)


class SegmentationDataModule(LightningDataModule):
    """Training, validation and test samples from one folder.

    `train/` is for training, `val/` for model selection, `test/` for testing; `kemr_lightning.data.parts.Parts` says
    what replaces a missing part. With `score_all` a folder without parts is tested as a whole.
    """

    score_all = False
    """Set by a task that only scores: a folder without parts is then tested as a whole."""
    train: SampleDataset | None = None
    val: SampleDataset | None = None
    test: SampleDataset | None = None

    def __init__(
        self,
        root: str | Path,
        format: str = DEFAULT,
        augmentation: Augmentation | None = None,
        resize: Sequence[int] | None = None,
        scale: str | None = None,
        batch_size: int = 2,
        num_workers: int = 0,
        label_map: LabelMap = "single",
        group_pattern: str = GROUP_PATTERN,
        val_fraction: float = 0.2,
        lists: Lists | None = None,
        epoch_samples: int | None = None,
        cache_mb: int = 512,
        seed: int = 0,
        crowds: str = "ignore",
        ignore_labels: Sequence[str] = IGNORE_LABELS,
        groups: str = "join",
        follow_links: bool = False,
        channel: Channel = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Take the settings; files are read in `setup`.

        Args:
            root: The data folder.
            format: Name of the annotation format, see `kemr_lightning.data.formats.FORMATS`.
            augmentation: For training images; None trains on whole images as they are.
            resize: ``(width, height)`` that training images are fitted into, or None. Others keep their size here.
            scale: See `InputScale.of`.
            batch_size: Training images in a batch of one process. Evaluation takes one at a time, since sizes differ.
            num_workers: Worker processes of each loader.
            label_map: See `kemr_lightning.data.labels.as_label_map`.
            group_pattern: See `kemr_lightning.data.split.group_of`.
            val_fraction: Share of the images to split off where there is no validation part.
            lists: Names of each part's images, see `kemr_lightning.data.parts.Lists`; they replace the folders.
            epoch_samples: Training samples in an epoch; None takes every image once.
            cache_mb: MiB of memory for decoded images, per data set and process.
            seed: Seed of the split, the order and the augmentation.
            crowds: See `kemr_lightning.data.regions.Regions`.
            ignore_labels: Likewise.
            groups: Likewise.
            follow_links: Whether links that lead out of ``root`` are followed.
            channel: See `kemr_lightning.data.image.Reading`.
            max_pixels: See `kemr_lightning.data.image.Reading`.

        Raises:
            SettingError: There is no such format, or a setting makes no sense.
        """
        super().__init__()
        self.root = Path(root)
        self.format = format
        self.augmentation = augmentation
        self.scale = InputScale.of(resize, scale)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.label_map = as_label_map(label_map)
        self.regions = Regions(crowds, ignore_labels, groups)
        self.epoch_samples, self.cache_mb = epoch_samples, cache_mb
        self.seed = seed
        self.follow_links = follow_links
        self.score_all = False
        """Set by a task that only scores: a folder without parts is then tested as a whole."""
        self.label_names: list[str] = []
        """Names of labels 1, 2, …: known after `setup`, or set before it to those of a checkpoint."""
        self.earlier_names: list[str] = []
        """Names of a checkpoint that a training starts from. They are kept if they cover the data's, so that its
        weights for a class stay with that class even if some classes do not occur."""
        reading = Reading(channel, max_pixels)
        self._parts = Parts(self.root, format_named(format), lists, group_pattern, val_fraction, seed, reading)
        self._renamed: dict[str, list[Record]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs.

        Args:
            stage: ``"fit"`` (training and validation), ``"train"`` (training alone), ``"validate"`` or ``"test"``;
                None for all.

        Raises:
            UserError: The folder is missing or empty, a link leads out of it, or a file in it is broken.
        """
        if not self.root.is_dir():
            raise SettingError("root", self.root, "is not a folder", "Give the folder that holds the images")
        if not self._parts.known:
            check_links(self.root, self.follow_links, READ_SUFFIXES)
        fit, test = stage in ("fit", "validate", None), stage in ("test", None)
        train = stage in ("fit", "train", None)
        wanted = ["train"] * train + ["val"] * fit + ["test"] * test
        parts = {part: self._records(part) for part in wanted}
        self._settle_names(parts)
        for part, records in parts.items():
            if not records:
                raise SettingError("root", self.root, f"has no annotated images for {part}", "Add some")
        if train:
            self._need_masks(parts["train"], "train")
        if stage in ("fit", None):
            self._need_masks(parts["val"], "val")
        if train:
            self.train = self.train or self._dataset(parts["train"], training=True)
        if fit:
            self.val = self.val or self._dataset(parts["val"])
        if test and self.test is None:
            names = [record.name for record in parts["test"]]
            shared = self.val is not None and [record.name for record in self.val.records] == names
            self.test = self.val if shared else self._dataset(parts["test"])

    def _dataset(self, records: Sequence[Record], training: bool = False) -> SampleDataset:
        augmentation = self.augmentation if training else None
        dataset = SampleDataset(records, self.label_names, augmentation, self.scale, self.seed, self.cache_mb)
        # A damaged image should stop a run before its first step, not hours later.
        raise_faults(dataset.preload(), self.root)
        tell_channels(dataset.channels)
        return dataset

    def _records(self, part: str) -> list[Record]:
        """The records of one part with their labels renamed."""
        if part not in self._renamed:
            # single, the default, is for models of one class; those of several keep the labels.
            several = len(self.label_names) > 1 and self.label_map == "single"
            label_map = None if several else self.label_map
            records = self.regions.apply(self._parts.records(part, self.score_all), label_map)
            records = map_labels(records, label_map)
            if len(self.label_names) == 1:
                records = map_labels(records, dict.fromkeys(labels_of(records), self.label_names[0]))
            self._renamed[part] = records if part == "train" else _without_stray_boxes(records, self.root, part)
        return self._renamed[part]

    def _settle_names(self, parts: Mapping[str, list[Record]]) -> None:
        """Choose the class names. If they are given already, warn of labels that are not among them."""
        present = names_of([record for records in parts.values() for record in records])
        if not self.label_names:
            covered = len(self.earlier_names) > 1 and set(present) <= set(self.earlier_names)
            self.label_names = list(self.earlier_names) if covered else present
        elif len(self.label_names) > 1 and (unknown := sorted(set(present) - set(self.label_names))):
            log.warning("labels %s are not among the model's %s: left out", unknown, self.label_names)

    def _need_masks(self, records: Sequence[Record], part: str) -> None:
        """Refuse to train, or to select a model, on images with nothing to learn or score."""
        annotations = [annotation for record in records for annotation in record.annotations or ()]
        everything = [annotation for annotation in annotations if not annotation.crowd]
        boxes = sum(annotation.box_only for annotation in everything)
        mixed = part == "train" and boxes < len(everything)
        if boxes and mixed:
            log.info("%s: %d of %d instances for training have a box and no mask", self.root, boxes, len(everything))
        for record in records:
            if any(a.box_only and not a.crowd for a in record.annotations or ()) and not mixed:
                raise UserError(
                    f"{record.name} has boxes without masks: masks are needed for {part}. Outline its chromosomes; "
                    "boxes can only be tested"
                )
        if annotations and all(annotation.crowd for annotation in annotations):
            problem = (
                f"leaves no instance in the {len(records)} images for {part}: all {len(annotations)} annotations are"
            )
            if any(annotation.label != EVERY_CLASS for annotation in annotations):
                cure = "If they are chromosomes, as CVAT exports masks drawn with its brush, use instances"
                raise SettingError("crowds", self.regions.crowds, f"{problem} crowds (iscrowd=1)", cure)
            cure = "Take the label of the chromosomes off the list, or annotate some"
            raise SettingError("ignore_labels", list(self.regions.ignore_labels), f"{problem} to be ignored", cure)
        if not annotations:
            problem = f"has no instance in its {len(records)} images for {part}"
            raise SettingError("root", self.root, problem, "Annotate some, and check the label map")

    def train_dataloader(self) -> DataLoader[Sample]:
        """Seeded, shuffled training batches."""
        dataset = _prepared(self.train, "train")
        sampler = EpochSampler(len(dataset), self.seed, self.epoch_samples, Share.under(self.trainer))
        return TrainingLoader(dataset, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the validation images, in order, one in a batch."""
        return self._in_order(_prepared(self.val, "val"))

    def test_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the test images, in order, one in a batch."""
        return self._in_order(_prepared(self.test, "test"))

    def _in_order(self, dataset: SampleDataset) -> DataLoader[Sample]:
        return evaluation_loader(dataset, len(dataset), Share.under(self.trainer), self.num_workers)


def _prepared(dataset: SampleDataset | None, part: str) -> SampleDataset:
    if dataset is None:
        raise RuntimeError(f"setup() has not prepared the {part} data")
    return dataset


def _without_stray_boxes(records: list[Record], folder: Path, part: str) -> list[Record]:
    """Leave out annotations with a box only if others have masks: a box is not a mask."""
    everything = [a for record in records for a in record.annotations or () if not a.crowd]
    boxes = sum(_is_stray(annotation) for annotation in everything)
    if boxes in (0, len(everything)):
        return records
    log.warning(
        "%s: %d of %d annotations for %s have a box and no mask, left out", folder, boxes, len(everything), part
    )
    return [replace(r, annotations=tuple(a for a in r.annotations or () if not _is_stray(a))) for r in records]


def _is_stray(annotation: Annotation) -> bool:
    """Whether an annotation is an instance of which only the box is known."""
    return annotation.box_only and not annotation.crowd
