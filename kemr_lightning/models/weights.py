"""Pretrained weights: ``model.weights=imagenet|coco|none|PATH``.

Weights come from torchvision's own enums, through torch hub's cache, or from a file. What was taken over, what starts
at random and what was left over is always logged; a file of which too little fits is refused, for a detector that
silently starts at random looks just like one that does not.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.models.detection import (
    FCOS,
    FCOS_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)

from kemr_lightning.core.errors import UserError
from kemr_lightning.models.resnet import ResNetFPN

logger = logging.getLogger(__name__)

COCO: dict[str, WeightsEnum] = {
    "coco": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "coco_v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
COCO_FCOS: WeightsEnum = FCOS_ResNet50_FPN_Weights.COCO_V1
"""What ``coco`` is for a detector on torchvision's FCOS."""
PREFIXES = ("module.", "detector.")
UNUSED = (".num_batches_tracked",)  # a counter that only BatchNorm with momentum=None would read
LISTED = 6


@dataclass
class LoadReport:
    """What became of the weights in a file and of those in a model.

    Attributes:
        source: Where the weights come from.
        matched: Names in the model that were filled.
        missing: Names in the model that were not: they start at random.
        unexpected: Names in the file that the model has no place for.
        misfits: Names in both whose shapes differ; part of ``missing``.
    """

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report for a person, one line a group."""
        total = len(self.matched) + len(self.missing)
        groups = (
            ("start at random", self.missing),
            ("of another shape", self.misfits),
            ("left over in the file", self.unexpected),
        )
        return [f"weights={self.source}: {len(self.matched)} of {total} tensors taken over"] + [
            f"  {len(names)} {what}: {_shortened(names)}" for what, names in groups if names
        ]


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f", ... ({len(names) - LISTED} more)" if len(names) > LISTED else "")


def load_pretrained(detector: nn.Module, weights: str) -> LoadReport:
    """Fill a detector with pretrained weights as far as they fit, and log what became of them.

    Args:
        detector: For named weights, one on a `ResNetFPN`.
        weights: ``"none"``; ``"imagenet"`` (torchvision's IMAGENET1K_V1 of the backbone's architecture) or a member's
            name (``"IMAGENET1K_V2"``); ``"coco"`` (torchvision's Mask R-CNN on ResNet-50, for BlendMask its FCOS:
            backbone, pyramid, proposals, towers and heads where they fit) or ``"coco_v2"`` (its second Mask R-CNN); or
            a file: a state dict (``.pth``, ``.safetensors``) of such a model or of this detector, or a checkpoint of a
            training run.

    Returns:
        What was loaded.

    Raises:
        UserError: The weights do not exist, cannot be downloaded or read, or too few of them fit.
    """
    if weights == "none":
        return LoadReport("none", missing=sorted(_wanted(detector)))
    if weights in COCO:
        source = COCO_FCOS if weights == "coco" and fcos_prefix(detector) is not None else COCO[weights]
        _need_resnet(detector, weights, "resnet50")
        state = read_state(download(source))
    elif weights == "imagenet" or weights.startswith("IMAGENET"):
        source = imagenet_weights(_need_resnet(detector, weights), weights)
        state = read_state(download(source))
    else:
        state = read_state(Path(weights))
    return fill(detector, translate(state, detector), weights)


def imagenet_weights(architecture: str, member: str = "imagenet") -> WeightsEnum:
    """Torchvision's ImageNet weights of an architecture.

    Args:
        architecture: ``"resnet101"`` or another name of torchvision's.
        member: Name of the enum's member; ``"imagenet"`` is IMAGENET1K_V1, what torchvision's detectors were trained
            from.

    Returns:
        The member.

    Raises:
        UserError: There is none of that name.
    """
    enum = models.get_model_weights(architecture)
    name = "IMAGENET1K_V1" if member == "imagenet" else member
    if name not in enum.__members__:
        raise UserError(
            f"model.weights={member} does not exist for {architecture}. Choose from {', '.join(enum.__members__)}"
        )
    found: WeightsEnum = enum[name]
    return found


def _need_resnet(detector: nn.Module, weights: str, architecture: str | None = None) -> str:
    """The architecture of the detector's ResNet; an error where there is none or another is needed."""
    found = [module.architecture for module in detector.modules() if isinstance(module, ResNetFPN)]
    if not found or (architecture is not None and found[0] != architecture):
        exists = f"exist for {architecture or 'ResNets'} only, and this backbone is {found[0] if found else 'none'}"
        cure = f"model.backbone.name={architecture}" if found else "a model on a ResNet"
        raise UserError(f"model.weights={weights}: these weights {exists}. Use {cure}, model.weights=none or a file")
    return found[0]


def cached_file(weights: WeightsEnum) -> Path:
    """Where torch hub keeps the file of torchvision weights, whether or not it is there yet."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def download(weights: WeightsEnum) -> Path:
    """The file of torchvision weights, downloaded with a progress bar (and its hash checked) if it is not there yet.

    Args:
        weights: A member of one of torchvision's enums.

    Returns:
        The file in torch hub's cache.

    Raises:
        UserError: It cannot be downloaded; the message says which file to put where.
    """
    file = cached_file(weights)
    if file.is_file():
        return file
    digest = re.search(r"-([a-f0-9]{8,})\.", file.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        logger.info("downloading %s to %s", weights.url, file)
        torch.hub.download_url_to_file(weights.url, str(file), digest.group(1) if digest else None, progress=True)
    except (OSError, RuntimeError, ValueError) as error:  # no network, no space, or another hash than the name says
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{file.name} cannot be downloaded ({reason}). Put the file from {weights.url} into {file.parent}, or "
            "start without it: model.weights=none, or model.weights=FILE"
        ) from error
    return file


def read_state(file: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from the file.

    Args:
        file: ``.safetensors``, or PyTorch's format: a state dict, or a dict that holds one under ``state_dict`` (a
            checkpoint of a training run) or ``model``.

    Returns:
        Tensors by name, on the CPU; prefixes that training wrappers add are gone.

    Raises:
        UserError: The file is missing, damaged or holds no weights.
    """
    if not file.is_file():
        known = ", ".join(("imagenet", *COCO, "none"))
        raise UserError(f"model.weights={file} is neither a file nor one of {known}. Give one of these")
    try:
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise UserError(
            f"weights {file} cannot be read ({reason}). Delete and fetch it again, or use another file"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise UserError(f"weights {file} hold no tensors by name. Give a state dict or a checkpoint")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


# -- names ---------------------------------------------------------------------------------------------------


def backbone_prefix(detector: nn.Module) -> str:
    """What the names of a detector's ResNet begin with; ``"backbone."`` where it has none."""
    names = [name for name, module in detector.named_modules() if isinstance(module, ResNetFPN)]
    return f"{names[0]}." if names else "backbone."


def fcos_prefix(detector: nn.Module) -> str | None:
    """What the names of a detector's FCOS begin with; None where it is not built on one."""
    names = [name for name, module in detector.named_modules() if isinstance(module, FCOS)]
    return f"{names[0]}." if names else None


def translate(state: Mapping[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
    """Give weights the names they have in a detector.

    Args:
        state: Of a torchvision ResNet, of a torchvision Mask R-CNN or FCOS on one (any version of its names), or of
            the detector.
        detector: What they are meant for.

    Returns:
        The weights under the detector's names where it has such a part, else under their own.
    """
    if "layer1.0.conv1.weight" in state:
        body = backbone_prefix(detector) + "body."
        return {(name if name.startswith("fc.") else body + name): value for name, value in state.items()}
    if not any(name.startswith(("roi_heads.", "head.classification_head.")) for name in state):
        return dict(state)
    renamed: dict[str, Tensor] = {}
    for name, value in fold_batch_norms(_current_names(state)).items():
        own = re.sub(r"^backbone\.", backbone_prefix(detector), name)
        own = re.sub(r"^head\.", f"{fcos_prefix(detector) or ''}head.", own)
        for target in _mask_rcnn_names(name, detector) or [own]:
            renamed[target] = value
    return _without_partial_heads(renamed, detector)


def _current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as torchvision writes them since 0.14, where convolutions sit in blocks."""
    rules = (
        (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
        (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    )
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        number = re.match(r"^roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)$", name)
        if number:
            name = f"roi_heads.mask_head.{int(number.group(1)) - 1}.0.{number.group(2)}"
        renamed[name] = value
    return renamed


def fold_batch_norms(state: Mapping[str, Tensor], eps: float = 1e-5) -> dict[str, Tensor]:
    """Turn convolutions followed by BatchNorm, outside the body, into convolutions with a bias that give the same.

    Torchvision's second Mask R-CNN normalises in its pyramid and heads, ours does not.

    Args:
        state: Tensors by name, a block's convolution at ``.0`` and its normalisation at ``.1``.
        eps: The normalisation's.

    Returns:
        The state with such pairs replaced.
    """
    folded = dict(state)
    for name in state:
        block = re.match(r"^(?!backbone\.body\.)(.*)\.1\.running_var$", name)
        if not block or f"{block.group(1)}.0.weight" not in state:
            continue
        conv, norm = block.group(1) + ".0", block.group(1) + ".1"
        factor = state[f"{norm}.weight"] * (state[f"{norm}.running_var"] + eps).rsqrt()
        folded[f"{conv}.weight"] = state[f"{conv}.weight"] * factor[:, None, None, None]
        folded[f"{conv}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            folded.pop(f"{norm}.{part}", None)
    return folded


def _mask_rcnn_names(name: str, detector: nn.Module) -> list[str]:
    """Where a tensor of torchvision's box and mask heads belongs: the same in every stage of a cascade.

    The last layers, which name COCO's classes, have no place.
    """
    heads = getattr(detector, "heads", None)
    stages = len(getattr(heads, "stages", ()))
    masks = len(getattr(getattr(heads, "mask_branch", None), "heads", ()))
    layer = re.match(r"^roi_heads\.box_head\.fc([67])\.(weight|bias)$", name)
    if layer:  # Flatten, Linear, ReLU, Linear
        return [f"heads.stages.{k}.head.{2 * int(layer.group(1)) - 11}.{layer.group(2)}" for k in range(stages)]
    layer = re.match(r"^roi_heads\.mask_head\.(\d)\.0\.(weight|bias)$", name)
    if layer:  # Conv, ReLU, Conv, ReLU, ...
        position = 2 * int(layer.group(1))
        return [f"heads.mask_branch.heads.{k}.coarse.{position}.{layer.group(2)}" for k in range(masks)]
    layer = re.match(r"^roi_heads\.mask_predictor\.conv5_mask\.(weight|bias)$", name)
    if layer:
        return [f"heads.mask_branch.heads.{k}.coarse.8.{layer.group(1)}" for k in range(masks)]
    return []


def _without_partial_heads(state: dict[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
    """Leave a part out of which only some layers fit: half of a head or a pyramid of other levels is but noise."""
    own = _wanted(detector)
    result = dict(state)
    fcos = fcos_prefix(detector)
    towers = () if fcos is None else (r"classification_head\.conv\.", r"regression_head\.")
    for pattern in (
        rf"^{re.escape(backbone_prefix(detector))}fpn\.",
        r"^rpn\.head\.",
        r"^heads\.stages\.\d+\.head\.",
        r"^heads\.mask_branch\.heads\.\d+\.coarse\.",
        *(rf"^{re.escape(f'{fcos}head.')}{tower}" for tower in towers),
    ):
        needed = {name for name in own if re.match(pattern, name)}
        offered = {name for name in state if re.match(pattern, name)}
        if any(name not in state or state[name].shape != own[name].shape for name in needed) or offered - needed:
            result = {name: value for name, value in result.items() if name not in offered}
    return result


# -- filling ---------------------------------------------------------------------------------------------------


def _wanted(detector: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in detector.state_dict().items() if not name.endswith(UNUSED)}


def fill(detector: nn.Module, state: Mapping[str, Tensor], source: str) -> LoadReport:
    """Copy weights by name and shape.

    Args:
        detector: Takes the weights.
        state: Weights under its names.
        source: Where they come from, for messages.

    Returns:
        What became of them; it has been logged.

    Raises:
        UserError: A tensor of a ResNet body is missing or left over, or, on another backbone, less than half of the
            model is there. Nothing was changed.
    """
    own = _wanted(detector)
    offered = {name: value for name, value in state.items() if not name.endswith(UNUSED)}
    matched = sorted(name for name in offered if name in own and own[name].shape == offered[name].shape)
    report = LoadReport(
        source,
        matched,
        sorted(set(own) - set(matched)),
        sorted(set(offered) - set(own)),
        sorted(name for name in offered if name in own and own[name].shape != offered[name].shape),
    )
    for line in report.lines():
        logger.info("%s", line)
    prefix = backbone_prefix(detector) + "body."
    body = [name for name in own if name.startswith(prefix)]
    lacking = sorted(set(body) - set(matched)) or [name for name in report.unexpected if name.startswith(prefix)]
    if lacking or (not body and 2 * len(matched) < len(own)):
        fault = (
            f"do not fit its ResNet ({_shortened(lacking[:2])})"
            if lacking
            else f"fill {len(matched)} of {len(own)} tensors"
        )
        raise UserError(
            f"model.weights={source}: these weights {fault}. Choose the architecture (model.backbone.name) and "
            "normalisation (model.backbone.norm) they were trained with, or model.weights=none"
        )
    with torch.no_grad():
        for name in matched:
            own[name].copy_(offered[name])
    return report
