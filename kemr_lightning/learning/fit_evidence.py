"""Fit the evidence network to examples, on all of them and cross-fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kemr_lightning.learning.examples import Example
from kemr_lightning.learning.losses import area_offset, mask_loss
from kemr_lightning.refinement.evidence import EvidenceNet, corrected_logits, evidence_features, pad_features

ALL_EXAMPLES = -1
"""Stands for the number of a fold where the network is fitted to all examples."""


def fit_evidence(
    examples: Sequence[Example],
    epochs: int,
    seed: int,
    width: int = 16,
    learning_rate: float = 3e-3,
    batch_size: int = 16,
    on_epoch: Callable[[int, float], None] | None = None,
) -> EvidenceNet:
    """Train the network with AdamW and a one-cycle schedule; crops are rotated and mirrored at random.

    It learns the shape of outlines, not how tightly they are drawn: see `area_offset`.

    Args:
        examples: What to learn from.
        epochs: Passes over the examples.
        seed: Seed of initial weights, order and rotations.
        width: Channels.
        learning_rate: The schedule's peak.
        batch_size: Crops per step, of similar size.
        on_epoch: Called after each epoch with its number (from 1) and its mean loss.

    Returns:
        The network, in evaluation mode, without gradients.

    Raises:
        ValueError: There are no examples.
    """
    if not examples:
        raise ValueError("no examples to learn from")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = EvidenceNet(width)
    chance = torch.Generator().manual_seed(seed)
    features = [evidence_features(example.crop) for example in examples]
    steps = -(-len(examples) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    network.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for index in _batches(examples, batch_size, chance):
            stacked, valid = pad_features([features[i] for i in index])
            target = _pad([examples[i].target for i in index], valid)
            stacked, target, valid = _turned((stacked, target, valid), chance)
            logits = network(stacked.contiguous(memory_format=torch.channels_last), valid)
            loss = mask_loss(logits + area_offset(logits, target, valid), target, valid)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(index)
        if on_epoch is not None:
            on_epoch(epoch, total / len(examples))
    network.eval()
    return network.requires_grad_(False)


def cross_fit_evidence(
    examples: Sequence[Example],
    fold_of: Sequence[int],
    folds: int,
    epochs: int,
    seed: int,
    width: int = 16,
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> tuple[EvidenceNet, list[Tensor]]:
    """Fit a network to all examples, and correct each example with a network that has not seen its fold.

    Args:
        examples: What to learn from.
        fold_of: The fold of each example, from 0.
        folds: Number of folds; one may be without examples.
        epochs: Passes over the examples, for each network.
        seed: As in `fit_evidence`.
        width: As in `fit_evidence`.
        on_epoch: Called after each epoch with the fold that was left out (`ALL_EXAMPLES` for the last network), the
            epoch's number (from 1) and its mean loss.

    Returns:
        The network fitted to all examples, and ``(h, w)`` corrected logits of each example, out of sample.
    """
    corrected: list[Tensor] = [torch.empty(0)] * len(examples)
    for number in range(folds):
        taught = [example for example, own in zip(examples, fold_of, strict=True) if own != number]
        network = fit_evidence(taught, epochs, seed, width, on_epoch=_numbered(on_epoch, number))
        left_out = [index for index, own in enumerate(fold_of) if own == number]
        logits = corrected_logits(network, [examples[index].crop for index in left_out])
        for index, logit in zip(left_out, logits, strict=True):
            corrected[index] = logit
    network = fit_evidence(examples, epochs, seed, width, on_epoch=_numbered(on_epoch, ALL_EXAMPLES))
    return network, corrected


def _numbered(on_epoch: Callable[[int, int, float], None] | None, fold: int) -> Callable[[int, float], None] | None:
    return None if on_epoch is None else lambda epoch, loss: on_epoch(fold, epoch, loss)


def _batches(examples: Sequence[Example], batch_size: int, chance: torch.Generator) -> list[list[int]]:
    """Positions of the examples of each batch of an epoch, in random order.

    They are sorted by area with some disorder: little padding, and yet different batches in every epoch.
    """
    area = torch.tensor([float(example.target.numel()) for example in examples]).log()
    order = (area + 0.3 * torch.randn(len(area), generator=chance)).argsort().tolist()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[which] for which in torch.randperm(len(batches), generator=chance).tolist()]


def _pad(targets: Sequence[Tensor], like: Tensor) -> Tensor:
    """Targets on crops that are padded as `pad_features` does."""
    padded = torch.zeros_like(like)
    for row, target in zip(padded, targets, strict=True):
        row[: target.shape[0], : target.shape[1]] = target
    return padded


def _turned(values: Sequence[Tensor], chance: torch.Generator) -> list[Tensor]:
    """All tensors rotated by the same random number of quarter turns, and mirrored or not."""
    turns, mirror = int(torch.randint(4, (1,), generator=chance)), bool(torch.randint(2, (1,), generator=chance))
    turned = [torch.rot90(value, turns, (-2, -1)) for value in values]
    return [value.flip(-1) for value in turned] if mirror else turned
