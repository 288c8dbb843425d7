"""Reproduction files: a training step whose loss or gradient was not finite, to be run again elsewhere.

A file is in the safetensors format, never a pickle. Its tensors are the weights before the step, the samples and the
states of the random generators; everything else is one JSON document in its header. Like a checkpoint it names its
model, and only models of this package are built from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import atomic_write
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.training.attempt import Attempt
from kemr_lightning.training.checkpoint import build_detector, load_weights
from kemr_lightning.training.module import SegmentationModule, model_input

FORMAT = "kemr_lightning.reproduction"
VERSION = 1


@dataclass(frozen=True)
class Replay:
    """What a step gives when it is run again.

    Attributes:
        losses: The losses by name, of one forward pass after the other.
        layer: The first module of the detector whose output is not finite although its inputs are, or None.
        gradients: The weights whose gradient is not finite.
    """

    losses: list[dict[str, float]]
    layer: str | None
    gradients: list[str]


@dataclass(frozen=True)
class Reproduction:
    """A training step to be run again.

    Attributes:
        step: Its number, from 0.
        model: The resolved ``conf/model`` of the training.
        label_names: Names of labels 1, 2, ...
        weights: The module's ``state_dict`` before the step.
        attempts: The forward passes of the step, more than one if gradients were accumulated. Their losses are those
            of the training.
        gradients: The weights whose gradient was not finite.
        origin: More in plain values, such as the training's seed and precision and the versions of its libraries.
    """

    step: int
    model: Mapping[str, Any]
    label_names: Sequence[str]
    weights: Mapping[str, Tensor]
    attempts: Sequence[Attempt]
    gradients: Sequence[str] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: It cannot be written.
        """
        tensors = {f"weights.{name}": value for name, value in self.weights.items()}
        attempts = []
        for number, attempt in enumerate(self.attempts):
            tensors |= {f"random.{number}.{device}": state for device, state in attempt.random.items()}
            samples = [
                _taken_apart(sample, f"sample.{number}.{n}.", tensors) for n, sample in enumerate(attempt.samples)
            ]
            # JSON has no NaN and no infinity.
            losses = {name: str(float(value)) for name, value in attempt.losses.items()}
            attempts.append({"samples": samples, "losses": losses, "finite": attempt.finite})
        document = {
            "step": self.step,
            "model": dict(self.model),
            "label_names": list(self.label_names),
            "attempts": attempts,
            "gradients": list(self.gradients),
            "origin": dict(self.origin),
        }
        header = {"format": FORMAT, "version": str(VERSION), "document": json.dumps(document)}
        # Copies: the format refuses tensors that share memory.
        whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        with atomic_write(Path(path)) as unfinished:
            save_file(whole, unfinished, metadata=header)

    @classmethod
    def load(cls, path: str | Path) -> Reproduction:
        """Read a file.

        Raises:
            UserError: The file is missing, damaged or of another kind.
        """
        file = Path(path)
        if not file.is_file():
            raise UserError(f"reproduction file {file} does not exist. Give a .safetensors file of a run's non_finite/")
        try:
            with safe_open(file, framework="pt") as content:
                header: Mapping[str, str] = content.metadata() or {}
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"reproduction file {file} is damaged or cut short ({error}). Copy it again") from error
        if (header.get("format"), header.get("version")) != (FORMAT, str(VERSION)):
            raise UserError(f"{file} is not a reproduction file of this version. Give one of a run's non_finite/")
        try:
            document = json.loads(header["document"])
            return cls(
                int(document["step"]),
                dict(document["model"]),
                list(document["label_names"]),
                _under("weights.", tensors),
                [_attempt(each, number, tensors) for number, each in enumerate(document["attempts"])],
                list(document["gradients"]),
                dict(document["origin"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"reproduction file {file} contradicts itself ({error!r}). Copy it again") from error

    def replay(self, device: str = "cpu") -> Replay:
        """Run the step's forward and backward passes again, with the same weights, samples and random numbers.

        They are run in full precision. The result is the training's own, bit by bit, where that used full precision on
        the same kind of device with the same versions.

        Args:
            device: Where to run it.

        Raises:
            UserError: The model is not one of this package, or its weights do not fit.
        """
        name = f"the reproduction of step {self.step}"
        losses: list[dict[str, float]] = []
        with torch.random.fork_rng():
            detector = build_detector(self.model, name)
            module = SegmentationModule(detector, config=self.model, label_names=self.label_names)
            load_weights(module, self.weights, name)
            module.to(device).train()
            with _watched(detector) as found:
                for attempt in self.attempts:
                    torch.set_rng_state(attempt.random["cpu"])
                    if device.startswith("cuda") and "cuda" in attempt.random:
                        torch.cuda.set_rng_state(attempt.random["cuda"], device)
                    losses.append(_forward_and_backward(detector, attempt.samples, device))
        return Replay(losses, found[0] if found else None, bad_gradients(module))


def _forward_and_backward(detector: nn.Module, samples: Sequence[Sample], device: str) -> dict[str, float]:
    """As `SegmentationModule.training_step` and the backward pass; the losses by name."""
    there = [sample.to(device) for sample in samples]
    targets = [sample.instances or Instances.empty(sample.image_size).to(device) for sample in there]
    terms: dict[str, Tensor] = detector([model_input(sample.image) for sample in there], targets)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    return {term: float(value.detach()) for term, value in terms.items()}


def bad_gradients(module: nn.Module) -> list[str]:
    """The names of the parameters whose gradient has a value that is not finite."""
    having = [(name, value.grad) for name, value in module.named_parameters() if value.grad is not None]
    if not having:
        return []
    # The largest magnitude cannot overflow as a sum of squares could; it is NaN if a value is.
    largest = torch.stack([norm.float() for norm in torch._foreach_norm([grad for _, grad in having], float("inf"))])
    return [having[position][0] for position in torch.nonzero(~torch.isfinite(largest))[:, 0].tolist()]


@contextmanager
def _watched(module: nn.Module) -> Iterator[list[str]]:
    """Collect the names of modules with finite inputs and outputs that are not, in the order in which they end."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(_: nn.Module, inputs: object, output: object) -> None:
            if _finite(inputs) and not _finite(output):
                found.append(name)

        return hook

    handles = [part.register_forward_hook(watch(name)) for name, part in module.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _finite(value: object) -> bool:
    """Whether all floating point tensors in nested containers are finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(_finite(part) for part in value.values())
    return all(_finite(part) for part in value) if isinstance(value, list | tuple) else True


def _taken_apart(sample: Sample, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A sample in plain values; its tensors are added under the prefix."""
    tensors[f"{prefix}image"] = sample.image
    plain: dict[str, Any] = {"name": sample.name, "image_id": sample.image_id, "path": sample.path, "windows": None}
    instances = sample.instances
    if instances is not None:
        tensors[f"{prefix}boxes"], tensors[f"{prefix}labels"] = instances.boxes, instances.labels
        plain["windows"] = [[patch.x0, patch.y0] for patch in instances.patches or []]
        tensors |= {f"{prefix}mask.{n}": patch.values for n, patch in enumerate(instances.patches or [])}
    return plain


def _put_together(plain: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> Sample:
    """Undo `_taken_apart`."""
    image = tensors[f"{prefix}image"]
    instances = None
    if plain["windows"] is not None:
        boxes, labels = tensors[f"{prefix}boxes"], tensors[f"{prefix}labels"]
        patches = [Patch(int(x0), int(y0), tensors[f"{prefix}mask.{n}"]) for n, (x0, y0) in enumerate(plain["windows"])]
        size = (int(image.shape[0]), int(image.shape[1]))
        instances = Instances(size, boxes, torch.ones(len(boxes)), labels, patches)
    return Sample(image, str(plain["name"]), int(plain["image_id"]), instances, plain["path"])


def _attempt(plain: Mapping[str, Any], number: int, tensors: Mapping[str, Tensor]) -> Attempt:
    samples = [_put_together(each, f"sample.{number}.{n}.", tensors) for n, each in enumerate(plain["samples"])]
    losses = {name: torch.tensor(float(value)) for name, value in plain["losses"].items()}
    return Attempt(samples, _under(f"random.{number}.", tensors), losses, bool(plain["finite"]))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
