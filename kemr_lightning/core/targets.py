"""What a file of unknown origin may have built: nothing but what is named here.

Hydra calls whatever a ``_target_`` names. The configuration that a user composes is the user's own; that of a run
directory or a checkpoint may be anyone's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kemr_lightning.core.errors import UserError

RUN_TARGETS = frozenset(
    {
        "kemr_lightning.data.augment.Augmentation",
        "kemr_lightning.data.datamodule.SegmentationDataModule",
        "kemr_lightning.data.mixture.MixtureDataModule",
        "kemr_lightning.data.paste.CopyPaste",
        "kemr_lightning.data.synthetic.SyntheticDataModule",
        "kemr_lightning.data.synthetic.datamodule.SyntheticDataModule",
        "kemr_lightning.refinement.Refiner.from_values",
        "kemr_lightning.refinement.refiner.Refiner.from_values",
    }
)
"""What the ``data`` and ``refine`` of a run's configuration may name: their arguments are values, and building them
writes nothing."""


def refuse_foreign(node: object, allowed: Callable[[str], bool], source: str, cure: str, kind: str = "part") -> None:
    """Refuse a description that would build anything but what is allowed.

    Args:
        node: What a file holds: nested mappings, lists and values.
        allowed: Whether a ``_target_`` may be built.
        source: What the description comes from, for the message: ``"checkpoint x.ckpt"``.
        cure: What to do, as a sentence without a full stop.
        kind: What is allowed, in a word.

    Raises:
        UserError: A ``_target_`` at any depth is not allowed, or a value is an interpolation, which could read the
            environment.
    """
    if isinstance(node, Mapping):
        if "_target_" in node and not (isinstance(node["_target_"], str) and allowed(node["_target_"])):
            raise UserError(f"{source} names {node['_target_']!r}, which is not a {kind} of this package. {cure}")
        for key, value in node.items():
            refuse_foreign(key, allowed, source, cure, kind)
            refuse_foreign(value, allowed, source, cure, kind)
    elif isinstance(node, list | tuple):
        for value in node:
            refuse_foreign(value, allowed, source, cure, kind)
    elif isinstance(node, str) and "${" in node:
        raise UserError(f"{source} has an unresolved value {node!r}. {cure}")


def targets_in(node: object) -> set[str]:
    """Every ``_target_`` in nested mappings and lists."""
    if isinstance(node, Mapping):
        own = {node["_target_"]} if isinstance(node.get("_target_"), str) else set()
        return own.union(*(targets_in(value) for value in node.values()))
    if isinstance(node, list | tuple):
        return set().union(*(targets_in(value) for value in node))
    return set()
