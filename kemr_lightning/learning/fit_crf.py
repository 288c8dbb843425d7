"""Fit the CRF's parameters by gradient through its mean-field iterations: the paper's "finding w1 and w2"."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kemr_lightning.learning.examples import Example
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import PARAMETER_NAMES, CRFParams, refine_packed
from kemr_lightning.refinement.engines.batched import refine_batched

logger = logging.getLogger(__name__)

BOUNDS = {
    "sigma_alpha": (1.0, 10.0),
    "sigma_beta": (3.0, 60.0),
    "sigma_gamma": (0.7, 6.0),
    "w1": (0.02, 16.0),
    "w2": (0.02, 6.0),
    "temperature": (0.3, 4.0),
}
"""Ranges of the parameters. Unbounded, w1 drifts away: the loss hardly changes once every pixel is decided."""

STARTS = (
    CRFParams(2.0, 9.0, 3.0, 3.0, 0.1),
    CRFParams(3.0, 20.0, 2.0, 6.0, 1.0),
    CRFParams(2.0, 15.0, 3.0, 5.0, 0.1, temperature=2.0),
)
"""Where the search begins: gentle, strong, and with an unary that is trusted less."""


AVERAGE_WEIGHT = 0.15
"""Of the latest step in the average of the parameters."""


@dataclass(frozen=True)
class Unary:
    """An example's unary: what the CRF starts from.

    Attributes:
        example: The example.
        prob: ``(h, w)`` float32 on its crop: the initial probability or the evidence network's.
    """

    example: Example
    prob: Tensor


@dataclass(frozen=True)
class Fit:
    """The outcome of one start.

    Attributes:
        params: The parameters with the best validation IoU.
        iou: That mean IoU.
        history: ``(step, training loss, validation IoU)``.
    """

    params: CRFParams
    iou: float
    history: list[tuple[int, float, float]]


def fit_crf(
    training: Sequence[Unary],
    validation: Sequence[Unary],
    seed: int,
    iterations: int = 5,
    steps: int = 40,
    check_every: int = 8,
    patience: int = 3,
    batch_size: int = 24,
    learning_rate: float = 0.15,
    tolerance: float = 0.05,
    starts: Sequence[CRFParams] = STARTS,
    on_step: Callable[[], None] | None = None,
) -> list[Fit]:
    """Fit from several starts; the caller takes the one that is best on validation.

    A few masks a step say little about six parameters whose best values lie in a broad valley, so what is validated is
    the average of the latest steps (Polyak & Juditsky 1992).

    Args:
        training: Examples whose loss is followed.
        validation: Examples that choose the step and the start.
        seed: Of the order.
        iterations: Mean-field updates.
        steps: Gradient steps per start at most.
        check_every: Steps between validations.
        patience: Validations without improvement after which a start ends.
        batch_size: Examples a step.
        learning_rate: Of Adam at first, on the parameters' unbounded scale; falls to 0 in a half cosine.
        tolerance: Of the filter.
        starts: First parameters.
        on_step: Called after every step.

    Returns:
        One `Fit` per start, best first.
    """
    fits = [
        _fit(
            training,
            validation,
            seed,
            iterations,
            steps,
            check_every,
            patience,
            batch_size,
            learning_rate,
            tolerance,
            start,
            on_step,
        )
        for start in starts
    ]
    return sorted(fits, key=lambda fit: -fit.iou)


def _fit(
    training: Sequence[Unary],
    validation: Sequence[Unary],
    seed: int,
    iterations: int,
    steps: int,
    check_every: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    tolerance: float,
    start: CRFParams,
    on_step: Callable[[], None] | None,
) -> Fit:
    chance = torch.Generator().manual_seed(seed)
    raw = to_unbounded(start).requires_grad_()
    optimizer = torch.optim.Adam([raw], learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    average = raw.detach().clone()
    best = Fit(from_unbounded(raw, iterations), mean_iou(validation, from_unbounded(raw, iterations), tolerance), [])
    history = [(0, float("nan"), best.iou)]
    waited, running = 0, 0.0
    for step in range(1, steps + 1):
        which = torch.randperm(len(training), generator=chance)[:batch_size].tolist()
        loss = crf_loss([training[index] for index in which], bounded(raw), iterations, tolerance)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        average.lerp_(raw.detach(), AVERAGE_WEIGHT)
        running = float(loss.detach()) if step == 1 else 0.8 * running + 0.2 * float(loss.detach())
        if on_step is not None:
            on_step()
        if step % check_every == 0 or step == steps:
            params = from_unbounded(average, iterations)
            iou = mean_iou(validation, params, tolerance)
            history.append((step, running, iou))
            waited = waited + 1
            if iou > best.iou:
                best, waited = Fit(params, iou, []), 0
            if waited >= patience:
                break
    return Fit(best.params, best.iou, history)


def crf_loss(unaries: Sequence[Unary], parameters: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Mean over examples of one minus the soft IoU, plus their mean cross-entropy, after the CRF.

    Args:
        unaries: Examples.
        parameters: ``(6,)`` in the order of `PARAMETER_NAMES`; gradients flow into it.
        iterations: Mean-field updates.
        tolerance: Of the filter.

    Returns:
        A scalar.
    """
    crops = _pack(unaries)
    refined = refine_batched(crops, parameters.expand(len(unaries), -1), iterations, tolerance)
    target = torch.cat([unary.example.target.reshape(-1) for unary in unaries])
    prob = refined.clamp(1e-6, 1 - 1e-6)
    entropy = torch.nn.functional.binary_cross_entropy(prob, target)
    overlaps = []
    for one, truth in zip(prob.split_with_sizes(crops.areas), target.split_with_sizes(crops.areas), strict=True):
        both = (one * truth).sum()
        overlaps.append(both / (one.sum() + truth.sum() - both).clamp(min=1))
    return 1 - torch.stack(overlaps).mean() + entropy


@torch.no_grad()
def mean_iou(unaries: Sequence[Unary], params: CRFParams, tolerance: float) -> float:
    """Mean IoU of the refined masks with the annotations."""
    if not unaries:
        return 0.0
    crops = _pack(unaries)
    refined = crops.unpack(refine_packed(crops, params, "torch", tolerance))
    ious = [unary.example.iou(unary.example.crop.crop(one)) for unary, one in zip(unaries, refined, strict=True)]
    return sum(ious) / len(ious)


def _pack(unaries: Sequence[Unary]) -> Crops:
    return Crops.pack([unary.example.crop.intensity for unary in unaries], [unary.prob for unary in unaries])


def bounded(raw: Tensor) -> Tensor:
    """``(6,)`` unbounded values to parameters within `BOUNDS`, evenly on a logarithmic scale."""
    low, high = _log_bounds()
    return torch.exp(low + (high - low) * torch.sigmoid(raw))


def to_unbounded(params: CRFParams) -> Tensor:
    """The inverse of `bounded`; values on or beyond a bound are put just inside."""
    low, high = _log_bounds()
    share = ((params.to_tensor().clamp(min=1e-6).log() - low) / (high - low)).clamp(0.02, 0.98)
    return torch.logit(share)


def from_unbounded(raw: Tensor, iterations: int) -> CRFParams:
    """Parameters of unbounded values."""
    return CRFParams.from_tensor(bounded(raw), iterations)


def _log_bounds() -> tuple[Tensor, Tensor]:
    pairs = torch.tensor([BOUNDS[name] for name in PARAMETER_NAMES]).log()
    return pairs[:, 0], pairs[:, 1]
