"""The mean field written as loops, and knowledge and an image for it to refine."""

from __future__ import annotations

import math

import numpy as np
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement import (
    CRFParams,
)
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.evidence import EvidenceNet
from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.reasoning import Reasoning
from kemr_lightning.refinement.restraint import Restraint
from kemr_lightning.refinement.states import STATE_NAMES


def logit(p: float) -> float:
    return math.log(min(max(p, 1e-5), 1)) - math.log(min(max(1 - p, 1e-5), 1))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def by_loops(image: np.ndarray, prob: np.ndarray, params: CRFParams) -> np.ndarray:
    """Mean field of two explicit label distributions, pixel pair by pixel pair, as the paper writes it."""
    pixels = [(i, j) for i in range(image.shape[0]) for j in range(image.shape[1])]

    def kernel(a, b, sigma, sigma_intensity):
        distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
        exponent = distance / (2 * sigma**2)
        if sigma_intensity is not None:
            exponent += (float(image[a]) - float(image[b])) ** 2 / (2 * sigma_intensity**2)
        return math.exp(-exponent)

    terms = [(params.w1, params.sigma_alpha, params.sigma_beta), (params.w2, params.sigma_gamma, None)]
    degrees = [[sum(kernel(a, b, s, si) for b in pixels) for a in pixels] for _, s, si in terms]
    energy = {}
    for a in pixels:
        z0 = logit(float(prob[a])) / params.temperature
        energy[a] = (-math.log(sigmoid(-z0)), -math.log(sigmoid(z0)))
    q = {a: (math.exp(-energy[a][0]), math.exp(-energy[a][1])) for a in pixels}
    for _ in range(params.iterations):
        new = {}
        for i, a in enumerate(pixels):
            score = [-energy[a][0], -energy[a][1]]
            for (weight, s, si), degree in zip(terms, degrees, strict=True):
                for j, b in enumerate(pixels):
                    k = weight * kernel(a, b, s, si) / math.sqrt(degree[i] * degree[j])
                    # Potts: a neighbour's probability of the *other* label costs.
                    score[0] -= k * q[b][1]
                    score[1] -= k * q[b][0]
            top = max(score)
            weights = [math.exp(v - top) for v in score]
            new[a] = (weights[0] / sum(weights), weights[1] / sum(weights))
        q = new
    return np.array([q[a][1] for a in pixels]).reshape(image.shape)


PARAMS = CRFParams(2.0, 15.0, 2.0, 4.0, 0.5, 3, 1.5)


def knowledge_of(gain: float = 0.1) -> Knowledge:
    count, width = 30, len(STATE_NAMES)
    chance = torch.Generator().manual_seed(0)
    experiences = Experiences(
        torch.rand(2 * count, width, generator=chance),
        torch.tensor([1] * count + [2] * count),
        torch.full((2 * count,), 0.7),
        torch.tensor([0.7 + gain] * count + [0.7 + gain / 2] * count),
        torch.arange(2 * count),
    )
    ways = (Action("evidence + crf", PARAMS, True, Restraint(0.5, 0.02)), Action("crf", CRFParams(), False))
    origin = {"checkpoint": "best.ckpt", "checkpoint_sha256": "0" * 64, "images": 3}
    return Knowledge(ways, EvidenceNet(4).eval(), experiences, Reasoning(5, 0.2), 6, origin)


def scene() -> tuple[torch.Tensor, Instances]:
    chance = torch.Generator().manual_seed(1)
    image = torch.randint(0, 60, (40, 50), dtype=torch.uint8, generator=chance)
    image[10:25, 12:30] += 120
    values = torch.full((19, 22), 0.1)
    values[3:17, 3:19] = 0.7
    boxes = torch.tensor([[10.0, 8, 32, 27], [0.0, 0, 5, 5]])
    patches = [Patch(10, 8, values), Patch(0, 0, torch.full((5, 5), 0.4))]
    return image, Instances((40, 50), boxes, torch.tensor([0.9, 0.6]), torch.ones(2, dtype=torch.int64), patches)
