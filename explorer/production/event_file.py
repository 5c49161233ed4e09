"""TensorBoard's event file of a run, written at once: a disk that is full neither stops the training nor holds it up.

tensorboardX's `SummaryWriter` writes from a thread, which ends at the first error; the training would then wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from explorer.loggers import Point

EVENT_FILES = "events.out.tfevents.*"
"""Pattern of the names of event files."""


class EventFile:
    """The event file in a run's folder. Files of earlier attempts are replaced: they may lack their last events.

    After an error, everything is written again into a new file when there is more to write.

    Args:
        folder: the run's folder; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._points: list[Point] = []
        self._writer: EventsWriter | None = None

    def write(self, points: Sequence[Point]) -> None:
        """Add points.

        Raises:
            OSError: when they cannot be written; they are kept, and written with the next ones.
        """
        self._points += points
        try:
            if self._writer is None:
                for earlier in self._folder.glob(EVENT_FILES):
                    earlier.unlink()
                self._writer = EventsWriter(str(self._folder / "events"))
                points = self._points
            for point in points:
                for name, value in point.metrics.items():
                    event = Event(wall_time=time.time(), step=point.step, summary=scalar(name, value))
                    self._writer.write_event(event)
            self._writer.flush()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):  # what could not be written
                writer.close()
