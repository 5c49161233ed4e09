"""Ctrl-C and SIGTERM while a training runs: its checkpoint is written first. SIGTERM is the notice of a spot node."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from explorer.training.distributed import Processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """The first signal is noted, and raised where the training has written its checkpoint; a second one is raised at once."""

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note signals within the context. Outside of the main thread, which gets all signals, this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # A shell that starts a command in the background lets it ignore SIGINT; this stays so.
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed from Python

    def came(self, processes: Processes) -> bool:
        """Whether one of the processes got a signal. Every process has to call this."""
        self._noted = next((number for number in processes.all_gather(self._noted) if number is not None), None)
        return self._noted is not None

    def raise_again(self) -> None:
        """Do what the signal does without `noted`; a default action becomes `SystemExit`."""
        assert self._noted is not None
        handler = self._before.get(self._noted)
        if callable(handler):
            handler(self._noted, None)
        raise SystemExit(128 + self._noted)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._noted is not None:
            self.raise_again()
        self._noted = number
