"""Pretrained weights of a detector: torchvision's for ImageNet or COCO, or those in a file.

Torchvision's come through its own enums and torch hub's cache. The log always reports which weights were loaded, which
start at random and which were left over. A file is refused if too little of it fits: a detector that silently starts at
random looks just like a pretrained one.
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

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.models.resnet import ResNetFPN

logger = logging.getLogger(__name__)

COCO: dict[str, WeightsEnum] = {
    "coco": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "coco_v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
}
COCO_FCOS: WeightsEnum = FCOS_ResNet50_FPN_Weights.COCO_V1
"""What ``coco`` means for a detector on torchvision's FCOS."""
PREFIXES = ("module.", "detector.")
UNUSED = (".num_batches_tracked",)  # a counter that only BatchNorm with momentum=None would read
LISTED = 6


@dataclass
class LoadReport:
    """Which weights of a file and of a model were matched.

    Attributes:
        source: Where the weights come from.
        matched: Names in the model that were loaded.
        missing: Names in the model that were not loaded and start at random.
        unexpected: Names in the file that the model does not have.
        misfits: Names in both whose shapes differ; part of ``missing``.
    """

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as text, one line per group."""
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
    """Load pretrained weights into a detector as far as they fit, and log which.

    Args:
        detector: For named weights, a detector on a `ResNetFPN`.
        weights: ``"none"``; ``"imagenet"`` (torchvision's IMAGENET1K_V1 of the backbone's architecture) or a member's
            name (``"IMAGENET1K_V2"``); ``"coco"`` (torchvision's Mask R-CNN on ResNet-50, for BlendMask its FCOS:
            backbone, pyramid, proposals, towers and heads where they fit) or ``"coco_v2"`` (its second Mask R-CNN); or
            a file: a state dict (``.pth``, ``.safetensors``) of such a model or of this detector, or a checkpoint of a
            training run.

    Returns:
        What was loaded.

    Raises:
        SettingError: The weights do not exist, or too few of them fit.
        UserError: They cannot be downloaded or read.
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
        member: Name of the enum's member; ``"imagenet"`` is IMAGENET1K_V1, from which torchvision trained its
            detectors.

    Returns:
        The member.

    Raises:
        SettingError: There is no member of that name.
    """
    enum = models.get_model_weights(architecture)
    name = "IMAGENET1K_V1" if member == "imagenet" else member
    if name not in enum.__members__:
        raise SettingError(
            "weights", member, f"does not exist for {architecture}", f"Choose from {', '.join(enum.__members__)}"
        )
    found: WeightsEnum = enum[name]
    return found


def _need_resnet(detector: nn.Module, weights: str, architecture: str | None = None) -> str:
    """The architecture of the detector's ResNet; a `SettingError` if there is none or another is needed."""
    found = [module.architecture for module in detector.modules() if isinstance(module, ResNetFPN)]
    if not found or (architecture is not None and found[0] != architecture):
        exists = f"exists for {architecture or 'ResNets'} only, and this backbone is {found[0] if found else 'none'}"
        cure = f"the architecture {architecture}" if found else "a model on a ResNet"
        raise SettingError("weights", weights, exists, f"Choose {cure}, or use none or a file as weights")
    return found[0]


def cached_file(weights: WeightsEnum) -> Path:
    """Where torch hub keeps the file of torchvision's weights, whether or not it is there yet."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def download(weights: WeightsEnum) -> Path:
    """The file of torchvision's weights, downloaded with a progress bar, and its hash checked, if it is not there yet.

    Args:
        weights: A member of one of torchvision's enums.

    Returns:
        The file in torch hub's cache.

    Raises:
        UserError: It cannot be downloaded. The message says which file to put where.
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
            "choose other weights: none, or a file"
        ) from error
    return file


def read_state(file: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from the file.

    Args:
        file: ``.safetensors``, or PyTorch's format: a state dict, or a dict that holds one under ``state_dict`` (a
            checkpoint of a training run) or ``model``.

    Returns:
        Tensors by name, on the CPU, without the prefixes that training wrappers add.

    Raises:
        SettingError: There is no such file.
        UserError: The file is damaged or holds no weights.
    """
    if not file.is_file():
        known = ", ".join(("imagenet", *COCO, "none"))
        raise SettingError("weights", file, f"is neither a file nor one of {known}", "Give one of these")
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
    """The prefix of the names in a detector's ResNet; ``"backbone."`` if it has none."""
    names = [name for name, module in detector.named_modules() if isinstance(module, ResNetFPN)]
    return f"{names[0]}." if names else "backbone."


def fcos_prefix(detector: nn.Module) -> str | None:
    """The prefix of the names in a detector's FCOS; None if it is not built on one."""
    names = [name for name, module in detector.named_modules() if isinstance(module, FCOS)]
    return f"{names[0]}." if names else None


def translate(state: Mapping[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
    """Give weights the names they have in a detector.

    Args:
        state: The state dict of a torchvision ResNet, of a torchvision Mask R-CNN or FCOS on one (any version of its
            names), or of the detector itself.
        detector: The detector they are meant for.

    Returns:
        The weights under the detector's names if it has such a part, else under their own.
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
    """The state under torchvision's names since 0.14, where convolutions are in blocks."""
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
    """Fold every BatchNorm outside the body into the convolution before it, which gets a bias; outputs stay the same.

    Torchvision's second Mask R-CNN normalises in its pyramid and heads; ours does not.

    Args:
        state: Tensors by name, a block's convolution at ``.0`` and its normalisation at ``.1``.
        eps: The normalisation's epsilon.

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
    """The names in the detector for a tensor of torchvision's box and mask heads: one in every stage of a cascade.

    The last layers, which predict COCO's classes, have none.
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
    """Leave out every part of which only some layers fit: half a head, or a pyramid of other levels, is just noise."""
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
    """Copy weights by name and shape, and log which.

    Args:
        detector: Takes the weights.
        state: Weights under the detector's names.
        source: Where they come from, for messages.

    Returns:
        Which weights were copied.

    Raises:
        SettingError: A tensor of a ResNet's body is missing or left over, or, on another backbone, less than half of
            the model's tensors fit. Nothing was changed.
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
            f"does not fit the ResNet ({_shortened(lacking[:2])})"
            if lacking
            else f"fills only {len(matched)} of {len(own)} tensors"
        )
        cure = "Choose the backbone's architecture and normalisation that they were trained with, or none"
        raise SettingError("weights", source, fault, cure)
    with torch.no_grad():
        for name in matched:
            own[name].copy_(offered[name])
    return report
