"""Labelme files with their images: where images are found, and how they are compared with their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.labelme import (
    MissingImageError,
    check_image,
    find_image,
    load_image,
    parse_labelme,
    read_labelme,
)
from tests.data.helpers import (
    REMOVE,
    TRIANGLE,
    png,
    real_data,
    shape,
    write_labelme_file,
)


def test_autokary_dialect_without_image(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    document = {"image_path": "a.png", "image_height": 40, "image_width": 60, "shapes": [shape(TRIANGLE, label="6")]}
    path.write_text(json.dumps(document))
    read = read_labelme(path)
    assert read.image is None
    assert read.instances.image_size == (40, 60)
    assert read.instances.label_names == ("6",)
    with pytest.raises(MissingImageError, match=r"a\.png"):
        check_image(parse_labelme(path))


def test_without_image_and_size_there_is_an_error(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageHeight=None)
    (tmp_path / "one.png").unlink()
    with pytest.raises(MissingImageError, match=r"one\.png"):
        read_labelme(path)


def test_old_files_state_no_size(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageHeight=REMOVE, imageWidth=REMOVE, flags=REMOVE)
    assert read_labelme(path).instances.image_size == (40, 60)


def test_byte_order_mark_and_windows_paths(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imagePath="pictures\\one.png")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "one.png").rename(tmp_path / "pictures" / "one.png")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    read = read_labelme(path)
    assert read.image is not None
    assert read.notices == ()


def test_embedded_image_is_used_when_the_file_is_missing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    path = write_labelme_file(tmp_path, image=pixels, imageData=png(pixels))
    (tmp_path / "one.png").unlink()
    assert np.array_equal(read_labelme(path).image, pixels)
    assert np.array_equal(load_image(parse_labelme(path)).pixels, pixels)


def test_the_file_comes_before_the_embedded_image(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageData=png(np.zeros((40, 60), dtype=np.uint8)))
    assert read_labelme(path).image[1:].max() == 90


@pytest.mark.parametrize("stated", ["../outside/one.png", "{tmp}/outside/one.png", "C:\\data\\one.png", "sub/one.png"])
def test_images_elsewhere_are_looked_for_beside_the_json(tmp_path: Path, stated: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_labelme_file(outside, image=np.full((40, 60), 7, dtype=np.uint8))
    path = write_labelme_file(inside, imagePath=stated.format(tmp=tmp_path))
    read = read_labelme(path)
    assert read.image[1:].max() == 90
    assert len(read.notices) == 1
    (inside / "one.png").unlink()
    assert read_labelme(path).image is None


def test_the_root_allows_neighbouring_folders(tmp_path: Path) -> None:
    write_labelme_file(tmp_path / "images")
    path = write_labelme_file(tmp_path / "labels", imagePath="../images/one.png")
    (tmp_path / "labels" / "one.png").unlink()
    read = read_labelme(path)
    assert read.image is None
    assert f"lies outside {tmp_path / 'labels'}" in read.notices[0]
    assert f"give a folder that holds both ({tmp_path})" in read.notices[0]
    assert read_labelme(path, root=tmp_path).image is not None


def test_a_renamed_pair_is_found_by_its_name(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imagePath="before.png")
    read = read_labelme(path)
    assert read.image is not None
    assert "same name" in read.notices[0]


def test_a_wrong_size_is_an_error(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageHeight=41)
    for act in (read_labelme, lambda p: check_image(parse_labelme(p))):
        with pytest.raises(UserError, match=r"60x41.*60x40"):
            act(path)


@pytest.mark.parametrize("upright", [True, False])
def test_coordinates_refer_to_the_frame_whose_size_is_stated(tmp_path: Path, upright: bool) -> None:
    """Labelme states the upright size; tools that ignore EXIF state the stored one."""
    stored = np.full((40, 60), 20, dtype=np.uint8)
    stored[:10, :10] = 220
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored top left is the upright top right
    size = {"imageHeight": 60, "imageWidth": 40} if upright else {}
    path = write_labelme_file(tmp_path, image=stored, imagePath="one.jpg", **size)
    Image.fromarray(stored).save(tmp_path / "one.jpg", exif=exif, quality=95)
    check_image(parse_labelme(path))
    read = read_labelme(path)
    assert read.image.shape == ((60, 40) if upright else (40, 60))
    assert (read.image[2, -3] if upright else read.image[2, 2]) > 200
    assert len(read.notices) == (0 if upright else 1)


def test_embedded_bytes_are_taken_as_stored(tmp_path: Path) -> None:
    """Labelme embeds upright pixels and shows embedded bytes without looking at EXIF."""
    stored = np.full((40, 60), 20, dtype=np.uint8)
    stored[:10, :10] = 220
    exif = Image.Exif()
    exif[0x0112] = 3
    path = write_labelme_file(tmp_path, image=stored, imageData=png(stored, exif=exif))
    (tmp_path / "one.png").unlink()
    assert read_labelme(path).image[2, 2] == 220


def test_broken_embedded_data_is_named(tmp_path: Path) -> None:
    for data in ("AAAA", "*", 5, ["AAAA"]):
        path = write_labelme_file(tmp_path, imageData=data)
        (tmp_path / "one.png").unlink()
        with pytest.raises(UserError, match=r"one\.json"):
            read_labelme(path)


@pytest.mark.parametrize("stated", ["a" * 5000 + ".png", "no\0file.png", "."])
def test_a_path_that_no_file_can_have_finds_the_image_of_the_same_name(tmp_path: Path, stated: str) -> None:
    image, instances = read_labelme(write_labelme_file(tmp_path, imagePath=stated))
    assert image.shape == (40, 60)
    assert len(instances) == 1


@pytest.mark.parametrize("relative", [False, True])
def test_images_in_a_folder_beside_that_of_the_files_have_plain_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("my data") if relative else tmp_path / "my data"
    path = write_labelme_file(root / "json", imagePath="../images/one.png")
    (root / "images").mkdir()
    (root / "json" / "one.png").rename(root / "images" / "one.png")
    assert find_image(parse_labelme(path), root) == (root / "images" / "one.png", None)
    assert find_image(parse_labelme(path), None)[0] is None  # the JSON's own folder may not be left


def test_selected_instances_keep_their_annotations(tmp_path: Path) -> None:
    shapes = [shape([[x, 5], [x + 8, 5], [x + 8, 9]], label=f"c{x}") for x in (5, 20, 35)]
    instances = read_labelme(write_labelme_file(tmp_path, shapes=shapes)).instances
    for index in ([2, 0], torch.tensor([True, False, True]), slice(0, 3, 2), []):
        part = instances[index]
        assert len(part) == (0 if index == [] else 2)
        names = [part.label_names[label - 1] for label in part.labels.tolist()]
        assert [annotation.label for annotation in part.annotations] == names


def test_real_mfish_counts_equal_the_polygons() -> None:
    path = sorted(real_data("mfish").glob("*.json"))[0]
    read = read_labelme(path)
    assert len(read.instances) == len(json.loads(path.read_text())["shapes"])
    assert read.image.shape == (517, 645)
