"""Reads the runs that W&B has written offline."""

import importlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import wait_until

BLOCK = 32 * 1024


@dataclass
class OfflineRun:
    """What one offline file holds."""

    id: str = ""
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def ended_runs(folder: Path) -> list[OfflineRun]:
    """The runs in a folder, in the order in which they were started, to the second. W&B writes the end of a run a little later."""
    wait_until(lambda: all(run.exit_code is not None for run in _runs(folder)))
    return _runs(folder)


def _runs(folder: Path) -> list[OfflineRun]:
    return [_read(path) for path in sorted(folder.glob("offline-run-*/*.wandb"))]


def _records(path: Path) -> Iterator[bytes]:
    """The records of a file: a header of 7 bytes, then blocks of 32 KiB, as in LevelDB's log.

    A piece of a record is a checksum (4 bytes), a length (2), a type (1: whole, 2: first, 3: middle, 4: last) and its data.
    A piece does not cross a block.
    """
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # no room for another piece
            at += BLOCK - at % BLOCK
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield record
            record = b""


def _read(path: Path) -> OfflineRun:
    record_type = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    run = OfflineRun()
    for data in _records(path):
        record = record_type.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id = record.run.run_id
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update if item.key != "_wandb"}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
        elif kind == "summary":
            run.summary |= {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
        elif kind == "history":
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            run.history.append({key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")})
    return run
