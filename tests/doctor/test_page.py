"""The page of findings: pictures, their number, and names that are no HTML."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.doctor import Diagnosis, Finding
from kemr_lightning.doctor.page import MARGIN, SIDE, write_page
from tests.doctor.helpers import examined, field, look, save

WIDE = IntensityImage(np.full((60, 300), 90, dtype=np.uint8))


def page_of(tmp_path: Path, findings: list[Finding], pictures: int = 12, **load: IntensityImage) -> str:
    """The page about some findings; images are loaded by their names."""
    diagnosis = Diagnosis(
        Path("<data>"), "labelme", findings, [examined("a", labels=["<x>"])], {"<x>": 1}, {"<x>": None}
    )
    diagnosis.images[0].lengths = np.ones(1)
    diagnosis.load = {name: (lambda image=image: image) for name, image in load.items()}
    write_page(tmp_path / "doctor.html", diagnosis, pictures)
    return (tmp_path / "doctor.html").read_text(encoding="utf-8")


def pictures_in(page: str) -> list[Image.Image]:
    coded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in coded]


def test_a_picture_shows_the_place_with_its_surroundings(tmp_path: Path) -> None:
    page = page_of(tmp_path, [Finding("nested", "a", "m", ((100, 20, 119, 39),))], a=WIDE)
    (picture,) = pictures_in(page)
    # 100 px wide (20 px and a margin on each side), cut at the image's top and bottom.
    assert picture.size == (SIDE, round(60 * SIDE / (20 + 2 * MARGIN)))
    left = MARGIN * SIDE / (20 + 2 * MARGIN)
    red, green, blue = picture.convert("RGB").getpixel((round(left), picture.height // 2))  # type: ignore[misc]
    assert red > blue + 80  # the yellow frame
    assert green > blue + 50


def test_places_beyond_the_image_are_shown_at_its_edge(tmp_path: Path) -> None:
    findings = [Finding("outside", "a", "m", (box,)) for box in ((400, 10, 420, 20), (-90, -90, -80, -80))]
    assert len(pictures_in(page_of(tmp_path, findings, a=WIDE))) == 2


def test_copies_are_shown_side_by_side(tmp_path: Path) -> None:
    page = page_of(tmp_path, [Finding("same_image", "a", "m", others=("b",))], a=WIDE, b=WIDE)
    assert page.count('<div class="pair">') == 1
    assert [picture.size for picture in pictures_in(page)] == [(SIDE, 48)] * 2


@pytest.mark.parametrize(("pictures", "shown"), [(0, 0), (3, 3), (12, 5)])
def test_pictures_are_limited_and_the_rest_is_listed(tmp_path: Path, pictures: int, shown: int) -> None:
    findings = [Finding("count", "a", f"message {number}") for number in range(5)]
    page = page_of(tmp_path, findings, pictures, a=WIDE)
    assert page.count("<figure>") == shown
    assert page.count("<li>") == 5 - shown
    assert all(page.count(f"message {number}") == 1 for number in range(5))


def test_images_that_cannot_be_decoded_have_no_picture(tmp_path: Path) -> None:
    def fails() -> IntensityImage:
        raise UserError("damaged")

    diagnosis = Diagnosis(Path("d"), "labelme", [Finding("broken_image", "a", "m")], [], {}, {}, load={"a": fails})
    write_page(tmp_path / "doctor.html", diagnosis)
    page = (tmp_path / "doctor.html").read_text()
    assert "<figure>" not in page
    assert "<li>a: m</li>" in page


def test_names_are_not_html(tmp_path: Path) -> None:
    page = page_of(tmp_path, [Finding("broken_file", "<b>.json", "has <i>")])
    assert "<b>" not in page
    assert "<x>" not in page
    assert "<data>" not in page
    assert "&lt;b&gt;.json: has &lt;i&gt;" in page


def test_the_histograms_count_all_images(tmp_path: Path) -> None:
    for seed, stem in enumerate("ab"):
        save(tmp_path / "data", stem, seed=seed)
    diagnosis = look(tmp_path / "data")
    write_page(tmp_path / "doctor.html", diagnosis)
    page = (tmp_path / "doctor.html").read_text()
    bars = [(low, int(count)) for low, count in re.findall(r"<title>([\d. to-]+): (\d+)</title>", page)]
    assert ("12", 2) in bars  # two images of 12 chromosomes
    assert sum(count for _, count in bars) == 2 + 24  # images, then lengths
    assert len(field()[1]) == 12


def test_nothing_found_is_said(tmp_path: Path) -> None:
    write_page(tmp_path / "doctor.html", Diagnosis(Path("d"), "labelme", [], [], {}, {}))
    assert "nothing found" in (tmp_path / "doctor.html").read_text()
