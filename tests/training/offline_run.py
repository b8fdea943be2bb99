"""A W&B run as it was written offline: its transaction log, a LevelDB log of protobuf records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
START = 7  # bytes of the file's own header


def records(path: Path) -> Iterator[Record]:
    """Yield the records: blocks of 32 KiB, each part with crc (4), length (2) and kind (1)."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, whole = START, b""
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        if left < 7 or kind == 0:  # the rest of the block is empty
            place += left
            continue
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


class Written(NamedTuple):
    """What was sent, in order."""

    folder: Path
    run: Any  # the run's own record
    tags: list[str]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    files: list[Path]  # pictures, tables
    exit_code: int | None
    metrics: list[Any]  # how each is to be drawn
    kinds: set[str]


def read(folder: Path) -> Written:
    """Read the one transaction log in an `offline-run-*` folder."""
    (path,) = folder.glob("*.wandb")
    run, code = None, None
    config, history, summary, files, metrics, kinds = {}, [], {}, [], [], set()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        kinds.add(kind)
        if kind == "run":
            run = record.run
            config |= _values(record.run.config.update)
        elif kind == "config":
            config |= _values(record.config.update)
        elif kind == "history":
            history.append(_values(record.history.item))
        elif kind == "summary":
            summary |= _values(record.summary.update)
        elif kind == "files":
            files += [folder / "files" / file.path for file in record.files.files]
        elif kind == "metric":
            metrics.append(record.metric)
        elif kind == "exit":
            code = record.exit.exit_code
    tags = list(run.tags)
    return Written(folder, run, tags, config, history, summary, files, code, metrics, kinds)


def _values(items: Any) -> dict[str, Any]:
    return {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
