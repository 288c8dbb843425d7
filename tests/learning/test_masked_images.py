from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.learning.masked_images import gather_masked_images
from tests.learning.helpers import rods

CPU = torch.device("cpu")


class Store:
    told = 0

    def tell(self) -> None:
        self.told += 1


class Model(nn.Module):
    """Stands for a trained module: knows the instances of each image."""

    def __init__(self, known: dict[str, Instances]) -> None:
        super().__init__()
        self.known = known
        self.store = Store()

    def predict_step(self, batch: list[Sample], _: int) -> list[Instances]:
        assert not self.training
        assert not torch.is_grad_enabled()
        return [self.known[sample.name] for sample in batch]


NAMES = ("train/slide_1a.png", "train/slide_1b.png", "train/slide_2.png")


def scene() -> tuple[Any, list[Sample]]:
    cases = [rods(seed, 2) for seed in range(3)]
    samples = [
        Sample(case.image, name, number, case.truth)
        for number, (case, name) in enumerate(zip(cases, NAMES, strict=True), start=1)
    ]
    return Model({name: case.initial for case, name in zip(cases, NAMES, strict=True)}), samples


def test_each_image_becomes_a_case_with_its_own_masks() -> None:
    model, samples = scene()
    cases = gather_masked_images(model, samples, CPU, r"^(.*\d)[a-z]?$")
    assert len(cases) == 3
    for case, sample in zip(cases, samples, strict=True):
        assert torch.equal(case.image, sample.image)
        assert torch.equal(case.initial.scores, model.known[sample.name].scores)
        assert sample.instances is not None
        assert torch.equal(case.truth.boxes, sample.instances.boxes)
    assert model.store.told == 1


def test_images_of_one_slide_share_a_group() -> None:
    model, samples = scene()
    first, second, third = (case.group for case in gather_masked_images(model, samples, CPU, r"^(.*\d)[a-z]?$"))
    assert first == second != third
    alone = [case.group for case in gather_masked_images(model, samples, CPU, "(.*)")]
    assert len(set(alone)) == 3


def test_progress_wraps_the_positions() -> None:
    model, samples = scene()
    seen = []

    def progress(positions: Sequence[int]) -> Iterator[int]:
        for position in positions:
            seen.append((position, len(positions)))
            yield position

    gather_masked_images(model, samples, CPU, "(.*)", progress)
    assert seen == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("boxes_only", [True, False])
def test_an_image_without_masks_is_named(boxes_only: bool) -> None:
    model, samples = scene()
    truth = samples[1].instances
    assert truth is not None
    samples[1] = replace(samples[1], instances=replace(truth, patches=None) if boxes_only else None)
    with pytest.raises(UserError, match=r"train/slide_1b.png has no masks"):
        gather_masked_images(model, samples, CPU, "(.*)")
