"""Checkpoints that hold all that a model needs: read safely, rebuilt without any other configuration.

A checkpoint is Lightning's file. Under ``hyper_parameters`` it has plain values only: ``model`` (the resolved
``conf/model`` node, with its ``_target_``s), ``label_names``, ``input_size`` and ``intensity``. Files are read with
``weights_only=True``, and only networks of `kemr_lightning.models`, and functions that return them, are ever called to
build a model, so that an untrusted file can spoil a prediction but cannot run code. How a file is written, and that it
is undamaged when it is read, is the business of `kemr_lightning.training.checkpoint_files`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from omegaconf import OmegaConf
from torch import Tensor, nn

from kemr_lightning.core.errors import UserError, cause_of
from kemr_lightning.core.targets import refuse_foreign
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.training.checkpoint_files import load_whole
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.weights_file import SUFFIX, read_weights

logger = logging.getLogger(__name__)

TRUSTED = "kemr_lightning.models."
LONGEST_SIDE = 100_000
"""Longest plausible side of a model's input, in pixels."""

NEEDED = ("state_dict", "hyper_parameters")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file on the CPU.

    Args:
        path: The ``.ckpt`` file, or a file of `kemr_lightning.training.weights_file`.

    Returns:
        Its content, with at least ``state_dict`` and ``hyper_parameters`` (which holds ``model`` and ``label_names``).

    Raises:
        UserError: The file is missing, damaged, not a checkpoint of this project, or holds weights that are not finite.
    """
    file = Path(path)
    if file.suffix == SUFFIX and file.is_file():
        return _checked(read_weights(file), file)
    return _checked(load_whole(file), file)


def _checked(content: Any, file: Path) -> dict[str, Any]:
    """The content of a checkpoint, if it is one of this project."""
    if not isinstance(content, dict) or any(not isinstance(content.get(key), Mapping) for key in NEEDED):
        raise UserError(f"{file} is not a checkpoint of a training run. Use a file from a run's checkpoints/ folder")
    hyper = content["hyper_parameters"]
    if not isinstance(hyper.get("model"), Mapping) or not hyper.get("label_names"):
        raise UserError(
            f"{file} was not written by kemr_lightning: it does not contain its model. Use another checkpoint"
        )
    wrong = _wrong_value(content["state_dict"], hyper)
    if wrong:
        raise UserError(f"checkpoint {file} cannot be used: {wrong}. Copy it again, or use another one")
    return content


def _wrong_value(weights: Mapping[Any, Any], hyper: Mapping[str, Any]) -> str:
    """What is not as a training writes it among a checkpoint's values; empty if all is well."""
    named = all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
    if not named:
        return "its state_dict is not weights by name"
    names = hyper["label_names"]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.strip() for name in names):
        return f"its label_names {names!r:.80} are not names of classes"
    if len(set(names)) < len(names):
        return f"its label_names {names!r:.80} are not distinct"
    size = hyper.get("input_size")
    if size is not None and not _is_size(size):
        return f"its input_size {size!r:.80} is not a width and a height"
    return ""


def _is_size(value: object) -> bool:
    """Whether a value is a plausible ``(width, height)`` in pixels."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= LONGEST_SIDE for side in value)


def check_targets(config: object, file: str | Path) -> None:
    """Refuse a description that would build anything but this package's models.

    Args:
        config: A checkpoint's ``model``: nested mappings, lists and plain values.
        file: The checkpoint, for the message.

    Raises:
        UserError: A ``_target_`` lies outside `kemr_lightning.models`, or a value is an interpolation.
    """
    try:
        refuse_foreign(config, _is_ours, f"checkpoint {file}", "Do not use it", "model")
    except RecursionError as error:
        raise UserError(
            f"checkpoint {file} describes a model that cannot be built (too deep). Do not use it"
        ) from error


def _is_ours(target: str) -> bool:
    """Whether a ``_target_`` is a network of `kemr_lightning.models`, or a function of it that returns one.

    The name alone proves nothing: ``kemr_lightning.models.weights.os.system`` begins with the right package.
    """
    if not target.startswith(TRUSTED):
        return False
    try:
        found = hydra.utils.get_object(target)
    except Exception:  # whatever the lookup raises, the answer is no
        return False
    if not str(getattr(found, "__module__", "")).startswith(TRUSTED):
        return False
    made = get_type_hints(found).get("return") if inspect.isfunction(found) else found
    return inspect.isclass(made) and issubclass(made, nn.Module)


def without_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's description that loads no pretrained weights; all else, such as frozen layers, stays as it was."""
    inner = {key: without_weights(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    return {**inner, "weights": "none"} if "weights" in config else inner


def build_detector(config: Mapping[str, Any], file: str | Path) -> nn.Module:
    """Build the detector that a checkpoint describes, with random weights.

    Args:
        config: The checkpoint's ``hyper_parameters["model"]``.
        file: The checkpoint, for messages.

    Returns:
        The detector. No file was read and nothing downloaded for its weights.

    Raises:
        UserError: The description names anything but this package's models, or does not fit them.
    """
    check_targets(config, file)
    node = OmegaConf.create(without_weights(config))
    try:
        detector = hydra.utils.instantiate(node, _convert_="all")
    except Exception as error:
        reason = str(cause_of(error) or error).strip().splitlines()[0]
        raise UserError(
            f"checkpoint {file} describes a model that cannot be built ({reason}). Use the version that wrote it"
        ) from error
    if not isinstance(detector, nn.Module):
        raise UserError(f"checkpoint {file} does not describe a model. Use another checkpoint")
    return detector


def load_module(path: str | Path) -> SegmentationModule:
    """Rebuild a trained module from its checkpoint alone.

    Args:
        path: The ``.ckpt`` file.

    Returns:
        The module in evaluation mode, on the CPU, with the file's weights. It can predict but not train.

    Raises:
        UserError: See `read_checkpoint`, `build_detector` and `load_weights`.
    """
    content = read_checkpoint(path)
    hyper = content["hyper_parameters"]
    frame = hyper.get("input_size")
    module = SegmentationModule(
        build_detector(hyper["model"], path),
        config=hyper["model"],
        label_names=hyper["label_names"],
        scale=InputScale(None if frame is None else (int(frame[0]), int(frame[1])), hyper.get("input_width")),
    )
    load_weights(module, content["state_dict"], path)
    return module.eval()


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Load all weights of a module.

    Args:
        module: Takes the weights.
        weights: A checkpoint's ``state_dict``.
        path: The checkpoint, for the message.

    Raises:
        UserError: A weight is missing, left over or of another shape.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2]
        raise UserError(
            f"the weights in {path} do not fit the model ({' '.join(first).strip()[:160]}). Use another checkpoint"
        ) from error


def init_weights(module: nn.Module, path: str | Path) -> None:
    """Start a new training from a checkpoint's weights, as far as they fit.

    Weights whose name or shape differs, such as those of a head for other classes, keep random initial values; the log
    reports how many.

    Args:
        module: The module to be trained.
        path: The ``.ckpt`` file.

    Raises:
        UserError: See `read_checkpoint`; or no weight in the file fits.
    """
    weights = read_checkpoint(path)["state_dict"]
    own = module.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not any(own[name].dim() > 0 for name in fitting):
        raise UserError(f"none of the weights in {path} fits this model. Choose the model it was trained with")
    module.load_state_dict({**own, **fitting})
    left = sorted(set(own) - set(fitting))
    logger.info("%d of %d weights loaded from %s", len(fitting), len(own), path)
    if left:
        logger.warning("%d weights are not in %s and start at random: %s", len(left), path, ", ".join(left[:5]))
