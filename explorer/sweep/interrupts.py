"""Ctrl-C and SIGTERM while Tune runs: the sweep ends in an orderly way and says how to resume; a second one ends it at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TUNE_KEEPS_SIGINT = "TUNE_DISABLE_SIGINT_HANDLER"
"""Environment variable that leaves SIGINT to this module. Tune then still ends in an orderly way on SIGUSR1."""
RETRY_SECONDS = 0.2
"""Time after which a signal that came before Tune listened is passed on again."""


def interrupted_line(done: int, planned: int) -> str:
    """What to say about a sweep that was interrupted."""
    return f"interrupted after {done} of {planned} trials; the same command resumes"


@contextmanager
def interruptible(message: Callable[[], str], say: Callable[[str], None]) -> Iterator[None]:
    """Run Tune in this block: the first Ctrl-C or SIGTERM lets it stop its trials and end, the second one is raised at once.

    Tune's own advice on how to resume is not shown. Nothing is changed outside the main thread, which gets no signals.

    Args:
        message: the line to say about an interrupted sweep.
        say: says it.

    Raises:
        KeyboardInterrupt: after Ctrl-C, with the message.
        SystemExit: after SIGTERM, with code 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    again: threading.Timer | None = None

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1 or not hasattr(signal, "SIGUSR1"):
            raise _exception(received[0], message())
        logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
        signal.raise_signal(signal.SIGUSR1)

    def before_tune_listens(_number: int, _frame: FrameType | None) -> None:
        nonlocal again  # an exception here could be raised anywhere in Ray
        again = threading.Timer(RETRY_SECONDS, os.kill, [os.getpid(), signal.SIGUSR1])
        again.start()

    # A shell that starts a command in the background lets it ignore SIGINT; this stays so.
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    handlers: dict[signal.Signals, Any] = dict.fromkeys(heeded, on_signal)
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = before_tune_listens  # Tune replaces it
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    level, environment = logging.getLogger("ray.tune.tune").level, os.environ.get(TUNE_KEEPS_SIGINT)
    os.environ[TUNE_KEEPS_SIGINT] = "1"
    try:
        yield
        if received:
            raise _exception(received[0], message())
    except (KeyboardInterrupt, SystemExit):
        say(message())
        raise
    finally:
        if again:
            again.cancel()
            again.join()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed from Python
        logging.getLogger("ray.tune.tune").setLevel(level)
        if environment is None:
            os.environ.pop(TUNE_KEEPS_SIGINT, None)
        else:
            os.environ[TUNE_KEEPS_SIGINT] = environment


@contextmanager
def interrupts_deferred(message: str = "interrupted", say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM until the end of this block, in which Ray starts; a second one is raised at once.

    An exception that a signal raises within `ray.init` may be ignored there, and may leave a lock of the logging module that
    is never released. Handlers that Ray installs are replaced by those from before, whose exit codes are the usual ones.

    Args:
        message: the line to say if there was a signal.
        say: says it.

    Raises:
        KeyboardInterrupt: after Ctrl-C, at the end of the block.
        SystemExit: after SIGTERM, with code 143.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise _exception(received[0], message)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            # Ray's handler of SIGTERM stops its processes, which the system's default would not.
            if callable(handler) or signal.getsignal(number) == on_signal:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if received:
        if say:
            say(message)
        raise _exception(received[0], message)


def _exception(number: int, message: str) -> KeyboardInterrupt | SystemExit:
    return KeyboardInterrupt(message) if number == signal.SIGINT else SystemExit(128 + number)
