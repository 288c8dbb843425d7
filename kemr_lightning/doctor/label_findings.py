"""Labels of a data set that look like slips, and what a label map does to them."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Mapping

from kemr_lightning.data.labels import SINGLE, LabelMap, new_names
from kemr_lightning.doctor.findings import Finding

_KARYOTYPE = re.compile(r"(chr(omosome)?[ _-]?)?(\d{1,2}|x|y)", re.IGNORECASE)
"""Names of the 24 human chromosomes, in all usual spellings."""

RARE = 0.001
"""A label is rare if it has less than this share of all annotations and fewer than `RARE_COUNT` of them."""

RARE_COUNT = 3
"""See `RARE`."""


def label_findings(labels: Mapping[str, int], label_map: LabelMap) -> list[Finding]:
    """Labels that the map does not name, labels that look alike, rare ones, and different ones merged into one class.

    Args:
        labels: How often each label occurs.
        label_map: See `kemr_lightning.data.labels.LabelMap`.

    Raises:
        SettingError: The map is neither ``"single"`` nor None nor a mapping.
    """
    names = new_names(labels, label_map)
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
    """Whether two labels differ only in case and punctuation, or in a letter of a longer word."""
    one, two = _plain(first), _plain(second)
    if one == two:
        return True
    # A difference in numbers or single letters is meant.
    words = (re.sub(r"\d", "", one), re.sub(r"\d", "", two))
    if min(map(len, words)) < 3 or re.findall(r"\d+", one) != re.findall(r"\d+", two):
        return False
    return difflib.SequenceMatcher(None, *words).ratio() >= 0.85
