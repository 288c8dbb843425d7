"""The one entry point: ``python run.py experiment=NAME [task=TASK] [key=value ...]``."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from kemr_lightning.sweep.hydra_callback import conclude_sweeps
from kemr_lightning.tasks import run


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the configured task; a sweep reads the returned figure."""
    return run(config)


if __name__ == "__main__":
    try:
        main()
    finally:
        conclude_sweeps()  # also of a sweep with a failed job, which ends in SystemExit
