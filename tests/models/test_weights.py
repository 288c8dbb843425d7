"""Pretrained weights: what is taken over, what is refused, what is said. Files are made here; nothing is downloaded."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models.detection import fcos_resnet50_fpn, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from kemr_lightning.core.errors import UserError
from kemr_lightning.models import weights as module
from kemr_lightning.models.blendmask import BlendMask, blendmask
from kemr_lightning.models.build import two_stage
from kemr_lightning.models.detector import TwoStageDetector
from kemr_lightning.models.resnet import resnet_fpn
from kemr_lightning.models.weights import cached_file, imagenet_weights, load_pretrained, read_state
from tests.models.helpers import small_detector


def detector(name: str, weights: str, box_width: int = 16, mask_width: int = 16, **backbone) -> TwoStageDetector:
    """A cascade on a ResNet; the paper's has ``box_width=1024`` and ``mask_width=256``."""
    return two_stage(
        1,
        resnet_fpn(name, weights, **backbone),
        [[32], [64], [128], [256], [512]],
        heads={"variant": "mmdetection", "box_width": box_width, "mask_width": mask_width},
        mean=0.0,
        std=1.0,
        weights=weights,
    )


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty torch hub without a network."""

    def fail(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


def randomised(network: nn.Module) -> nn.Module:
    """Statistics and affine parameters of BatchNorm as training might leave them."""
    for layer in network.modules():
        if hasattr(layer, "running_var"):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.1)
    return network


def put_in_cache(weights, state) -> Path:
    file = cached_file(weights)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)
    return file


def test_imagenet_weights_from_the_cache(caplog):
    classifier = randomised(models.resnet18(weights=None))
    file = put_in_cache(models.ResNet18_Weights.IMAGENET1K_V1, classifier.state_dict())
    assert file.name == "resnet18-f37072fd.pth"
    with caplog.at_level(logging.INFO):
        loaded = detector("resnet18", "imagenet")
    for name, value in loaded.backbone.body.state_dict().items():
        torch.testing.assert_close(value, classifier.state_dict()[name])
    report = load_pretrained(loaded, "imagenet")
    body = [name for name in classifier.state_dict() if not name.startswith("fc.") and "num_batches" not in name]
    assert len(report.matched) == len(body)
    assert report.unexpected == ["fc.bias", "fc.weight"]
    assert all(name.startswith("backbone.body.") for name in report.matched)
    assert "backbone.fpn.inner_blocks.0.0.weight" in report.missing
    assert "tensors taken over" in caplog.text
    assert "left over in the file: fc.bias, fc.weight" in caplog.text


def test_enum_members_by_name():
    assert imagenet_weights("resnet101") is models.ResNet101_Weights.IMAGENET1K_V1
    assert imagenet_weights("resnet101", "IMAGENET1K_V2") is models.ResNet101_Weights.IMAGENET1K_V2
    with pytest.raises(UserError, match="IMAGENET1K_V2 does not exist for resnet18"):
        imagenet_weights("resnet18", "IMAGENET1K_V2")


def test_without_network_the_cure_is_named(tmp_path: Path):
    with pytest.raises(UserError) as error:
        detector("resnet101", "imagenet")
    message = str(error.value)
    assert "resnet101-63fe2227.pth" in message
    assert str(tmp_path / "hub" / "checkpoints") in message
    assert "choose other weights: none, or a file" in message
    assert "\n" not in message


def test_a_broken_download_is_refused(monkeypatch):
    def wrong_hash(*args: object, **kwargs: object) -> None:
        raise RuntimeError('invalid hash value (expected "f37072fd", got "00")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", wrong_hash)
    with pytest.raises(UserError, match="invalid hash value"):
        detector("resnet18", "imagenet")
    file = cached_file(models.ResNet18_Weights.IMAGENET1K_V1)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half a file")
    with pytest.raises(UserError, match="cannot be read"):
        detector("resnet18", "imagenet")


def test_group_norm_takes_no_batch_norm(tmp_path: Path):
    put_in_cache(models.ResNet18_Weights.IMAGENET1K_V1, models.resnet18(weights=None).state_dict())
    with pytest.raises(UserError, match=r"^weights=imagenet does not fit the ResNet .*architecture and normalisation"):
        detector("resnet18", "imagenet", norm="group")


@pytest.mark.parametrize(("file_of", "model_of"), [("resnet34", "resnet18"), ("resnet18", "resnet34")])
def test_another_depth_is_refused(tmp_path: Path, file_of, model_of):
    file = tmp_path / "weights.pth"
    torch.save(models.get_model(file_of, weights=None).state_dict(), file)
    with pytest.raises(UserError, match=r"^weights=.* does not fit the ResNet .*architecture and normalisation"):
        detector(model_of, str(file))


def compare_with_torchvision(theirs, ours: TwoStageDetector, rpn: bool, box: bool) -> None:
    # In double precision, for fifty layers amplify what rounding leaves.
    theirs.double().eval()
    ours.double().eval()
    grey = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    mean, std = ours.backbone.mean, ours.backbone.std
    with torch.no_grad():
        expected, found = theirs.backbone((grey - mean) / std), ours.backbone(grey)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-5 * value.abs().max().item(), rtol=0)
        if rpn:
            for one, other in zip(
                theirs.rpn.head(list(found.values())), ours.rpn.head(list(found.values())), strict=True
            ):
                torch.testing.assert_close(one, other)
        regions = torch.rand(2, 256, 7, 7, dtype=torch.float64)
        if box:
            for stage in ours.heads.stages:
                torch.testing.assert_close(stage.head(regions), theirs.roi_heads.box_head(regions))
        for head in ours.heads.mask_branch.heads:
            deconvolved = theirs.roi_heads.mask_predictor.relu(
                theirs.roi_heads.mask_predictor.conv5_mask(theirs.roi_heads.mask_head(regions))
            )
            torch.testing.assert_close(head.coarse(regions), deconvolved, atol=1e-5, rtol=1e-4)


def test_coco_weights_give_torchvision_s_features():
    torch.manual_seed(0)
    theirs = randomised(maskrcnn_resnet50_fpn(weights=None, weights_backbone=None))
    put_in_cache(module.COCO["coco"], theirs.state_dict())
    ours = detector("resnet50", "coco", 1024, 256)
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    compare_with_torchvision(theirs, ours, rpn=True, box=True)
    report = load_pretrained(ours, "coco")
    assert all("class_logits" in name or "deltas" in name or ".logits." in name for name in report.missing)
    assert all("predictor" in name for name in report.unexpected)


def test_second_coco_weights_give_torchvision_s_features():
    torch.manual_seed(0)
    theirs = randomised(maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None))
    put_in_cache(module.COCO["coco_v2"], theirs.state_dict())
    ours = detector("resnet50", "coco_v2", mask_width=256)
    compare_with_torchvision(theirs, ours, rpn=False, box=False)
    report = load_pretrained(ours, "coco_v2")
    # Its proposals have a second convolution and its box head four, for which there is no place here.
    assert {name.split(".")[0] for name in report.missing} == {"rpn", "heads"}


def fcos_pair(weights: str, num_classes: int = 91, **settings: object) -> tuple[nn.Module, BlendMask]:
    """torchvision's FCOS as training might leave it, and where ``weights`` puts it in a BlendMask."""
    torch.manual_seed(0)
    theirs = randomised(fcos_resnet50_fpn(weights=None, weights_backbone=None))
    for layer in (theirs.head.classification_head.cls_logits, theirs.head.regression_head.bbox_reg):
        layer.bias.data.normal_()
    state = theirs.state_dict()
    if weights == "coco":
        put_in_cache(module.COCO_FCOS, state)
    else:
        torch.save(state, weights)
    backbone = resnet_fpn("resnet50", weights, first_stage=2, extra="p6p7")
    decoder = {"width": 32, "convs": 1}
    ours = blendmask(num_classes, backbone, weights, decoder=decoder, mean=0.0, std=1.0, **settings)  # type: ignore[arg-type]
    return theirs, ours


@pytest.mark.parametrize("source", ["coco", "file"])
def test_coco_weights_of_fcos_give_torchvision_s_predictions(source, tmp_path: Path):
    theirs, ours = fcos_pair("coco" if source == "coco" else str(tmp_path / "fcos.pth"))
    theirs.double().eval()
    ours.double().eval()
    grey = torch.rand(1, 1, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.backbone((grey - ours.backbone.mean) / ours.backbone.std)
        found = ours.backbone(grey)
        assert list(found) == list(expected) == ["0", "1", "2", "p6", "p7"]
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-5 * value.abs().max().item(), rtol=0)
        predictions = ours.head(list(found.values())).predictions
        for name, value in theirs.head(list(found.values())).items():
            torch.testing.assert_close(predictions[name], value)


def test_coco_weights_of_fcos_leave_out_its_classes(tmp_path: Path, caplog):
    _, ours = fcos_pair("coco", num_classes=1)
    report = load_pretrained(ours, "coco")
    assert not report.unexpected
    assert report.misfits == [f"fcos.head.classification_head.cls_logits.{part}" for part in ("bias", "weight")]
    new = {name for name in report.missing if name not in report.misfits}
    assert {name.split(".")[0] for name in new if not name.startswith("fcos.head.attention.")} == {
        "decoder",
        "semantic",
    }
    # Towers of another depth do not fit, and are no half of theirs.
    file = str(tmp_path / "fcos.pth")
    _, other = fcos_pair(file, num_classes=1, convs=2)
    report = load_pretrained(other, file)
    assert not any(name.startswith("fcos.head.") for name in report.matched)
    assert "fcos.backbone.fpn.extra_blocks.p7.weight" in report.matched


def test_fcos_weights_fill_the_body_of_a_cascade(tmp_path: Path):
    theirs, _ = fcos_pair(str(tmp_path / "fcos.pth"))
    ours = detector("resnet50", str(tmp_path / "fcos.pth"))
    report = load_pretrained(ours, str(tmp_path / "fcos.pth"))
    assert all(name.startswith("backbone.body.") for name in report.matched)
    assert "head.regression_head.bbox_ctrness.weight" in report.unexpected
    for name, value in ours.backbone.body.state_dict().items():
        torch.testing.assert_close(value, theirs.backbone.body.state_dict()[name])


def test_old_names_are_understood(tmp_path: Path):
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    state = {}
    for name, value in theirs.state_dict().items():
        old = name.replace("_blocks.0.0.", "_blocks.0.").replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for k in range(4):
            old = old.replace(f"_blocks.{k}.0.", f"_blocks.{k}.").replace(
                f"mask_head.{k}.0.", f"mask_head.mask_fcn{k + 1}."
            )
        state[old] = value
    assert "backbone.fpn.inner_blocks.3.weight" in state
    torch.save({"model": state, "epoch": 25}, tmp_path / "old.pth")
    new = detector("resnet50", str(tmp_path / "old.pth"), mask_width=256)
    torch.testing.assert_close(new.rpn.head.conv[0][0].weight, theirs.rpn.head.conv[0][0].weight)
    torch.testing.assert_close(new.heads.mask_branch.heads[2].coarse[6].weight, theirs.roi_heads.mask_head[3][0].weight)
    torch.testing.assert_close(
        new.backbone.fpn.inner_blocks[3][0].weight, theirs.backbone.fpn.inner_blocks[3][0].weight
    )


def test_coco_is_for_resnet50():
    with pytest.raises(UserError, match=r"resnet50 only.*architecture resnet50"):
        detector("resnet18", "coco")


def test_other_backbones_have_no_named_weights():
    with pytest.raises(UserError, match="ResNets only"):
        load_pretrained(small_detector(), "imagenet")


@pytest.mark.parametrize("kind", ["state.pth", "state.safetensors", "run.ckpt"])
def test_files_of_this_project(tmp_path: Path, kind):
    torch.manual_seed(0)
    source, target, file = small_detector(), small_detector(), tmp_path / kind
    state = source.state_dict()
    if kind == "state.safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, file)
    elif kind == "run.ckpt":
        torch.save({"state_dict": {f"detector.{name}": value for name, value in state.items()}, "epoch": 3}, file)
    else:
        torch.save(state, file)
    report = load_pretrained(target, str(file))
    assert not report.missing
    assert not report.unexpected
    for name, value in target.named_parameters():
        assert torch.equal(value, state[name])


def test_other_classes_start_at_random(tmp_path: Path, caplog):
    torch.save(small_detector(num_classes=3).state_dict(), tmp_path / "three.pth")
    with caplog.at_level(logging.INFO):
        report = load_pretrained(small_detector(num_classes=1), str(tmp_path / "three.pth"))
    assert all("class_logits" in name or ".logits." in name for name in report.missing)
    assert report.misfits == report.missing
    assert "of another shape" in caplog.text


def test_too_little_is_refused(tmp_path: Path):
    target = small_detector()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    few = {name: value + 1 for name, value in target.state_dict().items() if name.startswith("rpn")}
    torch.save(few, tmp_path / "few.pth")
    with pytest.raises(UserError, match=r"few\.pth fills only \d+ of"):
        load_pretrained(target, str(tmp_path / "few.pth"))
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}])
def test_files_without_weights(tmp_path: Path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="no tensors"):
        read_state(tmp_path / "a.pth")


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(UserError, match="neither a file nor one of imagenet, coco"):
        load_pretrained(small_detector(), str(tmp_path / "missing.pth"))
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x04nonsense")
        with pytest.raises(UserError, match="cannot be read"):
            read_state(tmp_path / name)


def test_files_run_no_code(tmp_path: Path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    torch.save({"a": Harm()}, tmp_path / "harm.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_state(tmp_path / "harm.pth")
    assert not (tmp_path / "harm").exists()


def test_none_loads_nothing():
    report = load_pretrained(small_detector(), "none")
    assert not report.matched
