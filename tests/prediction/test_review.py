from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.instances import Instances
from kemr_lightning.prediction.review import (
    DISAGREEMENT,
    InstanceFacts,
    instance_facts,
    review_image,
    solidity,
)
from tests.metrics.helpers import instances


def usual(count: int = 46, **changes: object) -> InstanceFacts:
    """An image nothing is remarkable about."""
    values: dict[str, object] = {
        "scores": [0.95] * count,
        "areas": [300 + 5 * index for index in range(count)],
        "solidity": [0.9] * count,
        "stability": [0.95] * count,
        "disagreement": [DISAGREEMENT / 3] * count,
        "twin": [-1] * count,
        "border": [False] * count,
        "cut": [False] * count,
        "left_out": [0.1, 0.06],
    }
    return InstanceFacts(**{**values, **changes})  # type: ignore[arg-type]


def changed(name: str, value: object, positions: tuple[int, ...] = (3,)) -> InstanceFacts:
    values = list(getattr(usual(), name))
    for position in positions:
        values[position] = value
    return usual(**{name: values})


def test_nothing_remarkable_scores_nothing() -> None:
    result = review_image(usual(), 46)
    assert result.score == 0
    assert result.reasons == []
    assert not any(result.marks)


@pytest.mark.parametrize(
    ("found", "reason", "mark"),
    [
        (usual(45), "45 instead of 46", None),
        (changed("scores", 0.55), "1 of low confidence", "low confidence"),
        (usual(left_out=[0.45, 0.2]), "1 left out that may be one", None),
        (changed("disagreement", 0.2), "1 where the mask heads disagree", "heads disagree"),
        (changed("stability", 0.5), "1 changed a lot by refinement", "changed"),
        (changed("areas", 1200), "1 as large as two", "as large as two"),
        (changed("twin", 4, (3,)), "1 on the same pixels as another", "same pixels"),
        (changed("cut", True), "1 perhaps cut by a tile's border", "cut by a tile"),
        (changed("border", True), "1 at the image's border", None),
    ],
)
def test_each_reason(found: InstanceFacts, reason: str, mark: str | None) -> None:
    result = review_image(found, 46)
    assert result.reasons == [reason]
    assert 0 < result.score < 50
    assert [index for index, marks in enumerate(result.marks) if marks] == ([3] if mark else [])
    if mark:
        assert result.marks[3] == {mark}


def test_crossing_chromosomes_taken_for_one_are_large_and_ragged() -> None:
    areas, solid = list(usual().areas), list(usual().solidity)
    areas[3], solid[3] = 700, 0.4
    assert review_image(usual(areas=areas, solidity=solid), 46).reasons == ["1 as large as two"]
    # The largest chromosome alone, bent or not, is no such case ...
    solid[3] = 0.8
    assert review_image(usual(areas=areas, solidity=solid), 46).reasons == []
    # ... nor is a bent small one.
    areas[3], solid[3] = 300, 0.4
    assert review_image(usual(areas=areas, solidity=solid), 46).reasons == []


def test_counts_can_be_left_aside() -> None:
    assert review_image(usual(30), None).score == 0
    assert review_image(usual(0), 46).reasons == ["0 instead of 46"]


def test_the_score_grows_with_what_is_wrong_and_stays_below_100() -> None:
    scores = [review_image(changed("scores", 0.55, tuple(range(count))), 46).score for count in (1, 3, 10, 46)]
    assert scores == sorted(scores)
    assert len(set(scores)) == 4
    everything = usual(
        20, scores=[0.5] * 20, twin=[1] * 20, cut=[True] * 20, stability=[0.1] * 20, disagreement=[0.4] * 20
    )
    assert 95 < review_image(everything, 46).score <= 100
    reasons = review_image(everything, 46).reasons
    assert len(reasons) == 6


def test_facts_of_known_masks() -> None:
    size = (40, 50)
    square, inside, corner, weak = (np.zeros(size, bool) for _ in range(4))
    square[10:20, 10:20] = True
    inside[12:18, 12:24] = True  # half of it in the square
    corner[0:5, 40:50] = True
    weak[30:34, 30:34] = True
    shifted = np.roll(square, 2, axis=1)
    final = instances([square, inside, corner, weak], size, [1] * 4, [0.9, 0.8, 0.7, 0.4])
    before = instances([shifted, inside, corner, weak], size, [1] * 4, [0.9, 0.8, 0.7, 0.4])
    final.disagreement = before.disagreement = torch.tensor([0.1, 0.2, 0.3, 0.4])
    cut = torch.tensor([False, True, False, True])
    found = instance_facts(Prediction(before, final, cut), final.scores >= 0.5)
    assert found.areas == [100, 72, 50]
    assert found.solidity == [1.0, 1.0, 1.0]
    assert found.stability == pytest.approx([80 / 120, 1, 1])
    assert found.disagreement == pytest.approx([0.1, 0.2, 0.3])
    assert found.twin == [1, 0, -1]  # 48 of 72 pixels
    assert found.border == [False, False, True]
    assert found.cut == [False, True, False]
    assert found.left_out == pytest.approx([0.4])


def test_facts_of_nothing() -> None:
    nothing = Instances.empty((9, 9))
    found = instance_facts(Prediction(nothing, None), nothing.scores >= 0.5)
    assert found.scores == []
    assert review_image(found, 46).score == 90.0


def test_solidity_of_known_shapes() -> None:
    cross = np.zeros((30, 30), bool)
    cross[10:20], cross[:, 10:20] = True, True
    # The hull of a plus is the square less four triangles of 10 by 10.
    assert solidity(cross) == pytest.approx(500 / (900 - 4 * 50), rel=1e-3)
    assert solidity(np.zeros((3, 3), bool)) == 1
