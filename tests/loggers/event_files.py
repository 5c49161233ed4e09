"""Reads TensorBoard's event files."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def read_events(folder: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of every scalar in a folder's event files. A record is a length, its checksum, an Event, a checksum."""
    scalars = []
    for path in sorted(folder.glob("events.out.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            scalars += [
                (value.tag, event.step, value.simple_value)
                for value in event.summary.value
                if value.WhichOneof("value") == "simple_value"
            ]
            at += size + 16
    return scalars
