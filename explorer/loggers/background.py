"""Calls a logging service from a thread of its own, so that a slow or broken service never holds up training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from explorer.loggers.services import Ending, LoggingService, LoggingTask, Point, RunDescription

MAX_POINTS = 10_000
"""Largest number of points that wait for a service; when there are more, points are dropped."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0
"""Pauses after a service has failed: the first one; each one after it is twice as long, up to the last one."""


@dataclass
class _Waiting:
    """What waits for the service about one run."""

    run: RunDescription
    points: list[Point] = field(default_factory=list)
    ending: Ending | None = None


class BackgroundLogger:
    """Hands runs to a service in the background.

    `start` it first. `log` and `end` return at once. Points that a service is too slow for are dropped and counted; the end of
    a run is never dropped, and what fails is tried again until the logger is closed.

    Args:
        name: name of the service, for messages.
        connect: returns the service. Only the logger's thread calls it, and the service.
        warn: told, in one line, when the service fails for the first time.
        on_connected: called from the thread with the service before anything is logged.
        on_delivered: called from the thread when the end of a run has been logged.

    Attributes:
        dropped: number of points that were dropped.
        missing: number of runs whose end was not logged when the logger was closed.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], LoggingService],
        warn: Callable[[str], None],
        on_connected: Callable[[LoggingService], None] | None = None,
        on_delivered: Callable[[RunDescription, Ending], None] | None = None,
    ) -> None:
        self.name, self._connect, self._warn = name, connect, warn
        self._on_connected, self._on_delivered = on_connected, on_delivered
        self.dropped = self.missing = 0
        self._service: LoggingService | None = None
        self._last_step: dict[str, int] = {}
        """Last step that was logged of each run that is open."""
        self._waiting: dict[str, _Waiting] = {}
        self._current: LoggingTask | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"logger {name}")

    def start(self) -> None:
        """Start the thread, which connects to the service."""
        self._thread.start()

    def log(self, run: RunDescription, points: Sequence[Point]) -> None:
        """Begin or continue a run, and log points of it, in the order of their steps."""
        with self._changed:
            waiting = self._waiting.setdefault(run.key, _Waiting(run))
            room = max(0, MAX_POINTS - sum(len(each.points) for each in self._waiting.values()))
            waiting.points.extend(points[:room])
            self.dropped += len(points[room:])
            self._changed.notify_all()

    def end(self, run: RunDescription, points: Sequence[Point], ending: Ending) -> None:
        """End a run.

        Args:
            run: the run; it need not have been begun.
            points: all points of the run, or its last ones. Those that have been logged are not logged again.
            ending: how it ended.
        """
        with self._changed:
            waiting = self._waiting.setdefault(run.key, _Waiting(run))
            if points:
                waiting.points = list(points)  # they hold what still waits, and what was dropped
            waiting.ending = ending
            self._changed.notify_all()

    def close(self, limit_seconds: float) -> list[str]:
        """Wait until everything is logged, but not for longer than a limit.

        Returns:
            A line about runs whose end was not logged, and a line about points that were dropped, if there are any.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(limit_seconds)
        with self._changed:
            self.missing = sum(waiting.ending is not None for waiting in self._waiting.values())
            self.missing += self._current is not None and self._current.ending is not None
            reason = _one_line(self._error) if self._error else f"it took longer than {limit_seconds:g} s"
            self._waiting.clear()  # a service that answers later is given nothing more
        lines = []
        if self.missing:
            lines.append(f"{self.name}: the results of {self.missing} runs were not logged: {reason}")
        if self.dropped:
            lines.append(f"{self.name}: too slow for {self.dropped} points; the end of a run logs all of its points")
        return lines

    def _run(self) -> None:
        pause = FIRST_RETRY_SECONDS
        while True:
            task = None
            try:
                service = self._connected()
                if (task := self._next()) is None:
                    return
                self._deliver(task, service)
                pause = FIRST_RETRY_SECONDS
            except Exception as error:  # services raise errors of their own
                self._failed(task, error)
                if self._closing and pause > FIRST_RETRY_SECONDS:
                    return
                self._pause(pause)
                pause = min(2 * pause, LAST_RETRY_SECONDS)

    def _connected(self) -> LoggingService:
        if self._service is None:
            service = self._connect()
            if self._on_connected:
                self._on_connected(service)
            self._service = service
        return self._service

    def _next(self) -> LoggingTask | None:
        """What is to be logged next; `None` at the end."""
        with self._changed:
            self._current = None
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            waiting = self._waiting.pop(next(iter(self._waiting)))
            self._current = LoggingTask(waiting.run, waiting.points, waiting.ending)
            return self._current

    def _deliver(self, task: LoggingTask, service: LoggingService) -> None:
        run = task.run
        if run.key not in self._last_step:
            self._last_step[run.key] = service.start(run)
        last = self._last_step[run.key]
        points = [point for point in task.points if point.step > last]
        if points:
            service.log(run, points)
            self._last_step[run.key] = points[-1].step
        if task.ending:
            if task.ending.results:
                service.log(run, [task.ending.results])
            service.end(run, task.ending)
            del self._last_step[run.key]
            if self._on_delivered:
                self._on_delivered(run, task.ending)

    def _failed(self, task: LoggingTask | None, error: Exception) -> None:
        """Say the first failure, and put back what was not logged."""
        with self._changed:
            if self._error is None:
                self._warn(f"{self.name}: {_one_line(error)}; it is tried again, and training continues meanwhile")
            self._error, self._current = error, None
            if task is None:
                return
            self._last_step.pop(task.run.key, None)  # the service is asked what it has
            newer = self._waiting.setdefault(task.run.key, _Waiting(task.run))
            if newer.ending is None or not newer.points:
                newer.points[:0] = task.points
                newer.ending = newer.ending or task.ending

    def _pause(self, seconds: float) -> None:
        """Wait, but not when the logger is being closed."""
        ends = time.monotonic() + seconds
        with self._changed:
            while not self._closing and (left := ends - time.monotonic()) > 0:
                self._changed.wait(left)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
