"""Reads the runs that W&B has written offline."""

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class OfflineRun:
    """What one offline file holds."""

    id: str = ""
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def read_offline_runs(folder: Path) -> list[OfflineRun]:
    """The runs in a folder, in the order in which they were started."""
    return [_read(path) for path in sorted(folder.glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)]


def _read(path: Path) -> OfflineRun:
    datastore = importlib.import_module("wandb.sdk.internal.datastore").DataStore()
    record_type = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    datastore.open_for_scan(str(path))
    run = OfflineRun()
    while (data := datastore.scan_data()) is not None:
        record = record_type.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id = record.run.run_id
            run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update if item.key != "_wandb"}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
        elif kind == "summary":
            run.summary |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "history":
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            run.history.append({key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")})
    return run
