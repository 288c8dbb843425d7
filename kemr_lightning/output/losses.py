"""Many losses of a detector as the few that a person follows."""

from __future__ import annotations

KINDS = {"rpn": "proposals", "class": "class", "box": "box", "mask": "mask"}


def kind_of_loss(name: str) -> str | None:
    """What a logged value is a loss of.

    Args:
        name: Of a logged value, such as ``train/loss_stage2_box``.

    Returns:
        ``"total"``, one of the values of `KINDS`, another loss's own name, or None if it is no loss of the training.
        The losses of the stages of a cascade are of one kind; so are all of the region proposals.
    """
    group, _, rest = name.partition("/")
    rest = rest.removesuffix("_step")
    if group != "train" or not rest.startswith("loss") or rest.endswith("_epoch"):
        return None
    words = rest.split("_")[1:]
    if not words:
        return "total"
    return KINDS.get(words[0]) or KINDS.get(words[-1]) or "_".join(words)
