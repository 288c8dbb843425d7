"""``python -m kemr_lightning.training CHECKPOINT FILE``: a checkpoint's weights in half precision, to hand on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.training.checkpoint import read_checkpoint
from kemr_lightning.training.weights_file import SUFFIX, write_weights


def _main() -> int:
    """Write the file.

    Returns:
        The exit status: 0, or 2 if something was wrong with the arguments.
    """
    parser = argparse.ArgumentParser(prog="python -m kemr_lightning.training", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="the .ckpt file of a training")
    parser.add_argument("file", type=Path, help=f"the new file; its name ends in {SUFFIX}")
    parser.add_argument(
        "--about", default="", help="free text: what the weights were trained on, by whom, under which licence"
    )
    options = parser.parse_args()
    if options.file.suffix != SUFFIX:
        print(f"error: {options.file} does not end in {SUFFIX}. Rename it", file=sys.stderr)
        return 2
    try:
        write_weights(options.file, read_checkpoint(options.checkpoint), {"about": options.about})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
