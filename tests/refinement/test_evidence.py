from __future__ import annotations

import pytest
import torch

from kemr_lightning.refinement.evidence import EvidenceNet, corrected_logits, evidence_features, pad_features
from kemr_lightning.refinement.surroundings import Surroundings


def _crop(height: int, width: int, seed: int) -> Surroundings:
    chance = torch.Generator().manual_seed(seed)
    return Surroundings(
        (0, 0, width, height),
        (2, 2, width - 2, height - 2),
        torch.randint(0, 255, (height, width), dtype=torch.uint8, generator=chance),
        torch.rand(height, width, generator=chance),
        torch.rand(height, width, generator=chance),
        torch.tensor(120.0),
        torch.tensor(20.0),
    )


def test_a_new_network_leaves_the_logit_as_it_is_within_its_limits() -> None:
    crop = _crop(14, 11, 0)
    logits = corrected_logits(EvidenceNet(4), [crop])[0]
    expected = torch.logit(crop.prob.double().clamp(1e-5, 1 - 1e-5)).clamp(-6, 6)
    assert torch.allclose(logits.double(), expected, atol=1e-3)


def test_features_by_hand() -> None:
    crop = _crop(8, 8, 1)
    features = evidence_features(crop)
    assert torch.equal(features[2], crop.neighbours)
    assert float(features[3].sum()) == 16  # the 4 x 4 patch inside the margin of 2
    grey = float(crop.intensity[3, 4])
    assert float(features[1, 3, 4]) == pytest.approx(min(2.0, max(-1.0, (grey - 20) / 100)), abs=1e-5)


def test_batches_do_not_change_the_result() -> None:
    network = EvidenceNet(4)
    torch.nn.init.normal_(network.output.weight, generator=torch.Generator().manual_seed(3))
    crops = [_crop(30, 20, 4), _crop(12, 33, 5), _crop(7, 7, 6)]
    together = corrected_logits(network, crops, batch_pixels=10**9)
    alone = [corrected_logits(network, [crop])[0] for crop in crops]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_padding_is_zero_and_marked() -> None:
    features, valid = pad_features([torch.ones(4, 2, 3), torch.ones(4, 3, 2)])
    assert features.shape == (2, 4, 3, 3)
    assert valid.sum() == 12
    assert float(features[0, :, 2, 2].abs().sum()) == 0
    assert valid[0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
