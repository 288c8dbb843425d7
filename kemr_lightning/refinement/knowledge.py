"""Neural Knowledge DNA: what was learned about refining, in one file without pickle, which describes itself in words.

After Zhang et al., "Neural Knowledge DNA", knowledge is **Networks** (here the learned CRF parameter sets and the
evidence network), **States** (descriptors of instances), **Actions** (keep a mask, or refine it with one of the sets)
and **Experiences** (what each action did to instances of known truth). The file is a safetensors file; everything but
the tensors is one JSON document in its header.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kemr_lightning.core.digests import file_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import atomic_write
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.evidence import EvidenceNet
from kemr_lightning.refinement.experiences import HARM, Experiences
from kemr_lightning.refinement.parameters import CRFParams
from kemr_lightning.refinement.reasoning import Reasoning
from kemr_lightning.refinement.restraint import Restraint
from kemr_lightning.refinement.states import STATE_NAMES

logger = logging.getLogger(__name__)

FORMAT = "kemr_lightning.knowledge"
VERSION = 2

WIDEST = 4096
"""Largest plausible width of an evidence network; a number in a damaged file is not to fill the memory."""


@dataclass
class Knowledge:
    """Everything refinement has learned.

    Attributes:
        actions: The ways to refine, best first; "keep" is implied and has number 0, these have 1, 2, ...
        evidence: The network that corrects unaries; needed if an action uses it.
        experiences: What the actions did; None for knowledge that always takes the first action.
        reasoning: How experiences decide.
        margin: Pixels around a patch that the CRF saw in learning, and sees in use.
        origin: Where the knowledge comes from, in plain values: ``checkpoint`` (file name), ``checkpoint_sha256``,
            ``data``, ``images``, ``instances``, and the figures of learning.

    Raises:
        ValueError: The parts contradict each other.
    """

    actions: tuple[Action, ...]
    evidence: EvidenceNet | None = None
    experiences: Experiences | None = None
    reasoning: Reasoning = field(default_factory=Reasoning)
    margin: int = 10
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError("knowledge needs at least one action")
        if any(action.evidence for action in self.actions) and self.evidence is None:
            raise ValueError("an action needs the evidence network, and there is none")
        if not 0 <= self.margin <= WIDEST:
            raise ValueError(f"the margin must be 0 to {WIDEST} pixels, not {self.margin}")
        known = self.experiences
        if known is not None and bool(((known.actions < 1) | (known.actions > len(self.actions))).any()):
            numbers = sorted(set(known.actions.tolist()))
            raise ValueError(
                f"its experiences are of actions {numbers}, but there are only actions 1 to {len(self.actions)}"
            )

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Args:
            path: The file; its folder is created. An existing file is replaced only when the new one is complete.
        """
        document = {
            "actions": [_written(action) for action in self.actions],
            "evidence_width": None if self.evidence is None else self.evidence.width,
            "reasoning": asdict(self.reasoning),
            "margin": self.margin,
            "states": list(STATE_NAMES),
            "origin": self.origin,
        }
        tensors: dict[str, Tensor] = {}
        if self.evidence is not None:
            tensors |= {f"evidence.{name}": value for name, value in self.evidence.state_dict().items()}
        if self.experiences is not None:
            tensors |= {f"experiences.{name}": value for name, value in vars(self.experiences).items()}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        header = {"format": FORMAT, "version": str(VERSION), "document": json.dumps(document)}
        with atomic_write(Path(path)) as unfinished:
            unfinished.write_bytes(save(tensors, metadata=header))

    @classmethod
    def load(cls, path: str | Path) -> Knowledge:
        """Read a file.

        Args:
            path: The file.

        Returns:
            The knowledge.

        Raises:
            UserError: The file is missing, truncated or of another version, or does not contain knowledge.
        """
        file = Path(path)
        if not file.is_file():
            raise UserError(f"knowledge file {file} does not exist. Give a file that learning or tuning wrote")
        try:
            with safe_open(file, framework="pt") as content:
                header: Mapping[str, str] = content.metadata() or {}
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"knowledge file {file} is damaged or cut short ({error}). Copy it again, or learn it again"
            ) from error
        if header.get("format") != FORMAT:
            raise UserError(f"{file} is not a knowledge file. Give a file that learning or tuning wrote")
        if header.get("version") != str(VERSION):
            raise UserError(
                f"knowledge file {file} has version {header.get('version')}, this program reads {VERSION}. "
                "Learn it again, or use the version of the program that wrote it"
            )
        try:
            return cls._from_document(json.loads(header["document"]), tensors)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            # A recursion error, of deeply nested JSON, is a runtime error.
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"knowledge file {file} contradicts itself ({reason}). Learn it again") from error

    @classmethod
    def _from_document(cls, document: dict[str, Any], tensors: dict[str, Tensor]) -> Knowledge:
        if document["states"] != list(STATE_NAMES):
            raise ValueError(f"its states are {document['states']}, expected {list(STATE_NAMES)}")
        evidence = None
        if document["evidence_width"] is not None:
            width = document["evidence_width"]
            if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= WIDEST:
                raise ValueError(f"the evidence network's width is {width!r:.80}")
            evidence = EvidenceNet(width)
            evidence.load_state_dict(_under("evidence.", tensors))
            if not all(bool(torch.isfinite(value).all()) for value in evidence.state_dict().values()):
                raise ValueError("the evidence network's weights are not finite")
            evidence.eval().requires_grad_(False)
        remembered = _under("experiences.", tensors)
        return cls(
            tuple(_read(action) for action in document["actions"]),
            evidence,
            Experiences(**remembered) if remembered else None,
            Reasoning(**document["reasoning"]),
            _whole("margin", document["margin"]),
            dict(document["origin"]),
        )

    def warn_unless_from(self, checkpoint: str | Path) -> bool:
        """Warn if this was learned from another model's masks.

        Args:
            checkpoint: The checkpoint in use.

        Returns:
            Whether it is the same checkpoint, by content.
        """
        expected = self.origin.get("checkpoint_sha256")
        if expected is None or expected == file_digest(checkpoint):
            return True
        logger.warning(
            "This knowledge was learned from the masks of checkpoint %s, not of %s: it may choose badly. "
            "Learn it again for this one",
            self.origin.get("checkpoint", "unknown"),
            checkpoint,
        )
        return False

    def describe(self) -> str:
        """The knowledge in words, on several lines."""
        lines = ["Neural Knowledge DNA", "  Origin"]
        lines += [f"    {key}: {_short(value)}" for key, value in self.origin.items()] or ["    unknown"]
        lines.append("  Networks")
        for number, action in enumerate(self.actions, start=1):
            values = ", ".join(f"{name} {value:.3g}" for name, value in asdict(action.params).items())
            lines.append(f"    CRF of action {number} ({action.name}): {values}")
        if self.evidence is not None:
            weights = sum(parameter.numel() for parameter in self.evidence.parameters())
            lines.append(f"    evidence network: {weights} weights, width {self.evidence.width}")
        lines += ["  States", f"    {', '.join(STATE_NAMES)}", "  Actions", "    0 keep the initial mask"]
        for number, action in enumerate(self.actions, start=1):
            lines.append(f"    {number} {action.name}{' (unary corrected by evidence)' if action.evidence else ''}")
            if str(action.restraint) not in action.name:
                lines[-1] += f", {action.restraint}"
        lines += ["  Experiences", *self._describe_experiences()]
        return "\n".join(lines)

    def _describe_experiences(self) -> list[str]:
        if self.experiences is None:
            return ["    none: action 1 is always taken"]
        lines = []
        for number, action in enumerate(self.actions, start=1):
            gain = self.experiences.gain[self.experiences.actions == number]
            if len(gain):
                lines.append(
                    f"    {number} {action.name}: {len(gain)} instances, mean IoU gained {gain.mean():+.4f}, more than "
                    f"{HARM} gained by {(gain > HARM).float().mean():.1%}, lost by {(gain < -HARM).float().mean():.1%}"
                )
        rule = self.reasoning
        lines.append(
            f"    consulted: the {rule.neighbours} nearest per action; an action is worth their mean gain minus "
            f"{rule.price:g} times the fraction of them that lost more than {HARM}; the best is taken if "
            "it is worth more than 0"
        )
        return lines


def from_params(params: CRFParams, origin: Mapping[str, Any] | None = None) -> Knowledge:
    """Knowledge of a single parameter set, without experiences: what a sweep or tuning finds."""
    return Knowledge((Action("crf", params.numbers(), False),), origin=dict(origin or {}))


def _written(action: Action) -> dict[str, Any]:
    """An action as plain JSON, which has no infinity: an area without bound becomes null."""
    area = action.restraint.area
    restraint = {"step": action.restraint.step, "area": None if area == math.inf else area}
    return {"name": action.name, "evidence": action.evidence, "crf": asdict(action.params), "restraint": restraint}


def _whole(name: str, value: object) -> int:
    """A whole number of a file, also if it is written as 10.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise ValueError(f"{name} is {value!r:.80}, not a whole number")
    return int(value)


def _read(written: Mapping[str, Any]) -> Action:
    if not isinstance(written["name"], str) or not written["name"].strip():
        raise ValueError(f"an action has the name {written['name']!r:.80}")
    area = written["restraint"]["area"]
    restraint = Restraint(float(written["restraint"]["step"]), math.inf if area is None else float(area))
    return Action(written["name"], CRFParams(**written["crf"]), bool(written["evidence"]), restraint)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)}"
    return str(value)
