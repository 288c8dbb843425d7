"""Labels that look like slips."""

from __future__ import annotations

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.doctor.label_findings import label_findings


def test_labels_that_look_alike_are_rare_or_unmapped() -> None:
    def found(labels: dict[str, int], label_map: object) -> list[tuple[str, str]]:
        return [(f.kind, f.message) for f in label_findings(labels, label_map)]  # type: ignore[arg-type]

    karyotype = {str(number): 92 for number in range(1, 23)} | {"X": 70, "Y": 22}
    assert found(karyotype, None) == []
    assert found(karyotype, "single") == []
    assert [kind for kind, _ in found({"chr": 900, "Chr ": 3}, None)] == ["label_noise"]
    assert [kind for kind, _ in found({"chromosome": 900, "chromosone": 30}, None)] == ["label_noise"]
    assert [kind for kind, _ in found({"chromosome": 5000, "nucleus": 1}, None)] == ["label_noise"]
    assert [kind for kind, _ in found({"chromosome": 50, "nucleus": 40}, "single")] == ["label_merged"]
    assert found({"chr": 5, "nucleus": 4}, {"chr": "chromosome"}) == [("label_unmapped", "'nucleus', 4 times")]
    with pytest.raises(UserError, match="label_map"):
        label_findings({"chr": 1}, "one")
