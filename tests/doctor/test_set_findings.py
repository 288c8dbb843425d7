"""Copies, shared cases, counts and sizes between the images of a set."""

from __future__ import annotations

import numpy as np

from kemr_lightning.doctor.pixel_findings import digest, thumbnail
from kemr_lightning.doctor.set_findings import Examined, case_findings, copy_findings, count_findings, size_findings
from tests.doctor.helpers import examined, field


def with_thumb(name: str, seed: int, part: str = "all", **changes: object) -> Examined:
    pixels = field(seed=seed)[0]
    return examined(name, part, digest=digest(pixels), thumb=thumbnail(pixels), **changes)


def test_copies_within_and_across_parts_and_among_the_unannotated() -> None:
    images = [with_thumb("a", 1, "train"), with_thumb("b", 2, "train"), with_thumb("c", 1, "test")]
    found = copy_findings([*images, with_thumb("d", 2, "train")], [with_thumb("e", 1, "train")])
    assert {(f.kind, f.file, f.others) for f in found} == {
        ("same_image_parts", "c", ("a",)),
        ("same_image", "d", ("b",)),
        ("unannotated_copy", "e", ("a",)),
    }


def test_near_copies_are_recognised_by_their_correlation() -> None:
    first = with_thumb("a", 1)
    assert first.thumb is not None
    other = np.random.default_rng(0).normal(size=first.thumb.shape)
    other -= first.thumb * (first.thumb * other).sum()
    other /= np.linalg.norm(other)
    for correlation, kind in ((0.94, None), (0.96, "near_image"), (0.99, "same_image")):
        mixed = (correlation * first.thumb + (1 - correlation**2) ** 0.5 * other).astype(np.float32)
        second = examined("b", digest="other", thumb=np.ascontiguousarray(np.rot90(-mixed)))
        found = copy_findings([first, second])
        assert [f.kind for f in found] == ([] if kind is None else [kind])
        if found:
            assert f"(correlation {correlation:.3f}, maybe rotated)" in found[0].message


def test_images_without_content_are_not_copies() -> None:
    blank = [examined(name, digest=name, thumb=np.zeros((32, 32), np.float32)) for name in "ab"]
    assert copy_findings(blank) == []
    assert copy_findings([examined("a"), examined("b")]) == []


def test_an_image_in_two_lists() -> None:
    (found,) = copy_findings([with_thumb("a", 1, "train"), with_thumb("a", 1, "test")])
    assert (found.kind, found.message) == (
        "same_image_parts",
        "is in two parts (test and train), by its files or lists",
    )


def test_cases_in_two_parts() -> None:
    images = [examined("a", "train", "case 1"), examined("b", "train", "case 1"), examined("c", "test", "case 1")]
    (found,) = case_findings([*images, examined("d", "test", "case 2")])
    assert (found.file, found.others) == ("a", ("b", "c"))
    assert found.message == "case 'case 1': 2 in train and 1 in test"
    assert case_findings(images[:2]) == []


def counted(name: str, count: int, group: str = "") -> Examined:
    return examined(name, group=group, labels=["1"] * count)


def test_unusual_counts() -> None:
    images = [counted("usual", 46), counted("near", 43), counted("off", 40), counted("none", 0)]
    (found,) = count_findings(images, 46, 4)
    assert (found.file, found.message) == ("off", "40 instead of 46")
    assert count_findings(images, None, 4) == []
    assert [f.file for f in count_findings(images, 46, 2)] == ["near", "off"]


def test_counts_of_one_case_add_up() -> None:
    assert count_findings([counted("a", 30, "x"), counted("b", 16, "x")], 46, 0) == []
    found = count_findings([counted("a", 30, "x"), counted("b", 10, "x")], 46, 0)
    assert [f.message for f in found] == [
        "30 instead of 46; the 2 images of 'x' have 40",
        "10 instead of 46; the 2 images of 'x' have 40",
    ]


def sized(name: str, *areas: float, masks: bool = True) -> Examined:
    boxes = np.arange(4.0) + np.arange(len(areas))[:, None]
    return examined(name, labels=["1"] * len(areas), areas=np.array(areas), boxes=boxes, masks=masks)


def test_outlines_far_larger_or_smaller_than_the_median() -> None:
    found = size_findings([sized("a", *[100] * 10, 250, 270, 21, 19)])
    assert [(f.kind, f.message) for f in found] == [
        ("several", "1: 270 px, 2.7 times the image's median"),
        ("fragment", "1: 19 px, 0.19 times the image's median"),
    ]
    assert found[0].boxes == ((11, 12, 13, 14),)
    # In an image with few instances the set's median counts.
    found = size_findings([sized("a", *[100] * 20), sized("b", 270, 280)])
    assert [f.message for f in found] == [
        "1: 270 px, 2.7 times the set's median",
        "1: 280 px, 2.8 times the set's median",
    ]
    assert size_findings([sized("a", *[100] * 20, 500, masks=False)]) == []
