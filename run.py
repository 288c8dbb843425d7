"""The one entry point: ``python run.py experiment=NAME [task=TASK] [key=value ...]``."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import hydra
except ModuleNotFoundError:
    sys.exit(
        "error: this Python lacks the packages that the project needs. `make env` installs them; then "
        "`. .venv/bin/activate`, or write .venv/bin/python instead of python"
    )
from omegaconf import DictConfig

from kemr_lightning.core.errors import UserError
from kemr_lightning.sweep.hydra_callback import conclude_sweeps
from kemr_lightning.sweep.launcher import with_our_launcher
from kemr_lightning.tasks import run
from kemr_lightning.tasks.command_line import check_arguments, with_texts


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the configured task; a sweep reads the returned figure."""
    return run(config)


if __name__ == "__main__":
    try:
        sys.argv[1:] = with_texts(with_our_launcher(sys.argv[1:]))
        check_arguments(sys.argv[1:], Path(__file__).parent / "conf")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    try:
        main()
    finally:
        conclude_sweeps()  # also of a sweep with a failed job, which ends in SystemExit
