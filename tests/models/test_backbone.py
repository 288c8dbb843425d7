"""The small backbone: where its features lie, its blocks by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kemr_lightning.core.errors import SettingError
from kemr_lightning.models.backbone import ImageNorm2d, ResidualBlock, TinyBackbone


def test_levels_have_the_strides_they_say() -> None:
    backbone = TinyBackbone((4, 8, 12, 16), (1, 2, 1), 6)
    features = backbone(torch.rand(2, 1, 64, 96))
    assert list(features) == ["0", "1", "2", "fine"]
    assert backbone.strides == [4, 8, 16]
    for name, stride in zip("012", backbone.strides, strict=True):
        assert features[name].shape == (2, backbone.out_channels, 64 // stride, 96 // stride)
    assert features["fine"].shape == (2, backbone.fine_channels, 64 // backbone.fine_stride, 96 // backbone.fine_stride)
    assert (backbone.out_channels, backbone.fine_channels, backbone.fine_stride) == (6, 4, 2)


def test_blocks_are_counted_per_stage() -> None:
    backbone = TinyBackbone((4, 8, 8), (1, 3), 8)
    assert [len(stage) for stage in backbone.stages] == [1, 3]  # type: ignore[arg-type]
    with pytest.raises(
        SettingError, match=r"^backbone\.blocks=\[1, 2, 1\] is not one number per stage\. Give 2 numbers$"
    ):
        TinyBackbone((4, 8, 8), (1, 2, 1), 8)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(3, 3, 1), (3, 5, 1), (3, 3, 2), (2, 6, 2)])
def test_a_block_is_two_convolutions_and_a_shortcut(inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(inputs, outputs, stride, torch.nn.BatchNorm2d).eval()
    values = torch.rand(2, inputs, 8, 10)
    first, second = block.body[0].weight, block.body[3].weight
    # Fresh statistics: mean 0, variance 1, so normalisation divides by sqrt(1 + eps).
    shrink = (1 + 1e-5) ** -0.5
    inner = F.relu(F.conv2d(values, first, stride=stride, padding=1) * shrink)
    wanted = F.conv2d(inner, second, padding=1) * shrink
    if stride == 1 and inputs == outputs:
        wanted = wanted + values
    else:
        wanted = wanted + F.conv2d(values, block.shortcut[0].weight, stride=stride) * shrink  # type: ignore[index]
    torch.testing.assert_close(block(values), F.relu(wanted))


def test_random_features_keep_their_scale() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        features = TinyBackbone()(torch.rand(4, 1, 64, 64))
    assert all(0.05 < float(value.std()) < 20 for value in features.values())


def test_normalisation_by_the_images_own_statistics() -> None:
    torch.manual_seed(0)
    norm, batch = ImageNorm2d(3), torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, -1.0, 3.0]))
    batch.load_state_dict(norm.state_dict())
    images = torch.rand(2, 3, 6, 7) * torch.tensor([1.0, 50.0]).reshape(2, 1, 1, 1)
    assert torch.equal(norm(images), batch(images))  # in training
    norm.eval()
    for image, found in zip(images, norm(images), strict=True):
        mean, variance = image.mean(dim=(1, 2)), image.var(dim=(1, 2), unbiased=False)
        expected = (image - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt()
        expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert torch.allclose(found, expected, atol=1e-4)


def test_a_backbone_of_either_normalisation_takes_the_other_s_weights() -> None:
    first, second = TinyBackbone((4, 8), (1,), 6, norm="image"), TinyBackbone((4, 8), (1,), 6)
    second.load_state_dict(first.state_dict())
    image = torch.rand(1, 1, 32, 32)
    alone = first.eval()(image)["0"]
    assert torch.allclose(first(torch.cat([image, 9 * image]))["0"][:1], alone, atol=1e-5)
    with pytest.raises(SettingError, match=r"^backbone\.norm=group is not a kind of normalisation\. Use"):
        TinyBackbone((4, 8), (1,), 6, norm="group")
