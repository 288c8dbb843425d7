"""Labels of a data set: how often each occurs, what a label map makes of them, and which look like slips."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Mapping

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.dataset import SINGLE, LabelMap
from kemr_lightning.doctor.findings import Finding

_KARYOTYPE = re.compile(r"(chr(omosome)?[ _-]?)?(\d{1,2}|x|y)", re.IGNORECASE)
"""Names of the 24 human classes, however written."""

RARE = 0.001
"""A label with fewer than this part of all annotations, and fewer than `RARE_COUNT` of them, is called rare."""

RARE_COUNT = 3


def mapped(labels: Mapping[str, int], label_map: LabelMap) -> dict[str, str | None]:
    """What becomes of each label.

    Args:
        labels: How often each occurs.
        label_map: See `kemr_lightning.data.dataset.LabelMap`.

    Returns:
        New names by old ones; None where a class is dropped. Labels that a mapping does not name are missing.

    Raises:
        UserError: The map is of no known form.
    """
    if label_map is None:
        return {label: label for label in labels}
    if isinstance(label_map, str):
        if label_map != "single":
            raise UserError(f"data.label_map={label_map!r} is unknown. Use single, null or a mapping of names.")
        return dict.fromkeys(labels, SINGLE)
    return {label: label_map[label] for label in labels if label in label_map}


def label_findings(labels: Mapping[str, int], label_map: LabelMap) -> list[Finding]:
    """Labels without a place in the map, labels that look alike, rare ones, and unlike ones merged into one class.

    Args:
        labels: How often each occurs.
        label_map: See `kemr_lightning.data.dataset.LabelMap`.

    Raises:
        UserError: As `mapped`.
    """
    names = mapped(labels, label_map)
    findings = [
        Finding("label_unmapped", "", f"{label!r}, {count} times")
        for label, count in labels.items()
        if label not in names
    ]
    for first, second in itertools.combinations(sorted(labels), 2):
        same = names.get(first) == names.get(second) and first in names
        if not same and _alike(first, second):
            message = f"{first!r} ({labels[first]} times) and {second!r} ({labels[second]} times) look alike"
            findings.append(Finding("label_noise", "", message))
    total = sum(labels.values())
    for label, count in labels.items():
        if len(labels) > 1 and count < min(RARE_COUNT, RARE * total) and names.get(label) != SINGLE:
            findings.append(Finding("label_noise", "", f"{label!r} occurs {count} times in {total}"))
    if label_map == "single":
        unlike = [label for label in labels if not _KARYOTYPE.fullmatch(label.strip())]
        kinds = Counter(_plain(label) for label in unlike)
        if len(kinds) + (len(unlike) < len(labels)) > 1:
            listed = ", ".join(f"{label!r} ({labels[label]})" for label in sorted(unlike))
            findings.append(Finding("label_merged", "", f"{listed} all become {SINGLE!r}"))
    return findings


def _plain(label: str) -> str:
    return re.sub(r"[\W_]+", "", label.casefold())


def _alike(first: str, second: str) -> bool:
    """Whether two labels differ in case and punctuation only, or in a letter of a longer word."""
    one, two = _plain(first), _plain(second)
    if one == two:
        return True
    # Numbers and single letters mean what they say.
    words = (re.sub(r"\d", "", one), re.sub(r"\d", "", two))
    if min(map(len, words)) < 3 or re.findall(r"\d+", one) != re.findall(r"\d+", two):
        return False
    return difflib.SequenceMatcher(None, *words).ratio() >= 0.85
