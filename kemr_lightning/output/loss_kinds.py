"""The many losses of a detector, sorted into the few kinds that a person follows."""

from __future__ import annotations

KINDS = {"rpn": "proposals", "class": "class", "box": "box", "mask": "mask"}
"""First or last word of a loss's name -> its kind."""


def kind_of_loss(name: str) -> str | None:
    """The kind of loss that a logged value is.

    Args:
        name: Name of the logged value, such as ``train/loss_stage2_box``.

    Returns:
        ``"total"``, one of the values of `KINDS`, or for any other loss its own name; None if it is not a training
        loss. The losses of all stages of a cascade have one kind, and so have all losses of the region proposals.
    """
    group, _, rest = name.partition("/")
    rest = rest.removesuffix("_step")
    if group != "train" or not rest.startswith("loss") or rest.endswith("_epoch"):
        return None
    words = rest.split("_")[1:]
    if not words:
        return "total"
    return KINDS.get(words[0]) or KINDS.get(words[-1]) or "_".join(words)
