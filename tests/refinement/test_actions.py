"""Actions: the CRF, with or without evidence, held back by a restraint."""

from __future__ import annotations

import pytest
import torch

from kemr_lightning.refinement import CRFParams, refine_probability
from kemr_lightning.refinement.actions import Action, act, act_all, initial_masks, unite_states, with_masks
from kemr_lightning.refinement.evidence import EvidenceNet, corrected_logits
from kemr_lightning.refinement.restraint import Restraint
from kemr_lightning.refinement.surroundings import surroundings
from tests.refinement.helpers import PARAMS, scene


def test_an_action_is_the_crf_on_the_crop_held_back_by_its_restraint() -> None:
    image, instances = scene()
    crops, restraint = surroundings(image, instances, 6), Restraint(0.5, 0.02)
    done = act(Action("a", PARAMS, False, restraint), crops, None, "torch", 0.01)
    for crop, patch, after in zip(crops, instances.patches or [], done, strict=True):
        free = crop.crop(refine_probability(crop.intensity, crop.prob, PARAMS))
        assert torch.equal(after, restraint(patch.values, free))


def test_evidence_replaces_the_unary() -> None:
    image, instances = scene()
    crops, network = surroundings(image, instances, 6), EvidenceNet(4).eval()
    torch.nn.init.normal_(network.output.weight, generator=torch.Generator().manual_seed(2))
    done = act(Action("a", PARAMS, True), crops, network, "torch", 0.01)
    for crop, logit, after in zip(crops, corrected_logits(network, crops), done, strict=True):
        assert torch.equal(after, crop.crop(refine_probability(crop.intensity, logit.sigmoid(), PARAMS)))
    with pytest.raises(ValueError, match="action 'a' needs an evidence network"):
        act(Action("a", PARAMS, True), crops, None, "torch", 0.01)


def test_several_actions_at_once_are_each_of_them() -> None:
    image, instances = scene()
    crops, network = surroundings(image, instances, 6), EvidenceNet(4).eval()
    actions = [
        Action("a", PARAMS, True),
        Action("b", PARAMS, True, Restraint(0.3)),
        Action("c", CRFParams(), False),
        Action("d", CRFParams(), False, Restraint(1.0, 0.0)),
    ]
    together = act_all(actions, crops, network, "torch", 0.01)
    for action, masks in zip(actions, together, strict=True):
        alone = act(action, crops, network, "torch", 0.01)
        assert all(torch.equal(a, b) for a, b in zip(masks, alone, strict=True))
    assert not torch.equal(together[0][0], together[1][0])
    assert act(actions[2], [], None, "torch", 0.01) == []


def test_masks_return_to_their_windows_as_copies() -> None:
    image, instances = scene()
    masks = initial_masks(surroundings(image, instances, 3))
    changed = with_masks(instances, [mask + 0.1 for mask in masks])
    for before, after in zip(instances.patches or [], changed.patches or [], strict=True):
        assert before.window == after.window
        assert torch.equal(after.values, before.values + 0.1)
    masks[0].zero_()
    assert float((changed.patches or [])[0].values.min()) > 0


def test_a_column_of_states_is_filled_in_a_copy() -> None:
    states = torch.zeros(2, 3)
    assert unite_states(states, [torch.tensor(0.5), torch.tensor(0.25)], 1)[:, 1].tolist() == [0.5, 0.25]
    assert float(states.sum()) == 0
    assert unite_states(torch.zeros(0, 3), [], 1).shape == (0, 3)
