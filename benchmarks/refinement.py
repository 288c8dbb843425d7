"""Time and accuracy of mask refinement: the torch engine against pydensecrf, on one image of 46 instances.

    python benchmarks/refinement.py                    # a minute or two on one core
    python benchmarks/refinement.py --r101 measure     # also times a ResNet-101 Mask R-CNN's inference (about a minute)

The image is a synthetic metaphase of 1280 x 1024 with 46 chromosomes; the initial masks are its true masks as a coarse
mask head gives them (28 x 28, softened, displaced, saturated). Both sides get the same crops, the same iterations and
one thread; times are medians of CPU seconds (user and system). pydensecrf is measured in its two forms,
five-dimensional on RGB and three-dimensional on grey, without the cost of cropping, and the faster one counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.synthetic import MetaphaseSettings, metaphase
from kemr_lightning.refinement import CRFParams, Refiner
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.automatic import refine_torch
from kemr_lightning.refinement.engines.batched import refine_batched
from kemr_lightning.refinement.engines.exact import refine_exact
from kemr_lightning.refinement.engines.pydensecrf_library import refine_one

DEFAULT = CRFParams()
RANGE = [
    CRFParams(*values)
    for values in (
        (2, 9, 3, 3, 0),
        (2, 8, 1, 16, 4),
        (2, 35, 2, 2, 0),
        (3, 12, 2, 8, 2),
        (4, 60, 4, 16, 0),
        (4, 10, 3, 1, 1),
        (5, 15, 1, 4, 0),
        (6, 20, 2, 8, 2),
        (8, 35, 3, 4, 1),
        (8, 12, 2, 12, 3),
        (10, 25, 2, 6, 0),
        (12, 8, 2, 16, 0),
        (12, 60, 4, 2, 4),
    )
]
R101_SECONDS = 25.4
"""CPU seconds of a ResNet-101 Mask R-CNN's inference on 1280 x 1024 with 46 instances, two cores of 69 GFLOP/s."""

MARGIN = 10
SMALL = 80 * 80
"""Largest crop compared with brute force."""


def scene(seed: int) -> tuple[torch.Tensor, Instances]:
    """A metaphase and the soft masks that a coarse mask head would predict for it."""
    rng = np.random.default_rng(seed)
    made = metaphase(MetaphaseSettings((1280, 1024), count=46, look="gband"), rng)
    image = torch.from_numpy(np.ascontiguousarray(made.image))
    patches = []
    for footprint in made.footprints:
        mask = torch.from_numpy(footprint.mask)
        rows, columns = torch.nonzero(mask.any(1)).flatten(), torch.nonzero(mask.any(0)).flatten()
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        tight = mask[top:bottom, left:right].float()
        moved = torch.roll(tight, tuple(rng.integers(-1, 2, 2).tolist()), (0, 1))
        grid = F.interpolate(moved[None, None], (28, 28), mode="area")
        soft = F.avg_pool2d(F.pad(grid, (1, 1, 1, 1), mode="replicate"), 3, 1)
        values = F.interpolate(soft, tight.shape, mode="bilinear", align_corners=False)[0, 0]
        patches.append(Patch(footprint.x0 + left, footprint.y0 + top, torch.sigmoid(12 * (values - 0.5))))
    count = len(patches)
    boxes = torch.tensor([patch.window for patch in patches], dtype=torch.float32)
    return image, Instances((1024, 1280), boxes, torch.ones(count), torch.ones(count, dtype=torch.int64), patches)


def cpu_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a call, the first one (compilation, caches) not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def mask_iou(a: torch.Tensor, b: torch.Tensor, crops: Crops) -> float:
    """Mean over the crops; two empty masks agree."""
    ious = []
    for p, q in zip((a >= 0.5).split(crops.areas), (b >= 0.5).split(crops.areas), strict=True):
        union = int((p | q).sum())
        ious.append(int((p & q).sum()) / union if union else 1.0)
    return statistics.mean(ious)


def peak_memory(run: Callable[[], object]) -> str:
    """Most memory the process holds during a call beyond what it held before (Linux)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return "not known here"
    reset.write_text("5")
    before = _held(status, "VmRSS")
    run()
    return f"{(_held(status, 'VmHWM') - before) / 1024:.0f} MiB more"


def _held(status: Path, name: str) -> int:
    return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1])


def by_library(library: Any, crops: Crops, params: CRFParams, colour: bool) -> torch.Tensor:
    row = params.to_tensor().tolist()
    pairs = zip(crops.unpack(crops.intensity), crops.unpack(crops.prob), strict=True)
    done = [refine_one(library, i.numpy(), p.numpy(), row, params.iterations, colour) for i, p in pairs]
    return torch.from_numpy(np.concatenate([q.ravel() for q in done]))


def compare(library: Any, crops: Crops, params: CRFParams, repeats: int) -> float:
    """Print one line; return how many times less CPU time the torch engine takes."""
    table = params.to_tensor().repeat(len(crops), 1)
    ours = cpu_seconds(lambda: refine_torch(crops, table, params.iterations, 0.01), 2 * repeats + 1)
    forms = {
        colour: cpu_seconds(lambda c=colour: by_library(library, crops, params, c), repeats) for colour in (True, False)
    }
    small = crops.select([i for i, area in enumerate(crops.areas) if area <= SMALL][:12])
    rows = table[: len(small)]
    exact = refine_exact(small, rows, params.iterations, 0.01)
    refined = refine_torch(small, rows, params.iterations, 0.01)
    theirs = by_library(library, small, params, min(forms, key=forms.__getitem__))
    times = min(forms.values()) / ours
    widths = (4, 4, 3, 4, 3)
    name = "".join(f"{value:>{w}.3g}" for value, w in zip(params.to_tensor()[:5].tolist(), widths, strict=True))
    print(
        f"{name} | {forms[True]:7.3f} {forms[False]:7.3f} {ours:7.4f} {times:6.1f}x |"
        f" {mask_iou(refined, exact, small):.4f} {float((refined - exact).abs().max()):.4f} |"
        f" {mask_iou(theirs, exact, small):.4f} {float((theirs - exact).abs().max()):.4f}",
        flush=True,
    )
    return times


def full_frame(library: Any, image: torch.Tensor, instances: Instances) -> float:
    """CPU seconds of pydensecrf on the whole frame for one instance."""
    assert instances.patches is not None
    patch = instances.patches[0]
    prob = np.zeros(tuple(image.shape), np.float32)
    x0, y0, x1, y1 = patch.window
    prob[y0:y1, x0:x1] = patch.values
    start = time.process_time()
    refine_one(library, image.numpy(), prob, DEFAULT.to_tensor().tolist(), DEFAULT.iterations, colour=False)
    return time.process_time() - start


def measured_r101() -> float:
    """CPU seconds of one inference of torchvision's Mask R-CNN with a ResNet-101, 100 proposals' boxes, 1280 x 1024."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    backbone = resnet_fpn_backbone(backbone_name="resnet101", weights=None)
    model = MaskRCNN(backbone, 2, min_size=1024, max_size=1280, box_detections_per_img=46, box_score_thresh=0.0).eval()
    picture = torch.rand(3, 1024, 1280, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        start = time.process_time()
        model([picture])
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=3, help="calls of pydensecrf per figure (of ours: twice and one)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--r101", default=str(R101_SECONDS), help="CPU seconds of the detector's inference, or 'measure'"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    from pydensecrf import densecrf as library

    image, instances = scene(options.seed)
    refiner = Refiner(DEFAULT, margin=MARGIN)
    crops, _ = refiner.crop(image, instances)
    print(
        f"{len(crops)} crops of a {image.shape[1]} x {image.shape[0]} image, {sum(crops.areas)} pixels in all, "
        f"{DEFAULT.iterations} iterations"
    )

    start = time.process_time()
    memory = peak_memory(lambda: refiner(image, instances))
    first = time.process_time() - start
    print(f"first call, compilation or its cache included: {first:.1f} CPU-s; peak memory {memory}")

    print("\n                     | CPU seconds an image            | to brute force  | pydensecrf's")
    print("  sa  sb sg  w1 w2   | 5-D     grey    torch           | IoU    max dq   | IoU    max dq")
    factors = [compare(library, crops, params, options.repeats) for params in RANGE]
    print(
        f"times less CPU than the faster form: default {factors[0]:.1f}, "
        f"median of the range {statistics.median(factors):.1f}"
    )

    whole = cpu_seconds(lambda: refiner(image, instances), 2 * options.repeats + 1)
    table = DEFAULT.to_tensor().repeat(len(crops), 1)
    tensors = cpu_seconds(lambda: refine_batched(crops, table, DEFAULT.iterations, 0.01), 1)
    print(f"\nRefiner on the image, cropping and putting back included: {whole:.4f} CPU-s")
    print(f"the same crops in tensor operations (the CUDA and learning path) on CPU: {tensors:.2f} CPU-s")
    frame = full_frame(library, image, instances)
    print(
        f"pydensecrf on the full frame: {frame:.2f} CPU-s an instance, extrapolated {frame * len(crops):.0f} an image"
    )
    detector = measured_r101() if options.r101 == "measure" else float(options.r101)
    how = "measured now" if options.r101 == "measure" else "as given"
    print(f"share of a ResNet-101 detector's inference ({detector:.1f} CPU-s, {how}): {100 * whole / detector:.2f} %")


if __name__ == "__main__":
    main()
