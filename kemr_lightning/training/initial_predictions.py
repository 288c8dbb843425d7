"""Run a trained model on images, before any refinement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from kemr_lightning.core.contracts import Samples
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.training.module import SegmentationModule


@torch.no_grad()
def predict_initial(module: SegmentationModule, sample: Sample, device: torch.device) -> tuple[Sample, Instances]:
    """Find the instances of one image.

    Args:
        module: A trained module. It is moved to the device and put into evaluation mode.
        sample: The image.
        device: Where the detector runs.

    Returns:
        The sample and its instances, both on the device.
    """
    module.eval().to(device)
    there = sample.to(device)
    (instances,) = module.predict_step([there], 0)
    return there, instances


def initial_predictions(
    module: SegmentationModule,
    samples: Samples,
    device: torch.device,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Iterator[tuple[Sample, Instances]]:
    """Find the instances of every image, in order. At the end the store logs its hits and additions.

    Args:
        module: See `predict_initial`.
        samples: The images.
        device: Where the detector runs.
        progress: Wraps the positions of the images, for a progress bar.

    Yields:
        A sample and its instances, both on the device.
    """
    for index in progress(range(len(samples))):
        yield predict_initial(module, samples[index], device)
    tell_of_store(module)


def initial_predictor(module: SegmentationModule, device: torch.device) -> Callable[[Sample], Instances]:
    """What finds the instances of one image, for those who ask for images in an order of their own.

    Args:
        module: See `predict_initial`.
        device: Where the detector runs, and the instances are.
    """
    return lambda sample: predict_initial(module, sample, device)[1]


def tell_of_store(module: SegmentationModule) -> None:
    """Log how many images the module's store has answered and taken in since the last time, if it has a store."""
    if module.store is not None:
        module.store.tell()
