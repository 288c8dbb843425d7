"""ResNet backbones: one channel in, the family by name, norms, freezing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.ops.misc import FrozenBatchNorm2d

from kemr_lightning.core.errors import SettingError
from kemr_lightning.models.resnet import IMAGENET_MEAN, IMAGENET_STD, resnet_fpn, resnet_names
from kemr_lightning.models.weights import imagenet_weights


def test_grey_gives_what_rgb_gives():
    torch.manual_seed(0)
    backbone = resnet_fpn("resnet18").eval()
    classifier = models.resnet18(weights=None).eval()
    classifier.load_state_dict(backbone.body.state_dict(), strict=False)
    grey = torch.rand(2, 1, 64, 96)
    rgb = grey.repeat(1, 3, 1, 1)
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    features = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1((rgb - mean) / std))))
    with torch.no_grad():
        for name in ("1", "2", "3", "4"):
            features = getattr(classifier, f"layer{name}")(features)
        own = backbone.body((grey - backbone.mean) / backbone.std)
    torch.testing.assert_close(own["3"], features)


def test_levels():
    backbone = resnet_fpn("resnet18")
    features = backbone(torch.rand(1, 1, 128, 192))
    assert backbone.strides == [4, 8, 16, 32, 64]
    assert backbone.pooled_strides == [4, 8, 16, 32]
    assert [tuple(value.shape) for value in features.values()] == [
        (1, backbone.out_channels, 128 // stride, 192 // stride) for stride in backbone.strides
    ]
    fcos = resnet_fpn("resnet18", first_stage=2, extra="p6p7", out_channels=64)
    assert [value.shape[-1] for value in fcos(torch.rand(1, 1, 128, 128)).values()] == [16, 8, 4, 2, 1]
    assert fcos.strides == [8, 16, 32, 64, 128]


FAMILY = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
NORMS = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d, "group": nn.GroupNorm}


def test_the_family_is_torchvision_s() -> None:
    assert set(resnet_names()) == set(FAMILY)
    with pytest.raises(SettingError, match=r"^backbone\.name=resnet99 is not .*resnet101"):
        resnet_fpn("resnet99")


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("norm", NORMS)
def test_the_whole_family_with_every_norm(name: str, norm: str) -> None:
    with torch.device("meta"):  # no memory, no time
        backbone = resnet_fpn(name, "imagenet" if norm == "frozen" else "none", norm)
        features = backbone(torch.rand(1, 1, 64, 64))
        body = models.get_model(name, weights=None)
    assert {key: tuple(value.shape) for key, value in features.items()} == {
        "0": (1, 256, 16, 16),
        "1": (1, 256, 8, 8),
        "2": (1, 256, 4, 4),
        "3": (1, 256, 2, 2),
        "pool": (1, 256, 1, 1),
    }
    kinds = {type(m) for m in backbone.modules()} & set(NORMS.values())
    assert kinds == {NORMS[norm]}
    # Weights of torchvision's classifier have a place each: of convolutions the same, whatever normalises.
    wanted = {key: value.shape for key, value in body.named_parameters() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in backbone.body.state_dict().items() if key in wanted} == wanted
    assert backbone.architecture == name
    assert imagenet_weights(name) is models.get_model_weights(name)["IMAGENET1K_V1"]


@pytest.mark.parametrize(
    ("pretrained", "norm", "kind"),
    [
        ("imagenet", None, FrozenBatchNorm2d),
        ("none", None, nn.BatchNorm2d),
        ("imagenet", "batch", nn.BatchNorm2d),
        ("none", "group", nn.GroupNorm),
    ],
)
def test_normalisation_follows_the_weights(pretrained, norm, kind):
    backbone = resnet_fpn("resnet18", pretrained, norm)
    assert type(backbone.body["bn1"]) is kind
    kinds = {type(module) for module in backbone.modules()} & {FrozenBatchNorm2d, nn.BatchNorm2d, nn.GroupNorm}
    assert kinds == {kind}


def test_random_features_stay_in_range():
    # Frozen BatchNorm over random weights gives features of thousands.
    torch.manual_seed(0)
    with torch.no_grad():
        features = resnet_fpn("resnet50")(torch.rand(2, 1, 128, 128))
    assert all(value.std() < 10 for value in features.values())


def test_freezing():
    backbone = resnet_fpn("resnet18", "imagenet")
    learning = {name.split(".")[1] for name, value in backbone.named_parameters() if value.requires_grad}
    assert learning == {"layer2", "layer3", "layer4", "inner_blocks", "layer_blocks"}
    everything = resnet_fpn("resnet18")
    assert all(value.requires_grad for value in everything.parameters())
    live = resnet_fpn("resnet18", "imagenet", "batch", trainable_layers=2).train()
    before = {name: value.clone() for name, value in live.body.state_dict().items() if "running_mean" in name}
    live(torch.rand(2, 1, 64, 64))
    moved = {
        name.split(".")[0] for name, value in before.items() if not torch.equal(live.body.state_dict()[name], value)
    }
    assert moved == {"layer3", "layer4"}
    nothing = resnet_fpn("resnet18", "imagenet", trainable_layers=0)
    assert not any(value.requires_grad for value in nothing.body.parameters())
    assert all(value.requires_grad for value in nothing.fpn.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "frozen"}, r"^backbone\.norm=frozen would freeze random weights"),
        ({"trainable_layers": 3}, r"^backbone\.trainable_layers=3 would freeze random weights"),
        ({"trainable_layers": 7}, r"^backbone\.trainable_layers=7 is out of range"),
        ({"extra": "p6"}, r"^backbone\.extra=p6 is not .*Choose pool or p6p7$"),
        ({"first_stage": 0}, r"^backbone\.first_stage=0 is out of range"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        resnet_fpn("resnet18", "none", **settings)


def test_unknown_norm():
    with pytest.raises(SettingError, match=r"^backbone\.norm=layer.*frozen, batch, group"):
        resnet_fpn("resnet18", norm="layer")


def test_coco_weights_expect_no_epsilon():
    assert resnet_fpn("resnet50", "coco").body["bn1"].eps == 0
    assert resnet_fpn("resnet50", "coco_v2").body["bn1"].eps == 1e-5
    # torchvision's FCOS, which reaches up to P7, was trained with the usual one.
    assert resnet_fpn("resnet50", "coco", first_stage=2, extra="p6p7").body["bn1"].eps == 1e-5
