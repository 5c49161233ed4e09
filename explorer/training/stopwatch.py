"""Measures the time of training steps and of the input for them, without waiting for the device in every step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")
Mark = float | torch.cuda.Event
"""A moment: by the clock, or on a GPU between two of the tasks that it was given."""


@dataclass(frozen=True)
class Lap:
    """Some steps, and the time that they took."""

    steps: int = 0
    seconds: float = 0.0
    """With input."""
    input_seconds: float = 0.0
    """The part of it in which the device waited for batches, or copied and augmented them."""

    def __add__(self, other: Lap) -> Lap:
        return Lap(self.steps + other.steps, self.seconds + other.seconds, self.input_seconds + other.input_seconds)


def now() -> float:
    """The clock of all measurements of training, in seconds."""
    return time.perf_counter()


class Stopwatch:
    """Measures the steps that consume some batches.

    On a GPU, where a step is only enqueued while earlier ones are computed, input is measured by events on the device: between
    the end of a step and the start of the next one. Reading a batch while the device is busy takes no time of it.

    Args:
        device: the device that trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inputs: list[tuple[Mark, Mark]] = []
        self._started = now()

    def reading(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches, each of which is one step."""
        while True:
            asked = self._mark()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._inputs.append((asked, self._mark()))
            yield batch

    def start(self) -> None:
        """Begin a lap."""
        self._inputs.clear()
        self._started = now()

    def lap(self) -> Lap:
        """The steps since `start`. The device must have finished them, as it has when their losses were read."""
        seconds = now() - self._started
        input_seconds = sum(_between(*marks) for marks in self._inputs)
        return Lap(len(self._inputs), seconds, min(seconds, input_seconds))

    def wait(self) -> None:
        """Wait until the device has finished what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _mark(self) -> Mark:
        if self._device.type != "cuda":
            return now()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def _between(begin: Mark, end: Mark) -> float:
    """Seconds between two marks of one kind."""
    if isinstance(begin, torch.cuda.Event):
        return float(begin.elapsed_time(end)) / 1000  # type: ignore[arg-type]
    return end - begin  # type: ignore[operator]


@dataclass(frozen=True)
class SteadyTime:
    """The time of steps, and of their start apart from them."""

    steps: Lap
    """All steps, as if the first ones took no longer than the others."""
    compilation_seconds: float = 0.0
    """What the first steps' computation took longer: compilation, choice of kernels, first allocations."""
    input_start_seconds: float = 0.0
    """What the first batches took longer: starting to read them."""


class Laps:
    """The laps of a segment."""

    def __init__(self) -> None:
        self._first: list[Lap] = []
        self._others = Lap()

    def add(self, lap: Lap, is_first: bool) -> None:
        """Add a lap.

        Args:
            lap: some steps.
            is_first: whether this is the first step after a stage change, or after the model was wrapped anew.
        """
        if is_first:
            self._first.append(lap)
        else:
            self._others += lap

    def steady_time(self, planned_seconds: float | None = None) -> SteadyTime:
        """Separate what steps at constant rates take from what their start takes.

        Args:
            planned_seconds: planned seconds of a step, which stand in for other steps as long as there are none; `None` if
                steps were not measured. What the start takes is then not told apart.
        """
        first, others = self._first, self._others
        if others.steps:
            step = Lap(1, others.seconds / others.steps, others.input_seconds / others.steps)
        elif planned_seconds is not None and first:
            step = Lap(1, planned_seconds, min(planned_seconds, *(lap.input_seconds for lap in first)))
        else:
            return SteadyTime(sum(first, others))
        compute = sum(max(0.0, lap.seconds - lap.input_seconds - step.seconds + step.input_seconds) for lap in first)
        reading = sum(max(0.0, lap.input_seconds - step.input_seconds) for lap in first)
        return SteadyTime(sum(first, others) + Lap(0, -compute - reading, -reading), compute, reading)
