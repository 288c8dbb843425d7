"""The cascade against numbers worked out by hand, for both variants."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.models.build import region_heads
from kemr_lightning.models.cascade import VARIANTS, CascadeHeads, variant_of
from kemr_lightning.models.suppression import Suppression
from tests.models.helpers import (
    IOU,
    WEIGHTS,
    constant_heads,
    constant_stage,
    features_of,
    picture,
    rectangles,
    small_detector,
)

SIZE = (64, 64)
TRUTH = rectangles([(0, 0, 20, 20)], SIZE)
# Cut at the bottom, so that the IoU with the truth is height / 20: 0.55, 0.65, 0.75.
CUT = torch.tensor([[0.0, 0, 20, 11], [0, 0, 20, 13], [0, 0, 20, 15]])


def covered(target: Instances) -> Instances:
    """The same boxes with masks that cover the whole image, so that every cell of a mask target is 1."""
    return replace(target, patches=[Patch(0, 0, torch.ones(SIZE, dtype=torch.bool))] * len(target))


def still(count: int = 3, variant: str = "mmdetection", classes: int = 1, **settings: object) -> CascadeHeads:
    """Stages that leave boxes where they are."""
    masks = [[0.0] * classes] * (count if VARIANTS[variant].mask_per_stage else 1)
    return constant_heads([constant_stage(k, [0.0] * (classes + 1)) for k in range(count)], masks, variant, **settings)


def record_losses(heads: CascadeHeads, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Labels and targets that each stage's loss is computed on."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for stage in heads.stages:
        original = stage.losses

        def losses(logits, deltas, labels, targets, original=original):
            seen.append((labels, targets))
            return original(logits, deltas, labels, targets)

        monkeypatch.setattr(stage, "losses", losses)
    return seen


@pytest.mark.parametrize("variant", ["mmdetection", "detectron2"])
def test_each_stage_labels_at_its_own_threshold(variant, monkeypatch):
    heads = still(variant=variant)
    seen = record_losses(heads, monkeypatch)
    heads(features_of(), [CUT], [SIZE], [TRUTH])
    # The last box is the appended truth, positive everywhere.
    assert [labels.tolist() for labels, _ in seen] == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_thresholds_are_inclusive_and_no_low_quality_match_is_made(monkeypatch):
    heads = still(1, variant="mmdetection")
    seen = record_losses(heads, monkeypatch)
    exactly, below = [0.0, 0, 20, 10], [0.0, 0, 20, 9]
    heads(features_of(), [torch.tensor([exactly, below])], [SIZE], [TRUTH])
    assert seen[0][0].tolist() == [1, 0, 1]
    # A low-quality match would make the best box of a truth positive whatever its IoU.
    alone = constant_heads([constant_stage(0, [0.0, 0.0])], [[0.0]], replace(VARIANTS["mmdetection"], resample=True))
    matched = alone.stages[0].matcher(torch.tensor([[0.3, 0.1]]))
    assert matched.tolist() == [-1, -1]


def test_each_stage_regresses_with_its_own_weights(monkeypatch):
    heads = still()
    seen = record_losses(heads, monkeypatch)
    heads(features_of(), [CUT], [SIZE], [TRUTH])
    for (labels, targets), (_, wy, _, wh) in zip(seen, WEIGHTS, strict=True):
        # The third box, 15 high with its centre at 7.5, is positive in every stage.
        assert labels[2] == 1
        expected = [0.0, wy * (10 - 7.5) / 15, 0.0, wh * math.log(20 / 15)]
        assert targets[2].tolist() == pytest.approx(expected, abs=1e-5)


def test_two_stages_by_hand():
    # Stage 1 moves x by 1/10 of the width 20; stage 2 moves y by 4/20 of the height 40 and makes the width 1.5 times.
    stages = [
        constant_stage(0, [0.0, 1.0], (1.0, 0.0, 0.0, 0.0)),
        constant_stage(1, [0.0, 2.0], (0.0, 4.0, 10 * math.log(1.5), 0.0)),
    ]
    proposal = torch.tensor([[10.0, 10, 30, 50]])
    expected_score = {"mmdetection": 0.8175745, "detectron2": (0.7310586 + 0.8807971) / 2}
    expected_mask = {"mmdetection": (0.8807971 + 0.2689414) / 2, "detectron2": 0.8807971}
    for variant, masks in (("mmdetection", [[2.0], [-1.0]]), ("detectron2", [[2.0]])):
        heads = constant_heads(stages, masks, variant).eval()
        (found,) = heads(features_of(), [proposal], [SIZE])
        assert heads.box_pooler.calls[1][0][0].tolist() == pytest.approx([12, 10, 32, 50], abs=1e-4)
        assert found.boxes[0].tolist() == pytest.approx([7, 18, 37, 58], abs=1e-4)
        assert found.scores.tolist() == pytest.approx([expected_score[variant]], abs=1e-6)
        assert found.grids.shape == (1, 28, 28)
        assert found.grids.flatten().tolist() == pytest.approx([expected_mask[variant]] * 784, abs=1e-6)
        assert found.regions.tolist() == found.boxes.tolist()
        if variant == "mmdetection":
            assert found.disagreement.tolist() == pytest.approx([(0.8807971 - 0.2689414) / 2], abs=1e-6)
        else:
            assert found.disagreement is None


@pytest.mark.parametrize("variant", ["mmdetection", "detectron2"])
def test_training_passes_refined_boxes_on_without_gradient(variant):
    stages = [constant_stage(k, [0.0, 0.0], (2.0, 0.0, 0.0, 0.0)) for k in range(3)]
    heads = constant_heads(stages, [[0.0]] * (3 if variant == "mmdetection" else 1), variant)
    start = torch.tensor([[10.0, 10, 30, 20]])
    losses = heads(features_of(), [start], [SIZE], [TRUTH])
    calls = [call[0] for call in heads.box_pooler.calls]
    # dx = 2: a fifth, a tenth of the width 20 further to the right. The truth (0, 0, 20, 20) is appended last.
    truth = [[0.0, 0, 20, 20]]
    if variant == "mmdetection":  # refined truths leave, and are appended anew
        expected = [start.tolist() + truth, [[14, 10, 34, 20], *truth], [[16, 10, 36, 20], *truth]]
    else:
        expected = [
            start.tolist() + truth,
            [[14, 10, 34, 20], [4, 0, 24, 20]],
            [[16, 10, 36, 20], [6, 0, 26, 20]],
        ]
    for call, boxes in zip(calls, expected, strict=True):
        torch.testing.assert_close(call, torch.tensor(boxes, dtype=torch.float32), atol=1e-4, rtol=0)
        assert not call.requires_grad
    later = sum(value for name, value in losses.items() if not name.startswith("loss_stage1"))
    gradients = torch.autograd.grad(later, list(heads.stages[0].parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_refined_boxes_are_clipped_and_empty_ones_leave_in_training_only():
    # dx of 40 moves a box 20 wide by 80, out of the image of 64.
    stages = [constant_stage(0, [0.0, 9.0], (40.0, 0.0, 0.0, 0.0)), constant_stage(1, [0.0, 9.0])]
    heads = constant_heads(stages, [[0.0], [0.0]])
    boxes = torch.tensor([[0.0, 40, 20, 60], [0, 30, 4, 60]])
    heads(features_of(), [boxes], [SIZE], [TRUTH])
    # The first one has left; the second, moved by 16 to (16, 30, 20, 60), and the truth are there.
    assert heads.box_pooler.calls[1][0].tolist() == [[16, 30, 20, 60], [0, 0, 20, 20]]
    heads.eval()
    heads.box_pooler.calls.clear()
    (found,) = heads(features_of(), [boxes], [SIZE])
    assert heads.box_pooler.calls[1][0].tolist() == [[64, 40, 64, 60], [16, 30, 20, 60]]
    assert found.boxes.tolist() == [[16, 30, 20, 60]]  # a detection has an extent


def test_sampling_of_the_variants():
    torch.manual_seed(0)
    corner = torch.rand(600, 2) * 40
    proposals = torch.cat([corner, corner + 5 + torch.rand(600, 2) * 15], dim=1)
    counts = {}
    for variant in ("mmdetection", "detectron2"):
        heads = still(variant=variant)
        heads(features_of(), [proposals], [SIZE], [TRUTH])
        counts[variant] = [len(call[0]) for call in heads.box_pooler.calls]
        rows = [(call[0] == TRUTH.boxes).all(dim=1).sum() for call in heads.box_pooler.calls]
        assert rows == [1, 1, 1]
    assert counts["detectron2"] == [512, 512, 512]
    # 511 and the truth again: nothing is left to choose from where boxes stay.
    assert counts["mmdetection"] == [512, 512, 512]
    few = still(samples=64, positive_fraction=0.25)
    crowd = TRUTH.boxes.repeat(50, 1)
    few(features_of(), [torch.cat([crowd, proposals])], [SIZE], [TRUTH])
    assert len(few.box_pooler.calls[0][0]) == 64
    assert (box_iou(TRUTH.boxes, few.box_pooler.calls[0][0]) >= 0.5).sum() == 16


def test_loss_weights():
    stages = [constant_stage(k, [0.3, -0.2], (0.0, 1.0, 0.0, 0.0)) for k in range(3)]
    heads = constant_heads(stages, [[0.7]] * 3)
    truth = covered(rectangles([(20, 20, 40, 40)], SIZE))
    losses = heads(features_of(), [torch.zeros(0, 4)], [SIZE], [truth])
    cross_entropy = -math.log(math.exp(-0.2) / (math.exp(0.3) + math.exp(-0.2)))
    mask = math.log(1 + math.exp(-0.7))
    for k, weight in enumerate((1.0, 0.5, 0.25)):
        assert losses[f"loss_stage{k + 1}_class"].item() == pytest.approx(weight * cross_entropy, abs=1e-5)
        # The truth alone is sampled, anew at every stage: it should stay where the deltas move it by 1.
        assert losses[f"loss_stage{k + 1}_box"].item() == pytest.approx(weight * 0.5, abs=1e-5)  # smooth L1 of 1
        assert losses[f"loss_stage{k + 1}_mask"].item() == pytest.approx(weight * mask, abs=1e-5)
    single = constant_heads(stages, [[0.7]], "detectron2")
    losses = single(features_of(), [torch.zeros(0, 4)], [SIZE], [truth])
    assert [name for name in losses if name.endswith("mask")] == ["loss_stage1_mask"]
    assert losses["loss_stage1_mask"].item() == pytest.approx(mask, abs=1e-5)
    # The truth is not appended again: stage 2 is to take back 2 pixels of 20 at a weight of 20, stage 3 3 at one of 30.
    assert [losses[f"loss_stage{k + 1}_box"].item() for k in range(3)] == pytest.approx([0.5, 2.5, 5.0], abs=1e-5)
    for k in range(3):
        assert losses[f"loss_stage{k + 1}_class"].item() == pytest.approx(cross_entropy, abs=1e-5)


def test_mask_heads_train_on_their_stage_s_positives():
    # Heads that differ, so that a loss tells which one it is of.
    logits = [0.5, -1.0, 2.0]
    heads = constant_heads([constant_stage(k, [0.0, 0.0]) for k in range(3)], [[value] for value in logits])
    # Away from the border, where a mask that covers the image ends.
    truth = covered(rectangles([(20, 20, 40, 40)], SIZE))
    losses = heads(features_of(), [CUT + 20], [SIZE], [truth])
    assert [len(call[0]) for call in heads.mask_branch.pooler.calls] == [4, 3, 2]
    for k, (weight, value) in enumerate(zip((1.0, 0.5, 0.25), logits, strict=True)):
        loss = losses[f"loss_stage{k + 1}_mask"]
        assert loss.item() == pytest.approx(weight * math.log(1 + math.exp(-value)), abs=1e-5)
        gradients = torch.autograd.grad(loss, [h.value for h in heads.mask_branch.heads], allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [k == other for other in range(3)]
    single = still(variant="detectron2")
    single(features_of(), [CUT], [SIZE], [TRUTH])
    assert [len(call[0]) for call in single.mask_branch.pooler.calls] == [4]


def test_detectron2_sends_a_third_of_the_gradient_back():
    def gradients(variant):
        torch.manual_seed(1)
        stages = [constant_stage(k, [0.0, 0.5]) for k in range(3)]
        for stage in stages:
            torch.nn.init.normal_(stage.class_logits.weight)
        heads = constant_heads(stages, [[0.0]], variant)
        features = features_of()
        losses = heads(features, [CUT], [SIZE], [TRUTH])
        total = sum(value for name, value in losses.items() if not name.endswith("mask"))
        return torch.autograd.grad(total, [features["0"], *[stage.class_logits.weight for stage in stages]])

    shared, *weights = gradients("detectron2")
    whole, *others = gradients(replace(VARIANTS["detectron2"], share_gradient=False))
    assert whole.abs().sum() > 0
    torch.testing.assert_close(shared, whole / 3)
    for one, other in zip(weights, others, strict=True):
        torch.testing.assert_close(one, other)


def test_classes_share_class_agnostic_deltas():
    stages = [constant_stage(k, [0.0, 1.0, 2.0, -9.0], (1.0, 0.0, 0.0, 0.0)) for k in range(2)]
    heads = constant_heads(stages, [[1.0, 2.0, 3.0]] * 2).eval()
    (found,) = heads(features_of(), [torch.tensor([[10.0, 10, 30, 50]])], [SIZE])
    assert found.labels.tolist() == [2, 1]  # both survive: suppression is within a class
    shares = F.softmax(torch.tensor([0.0, 1.0, 2.0, -9.0]), dim=0)
    assert found.scores.tolist() == pytest.approx(shares[[2, 1]].tolist(), abs=1e-6)
    torch.testing.assert_close(found.boxes, torch.tensor([[13.0, 10, 33, 50]] * 2))
    assert found.grids[:, 0, 0].tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))])

    heads.train()
    targets = covered(rectangles([(10, 10, 30, 50), (40, 5, 60, 25)], SIZE, labels=[3, 1]))
    losses = heads(features_of(), [targets.boxes], [SIZE], [targets])
    probability = F.softmax(torch.tensor([0.0, 1.0, 2.0, -9.0]), dim=0)
    assert losses["loss_stage1_class"].item() == pytest.approx(-(probability[[3, 1]].log().mean().item()), abs=1e-5)
    # The mask of each box is compared on the channel of its own class: logits 3 and 1.
    mask = (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-1))) / 2
    assert losses["loss_stage1_mask"].item() == pytest.approx(mask, abs=1e-5)


def test_box_deltas_per_class_are_taken_by_class():
    settings = {"variant": None, "class_agnostic": False, "box_width": 4, "mask_width": 4, "mask_convs": 1}
    heads = region_heads(8, [4], 3, settings)
    stage = heads.stages[0]
    deltas = torch.arange(24.0).view(2, 12)
    assert stage.deltas_of(deltas, torch.tensor([1, 3])).tolist() == [[0, 1, 2, 3], [20, 21, 22, 23]]
    assert stage.matcher.high_threshold == IOU[0]


@pytest.mark.parametrize("variant", [None, "mmdetection", "detectron2"])
@pytest.mark.parametrize("classes", [1, 3])
def test_images_without_objects_train_and_predict(variant, classes):
    torch.manual_seed(0)
    detector = small_detector(variant, classes, class_agnostic=variant is not None)
    empty = rectangles([], SIZE)
    losses = detector([picture(empty)], [empty])
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert all(losses[name] == 0 for name in losses if name.endswith(("_box", "_mask")))
    for name, parameter in detector.named_parameters():
        if ".deltas." in name or "mask_branch" in name or "bbox_pred" in name:
            assert parameter.grad is None or parameter.grad.abs().sum() == 0
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    with torch.no_grad():
        (found,) = detector.eval()([picture(empty)])
    assert found.boxes.shape[1] == 4
    assert found.grids.shape == (len(found.boxes), 28, 28)


@pytest.mark.parametrize("variant", [None, "mmdetection", "detectron2"])
def test_annotations_without_area_change_nothing(variant):
    """One without width first, one without height last: neither is proposed, sampled as an object or regressed to."""
    line, solid, dash = [30, 10, 30, 40], [8, 8, 24, 40], [50, 50, 60, 50]

    def losses_of(target: Instances) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return small_detector(variant, class_agnostic=variant is not None)([picture(target)], [target])

    expected, found = losses_of(rectangles([solid], SIZE)), losses_of(rectangles([line, solid, dash], SIZE))
    assert all(torch.isfinite(value) for value in found.values())
    # The heads sample them as background, so only the proposals' losses stay the same to the last digit.
    for name in ("loss_rpn_objectness", "loss_rpn_box"):
        torch.testing.assert_close(found[name], expected[name])
    heads = still()
    losses = heads(features_of(), [torch.zeros(0, 4)], [SIZE], [covered(rectangles([line, solid, dash], SIZE))])
    assert losses["loss_stage1_box"] == 0
    assert [len(call[0]) for call in heads.mask_branch.pooler.calls] == [1, 1, 1]


@pytest.mark.parametrize("variant", ["mmdetection", "detectron2"])
def test_no_proposals_give_no_detections(variant):
    heads = still(variant=variant).eval()
    none, one = torch.zeros(0, 4), torch.tensor([[10.0, 10, 30, 50]])
    first, second = heads(features_of(2), [none, one], [SIZE, SIZE])
    assert len(first.boxes) == 0
    assert len(second.boxes) == 1
    (alone,) = heads(features_of(), [none], [SIZE])
    assert alone.grids.shape == (0, 28, 28)
    assert (alone.disagreement is None) == (variant == "detectron2")


@pytest.mark.parametrize("variant", ["mmdetection", "detectron2"])
def test_refined_boxes_are_clipped_to_their_own_image(variant):
    # The first stage makes the box ten times as large, which is more than either image.
    sizes, box = [(40, 60), (64, 30)], torch.tensor([[20.0, 20, 28, 28]])
    grow = (0.0, 0.0, 5 * math.log(10), 5 * math.log(10))
    stages = [constant_stage(0, [0.0, 9.0], grow), constant_stage(1, [0.0, 9.0])]
    heads = constant_heads(stages, [[0.0]] * (2 if variant == "mmdetection" else 1), variant)
    expected = [[0, 0, 60, 40], [0, 0, 30, 64]]
    heads(features_of(2), [box, box], sizes, [rectangles([(2, 2, 8, 8)], size) for size in sizes])
    assert [call[0].tolist() for call in heads.box_pooler.calls[1]] == expected
    heads.box_pooler.calls.clear()
    found = heads.eval()(features_of(2), [box, box], sizes)
    assert [call[0].tolist() for call in heads.box_pooler.calls[1]] == expected
    assert [each.boxes[0].tolist() for each in found] == expected


@pytest.mark.parametrize("variant", ["mmdetection", "detectron2"])
def test_images_of_different_sizes_make_a_batch(variant):
    torch.manual_seed(0)
    detector = small_detector(variant)
    targets = [rectangles([(8, 8, 40, 24)], (64, 96)), rectangles([(4, 10, 24, 60), (30, 5, 50, 40)], (80, 56))]
    losses = detector([picture(target) for target in targets], targets)
    assert torch.isfinite(sum(losses.values()))
    with torch.no_grad():
        found = detector.eval()([picture(target) for target in targets])
    for each, target in zip(found, targets, strict=True):
        height, width = target.image_size
        assert (each.boxes >= 0).all()
        assert (each.boxes[:, 2] <= width).all()
        assert (each.boxes[:, 3] <= height).all()


def test_settings_that_make_no_cascade_are_refused():
    with pytest.raises(ValueError, match="4 stages but 3 loss weights"):
        constant_heads([constant_stage(0, [0.0, 0.0])] * 4, [[0.0]] * 4)
    with pytest.raises(ValueError, match="mask heads"):
        constant_heads([constant_stage(k, [0.0, 0.0]) for k in range(3)], [[0.0]])


def test_variants_go_by_name():
    assert variant_of(None).loss_weights == (1.0,)
    assert variant_of("detectron2") is VARIANTS["detectron2"]
    with pytest.raises(SettingError, match=r"variant=mmdet is not a variant .*mmdetection or detectron2"):
        variant_of("mmdet")


def test_scores_below_the_threshold_and_beyond_the_limit_are_dropped():
    heads = constant_heads([constant_stage(0, [0.0, 0.0])], [[0.0]], "mmdetection", detections=2).eval()
    apart = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    (found,) = heads(features_of(), [apart], [SIZE])
    assert len(found.boxes) == 2
    heads.suppression = Suppression(0.5)  # the score is 0.5: not above it
    (found,) = heads(features_of(), [apart], [SIZE])
    assert len(found.boxes) == 0


def test_boxes_on_ignored_regions_are_no_background() -> None:
    heads = region_heads(8, [4], 1, {"samples": 100, "positive_fraction": 0.5})
    region = rectangles([(40, 40, 60, 60)], SIZE)
    boxes = torch.tensor([[0, 0, 20, 20], [42, 42, 58, 58], [30, 0, 50, 20]]).float()
    stage = heads.stages[0]
    kept = heads._assign(stage, boxes, TRUTH, True)  # type: ignore[arg-type]
    assert sorted(kept.labels.tolist()) == [0, 0, 1, 1]
    without = heads._assign(stage, boxes, replace(TRUTH, ignored=region), True)  # type: ignore[arg-type]
    assert sorted(without.labels.tolist()) == [0, 1, 1]
    assert [42, 42, 58, 58] not in without.boxes.tolist()
