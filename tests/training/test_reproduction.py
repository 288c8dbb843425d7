"""A saved step gives the same losses again, and damaged or foreign files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from safetensors import safe_open
from safetensors.torch import save_file

from kemr_lightning.assembly.settings import plain
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.reproduction import Reproduction, bad_gradients
from tests.conftest import compose
from tests.models.helpers import picture, rectangles


def step(poison: str | None = None) -> Reproduction:
    """A step of a small model of the package, whose weight of a name is not finite."""
    torch.manual_seed(5)
    config: Any = plain(compose("experiment=mask_rcnn_tiny").model)
    config |= {"num_classes": 1}
    module = SegmentationModule(instantiate(config, _convert_="all"), config=config).train()
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign,assignment]
    if poison is not None:
        with torch.no_grad():
            dict(module.named_parameters())[poison].view(-1)[0] = float("inf")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    targets = [rectangles([(8, 8, 40, 24), (10, 30, 50, 50)], (64, 64)), Instances.empty((64, 64))]
    images = [(picture(target)[0] * 255).to(torch.uint8) for target in targets]
    samples = [Sample(images[0], "a/one.png", 1, targets[0], "where"), Sample(images[1], "two.png", 2, targets[1])]
    module.attempts = []
    module.training_step(samples, 0).backward()
    origin = {"seed": "7"}
    return Reproduction(3, config, ["chr"], before, module.attempts, bad_gradients(module), origin)


def test_a_step_is_replayed_bit_by_bit(tmp_path: Path) -> None:
    made = step()
    made.save(tmp_path / "step.safetensors")
    read = Reproduction.load(tmp_path / "step.safetensors")
    assert (read.step, read.label_names, read.gradients, read.origin) == (3, ["chr"], [], {"seed": "7"})
    for mine, theirs in zip(read.attempts[0].samples, made.attempts[0].samples, strict=True):
        assert torch.equal(mine.image, theirs.image)
        assert (mine.name, mine.image_id, mine.path) == (theirs.name, theirs.image_id, theirs.path)
        assert mine.instances is not None
        assert theirs.instances is not None
        assert torch.equal(mine.instances.masks(), theirs.instances.masks())
        assert torch.equal(mine.instances.boxes, theirs.instances.boxes)
    before = torch.get_rng_state()
    replay = read.replay()
    assert torch.equal(torch.get_rng_state(), before)
    assert replay.losses == [{name: float(value) for name, value in made.attempts[0].losses.items()}]
    assert replay.layer is None
    assert replay.gradients == []


def test_the_layer_where_it_begins_is_named(tmp_path: Path) -> None:
    made = step("detector.backbone.stem.0.weight")
    made.save(tmp_path / "step.safetensors")
    replay = Reproduction.load(tmp_path / "step.safetensors").replay()
    assert replay.layer == "backbone.stem.0"
    assert not np.isfinite(list(replay.losses[0].values())).all()
    assert replay.gradients


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "step.safetensors"
    with pytest.raises(UserError, match=r"does not exist\. Give"):
        Reproduction.load(file)
    step().save(file)
    whole = file.read_bytes()
    with safe_open(file, framework="pt") as content:
        header, tensors = content.metadata(), {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    for length in (0, 5, 1000, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"is damaged or cut short .*\. Copy it again"):
            Reproduction.load(file)
    save_file(tensors, file, {"format": "another"})
    with pytest.raises(UserError, match="is not a reproduction file of this version"):
        Reproduction.load(file)
    document = json.loads(header["document"])
    for change in ({"attempts": [{}]}, {"attempts": 5}, {"model": None}, {"step": "x"}, {"origin": 3}):
        save_file(tensors, file, {**header, "document": json.dumps(document | change)})
        with pytest.raises(UserError, match="contradicts itself"):
            Reproduction.load(file)
    evil = document["model"] | {"backbone": {"_target_": "os.system", "command": "touch x"}}
    save_file(tensors, file, {**header, "document": json.dumps(document | {"model": evil})})
    with pytest.raises(UserError, match=r"names 'os\.system', which is not a model of this package"):
        Reproduction.load(file).replay()
