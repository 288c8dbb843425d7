"""What an offline W&B run has written: its .wandb file is a LevelDB log of protocol buffers."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


def records(path: Path) -> Iterator[Record]:
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    offset, parts = HEADER, b""
    while offset + HEADER <= len(content):
        if BLOCK - offset % BLOCK < HEADER:
            offset += BLOCK - offset % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[offset : offset + HEADER])
        if kind == 0:
            break
        data = content[offset + HEADER : offset + HEADER + length]
        offset += HEADER + length
        parts = data if kind in (FULL, FIRST) else parts + data
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


@dataclass
class Run:
    """The content of a run."""

    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    stats: int = 0
    exit_code: int | None = None

    def values(self, key: str) -> list[Any]:
        """What was logged under a key, in order."""
        return [row[key] for row in self.history if key in row]

    def artifact(self, kind: str) -> list[Any]:
        """The artifacts of a type."""
        return [each for each in self.artifacts if each.type == kind]


def read_run(directory: Path, seconds: float = 60) -> Run:
    """Read the only run of a run directory; a run that was just finished may still be written for a moment."""
    (path,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    end = time.monotonic() + seconds
    while (run := _read(path)).exit_code is None and time.monotonic() < end:
        time.sleep(0.1)
    return run


def _read(path: Path) -> Run:
    run = Run()
    for item in records(path):
        kind = item.WhichOneof("record_type")
        if kind == "run":
            run.id, run.name, run.group, run.job_type = (
                item.run.run_id, item.run.display_name, item.run.run_group, item.run.job_type
            )  # fmt: skip
            run.tags = list(item.run.tags)
            run.config |= {each.key: json.loads(each.value_json) for each in item.run.config.update}
        elif kind == "config":
            run.config |= {each.key: json.loads(each.value_json) for each in item.config.update if each.key}
        elif kind == "history":
            row = {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in item.history.item}
            run.history.append(row)
        elif kind == "summary":
            pairs = {each.key or "/".join(each.nested_key): each.value_json for each in item.summary.update}
            run.summary |= {key: json.loads(value) for key, value in pairs.items()}
        elif kind == "artifact":
            run.artifacts.append(item.artifact)
        elif kind == "stats":
            run.stats += 1
        elif kind == "request" and item.request.WhichOneof("request_type") == "log_artifact":
            run.artifacts.append(item.request.log_artifact.artifact)
        elif kind == "exit":
            run.exit_code = item.exit.exit_code
    return run
