"""Fit the evidence network to examples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kemr_lightning.learning.examples import Example
from kemr_lightning.learning.losses import area_offset, mask_loss
from kemr_lightning.refinement.evidence import EvidenceNet, evidence_features, pad_features

logger = logging.getLogger(__name__)


def fit_evidence(
    examples: Sequence[Example],
    epochs: int,
    seed: int,
    width: int = 16,
    learning_rate: float = 3e-3,
    batch_size: int = 16,
    on_epoch: Callable[[int, float], None] | None = None,
) -> EvidenceNet:
    """Train the network with AdamW under a one-cycle schedule; quarter turns and flips of crops as augmentation.

    It learns the shape of outlines, not how tight they are drawn: see `area_offset`.

    Args:
        examples: What to learn from.
        epochs: Passes over them.
        seed: Of weights, order and turns.
        width: Channels.
        learning_rate: Peak.
        batch_size: Crops a step, of similar size.
        on_epoch: Told the epoch (from 1) and its mean loss.

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
    # Sorted by area with some disorder: little padding, and yet other batches in every epoch.
    area = torch.tensor([float(example.target.numel()) for example in examples]).log()
    steps = -(-len(examples) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    network.train()
    for epoch in range(1, epochs + 1):
        order = (area + 0.3 * torch.randn(len(area), generator=chance)).argsort().tolist()
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        total = 0.0
        for which in torch.randperm(len(batches), generator=chance).tolist():
            index = batches[which]
            stacked, valid = pad_features([features[i] for i in index])
            target = _pad([examples[i].target for i in index], valid)
            turns, flip = int(torch.randint(4, (1,), generator=chance)), bool(torch.randint(2, (1,), generator=chance))
            stacked, target, valid = (_turn(each, turns, flip) for each in (stacked, target, valid))
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


def _pad(targets: Sequence[Tensor], like: Tensor) -> Tensor:
    padded = torch.zeros_like(like)
    for row, target in zip(padded, targets, strict=True):
        row[: target.shape[0], : target.shape[1]] = target
    return padded


def _turn(values: Tensor, turns: int, flip: bool) -> Tensor:
    turned = torch.rot90(values, turns, (-2, -1))
    return turned.flip(-1) if flip else turned
