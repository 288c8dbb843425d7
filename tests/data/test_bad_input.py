"""Thousands of broken annotation files and images: each ends in one clear line, or in a repair that is counted.

Mutants are made by seed from sound files. A mutant may be refused with a `UserError` that names the file, or be read
with every shape accounted for. It may not end in another error, take more than 5 seconds or fill the memory.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.coco.parse import parse_coco
from kemr_lightning.data.formats import format_named
from kemr_lightning.data.image import image_size, read_image, shows_everywhere
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.data.labelme.parse import parse_labelme
from kemr_lightning.data.tiff import count_images
from tests.data.helpers import TRIANGLE, coco_document, png, shape

SIZE = (40, 60)
MOST_SECONDS = 5.0
MOST_MEGABYTES = 1000

JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", "x", "\x00", "\ud800", "a\udfff", "../../etc/passwd", "1" * 4301, "=cmd()", "\u202e", "é" * 300),
    *([], {}, [[]], [[[]]], [None], [[1]], [[1, 2, 3]], {"a": {}}, [{}], [[1, "2"]], [[float("nan"), 1]], [[1e300, 0]]),
]
"""Values put in the place of any value."""

RAW = [
    *(b"", b"null", b"[]", b"{}", b"5", b'"x"', b"\xff\xfe", b"\x00" * 100, b"[" * 100_000, b'{"shapes":' * 5000),
    *(b"1" * 5000, b'{"shapes": [' + b"{}," * 1000 + b"{}]}", b"\x89PNG\r\n\x1a\n", b"{'shapes': []}"),
]
"""Contents of whole files."""


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, part in items for place in _places(part, (*path, key))]


def _parent(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


def _replace(rng: np.random.Generator, document: Any) -> bytes:
    place = _pick(rng, _places(document))
    _parent(document, place)[place[-1]] = copy.deepcopy(_pick(rng, JUNK))
    return _dumped(document)


def _remove(rng: np.random.Generator, document: Any) -> bytes:
    place = _pick(rng, _places(document))
    del _parent(document, place)[place[-1]]
    return _dumped(document)


def _repeat(rng: np.random.Generator, document: Any) -> bytes:
    lists = [place for place in _places(document) if isinstance(_parent(document, place), list)]
    place = _pick(rng, lists)
    _parent(document, place).extend([copy.deepcopy(_parent(document, place)[place[-1]])] * int(rng.integers(1, 300)))
    return _dumped(document)


def _exchange(rng: np.random.Generator, document: Any) -> bytes:
    first, second = (_pick(rng, _places(document)) for _ in range(2))
    value = copy.deepcopy(_parent(document, second)[second[-1]])
    _parent(document, first)[first[-1]] = value
    return _dumped(document)


def _scale_numbers(rng: np.random.Generator, document: Any) -> bytes:
    factor = float(_pick(rng, [-1, 0, 1e-9, 1000, 1e6, 1e30, 0.5]))
    for place in _places(document):
        parent, key = _parent(document, place), place[-1]
        if isinstance(parent[key], float | int) and not isinstance(parent[key], bool) and rng.random() < 0.5:
            parent[key] = parent[key] * factor
    return _dumped(document)


def _cut_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def _flip_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for position in rng.integers(0, len(data), int(rng.integers(1, 12))):
        changed[position] = int(rng.integers(0, 256))
    return bytes(changed)


def _insert_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    at = int(rng.integers(0, len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]


def _drop_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    at = int(rng.integers(0, len(data)))
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


def _blank_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    at = int(rng.integers(0, len(data)))
    count = min(int(rng.integers(4, 200)), len(data) - at)
    return data[:at] + b"\0" * count + data[at + count :]


def _swap_halves(rng: np.random.Generator, data: bytes) -> bytes:
    at = int(rng.integers(1, len(data)))
    return data[at:] + data[:at]


def _recode(rng: np.random.Generator, data: bytes) -> bytes:
    return data.decode().encode(_pick(rng, ["utf-16", "utf-32", "utf-8-sig", "cp500"]))


def _pick(rng: np.random.Generator, values: list[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def _dumped(document: Any) -> bytes:
    try:
        return json.dumps(document).encode()
    except ValueError:  # 10**400 is longer than Python prints
        return b"1" * 5000


OF_BYTES = [_cut_bytes, _flip_bytes, _insert_bytes, _drop_bytes, _blank_bytes, _swap_halves]
OF_DOCUMENTS = [_replace, _replace, _replace, _remove, _repeat, _exchange, _scale_numbers]


def labelme_document() -> dict[str, Any]:
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:5, 2:7] = True
    shapes = [
        shape(copy.deepcopy(TRIANGLE), group_id=1, description='{"score": 0.5}'),
        shape([[5, 5], [15, 12]], "other", "rectangle"),
        shape([[20, 20], [25, 20]], kind="circle", group_id=1),
        shape([[30, 20], [37, 25]], kind="mask", mask=png(mask)),
        shape([[3, 3]], kind="point", flags={"a": True}),
    ]
    more = {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "imageData": None, "imagePath": "one.png"}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes} | more


def bomb_mask() -> dict[str, Any]:
    """A mask of 144 million pixels in a few kilobytes."""
    side = 12_000

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(b"\0" * ((side // 8 + 1) * side), 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    coded = base64.b64encode(data).decode()
    return labelme_document() | {"shapes": [shape([[0, 0], [9, 9]], kind="mask", mask=coded)]}


def coco_mutable() -> dict[str, Any]:
    annotations: list[dict[str, Any]] = [
        {"segmentation": [[10, 10, 30, 12, 20, 30]]},
        {"segmentation": {"size": list(SIZE), "counts": [100, 20, 20, 10, SIZE[0] * SIZE[1] - 150]}},
        {"segmentation": {"size": list(SIZE), "counts": "PPYo0"}, "category_id": 5},
        {"segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]], "iscrowd": 0},
    ]
    return coco_document(annotations)


def mutant(rng: np.random.Generator, number: int, document: dict[str, Any]) -> bytes:
    """The bytes of a broken JSON file."""
    kinds = len(OF_BYTES) + len(OF_DOCUMENTS) + 2
    kind = number % kinds
    if kind < len(OF_BYTES):
        return OF_BYTES[kind](rng, json.dumps(document, indent=1).encode())
    if kind < len(OF_BYTES) + len(OF_DOCUMENTS):
        return OF_DOCUMENTS[kind - len(OF_BYTES)](rng, document)
    if kind == kinds - 1:
        return _recode(rng, json.dumps(document).encode())
    return bytes(_pick(rng, RAW))


def sound_images() -> list[tuple[str, bytes]]:
    """Small images of all kinds, by the suffix of their file."""
    rng = np.random.default_rng(0)
    grey, deep = rng.integers(0, 256, SIZE, dtype=np.uint8), rng.integers(0, 65536, SIZE, dtype=np.uint16)
    colour = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    made = []
    for suffix, form, image in (
        *((".png", "PNG", Image.fromarray(pixels)) for pixels in (grey, deep, colour, grey > 99)),
        (".png", "PNG", Image.fromarray(colour).quantize(16)),
        *((".jpg", "JPEG", Image.fromarray(pixels)) for pixels in (grey, colour)),
        *((".bmp", "BMP", Image.fromarray(pixels)) for pixels in (grey, colour)),
        *((".tif", "TIFF", Image.fromarray(pixels)) for pixels in (grey, colour)),
    ):
        buffer = io.BytesIO()
        image.save(buffer, form)
        made.append((suffix, buffer.getvalue()))
    for pixels, options in ((deep, {}), (deep, {"compression": "zlib"}), (grey, {"compression": "zlib"})):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, **options)
        made.append((".tif", buffer.getvalue()))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([deep, deep]), photometric="minisblack")
    return [*made, (".tif", buffer.getvalue())]


def survive(file: Path, read: Callable[[], Any]) -> Any:
    """What reading a mutant gives, or None if it was refused in one line that names the file."""
    started = time.process_time()
    result, message = None, file.stem
    try:
        result = read()
    except UserError as error:
        message = str(error)
    assert time.process_time() - started < MOST_SECONDS
    assert file.stem in message
    assert len(message.splitlines()) == 1
    assert len(message) < 1500, message[:2000]
    return result


@pytest.fixture(autouse=True)
def _memory() -> Any:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (
        2**20 if sys.platform == "darwin" else 1024
    )
    assert grown < MOST_MEGABYTES


amounts = pytest.mark.parametrize("count", [140, pytest.param(1000, marks=pytest.mark.full)])


@amounts
def test_labelme_files(count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(np.full(SIZE, 90, dtype=np.uint8)).save(tmp_path / "one.png")
    file = tmp_path / "one.json"
    for number in range(count):
        rng = np.random.default_rng([11, number])
        file.write_bytes(mutant(rng, number, labelme_document()))
        parsed = survive(file, lambda: parse_labelme(file))
        if parsed is not None:
            shapes = json.loads(file.read_text(encoding="utf-8-sig"))["shapes"]
            taken = sum(len(annotation.raw) for annotation in parsed.annotations)
            assert taken + sum(parsed.skipped.values()) == len(shapes), number
        read = survive(file, lambda: read_labelme(file))
        if read is not None:
            lost = len(read.file.annotations) - len(read.instances)
            assert (f"{lost} of {len(read.file.annotations)} instances cover no pixel" in " ".join(read.notices)) == (
                lost > 0
            )
        if number % 5 == 0:
            survive(file, lambda: format_named("labelme").diagnose(tmp_path))


@amounts
def test_coco_files(count: int, tmp_path: Path) -> None:
    Image.fromarray(np.full(SIZE, 90, dtype=np.uint8)).save(tmp_path / "one.png")
    file = tmp_path / "labels.json"
    for number in range(count):
        rng = np.random.default_rng([12, number])
        file.write_bytes(mutant(rng, number, coco_mutable()))
        contents = survive(file, lambda: parse_coco(file, tmp_path, tmp_path))
        if contents is None:
            continue
        document = json.loads(file.read_text(encoding="utf-8-sig"))
        taken = sum(len(record.annotations or ()) for record in contents.records)
        faults = [fault.message for fault in contents.faults]
        assert all("labels" in message or "one" in message for message in faults), faults
        if all("annotation " in message for message in faults):  # every image was found
            assert taken + sum(contents.skipped.values()) + len(faults) == len(document["annotations"]), number


@amounts
def test_images(count: int, tmp_path: Path) -> None:
    images = sound_images()
    for number in range(count):
        rng = np.random.default_rng([13, number])
        suffix, data = images[number % len(images)]
        broken = OF_BYTES[(number // len(images)) % len(OF_BYTES)](rng, data)
        file = tmp_path / f"one{_pick(rng, [suffix, suffix, suffix, '.png', '.tif'])}"
        file.write_bytes(broken)
        read = survive(file, lambda file=file: read_image(file))
        if read is not None:
            assert read.pixels.dtype == np.uint8
        survive(file, lambda file=file: image_size(file))
        shows_everywhere(file)
        assert count_images(file) >= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "1" * 4301}, ""),
        ({"points": [[]]}, ""),
        ({"label": "a\ud800"}, r"shapes\[0\]\.label has half a character"),
        ({"description": "\udc00"}, r"shapes\[0\]\.description has half a character"),
        ({"flags": {"\ud800": True}}, r"a key in shapes\[0\]\.flags has half a character"),
    ],
)
def test_known_shapes(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    Image.fromarray(np.full(SIZE, 90, dtype=np.uint8)).save(tmp_path / "one.png")
    file = tmp_path / "one.json"
    file.write_text(json.dumps(labelme_document() | {"shapes": [shape(TRIANGLE) | change, shape(TRIANGLE)]}))
    if words:
        with pytest.raises(UserError, match=words):
            read_labelme(file)
    else:
        survive(file, lambda: read_labelme(file))
    survey = format_named("labelme").diagnose(tmp_path)
    assert survey.faults or survey.images


def test_a_mask_is_bounded_by_its_image_before_it_is_decoded(tmp_path: Path) -> None:
    Image.fromarray(np.full(SIZE, 90, dtype=np.uint8)).save(tmp_path / "one.png")
    file = tmp_path / "one.json"
    document = bomb_mask()
    for stated in ({}, {"imageHeight": None, "imageWidth": None}):
        file.write_text(json.dumps(document | stated))
        started = time.process_time()
        with pytest.raises(UserError, match="shape 1"):
            read_labelme(file)
        assert time.process_time() - started < 0.5


def test_the_shapes_of_a_long_faulty_file_are_examined_at_once(tmp_path: Path) -> None:
    Image.fromarray(np.full(SIZE, 90, dtype=np.uint8)).save(tmp_path / "one.png")
    shapes = [shape(TRIANGLE) for _ in range(3000)] + [shape([[5, 5]]), shape([["x", 5]])]
    (tmp_path / "one.json").write_text(json.dumps(labelme_document() | {"shapes": shapes}))
    started = time.process_time()
    survey = format_named("labelme").diagnose(tmp_path)
    assert time.process_time() - started < MOST_SECONDS
    messages = [fault.message for fault in survey.faults]
    assert messages == [
        "shape 3001 (chr) has 1 corners and no area",
        "shape 3002 has points that are not numbers. Save the file again in Labelme.",
    ]


def test_what_covers_no_pixel_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(np.full(SIZE, 90, dtype=np.uint8)).save(tmp_path / "one.png")
    file = tmp_path / "one.json"
    away = shape([[900, 900], [920, 900], [910, 930]], "away")
    file.write_text(json.dumps(labelme_document() | {"shapes": [shape(TRIANGLE), away]}))
    read = read_labelme(file)
    assert len(read.instances) == 1
    assert read.notices == (f"{file}: 1 of 2 instances cover no pixel (away).",)
    assert read.notices[0] in caplog.text
