from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.coco.source import CocoSource
from kemr_lightning.data.convert import convert_dataset
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.labelme import read_labelme
from tests.conftest import rods, write_labelme_root
from tests.data.helpers import REMOVE, TRIANGLE, blob, frame, iou, real_data, shape, write_labelme_file

SIZE = (40, 60)


def coco_masks(path: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """What pycocotools makes of a file: label and mask of every annotation, by the image's file name."""
    coco = COCO(str(path))
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    for number, image in coco.imgs.items():
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=number))
        found[image["file_name"]] = [
            (coco.cats[a["category_id"]]["name"], coco.annToMask(a).astype(bool)) for a in annotations
        ]
        for annotation in annotations:
            mask = coco.annToMask(annotation)
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask))).tolist()
    return found


def labelme_masks(path: Path) -> list[tuple[str, np.ndarray]]:
    """The instances of a Labelme file."""
    _, instances = read_labelme(path)
    names = [instances.label_names[label - 1] for label in instances.labels.tolist()]
    return [(n, frame(p, instances.image_size)) for n, p in zip(names, instances.patches, strict=True)]


def same(first: list[tuple[str, np.ndarray]], second: list[tuple[str, np.ndarray]], least: float = 1.0) -> None:
    assert [name for name, _ in first] == [name for name, _ in second]
    for (_, one), (_, other) in zip(first, second, strict=True):
        assert iou(one, other) >= least


@pytest.fixture
def crossing(tmp_path: Path) -> Path:
    """Labelme: overlapping instances, one of two parts, one reaching beyond the image, one bitmap, a point."""
    rng = np.random.default_rng(5)
    bitmap = blob(rng, (20, 24))
    buffer = io.BytesIO()
    Image.fromarray(bitmap.astype(np.uint8)).save(buffer, "PNG")
    coded = base64.b64encode(buffer.getvalue()).decode()
    shapes = [
        shape([[5, 5], [50, 8], [49, 14], [4, 12]], "1"),
        shape([[20.3, 1.2], [27.9, 1], [28, 30.7], [19.5, 31]], "X"),
        shape([[40, 25], [70, 25], [70, 30], [40, 31]], "2"),
        shape(TRIANGLE, "21", group_id=3),
        shape([[35, 32], [45, 33], [40, 39]], "21", group_id=3),
        shape([[30, 15], [53, 34]], "Y", "mask", mask=coded),
        shape([[1, 1]], "1", "point"),
    ]
    write_labelme_file(tmp_path / "in" / "train" / "sub", "a", shapes)
    write_labelme_file(tmp_path / "in" / "test", "b", [shape(TRIANGLE, "X")])
    return tmp_path / "in"


def test_labelme_to_coco_gives_pycocotools_the_same_masks_labels_and_parts(crossing: Path, tmp_path: Path) -> None:
    done = convert_dataset(crossing, "labelme", "coco", tmp_path / "coco")
    assert (done.images, done.instances, done.lost, done.boxes) == (2, 6, 0, 0)
    train = coco_masks(tmp_path / "coco/train/annotations.json")
    same(train["sub/a.png"], labelme_masks(crossing / "train/sub/a.json"))
    same(coco_masks(tmp_path / "coco/test/annotations.json")["b.png"], labelme_masks(crossing / "test/b.json"))
    masks = [mask for _, mask in train["sub/a.png"]]
    assert (masks[0] & masks[1]).sum() > 20  # pixels of both
    assert (tmp_path / "coco/train/sub/a.png").read_bytes() == (crossing / "train/sub/a.png").read_bytes()
    assert CocoSource(tmp_path / "coco").parts == ["train", "test"]


def test_outlines_stay_outlines_and_everything_becomes_run_lengths_on_request(crossing: Path, tmp_path: Path) -> None:
    convert_dataset(crossing, "labelme", "coco", tmp_path / "outlines")
    convert_dataset(crossing, "labelme", "coco", tmp_path / "runs", options=WriteOptions("mask"))
    outlines, runs = (tmp_path / name / "train/annotations.json" for name in ("outlines", "runs"))
    kinds = [type(a["segmentation"]) for a in json.loads(outlines.read_text())["annotations"]]
    assert kinds == [list, list, list, list, dict]
    assert all(isinstance(a["segmentation"], dict) for a in json.loads(runs.read_text())["annotations"])
    same(coco_masks(outlines)["sub/a.png"], coco_masks(runs)["sub/a.png"])


@pytest.mark.parametrize(
    ("shape_type", "min_iou", "least"), [("polygon", 0.99, 0.98), ("polygon", 1, 1), ("mask", 1, 1)]
)
def test_there_and_back_keeps_labels_masks_and_parts(
    crossing: Path, tmp_path: Path, shape_type: str, min_iou: float, least: float
) -> None:
    convert_dataset(crossing, "labelme", "coco", tmp_path / "coco")
    back = tmp_path / "back"
    convert_dataset(tmp_path / "coco", "coco", "labelme", back, options=WriteOptions(shape_type, min_iou))
    same(labelme_masks(back / "train/sub/a.json"), labelme_masks(crossing / "train/sub/a.json"), least)
    same(labelme_masks(back / "test/b.json"), labelme_masks(crossing / "test/b.json"))


def test_outlines_come_back_corner_by_corner(crossing: Path, tmp_path: Path) -> None:
    convert_dataset(crossing, "labelme", "coco", tmp_path / "coco")
    convert_dataset(tmp_path / "coco", "coco", "labelme", tmp_path / "back")
    first, second = (json.loads((root / "train/sub/a.json").read_text()) for root in (crossing, tmp_path / "back"))
    assert [s["points"] for s in second["shapes"]][:5] == [s["points"] for s in first["shapes"]][:5]
    assert second["shapes"][3]["group_id"] == second["shapes"][4]["group_id"] is not None


def test_both_train_alike(tmp_path: Path) -> None:
    root = write_labelme_root(tmp_path / "in")
    convert_dataset(root, "labelme", "coco", tmp_path / "coco")
    found = []
    for kind, folder in (("labelme", root), ("coco", tmp_path / "coco")):
        data = SegmentationDataModule(folder, kind, label_map=None)
        data.setup("fit")
        assert data.train is not None
        assert data.val is not None
        found.append([(s.name, s.image, s.instances.masks()) for part in (data.train, data.val) for s in part])
    for one, other in zip(*found, strict=True):
        assert one[0] == other[0]
        assert bool((one[1] == other[1]).all())
        assert bool((one[2] == other[2]).all())


def test_a_flat_folder_stays_flat_and_equal_names_stay_apart(tmp_path: Path) -> None:
    write_labelme_file(tmp_path / "in", "a", [shape(TRIANGLE, "1")])
    Image.fromarray(rods(1, size=SIZE)[0]).save(tmp_path / "in/a.bmp")
    document = json.loads((tmp_path / "in/a.json").read_text())
    (tmp_path / "in/other.json").write_text(json.dumps(document | {"imagePath": "a.bmp"}))
    convert_dataset(tmp_path / "in", "labelme", "coco", tmp_path / "coco")
    found = coco_masks(tmp_path / "coco/annotations.json")
    assert sorted(found) == ["a.bmp", "a_png.png"]
    convert_dataset(tmp_path / "coco", "coco", "labelme", tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a.bmp", "a.json", "a_png.json", "a_png.png"]


def test_embedded_images_become_files_byte_by_byte(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    colour = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(colour).save(buffer, "JPEG")
    data = base64.b64encode(buffer.getvalue()).decode()
    path = write_labelme_file(tmp_path / "in", "a", imageData=data, imagePath="gone.tif")
    path.with_suffix(".png").unlink()
    convert_dataset(tmp_path / "in", "labelme", "coco", tmp_path / "coco")
    assert (tmp_path / "coco/a.jpg").read_bytes() == buffer.getvalue()


def test_rotated_images_are_written_upright(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path / "in", "a", imagePath="a.jpg")
    upright = rods(2, size=SIZE)[0]
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "in/a.jpg", exif=exif.tobytes(), quality=98)
    path.with_suffix(".png").unlink()
    convert_dataset(tmp_path / "in", "labelme", "coco", tmp_path / "coco")
    written = np.asarray(Image.open(tmp_path / "coco/a.png"))
    assert written.shape == SIZE
    assert np.abs(written.astype(int) - upright).mean() < 5
    same(coco_masks(tmp_path / "coco/annotations.json")["a.png"], labelme_masks(path))


def test_boxes_become_rectangles_and_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    Image.fromarray(rods(3, size=SIZE)[0]).save(root / "a.png")
    document = {
        "images": [{"id": 7, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 4, "bbox": [3, 4, 20, 10]}],
        "categories": [{"id": 4, "name": "13"}],
    }
    (root / "boxes.json").write_text(json.dumps(document))
    done = convert_dataset(root, "coco", "labelme", tmp_path / "labelme")
    assert (done.boxes, done.boxes_become_masks) == (1, True)
    made = json.loads((tmp_path / "labelme/a.json").read_text())["shapes"][0]
    assert (made["label"], made["shape_type"], made["points"]) == ("13", "rectangle", [[3, 4], [23, 14]])


def test_labels_are_renamed_on_request(crossing: Path, tmp_path: Path) -> None:
    convert_dataset(crossing, "labelme", "coco", tmp_path / "coco", label_map="single")
    categories = json.loads((tmp_path / "coco/train/annotations.json").read_text())["categories"]
    assert categories == [{"id": 1, "name": "chromosome"}]


def test_categories_are_the_same_in_every_part(crossing: Path, tmp_path: Path) -> None:
    convert_dataset(crossing, "labelme", "coco", tmp_path / "coco")
    parts = [json.loads((tmp_path / f"coco/{part}/annotations.json").read_text()) for part in ("train", "test")]
    assert parts[0]["categories"] == parts[1]["categories"]
    assert [category["name"] for category in parts[0]["categories"]] == ["1", "2", "21", "X", "Y"]
    assert {image["id"] for image in parts[0]["images"]}.isdisjoint(image["id"] for image in parts[1]["images"])


def test_nothing_is_overwritten_and_a_broken_file_leaves_nothing(crossing: Path, tmp_path: Path) -> None:
    kept = tmp_path / "coco/annotations.json"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        convert_dataset(crossing, "labelme", "coco", tmp_path / "coco")
    assert kept.read_text() == "mine"
    write_labelme_file(crossing / "train", "bad", shapes=REMOVE)  # type: ignore[arg-type]
    (crossing / "train/bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json"):
        convert_dataset(crossing, "labelme", "coco", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_wrong_options_are_named(crossing: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"target=labelme is the format that the data have already\. Choose coco"):
        convert_dataset(crossing, "labelme", "labelme", tmp_path / "x")
    with pytest.raises(SettingError, match="target=dota is unknown"):
        convert_dataset(crossing, "labelme", "dota", tmp_path / "x")
    with pytest.raises(SettingError, match="data_format=dota is unknown"):
        convert_dataset(crossing, "dota", "coco", tmp_path / "x")
    with pytest.raises(SettingError, match=r"root=.*none is not a folder"):
        convert_dataset(tmp_path / "none", "labelme", "coco", tmp_path / "x")
    with pytest.raises(SettingError, match="label_map=merge is unknown"):
        convert_dataset(crossing, "labelme", "coco", tmp_path / "x", label_map="merge")
    assert not (tmp_path / "x").exists()


def test_real_overlaps_survive_the_way_there_and_back(tmp_path: Path) -> None:
    folder = real_data("mfish")
    (tmp_path / "in").mkdir()
    for name in ("A0102XY.json", "A0102XY.png"):
        (tmp_path / "in" / name).write_bytes((folder / name).read_bytes())
    convert_dataset(tmp_path / "in", "labelme", "coco", tmp_path / "coco")
    convert_dataset(tmp_path / "coco", "coco", "labelme", tmp_path / "back")
    original = labelme_masks(folder / "A0102XY.json")
    same(coco_masks(tmp_path / "coco/annotations.json")["A0102XY.png"], original)
    same(labelme_masks(tmp_path / "back/A0102XY.json"), original)
