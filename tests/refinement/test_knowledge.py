from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kemr_lightning.errors import UserError
from kemr_lightning.instances import Instances, Patch
from kemr_lightning.refinement import CRFParams, Refiner
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.dense_crf import RefinementError
from kemr_lightning.refinement.evidence import EvidenceNet
from kemr_lightning.refinement.experiences import Experiences, Reasoning
from kemr_lightning.refinement.knowing_refiner import KnowingRefiner
from kemr_lightning.refinement.knowledge import Knowledge, file_digest, from_params
from kemr_lightning.refinement.restraint import Restraint
from kemr_lightning.refinement.states import STATE_NAMES

PARAMS = CRFParams(2.0, 15.0, 2.0, 4.0, 0.5, 3, 1.5)


def _knowledge(gain: float = 0.1) -> Knowledge:
    count, width = 30, len(STATE_NAMES)
    chance = torch.Generator().manual_seed(0)
    experiences = Experiences(
        torch.rand(2 * count, width, generator=chance),
        torch.tensor([1] * count + [2] * count),
        torch.full((2 * count,), 0.7),
        torch.tensor([0.7 + gain] * count + [0.7 + gain / 2] * count),
        torch.arange(2 * count),
    )
    actions = (Action("evidence + crf", PARAMS, True, Restraint(0.5, 0.02)), Action("crf", CRFParams(), False))
    origin = {"checkpoint": "best.ckpt", "checkpoint_sha256": "0" * 64, "images": 3}
    return Knowledge(actions, EvidenceNet(4).eval(), experiences, Reasoning(5, 0.2), 6, origin)


def _scene() -> tuple[torch.Tensor, Instances]:
    chance = torch.Generator().manual_seed(1)
    image = torch.randint(0, 60, (40, 50), dtype=torch.uint8, generator=chance)
    image[10:25, 12:30] += 120
    values = torch.full((19, 22), 0.1)
    values[3:17, 3:19] = 0.7
    boxes = torch.tensor([[10.0, 8, 32, 27], [0.0, 0, 5, 5]])
    patches = [Patch(10, 8, values), Patch(0, 0, torch.full((5, 5), 0.4))]
    return image, Instances((40, 50), boxes, torch.tensor([0.9, 0.6]), torch.ones(2, dtype=torch.int64), patches)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    before = _knowledge()
    before.save(tmp_path / "deep" / "k.safetensors")
    after = Knowledge.load(tmp_path / "deep" / "k.safetensors")
    assert after.actions == before.actions
    assert after.reasoning == before.reasoning
    assert (after.margin, after.origin) == (before.margin, before.origin)
    assert after.experiences is not None
    assert before.experiences is not None
    for name, value in vars(before.experiences).items():
        assert torch.equal(getattr(after.experiences, name), value), name
    image, instances = _scene()
    first, second = KnowingRefiner(before)(image, instances), KnowingRefiner(after)(image, instances)
    for a, b in zip(first.patches or [], second.patches or [], strict=True):
        assert torch.equal(a.values, b.values)
    assert after.describe() == before.describe()


def test_description_tells_a_person_the_essentials() -> None:
    text = _knowledge().describe()
    for word in ("best.ckpt", "sigma_beta 15", "temperature 1.5", "elongation", "30 instances", "+0.1000", "5 nearest"):
        assert word in text


def test_one_parameter_set_is_knowledge_and_refines_as_the_refiner_does() -> None:
    image, instances = _scene()
    knowing = KnowingRefiner(from_params(PARAMS))(image, instances)
    plain = Refiner(PARAMS)(image, instances)
    for a, b in zip(knowing.patches or [], plain.patches or [], strict=True):
        assert (a.x0, a.y0) == (b.x0, b.y0)
        assert torch.allclose(a.values, b.values, atol=2e-2)


@pytest.mark.parametrize(("gain", "action"), [(0.1, 1), (-0.1, 0), (-0.005, 0)])
def test_experiences_decide_whether_a_mask_changes(gain: float, action: int) -> None:
    image, instances = _scene()
    refined, actions = KnowingRefiner(_knowledge(gain)).decide(image, instances)
    assert actions.tolist() == [action, action]
    assert torch.equal(refined.boxes, instances.boxes)
    same = torch.equal((refined.patches or [])[0].values, (instances.patches or [])[0].values)
    assert same == (action == 0)


def test_nan_names_the_instance() -> None:
    image, instances = _scene()
    (instances.patches or [])[1].values[0, 0] = float("nan")
    with pytest.raises(RefinementError, match="instance 1"):
        KnowingRefiner(_knowledge())(image, instances)


def test_no_instances_and_boxes_only_come_back_unchanged() -> None:
    image = torch.zeros(10, 10, dtype=torch.uint8)
    refiner = KnowingRefiner(_knowledge())
    assert len(refiner(image, Instances.empty((10, 10)))) == 0
    boxes = Instances((10, 10), torch.zeros(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64), None)
    assert refiner(image, boxes) is boxes


def test_bad_files_are_named_with_a_cure(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    _knowledge().save(good)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(b"no knowledge")
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    old = tmp_path / "old.safetensors"
    save_file(load_file(good), old, metadata={"format": "kemr_lightning.knowledge", "version": "99", "document": "{}"})
    torn = tmp_path / "torn.safetensors"
    save_file(
        {}, torn, metadata={"format": "kemr_lightning.knowledge", "version": "2", "document": json.dumps({"a": 1})}
    )
    for path, words in (
        (tmp_path / "none.safetensors", "does not exist"),
        (cut, "cut short"),
        (noise, "damaged"),
        (other, "not a knowledge file"),
        (old, "version 99"),
        (torn, "does not hold together"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            Knowledge.load(path)
        assert str(path) in str(caught.value)


def test_another_checkpoint_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine, other = tmp_path / "mine.ckpt", tmp_path / "other.ckpt"
    mine.write_bytes(b"mine")
    other.write_bytes(b"other")
    knowledge = from_params(PARAMS, {"checkpoint": "mine.ckpt", "checkpoint_sha256": file_digest(mine)})
    with caplog.at_level(logging.WARNING):
        assert knowledge.warn_unless_from(mine)
        assert not caplog.records
        assert not knowledge.warn_unless_from(other)
    assert "mine.ckpt" in caplog.text


def test_saving_leaves_no_unfinished_file(tmp_path: Path) -> None:
    _knowledge().save(tmp_path / "k.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["k.safetensors"]
