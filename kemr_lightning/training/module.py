"""The Lightning module: losses, optimiser, schedule, prediction. It knows no metric, no CRF and no file format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kemr_lightning.core.contracts import DetectionStore, as_detector
from kemr_lightning.core.distributed import everywhere
from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.geometry import place_detections, resize_image
from kemr_lightning.core.instances import Detections, Instances, Sample
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.training.attempt import Attempt, random_states

logger = logging.getLogger(__name__)

INTENSITY_RULE = "uint8 luma, 16 bit by percentile window"


def model_input(image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Convert an intensity image to what a detector sees.

    Args:
        image: ``(H, W)`` uint8.
        size: ``(h, w)`` that it is resized to, or None for its own.

    Returns:
        ``(1, h, w)`` float32 in [0, 1].
    """
    return (image if size is None else resize_image(image, size))[None].float() / 255


class DivergedError(UserError):
    """A training diverges, because its steps are too large."""

    CURE = "Lower the learning rate, or add warm-up steps to the schedule"


class SegmentationModule(pl.LightningModule):
    """Trains a detector and predicts instances with it.

    Args:
        detector: A `kemr_lightning.core.contracts.Detector`.
        optimizer: Called with the parameters; None for a module that only predicts.
        scheduler: Called with the optimiser and the run's number of steps; stepped after every step.
        config: The description that ``detector`` was built from (a resolved ``conf/model``), plain values only; it is
            stored in checkpoints.
        label_names: Names of labels 1, 2, ...
        scale: How images are scaled before the detector sees them; None keeps their size.

    Raises:
        UserError: The detector lacks an attribute of the protocol.
    """

    def __init__(
        self,
        detector: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
        config: Mapping[str, Any] | None = None,
        label_names: Sequence[str] = ("chromosome",),
        scale: InputScale | None = None,
    ) -> None:
        super().__init__()
        self.detector = as_detector(detector)
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.config = dict(config or {})
        self.label_names = list(label_names)
        self.scale = scale or InputScale()
        self.limit_reached = False
        self.views = 1
        """How many rotated and mirrored views of an image a prediction averages; set by `look_in`."""
        self.seed: int | None = None
        """Seeds each step's draws, together with the step's number: a resumed training draws what it would have drawn
        without the interruption, whatever was drawn in between."""
        self.settings: dict[str, Any] = {}
        """What decides the course of the training, dotted keys and plain values; kept in checkpoints."""
        self.store: DetectionStore | None = None
        """Keeps detections for later runs. Only for weights that do not change, those of a checkpoint."""
        self.attempts: list[Attempt] | None = None
        """The forward passes of the current step, for a callback that deals with losses that are not finite. None if
        there is no such callback: such a loss then raises an error."""
        self.step_skipped = False
        """Whether the latest step left the weights as they were, because its loss or gradient was not finite."""

    def on_train_batch_start(self, batch: list[Sample], batch_idx: int) -> None:  # noqa: ARG002
        """Seed the draws of boxes and masks of this step; samples have generators of their own."""
        if self.seed is not None:
            key = [self.seed, self.global_step, batch_idx, self.global_rank]
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def training_step(self, batch: list[Sample], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Sum the detector's losses. Each is logged as ``train/loss_*``, the sum as ``train/loss``.

        Args:
            batch: Augmented samples with annotations, already at the model's scale.
            batch_idx: Position in the epoch.

        Returns:
            The loss, a scalar. If it is not finite in one process, no process logs it.

        Raises:
            DivergedError: The loss is not finite, because the training diverges, and `attempts` is None.
        """
        targets = [sample.instances or Instances.empty(sample.image_size).to(self.device) for sample in batch]
        random = {} if self.attempts is None else random_states(self.device)
        losses: dict[str, Tensor] = self.detector([model_input(sample.image) for sample in batch], targets)
        total = torch.stack(list(losses.values())).sum()
        finite = everywhere(bool(torch.isfinite(total)), self.device)
        attempt = Attempt(batch, random, {name: value.detach() for name, value in losses.items()}, finite)
        if self.attempts is not None:
            self.attempts.append(attempt)
        elif not finite:
            complaint = attempt.complaint() or "a loss of another process is not finite"
            raise DivergedError(f"step {self.global_step}: {complaint}. {DivergedError.CURE}")
        if not finite:
            return total
        values = {f"train/{name}": value.detach() for name, value in losses.items()}
        how: dict[str, Any] = {"on_step": True, "on_epoch": False, "batch_size": len(batch), "sync_dist": True}
        self.log_dict(values, **how)
        self.log("train/loss", total.detach(), prog_bar=True, **how)
        return total

    def predict_step(self, batch: list[Sample], batch_idx: int) -> list[Instances]:  # noqa: ARG002
        """Detect instances in each image, at the input file's size and without refinement.

        Args:
            batch: Samples at their files' sizes.
            batch_idx: Position in the epoch.

        Returns:
            One `Instances` per sample, in descending order of score, patches of float32 probabilities.
        """
        found = self.find(batch)
        for sample, instances in zip(batch, found, strict=True):
            self._warn_at_limit(sample.name, len(instances))
        return found

    def find(self, batch: list[Sample], factor: float | None = None) -> list[Instances]:
        """As `predict_step`, without its warning, for callers that deal with the limit of detections themselves.

        Args:
            batch: As in `predict_step`.
            factor: Scales the images, if the module scales them by the width of chromosomes; None to estimate it from
                each. Parts of an image have the factor of the whole.
        """
        sizes = [
            self.scale.size_of(sample.image) if factor is None else self.scale.size(sample.image_size, factor)
            for sample in batch
        ]
        return [
            place_detections(found, size, sample.image_size)
            for sample, size, found in zip(batch, sizes, self._detect(batch, sizes), strict=True)
        ]

    def _detect(self, batch: list[Sample], sizes: list[tuple[int, int]]) -> list[Detections]:
        """The detector's output for each image. The detector does not run on images that are in the store.

        Args:
            batch: The images.
            sizes: ``(h, w)`` at which the detector sees each.
        """
        stored = [None if self.store is None else self.store.get(sample) for sample in batch]
        missing = [index for index, known in enumerate(stored) if known is None]
        fresh: list[Detections] = []
        if missing:
            fresh = self._look([model_input(batch[index].image, sizes[index]) for index in missing])
        if self.store is not None:
            for index, found in zip(missing, fresh, strict=True):
                self.store.put(batch[index], found)
        computed = iter(fresh)
        return [next(computed) if known is None else known for known in stored]

    def _look(self, images: list[Tensor]) -> list[Detections]:
        """Detect, averaging `views` views of each image; validation during training uses one view, to be quick."""
        if self.views == 1 or self._fitting:
            found: list[Detections] = self.detector(images)
            return found
        return [self.detector.detect_in_views(image, self.views) for image in images]

    def look_in(self, views: int) -> None:
        """Set how many views of an image a prediction averages.

        Args:
            views: 1 (the image as it is) to the maximum that the detector can average.

        Raises:
            SettingError: The detector cannot average this many.
        """
        most = self.detector.max_views
        if views > 1 and most == 1:
            name = type(self.detector).__name__
            raise SettingError("views", views, f"is not possible, because {name} views an image once", "Use 1")
        if not 1 <= views <= most:
            raise SettingError("views", views, "is not possible", f"Use 1 (the image as it is) to {most}")
        self.views = views

    @property
    def _fitting(self) -> bool:
        return self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING

    def _warn_at_limit(self, name: str, count: int) -> None:
        """Warn once if an image has the maximum number of detections, because it may hold more objects.

        A model that has hardly learned finds objects everywhere, so there is no warning in validation during training.
        """
        if count >= self.detector.max_detections and not (self.limit_reached or self._fitting):
            self.limit_reached = True
            logger.warning(
                "%s has %d detections, the maximum of this model; it and others may hold more objects. "
                "A model built with a higher `detections` shows them",
                name,
                count,
            )

    def validation_step(self, batch: list[Sample], batch_idx: int) -> list[Instances]:  # type: ignore[override]
        """As `predict_step`; callbacks score the result."""
        return self.predict_step(batch, batch_idx)

    def test_step(self, batch: list[Sample], batch_idx: int) -> list[Instances]:  # type: ignore[override]
        """As `predict_step`; callbacks score the result."""
        return self.predict_step(batch, batch_idx)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Move a list of samples, a type that Lightning does not know."""
        return [sample.to(device) for sample in batch]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser of all trainable parameters, and the schedule, which is stepped every step.

        Raises:
            ValueError: The module was built without an optimiser.
        """
        if self.make_optimizer is None:
            raise ValueError("this module was built without an optimizer and cannot train")
        optimizer = self.make_optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self.make_scheduler is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.make_scheduler(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `kemr_lightning.training.checkpoint` needs to rebuild the model, in plain values."""
        checkpoint["hyper_parameters"] = {
            "model": self.config,
            "label_names": self.label_names,
            **self.scale.plain(),
            "intensity": INTENSITY_RULE,
        }
        if self.settings:
            checkpoint["settings"] = self.settings
