"""How commands end on Ctrl-C and SIGTERM: one line and the exit codes of shells, 130 and 143."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
T = TypeVar("T")


class Terminated(SystemExit):
    """The process received SIGTERM."""


def ends_on_signals(command: Callable[P, T]) -> Callable[P, T]:
    """A command that raises `KeyboardInterrupt` on Ctrl-C and `Terminated` on SIGTERM, and exits with 130 or 143.

    A command that says more about where it was interrupted raises `KeyboardInterrupt` with a message, which it has printed.
    """

    @functools.wraps(command)
    def ending(*args: P.args, **kwargs: P.kwargs) -> T:
        in_main_thread = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as error:
            if not error.args:
                print("explorer: interrupted", file=sys.stderr)
            raise typer.Exit(128 + signal.SIGINT) from None
        finally:
            if in_main_thread:
                signal.signal(signal.SIGTERM, before)

    return ending


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(128 + number)
