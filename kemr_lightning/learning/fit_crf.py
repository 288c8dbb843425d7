"""Fit the CRF's parameters by gradient through its mean-field iterations: the paper's "finding w1 and w2"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kemr_lightning.learning.examples import Example
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import PARAMETER_NAMES, CRFParams, refine_packed
from kemr_lightning.refinement.engines.batched import refine_batched

BOUNDS = {
    "sigma_alpha": (1.0, 10.0),
    "sigma_beta": (3.0, 60.0),
    "sigma_gamma": (0.7, 6.0),
    "w1": (0.02, 16.0),
    "w2": (0.02, 6.0),
    "temperature": (0.3, 4.0),
}
"""Ranges of the parameters. Without them w1 drifts away: the loss hardly changes once every pixel is decided."""

STARTS = (
    CRFParams(2.0, 9.0, 3.0, 3.0, 0.1),
    CRFParams(3.0, 20.0, 2.0, 6.0, 1.0),
    CRFParams(2.0, 15.0, 3.0, 5.0, 0.1, temperature=2.0),
)
"""Where the search begins: gentle, strong, and with less trust in the unary."""

AVERAGE_WEIGHT = 0.15
"""Weight of the latest step in the running average of the parameters."""

LOSS_WEIGHT = 0.2
"""Weight of the latest step in the running average of the loss that the history shows."""


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
        history: ``(step, training loss, validation IoU)`` of each validation.
    """

    params: CRFParams
    iou: float
    history: list[tuple[int, float, float]]


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit.

    Attributes:
        seed: Seed of the order of the examples.
        iterations: Mean-field updates.
        steps: Maximum number of gradient steps per start.
        check_every: Steps between validations.
        patience: Validations without improvement after which a start ends.
        batch_size: Examples per step.
        learning_rate: Adam's first step size, on the unbounded scale of `to_unbounded`; falls to 0 along a half cosine.
        tolerance: Intended maximum error of a refined probability, see `kemr_lightning.refinement`.
    """

    seed: int
    iterations: int = 5
    steps: int = 40
    check_every: int = 8
    patience: int = 3
    batch_size: int = 24
    learning_rate: float = 0.15
    tolerance: float = 0.05


def fit_crf(
    training: Sequence[Unary],
    validation: Sequence[Unary],
    settings: FitSettings,
    starts: Sequence[CRFParams] = STARTS,
    on_step: Callable[[], None] | None = None,
) -> list[Fit]:
    """Fit from several starts; the caller takes the one that is best on validation.

    The few masks of one step say little about six parameters whose best values lie in a broad valley. Therefore the
    average of the latest steps is validated (Polyak & Juditsky 1992).

    Args:
        training: Examples whose loss is followed.
        validation: Examples that choose the step and the start.
        settings: See `FitSettings`.
        starts: First parameters.
        on_step: Called after every step.

    Returns:
        One `Fit` per start, best first.
    """
    fits = [_fit(training, validation, settings, start, on_step) for start in starts]
    return sorted(fits, key=lambda fit: -fit.iou)


def _fit(
    training: Sequence[Unary],
    validation: Sequence[Unary],
    settings: FitSettings,
    start: CRFParams,
    on_step: Callable[[], None] | None,
) -> Fit:
    """Fit from one start."""

    def validated(values: Tensor) -> tuple[CRFParams, float]:
        params = from_unbounded(values, settings.iterations)
        return params, mean_iou(validation, params, settings.tolerance)

    chance = torch.Generator().manual_seed(settings.seed)
    raw = to_unbounded(start).requires_grad_()
    optimizer = torch.optim.Adam([raw], settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    average = raw.detach().clone()
    best, best_iou = validated(raw)
    history = [(0, float("nan"), best_iou)]
    waited, running = 0, 0.0
    for step in range(1, settings.steps + 1):
        which = torch.randperm(len(training), generator=chance)[: settings.batch_size].tolist()
        batch = [training[index] for index in which]
        loss = crf_loss(batch, bounded(raw), settings.iterations, settings.tolerance)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        average.lerp_(raw.detach(), AVERAGE_WEIGHT)
        latest = float(loss.detach())
        running = latest if step == 1 else (1 - LOSS_WEIGHT) * running + LOSS_WEIGHT * latest
        if on_step is not None:
            on_step()
        if step % settings.check_every == 0 or step == settings.steps:
            params, iou = validated(average)
            history.append((step, running, iou))
            waited += 1
            if iou > best_iou:
                best, best_iou, waited = params, iou, 0
            if waited >= settings.patience:
                break
    return Fit(best, best_iou, history)


def crf_loss(unaries: Sequence[Unary], parameters: Tensor, iterations: int, tolerance: float) -> Tensor:
    """One minus the soft IoU after the CRF, averaged over examples, plus the cross-entropy, averaged over pixels.

    Args:
        unaries: Examples.
        parameters: ``(6,)`` in the order of `PARAMETER_NAMES`; gradients flow into it.
        iterations: Mean-field updates.
        tolerance: As in `FitSettings`.

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
    """Mean IoU of the refined masks with the annotations; 0 without any.

    Args:
        unaries: Examples.
        params: The CRF's parameters.
        tolerance: As in `FitSettings`.
    """
    if not unaries:
        return 0.0
    crops = _pack(unaries)
    refined = crops.unpack(refine_packed(crops, params, "torch", tolerance))
    ious = [unary.example.iou(unary.example.crop.crop(one)) for unary, one in zip(unaries, refined, strict=True)]
    return sum(ious) / len(ious)


def _pack(unaries: Sequence[Unary]) -> Crops:
    return Crops.pack([unary.example.crop.intensity for unary in unaries], [unary.prob for unary in unaries])


def bounded(raw: Tensor) -> Tensor:
    """Map ``(6,)`` unbounded values to parameters within `BOUNDS`: a sigmoid on the logarithmic scale."""
    low, high = _log_bounds()
    return torch.exp(low + (high - low) * torch.sigmoid(raw))


def to_unbounded(params: CRFParams) -> Tensor:
    """The inverse of `bounded`, ``(6,)``; values on or beyond a bound are moved just inside."""
    low, high = _log_bounds()
    share = ((params.to_tensor().clamp(min=1e-6).log() - low) / (high - low)).clamp(0.02, 0.98)
    return torch.logit(share)


def from_unbounded(raw: Tensor, iterations: int) -> CRFParams:
    """The parameters that ``(6,)`` unbounded values stand for."""
    return CRFParams.from_tensor(bounded(raw), iterations)


def _log_bounds() -> tuple[Tensor, Tensor]:
    """Logarithms of the lower and upper bounds, ``(6,)`` each."""
    pairs = torch.tensor([BOUNDS[name] for name in PARAMETER_NAMES]).log()
    return pairs[:, 0], pairs[:, 1]
