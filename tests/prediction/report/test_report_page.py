from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kemr_lightning.prediction.report.report_page import histogram, script_json
from kemr_lightning.prediction.result import Failure
from tests.conftest import write_image
from tests.prediction.helpers import predict_folder

ODD = "<script>alert(1)<%s>&\"'{{data}}"
"""A file name that tries its best to become a part of the page; it has no slash, since files cannot."""


class Scripts(HTMLParser):
    """The content of every script element by its id, and all tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.content: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.inside = dict(attrs).get("id") or "code"

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.content[self.inside] = self.content.get(self.inside, "") + data


@pytest.fixture
def page(tmp_path: Path) -> tuple[str, Scripts, dict[str, Any]]:
    root = tmp_path / "</title><b>"
    write_image(root, "a", seed=1)
    write_image(root, "b", seed=2, annotated=False)
    write_image(root, ODD, seed=3)
    predict_folder(root, tmp_path / "run", failures=(Failure("</script>.png", "is <b>broken</b>"),))
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    parsed = Scripts()
    parsed.feed(text)
    return text, parsed, json.loads(parsed.content["data"])


def test_names_cannot_become_markup(page: tuple[str, Scripts, dict[str, Any]]) -> None:
    text, parsed, data = page
    assert "<script>alert" not in text
    assert text.count("</script>") == 5  # data, three pictures, code
    assert [name for name in parsed.content if name.startswith("picture")] == ["picture-1", "picture-2", "picture-3"]
    assert {image["name"] for image in data["images"]} == {"a.png", "b.png", f"{ODD}.png"}
    assert data["failures"] == [{"name": "</script>.png", "reason": "is <b>broken</b>"}]
    assert not [tag for tag, _ in parsed.tags if tag == "b"]


def test_nothing_is_loaded_from_elsewhere(page: tuple[str, Scripts, dict[str, Any]]) -> None:
    text, parsed, _ = page
    addresses = [value for _, attributes in parsed.tags for key, value in attributes.items() if key in ("src", "href")]
    assert addresses == ["data:,"]
    outside = set(re.findall(r"https?://[^\s\"')]+", text))
    assert outside == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "default-src 'none'" in text


def test_pictures_are_inside(page: tuple[str, Scripts, dict[str, Any]]) -> None:
    _, parsed, data = page
    for image in data["images"]:
        picture = Image.open(io.BytesIO(base64.b64decode(parsed.content[f"picture-{image['id']}"])))
        assert picture.size == (image["width"], image["height"])


def test_what_the_page_knows_of_an_image(page: tuple[str, Scripts, dict[str, Any]]) -> None:
    _, _, data = page
    first = next(image for image in data["images"] if image["name"] == "a.png")
    assert set(first["outlines"]) == {"initial", "refined", "truth"}
    assert len(first["instances"]) == first["count"] == len(first["outlines"]["refined"])
    assert len(first["outlines"]["truth"]) == first["truth"]["count"] == 4
    for instance in first["instances"]:
        assert instance["length"] > instance["width"] > 1
        assert instance["kind"] in ("matched", "merging", "false", "splitting", "duplicate")
    matched = [instance for instance in first["instances"] if instance["kind"] == "matched"]
    assert matched
    assert all(instance["iou"] > instance["before"] > 0.5 for instance in matched)
    plain = next(image for image in data["images"] if image["name"] == "b.png")
    assert plain["truth"] is None
    assert all(instance["kind"] is None for instance in plain["instances"])


def test_figures_against_the_annotations(page: tuple[str, Scripts, dict[str, Any]]) -> None:
    _, _, data = page
    evaluation = data["evaluation"]
    assert evaluation["images"] == 2
    assert list(evaluation["layers"]) == ["initial", "final"]
    for layer in evaluation["layers"].values():
        assert sum(layer["annotations"].values()) == 8
        assert layer["isolated"]["annotations"] + layer["overlapped"]["annotations"] == 8
        assert sum(layer["histogram"]) == layer["annotations"]["matched"]
    final, initial = (evaluation["layers"][name]["annotations"]["matched"] for name in ("final", "initial"))
    assert final >= initial > 0


def test_without_annotations_there_is_no_evaluation(tmp_path: Path) -> None:
    write_image(tmp_path / "in", "a", seed=1, annotated=False)
    predict_folder(tmp_path / "in", tmp_path / "run")
    parsed = Scripts()
    parsed.feed((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert json.loads(parsed.content["data"])["evaluation"] is None


def test_histogram_bins() -> None:
    counts = histogram([0.5, 0.524, 0.526, 0.99, 1.0])
    assert counts[:2] == [2, 1]
    assert counts[-1] == 2
    assert sum(counts) == 5


def test_json_for_scripts_reads_back() -> None:
    value = {"name": "</script><!-- & \u2028 ü", "nothing": float("nan")}
    text = script_json(value)
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {**value, "nothing": None}
