"""What is done once all jobs of a sweep have ended: the table, the heat maps, and the best job in one line."""

from __future__ import annotations

import logging
from pathlib import Path

from kemr_lightning.core.overrides import shell_word
from kemr_lightning.core.run_directory import SWEEP_TABLE, heat_map_name
from kemr_lightning.sweep.heat_map import draw_heat_map
from kemr_lightning.sweep.job_records import JobRecord, read_records
from kemr_lightning.sweep.sweep_table import SHOWN, best_command, best_of, best_words, write_table

logger = logging.getLogger(__name__)


def conclude(sweep: Path) -> None:
    """Write the table and the heat maps, and log how the sweep went and which job was best.

    Args:
        sweep: The sweep's directory.
    """
    records = read_records(sweep)
    if not records:
        logger.warning("no job has left a record in %s: there is no table and no best job", sweep)
        return
    write_table(sweep)
    for name in SHOWN:
        draw_heat_map(records, name, sweep / heat_map_name(name))
    done = [item for item in records if item.status == "done"]
    logger.info("%d of %d jobs done, table in %s", len(done), len(records), sweep / SWEEP_TABLE)
    for item in records:
        if item.status != "done":
            logger.warning("job %d %s: %s", item.number, item.status, item.error or "start the sweep again")
    if len(done) < len(records):
        logger.warning("the same command with %s does what is missing", shell_word("hydra.sweep.dir", sweep))
    best = best_of(records)
    if best is not None:
        logger.info("%s", best_line(best))


def best_line(best: JobRecord) -> str:
    """Which job was best, and the command that uses its parameters."""
    return f"{best_words(best)}. Use its parameters: {best_command(best)}"
