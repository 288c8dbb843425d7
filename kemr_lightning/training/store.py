"""A store on disk of the detections of a checkpoint, so that each image needs only one forward pass.

Refinement, knowledge and metrics depend on the model only through its instances, so trying another CRF setting needs no
forward pass. The store keeps the detector's `Detections` unchanged: boxes, scores, labels, disagreement, and mask grids
with the regions they cover. The patches of `Instances` are interpolated from the grids, hundreds of times faster than
the forward pass. Grids are smaller than patches (a 28x28 float32 grid has 3 kB, a chromosome's patch about 20 kB).
Nothing is rounded, so instances, refined masks and figures are the same to the last bit.

There is a file per image, ``ROOT/MODEL/IMAGE.safetensors``. MODEL is a digest of the checkpoint file, the model's
description and the code that predicts, and of the kind of device unless that is the CPU; IMAGE is a digest of the
image's pixels. Annotations are not part of either, so a corrected outline costs no forward pass. Only predictions in
float32 are kept and answered: those of other precisions differ. Files appear whole (written aside, then renamed), so
processes may share a store. A file whose checksum is wrong is reported and replaced. Deleting the folder is always
safe.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kemr_lightning.core.digests import data_digest, remembered_digest, settings_digest
from kemr_lightning.core.files import atomic_write
from kemr_lightning.core.instances import Detections, Sample
from kemr_lightning.training.code_digest import code_digest
from kemr_lightning.training.module import SegmentationModule

logger = logging.getLogger(__name__)

VERSION = 1
ENDING = ".safetensors"
_NEEDED = ("boxes", "scores", "labels", "grids", "regions")
_TYPES = {"labels": torch.int64}
_DIMENSIONS = {"boxes": 2, "scores": 1, "labels": 1, "grids": 3, "regions": 2, "disagreement": 1}


class PredictionStore:
    """The detections of one model, by image. A `kemr_lightning.core.contracts.DetectionStore`.

    Args:
        root: The folder of all stores, created when something is put.
        model: Digest of the model, see `model_digest`.
    """

    def __init__(self, root: str | Path, model: str) -> None:
        self.root = Path(root)
        self.model = model
        self.folder = self.root / model[:32]
        self.reused = 0
        """Cache hits since the last `tell`."""
        self.added = 0
        """Images added to the store since the last `tell`."""
        self._writable = True
        self._precision_told = False

    @classmethod
    def of(cls, root: str | Path, checkpoint: str | Path, module: SegmentationModule) -> PredictionStore:
        """The store of a checkpoint.

        Args:
            root: The folder of all stores.
            checkpoint: The file that the module's weights come from.
            module: The module.

        Raises:
            OSError: The checkpoint cannot be read.
        """
        return cls(root, model_digest(checkpoint, module))

    def path(self, sample: Sample) -> Path:
        """The file of an image."""
        folder = self.root / self._model_on(sample.image.device)[:32]
        return folder / f"{image_digest(sample.image)[:32]}{ENDING}"

    def get(self, sample: Sample) -> Detections | None:
        """Look an image up.

        Args:
            sample: The image; only its pixels count.

        Returns:
            The detections, on the image's device. None if the image is not stored, the model does not compute in
            float32, or the file is damaged, which is reported.
        """
        device = sample.image.device
        if not _computes_in_float32(device):
            return None
        path = self.path(sample)
        if not path.is_file():
            return None
        try:
            found = _read(path, self._model_on(device))
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            logger.warning("stored predictions %s are damaged (%s) and will be computed again", path, error)
            return None
        self.folder = path.parent
        self.reused += 1
        return Detections(**{name: value.to(device) for name, value in found.items()})

    def put(self, sample: Sample, detections: Detections) -> None:
        """Keep an image's detections.

        Nothing is kept if the disk cannot be written to or the detections are not float32. Either is reported once.

        Args:
            sample: The image.
            detections: Its detections, in the coordinates of the image that the detector saw.
        """
        if not self._writable:
            return
        device = sample.image.device
        if not _computes_in_float32(device) or not _has_stored_types(detections):
            if not self._precision_told:
                logger.info("initial predictions are not stored, because the model does not compute in float32")
            self._precision_told = True
            return
        tensors = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in vars(detections).items()
            if value is not None
        }
        header = {"version": str(VERSION), "model": self._model_on(device), "checksum": _checksum(tensors)}
        path = self.path(sample)
        try:
            with atomic_write(path, durable=False) as temporary:  # damage is noticed, and computed again
                temporary.write_bytes(save(tensors, metadata=header))
        except OSError as error:
            self._writable = False
            logger.warning(
                "initial predictions cannot be stored in %s (%s); the next run will compute them again",
                self.root,
                error,
            )
            return
        self.folder = path.parent
        self.added += 1

    def tell(self) -> None:
        """Log how many images were found in the store and how many were computed since the last call."""
        if self.reused:
            logger.info("initial predictions of %d images reused from %s", self.reused, self.folder)
        if self.added:
            logger.info("initial predictions of %d images computed and stored in %s", self.added, self.folder)
        self.reused = self.added = 0

    def _model_on(self, device: torch.device) -> str:
        """The digest of the model where it runs: kinds of devices, and TF32 on a GPU, round differently."""
        if device.type == "cpu":
            return self.model
        return settings_digest(self.model, device.type, torch.get_float32_matmul_precision())


def model_digest(checkpoint: str | Path, module: SegmentationModule) -> str:
    """SHA-256 of all that decides what a model predicts: weights, description, input size, views, classes and code.

    Args:
        checkpoint: The file that the module's weights come from.
        module: The module.

    Raises:
        OSError: The checkpoint cannot be read.
    """
    description = {
        "version": VERSION,
        "checkpoint": remembered_digest(checkpoint),
        "model": module.config,
        **module.scale.plain(),
        "label_names": module.label_names,
        "views": module.views,
        "code": code_digest(module),
    }
    return data_digest(json.dumps(description, sort_keys=True, default=str).encode())


def image_digest(image: Tensor) -> str:
    """SHA-256 of an image's size and pixels, ``(H, W)`` uint8."""
    pixels = image.cpu().contiguous().numpy()
    digest = hashlib.sha256(json.dumps([list(pixels.shape), str(pixels.dtype)]).encode())
    digest.update(pixels.data)
    return digest.hexdigest()


def _computes_in_float32(device: torch.device) -> bool:
    """Whether models compute in float32 here: Lightning sets autocast or the default type for other precisions."""
    return torch.get_default_dtype() == torch.float32 and not torch.is_autocast_enabled(device.type)


def _has_stored_types(detections: Detections) -> bool:
    tensors = {name: value for name, value in vars(detections).items() if value is not None}
    return all(value.dtype == _TYPES.get(name, torch.float32) for name, value in tensors.items())


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(json.dumps([name, list(array.shape), str(array.dtype)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read(path: Path, model: str) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as content:
        header = content.metadata() or {}
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    if header.get("version") != str(VERSION) or header.get("model") != model:
        raise ValueError("it belongs to another model or version")
    if set(_NEEDED) - set(tensors) or set(tensors) - set(_DIMENSIONS):
        raise ValueError(f"it holds {sorted(tensors)}")
    count = len(tensors["boxes"])
    for name, value in tensors.items():
        if len(value) != count or value.ndim != _DIMENSIONS[name] or value.dtype != _TYPES.get(name, torch.float32):
            raise ValueError(f"{name} has shape {tuple(value.shape)} and type {value.dtype}")
    if header.get("checksum") != _checksum(tensors):
        raise ValueError("its checksum does not fit")
    return tensors
