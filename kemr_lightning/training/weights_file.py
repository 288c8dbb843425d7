"""Weights to hand on: a model's weights in half precision with its description, a sixth of a checkpoint's size.

The file is a safetensors file: numbers only. Its header has, as JSON, the ``hyper_parameters`` of a checkpoint
and ``about``, free text such as where the weights come from. Every task takes it as a model (``ckpt=FILE``) and as a
training's beginning (``init=FILE``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import atomic_write

SUFFIX = ".safetensors"

SHIPPED = Path(__file__).resolve().parent.parent / "pretrained" / f"chromosomes{SUFFIX}"
"""The weights that come with the package; MODEL_CARD.md beside them describes them."""

PRETRAINED = "pretrained"
"""What `SHIPPED` is called on the command line."""


def write_weights(path: Path, content: Mapping[str, Any], about: Mapping[str, str] | None = None) -> None:
    """Write the weights of a checkpoint for others to use.

    Args:
        path: The new file; its suffix is `SUFFIX`.
        content: A checkpoint, as `kemr_lightning.training.checkpoint.read_checkpoint` returns it.
        about: Free text by name.
    """
    weights: Mapping[str, Tensor] = content["state_dict"]
    halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    header = {"hyper_parameters": json.dumps(content["hyper_parameters"]), "about": json.dumps(dict(about or {}))}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in halved.items()}, header))


def read_weights(path: Path) -> dict[str, Any]:
    """Read a file of `write_weights`, with weights in single precision.

    Args:
        path: The file.

    Returns:
        ``state_dict``, ``hyper_parameters`` and ``about``.

    Raises:
        UserError: The file is damaged, or not one of these.
    """
    try:
        with safe_open(path, framework="pt") as content:
            header = content.metadata() or {}
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        read = {key: json.loads(header[key]) for key in ("hyper_parameters", "about")}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or holds no weights of a model. Copy it again, or use another file"
        ) from error
    single = {name: value.float() if value.dtype == torch.float16 else value for name, value in weights.items()}
    return {"state_dict": single, **read}
