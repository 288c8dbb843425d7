from __future__ import annotations

import pytest
import torch

from kemr_lightning.learning.examples import Example, examples_of
from kemr_lightning.learning.fit_evidence import ALL_EXAMPLES, cross_fit_evidence, fit_evidence
from kemr_lightning.refinement.evidence import corrected_logits
from tests.learning.helpers import rods


def mean_iou(examples: list[Example], probabilities: list[torch.Tensor]) -> float:
    ious = [example.iou(example.crop.crop(one)) for example, one in zip(examples, probabilities, strict=True)]
    return sum(ious) / len(ious)


def test_evidence_learned_on_some_images_improves_others() -> None:
    taught, unseen = examples_of([rods(0), rods(1)], 4), examples_of([rods(2)], 4)
    network = fit_evidence(taught, epochs=12, seed=0, width=8, learning_rate=1e-2, batch_size=4)
    logits = corrected_logits(network, [example.crop for example in unseen])
    before = mean_iou(unseen, [example.crop.prob for example in unseen])
    assert mean_iou(unseen, [one.sigmoid() for one in logits]) > before + 0.05


def test_fitting_twice_gives_the_same_network_and_leaves_the_global_generator_alone() -> None:
    examples = examples_of([rods(0, 3)], 4)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = fit_evidence(examples, 1, 7, width=4)
    assert torch.equal(torch.rand(4), expected)
    second, other_seed = fit_evidence(examples, 1, 7, width=4), fit_evidence(examples, 1, 8, width=4)
    for one, two, three in zip(first.parameters(), second.parameters(), other_seed.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not one.requires_grad
        assert one.numel() == 1 or not torch.equal(one, three)
    assert not first.training


def test_every_epoch_is_reported_and_the_loss_falls() -> None:
    told: list[tuple[int, float]] = []
    fit_evidence(examples_of([rods(0)], 4), 10, 0, 8, 1e-2, 4, on_epoch=lambda epoch, loss: told.append((epoch, loss)))
    assert [epoch for epoch, _ in told] == list(range(1, 11))
    assert told[-1][1] < told[0][1]


def test_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="no examples"):
        fit_evidence([], 1, 0)


def test_each_example_is_corrected_by_a_network_that_has_not_seen_its_fold() -> None:
    examples = examples_of([rods(0, 3), rods(1, 3), rods(2, 3)], 4)
    fold_of = [example.case for example in examples]
    told: list[tuple[int, int]] = []
    network, corrected = cross_fit_evidence(
        examples, fold_of, 3, 2, 5, 4, lambda fold, epoch, _: told.append((fold, epoch))
    )
    assert told == [(fold, epoch) for fold in (0, 1, 2, ALL_EXAMPLES) for epoch in (1, 2)]
    for fold in range(3):
        others = fit_evidence([each for each in examples if each.case != fold], 2, 5, 4)
        expected = corrected_logits(others, [each.crop for each in examples if each.case == fold])
        own = [logits for logits, number in zip(corrected, fold_of, strict=True) if number == fold]
        for one, two in zip(own, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=0)
    for one, two in zip(network.parameters(), fit_evidence(examples, 2, 5, 4).parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_fold_may_be_without_examples() -> None:
    examples = examples_of([rods(0, 3)], 4)
    _, corrected = cross_fit_evidence(examples, [0, 0, 2], 3, 1, 0, 4)
    assert [logits.shape for logits in corrected] == [example.crop.prob.shape for example in examples]
