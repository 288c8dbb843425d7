"""A search on a known landscape, and images that are scored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch

from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.tuning.ranges import Range
from kemr_lightning.tuning.scoring import SCORES, ScoredImages, Scorer
from kemr_lightning.tuning.storage import open_storage
from kemr_lightning.tuning.study import Search

RANGES = {"sigma_alpha": Range(1.0, 8.0, log=True), "sigma_beta": Range(3.0, 60.0, log=True)}


def height(params: Any) -> float:
    """The landscape: highest, 100, at sigma_alpha 4 and sigma_beta 20."""
    return 100 - 20 * abs(math.log(params.sigma_alpha / 4)) - 10 * abs(math.log(params.sigma_beta / 20))


class Landscape:
    """Stands for a scorer: every part has the same figures, the landscape's height."""

    ends = (1, 2, 3)
    images = (None, None, None)

    def parts(self, refine: Any) -> Iterator[dict[str, float]]:
        for _ in self.ends:
            yield dict.fromkeys(SCORES, height(refine(None, None)))


class Echo:
    """Stands for a refiner: gives the parameters back."""

    margin = 7

    def __init__(self) -> None:
        self.params = CRFParams()

    def __call__(self, image: object, instances: object, params: CRFParams) -> CRFParams:
        return params


def search(place: str, seed: int = 0, name: str = "s") -> Search:
    """A search on the landscape, with five random trials at its beginning."""
    return Search(cast(Any, Landscape()), cast(Any, Echo()), RANGES, "MaskAP", open_storage(place), name, seed, 5)


def scene(number: int) -> tuple[Sample, Instances]:
    """An image with one bright rectangle, and a noisy prediction of it that reaches beyond it."""
    chance = torch.Generator().manual_seed(number)
    image = torch.full((40, 40), 30, dtype=torch.uint8)
    image[10:20, 8:30] = 200
    noise = torch.rand((16, 28), generator=chance) * 0.4
    prob = torch.zeros(16, 28)
    prob[2:12, 3:25] = 0.6
    prob = (prob + noise).clamp(0, 1)
    ones = torch.ones(1, dtype=torch.int64)
    drawn = Patch(8, 10, torch.ones((10, 22), dtype=torch.bool))
    truth = Instances((40, 40), torch.tensor([[8.0, 10, 30, 20]]), torch.ones(1), ones, [drawn])
    box = torch.tensor([[5.0, 7.0, 33.0, 23.0]])
    predicted = Instances((40, 40), box, torch.ones(1) * 0.9, ones, [Patch(5, 7, prob)])
    return Sample(image, f"{number}.png", number, truth), predicted


def scorer(count: int = 5, chunks: int = 3, seed: int = 3, memory_mb: int = 64) -> Scorer:
    """A scorer of some scenes."""
    scenes = [scene(number) for number in range(1, count + 1)]
    known = {sample.name: predicted for sample, predicted in scenes}
    images = ScoredImages([sample for sample, _ in scenes], lambda sample: known[sample.name], seed, memory_mb)
    return Scorer(images, chunks)
