"""Synthetic metaphases against brute force and hand-worked numbers."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree
from skimage.draw import polygon2mask

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.synthetic import (
    SyntheticDataModule,
    SyntheticDataset,
    metaphase,
    write_synthetic_folder,
)
from kemr_lightning.data.synthetic.__main__ import main
from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES, ideogram, karyotype
from kemr_lightning.data.synthetic.layout import centre_line
from kemr_lightning.data.synthetic.render import Optics, Texture, expose, stack
from kemr_lightning.data.synthetic.shape import Footprint, Shape, footprint

SMALL = (160, 128)
CONF = Path(__file__).resolve().parents[2] / "conf"


def rod(start: tuple[float, float], end: tuple[float, float], half_width: float, cap: float = 1e-6) -> Shape:
    """A straight chromosome with (nearly) square ends."""
    points = np.linspace(start, end, 81)
    return Shape(points, np.full(81, half_width), cap)


def drawn(shape: Shape, size: tuple[int, int]) -> Footprint:
    where = footprint(shape, size)
    assert where is not None
    return where


def full(where: Footprint, size: tuple[int, int]) -> np.ndarray:
    """Coverage on the whole image."""
    rows, columns = where.coverage.shape
    canvas = np.zeros(size)
    canvas[where.y0 : where.y0 + rows, where.x0 : where.x0 + columns] = where.coverage
    return canvas


def bent(seed: int, notch: tuple[float, float] = (0.0, 0.0)) -> Shape:
    rng = np.random.default_rng(seed)
    points = centre_line(70, 6.5, 1.0, rng)
    s = np.linspace(0, 1, len(points))
    width = 6.5 * (1 - 0.35 * np.exp(-(((s - 0.4) * 70 / 3) ** 2) / 2))
    return Shape(points - points.mean(axis=0) + 50 + rng.random(2), width, 5.0, notch)


def brute_force(shape: Shape, size: tuple[int, int], fine: int = 8) -> np.ndarray:
    """Covered area by the definition: nearest point of a densely interpolated line, at fine x fine points a pixel."""
    arc = np.arange(len(shape.points)) * shape.step
    dense = np.linspace(0, arc[-1], 40 * len(arc))
    line = CubicSpline(arc, shape.points)
    at, direction = line(dense), line(dense, 1)
    grid = (np.arange(size[0] * fine) + 0.5) / fine
    x, y = np.meshgrid((np.arange(size[1] * fine) + 0.5) / fine, grid)
    query = np.stack([x.ravel(), y.ravel()], axis=1)
    _, nearest = cKDTree(at).query(query, distance_upper_bound=12)
    known = nearest < len(at)
    nearest = np.where(known, nearest, 0)
    delta = query - at[nearest]
    tangent = direction[nearest] / np.linalg.norm(direction[nearest], axis=1)[:, None]
    s = dense[nearest] + (delta * tangent).sum(axis=1)
    t = np.abs(tangent[:, 0] * delta[:, 1] - tangent[:, 1] * delta[:, 0])
    u = np.minimum(t / np.interp(s, arc, shape.half_width), 1)

    def end(position: np.ndarray) -> np.ndarray:
        return 1 - (1 - position**2.6) ** (1 / 2.6)

    inside = known & (t <= np.interp(s, arc, shape.half_width))
    for from_end, notch in ((s, shape.notch[0]), (arc[-1] - s, shape.notch[1])):
        inside &= from_end >= shape.cap * ((1 - notch) * end(u) + notch * end(np.abs(2 * u - 1)))
    return inside.reshape(size[0], fine, size[1], fine).mean(axis=(1, 3))


def digest(samples: list[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        assert sample.instances is not None
        assert sample.instances.patches is not None
        digest.update(sample.image.numpy().tobytes())
        digest.update(sample.instances.boxes.numpy().tobytes())
        for patch in sample.instances.patches:
            digest.update(patch.values.numpy().tobytes())
    return digest.hexdigest()


# --- karyotype


def test_ideograms_are_the_human_ones() -> None:
    maps = [ideogram(name) for name in CHROMOSOME_NAMES]
    assert sum(len(bands.stains) for bands in maps) == 862
    assert maps[0].length == pytest.approx(249.3, abs=0.1)
    assert sum(bands.length for bands in maps) == pytest.approx(3095.7, abs=2)
    assert maps[0].centromere == pytest.approx(125.0 / 249.25, abs=0.002)
    # The acrocentric chromosomes, and they alone, carry satellites on stalks.
    assert [bands.name for bands in maps if "s" in bands.stains] == ["13", "14", "15", "21", "22"]
    for bands in maps:
        assert len(bands.edges) == len(bands.stains) + 1
        assert bands.edges[0] == 0
        assert bands.edges[-1] == 1
        assert np.all(np.diff(bands.edges) > 0)
        centromere = np.nonzero(np.isclose(bands.edges, bands.centromere))[0]
        assert bands.stains[centromere[0] - 1] == "e"
    with pytest.raises(KeyError):
        ideogram("23")


@pytest.mark.parametrize("count", [1, 20, 46, 47])
def test_karyotype(count: int) -> None:
    names = karyotype(count, np.random.default_rng(3))
    assert len(names) == count
    if count == 46:
        assert all(names.count(str(number)) == 2 for number in range(1, 23))
        assert names.count("X") + names.count("Y") == 2
        assert "X" in names


# --- outlines and areas


def test_area_of_a_straight_rod_by_hand() -> None:
    where = drawn(rod((10.25, 20), (50.25, 20), 5), (64, 64))
    canvas = full(where, (64, 64))
    # 40 long and 10 wide; rows 15 to 24 whole, column 10 three quarters, column 50 one quarter.
    assert canvas.sum() == pytest.approx(400, abs=1e-9)
    np.testing.assert_allclose(canvas[15:25, 11:50], 1)
    np.testing.assert_allclose(canvas[15:25, 10], 0.75)
    np.testing.assert_allclose(canvas[15:25, 50], 0.25)
    assert where.mask.sum() == 400


@pytest.mark.parametrize(("seed", "notch"), [(0, (0.0, 0.0)), (1, (0.8, 0.3)), (2, (0.0, 1.0)), (5, (0.0, 0.0))])
def test_masks_equal_brute_force(seed: int, notch: tuple[float, float]) -> None:
    shape = bent(seed, notch)
    coverage = full(drawn(shape, (100, 100)), (100, 100))
    expected = brute_force(shape, (100, 100))
    assert np.abs(coverage - expected).max() < 0.12
    assert np.abs(coverage - expected)[(expected > 0) & (expected < 1)].mean() < 0.02
    assert coverage.sum() == pytest.approx(expected.sum(), rel=2e-3)
    clear = np.abs(expected - 0.5) > 0.08
    np.testing.assert_array_equal((coverage >= 0.5)[clear], (expected >= 0.5)[clear])


@pytest.mark.parametrize("seed", range(4))
def test_outline_encloses_the_mask(seed: int) -> None:
    shape = bent(seed, (0.5, 0.0))
    fine = polygon2mask((800, 800), shape.outline()[:, ::-1] * 8 - 0.5)
    from_outline = fine.reshape(100, 8, 100, 8).mean(axis=(1, 3))
    coverage = full(drawn(shape, (100, 100)), (100, 100))
    assert np.abs(from_outline - coverage)[(coverage > 0) & (coverage < 1)].mean() < 0.03
    one, other = from_outline >= 0.5, coverage >= 0.5
    assert (one & other).sum() / (one | other).sum() > 0.985


def test_cut_and_absent_shapes() -> None:
    where = drawn(rod((-20, 20), (20, 20), 5), (64, 64))
    assert where.x0 == 0
    assert full(where, (64, 64)).sum() == pytest.approx(200, abs=1e-9)
    assert footprint(rod((-50, -50), (-20, -20), 5), (64, 64)) is None


def test_centre_lines_keep_length_and_do_not_kink() -> None:
    for seed in range(30):
        points = centre_line(90, 6, 1.2, np.random.default_rng(seed))
        steps = np.hypot(*np.diff(points, axis=0).T)
        assert steps.sum() == pytest.approx(90, abs=1e-9)
        heading = np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))
        assert np.abs(np.diff(heading) / steps[1:]).max() < 1 / 6


# --- light


def flat(stain: float) -> Texture:
    return Texture(np.full(512, stain))


def test_crossing_chromosomes_multiply_transmittance_and_add_light() -> None:
    size = (64, 64)
    across, along = rod((12, 32), (52, 32), 5), rod((32, 12), (32, 52), 5)
    rng = np.random.default_rng(0)

    def picture(optics: Optics, density: float | None) -> np.ndarray:
        layers = []
        for shape, stain in ((across, 0.3), (along, 0.5)):
            where = drawn(shape, size)
            layers.append((where.x0, where.y0, flat(stain).paint(where, shape.length, 5, density)))
        return expose(stack(layers, size), optics, 10, rng)

    image = picture(Optics("gband", background=200, gain=0.6, blur=0.4), 0.6)
    # 200, 200 x 10^-0.18, 200 x 10^-0.30, 200 x 10^-0.48
    assert [image[5, 5], image[32, 18], image[18, 32], image[32, 32]] == [200, 132, 100, 66]
    image = picture(Optics("fluorescence", background=10, gain=100, blur=0.4), None)
    assert [image[5, 5], image[32, 18], image[18, 32], image[32, 32]] == [10, 40, 60, 90]

    both = (drawn(across, size), drawn(along, size))
    shared = (full(both[0], size) >= 0.5) & (full(both[1], size) >= 0.5)
    assert shared.sum() == 100


@pytest.mark.parametrize("look", ["gband", "fluorescence"])
@pytest.mark.parametrize("offset", [0.0, 0.2, 0.5, 0.7])
def test_image_edge_lies_on_the_mask_edge(look: str, offset: float) -> None:
    size = (64, 64)
    shape = rod((10, 32 + offset), (54, 32 + offset), 6)
    where = drawn(shape, size)
    density = 0.6 if look == "gband" else None
    layer = (where.x0, where.y0, flat(1.0).paint(where, shape.length, 6, density))
    optics = Optics(look, background=220 if density else 0, gain=density or 200, blur=1.3)
    profile = expose(stack([layer], size), optics, 12, np.random.default_rng(0))[:, 32].astype(float)
    half = (profile[4] + profile[32]) / 2
    for edge in (26 + offset, 38 + offset):
        near = np.arange(int(edge) - 4, int(edge) + 5)
        level = profile[near] - half
        change = np.nonzero(np.diff(np.sign(level)))[0][0]
        crossing = near[change] + 0.5 + level[change] / (level[change] - level[change + 1])
        assert crossing == pytest.approx(edge, abs=0.1)


# --- data sets


def test_same_images_in_any_order_and_process() -> None:
    here = SyntheticDataset(3, SMALL, seed=7)
    backwards = [here[index] for index in (2, 1, 0)][::-1]
    code = (
        "import sys; sys.path[:0] = ['.']\n"
        "from tests.data.test_synthetic import SMALL, digest\n"
        "from kemr_lightning.data.synthetic import SyntheticDataset\n"
        "there = SyntheticDataset(5, SMALL, seed=7)\n"
        "print(digest([there[index] for index in range(3)]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CONF.parent, timeout=300
    )
    assert run.stdout.split()[-1] == digest(backwards)


def test_seeds_splits_and_images_differ() -> None:
    sets = [SyntheticDataset(2, SMALL, seed=seed, split=split) for seed in (0, 1) for split in ("train", "val", "test")]
    assert len({digest([data[index]]) for data in sets for index in range(2)}) == 12


def test_samples_are_consistent() -> None:
    data = SyntheticDataset(3, (320, 256), overlap=1.0, seed=2)
    crossings = 0
    for index in range(3):
        sample = data[index]
        assert sample.image.dtype == torch.uint8
        assert sample.image_size == (256, 320)
        assert sample.image_id == index + 1
        instances = sample.instances
        assert instances is not None
        assert instances.patches is not None
        assert set(instances.labels.tolist()) == {1}
        for box, patch in zip(instances.boxes.tolist(), instances.patches, strict=True):
            rows, columns = torch.nonzero(patch.values, as_tuple=True)
            x0, y0 = patch.x0, patch.y0
            assert box == [
                columns.min() + x0,
                rows.min() + y0,
                columns.max() + x0 + 1,
                rows.max() + y0 + 1,
            ]
            assert patch.values.dtype == torch.bool
        crossings += int((instances.masks().sum(dim=0) > 1).sum())
    assert crossings > 50


@pytest.mark.parametrize("look", ["gband", "fluorescence"])
def test_look_and_contrast(look: str) -> None:
    for seed in range(3):
        scene = metaphase((128, 160), np.random.default_rng(seed), look, count=(6, 6))
        inside = sum(full(where, (128, 160)) for where in scene.footprints) >= 0.5
        difference = np.median(scene.image[inside]) - np.median(scene.image[~inside])
        assert (difference < -25) if look == "gband" else (difference > 25)


def test_whole_cell_follows_the_karyotype() -> None:
    data = SyntheticDataset(1, (768, 576), count=46, label_map=None, look="gband", seed=1)
    scene = data.metaphase(0)
    sample = data[0]
    assert sample.instances is not None
    assert data.label_names == list(CHROMOSOME_NAMES)
    counts = torch.bincount(sample.instances.labels, minlength=25)
    assert counts.sum() >= 44  # a few may lie beyond the border
    assert counts[1:23].max() == 2
    lengths = np.array([shape.length for shape in scene.shapes])
    megabases = np.array([ideogram(name).length for name in scene.names])
    assert np.corrcoef(lengths, megabases)[0, 1] > 0.97
    assert 4 < lengths.max() / lengths.min() < 7.5


@pytest.mark.parametrize(("size", "widths", "count"), [((320, 256), (7.5, 10.5), 17), ((768, 576), (10, 14), 46)])
def test_default_sizes(size: tuple[int, int], widths: tuple[float, float], count: int) -> None:
    scene = SyntheticDataset(1, size, seed=3).metaphase(0)
    assert count - 3 <= len(scene.names) <= count
    mean = np.mean([2 * shape.half_width.mean() for shape in scene.shapes])
    assert widths[0] < mean < widths[1]
    assert scene.image.shape == size[::-1]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"look": "blue"}, "data.look"),
        ({"size": (32, 32)}, "data.size"),
        ({"overlap": 2.0}, "data.overlap"),
        ({"count": [9, 3]}, "data.count"),
        ({"width": 200.0}, "data.width"),
        ({"label_map": "double"}, "data.label_map"),
        ({"length": -1}, "data.train_images"),
    ],
)
def test_wrong_options_name_themselves(options: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        SyntheticDataset(**{"length": 1, "size": SMALL, **options})  # type: ignore[arg-type]


# --- data module and folders


def test_data_module_augments_training_images_only() -> None:
    augmentation = Augmentation(crop_size=(96, 96))
    data = SyntheticDataModule(4, 2, 2, size=SMALL, augmentation=augmentation, seed=5)
    data.setup("fit")
    assert data.label_names == ["chromosome"]
    batches = list(data.train_dataloader())
    assert [sample.image_size for batch in batches for sample in batch] == [(96, 96)] * 4
    assert digest(next(iter(data.train_dataloader()))) == digest(batches[0])
    tested = [batch[0] for batch in data.test_dataloader()]
    assert [sample.name for sample in tested] == ["test/synthetic_00001.png", "test/synthetic_00002.png"]
    assert digest(tested) == digest([SyntheticDataset(2, SMALL, seed=5, split="test")[index] for index in range(2)])
    assert data.val_dataloader().dataset[0].image_size == (128, 160)


def test_data_module_refuses_other_classes() -> None:
    data = SyntheticDataModule(1, 1, 1, size=SMALL)
    data.label_names = ["1", "2"]
    with pytest.raises(UserError, match="label_map"):
        data.setup("test")
    data.label_names = ["chr"]
    data.setup("test")
    with pytest.raises(UserError, match="test_images"):
        SyntheticDataModule(1, 1, 0, size=SMALL)


def test_configuration_makes_the_data_module() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=["data=synthetic", "data.size=[160,128]", "data.train_images=2"])
    data = hydra.utils.instantiate(config.data)
    assert isinstance(data, SyntheticDataModule)
    assert len(data.train) == 2
    assert data.train.image_size == (128, 160)
    resized = SyntheticDataModule(1, 1, 1, resize=(320, 256))
    assert resized.val.image_size == (256, 320)


@pytest.mark.parametrize("format", ["labelme", "coco"])
def test_folders_read_back(tmp_path: Path, format: str) -> None:
    root = write_synthetic_folder(tmp_path / "set", 2, 1, 1, format, size=SMALL, seed=4, look="gband")
    read = SegmentationDataModule(root, format=format)
    read.setup("fit")
    read.setup("test")
    for split, dataset in (("train", read.train), ("val", read.val), ("test", read.test)):
        assert dataset is not None
        made = SyntheticDataset(len(dataset), SMALL, seed=4, look="gband", split=split)
        for index in range(len(dataset)):
            one, other = dataset[index], made[index]
            assert one.name == other.name
            assert torch.equal(one.image, other.image)
            assert one.instances is not None
            assert other.instances is not None
            assert len(one.instances) == len(other.instances)
            for mask, exact in zip(one.instances.masks(), other.instances.masks(), strict=True):
                iou = float((mask & exact).sum() / (mask | exact).sum())
                assert iou == 1 if format == "coco" else iou > 0.95


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--train", "1", "--val", "0", "--test", "0", "--size", "160", "128"]
    assert main([str(tmp_path / "a"), *where, "--classes", "--count", "4"]) == 0
    assert sorted(path.name for path in (tmp_path / "a" / "train").iterdir()) == [
        "synthetic_00001.json",
        "synthetic_00001.png",
    ]
    assert main([str(tmp_path / "b"), *where, "--overlap", "7"]) == 2
    assert "data.overlap" in capsys.readouterr().err
