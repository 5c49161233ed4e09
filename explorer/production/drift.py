"""Planned against realised time: how far a run is from its plan, and what explains most of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from explorer.spec.time_spent import StageTime
from explorer.training.progress import Progress

MAX_DRIFT = 0.05
"""Difference from the plan, as a fraction of the planned time, above which a run says so."""
MIN_PLANNED_SHARE = 0.02
"""Share of the planned time from which on a difference is looked at: before, few steps decide."""
INPUT = "input"


@dataclass(frozen=True)
class TimeDifference:
    """Realised minus planned time of the same steps, in seconds on each device."""

    planned: float
    realised: float
    causes: Mapping[str, float]
    """Parts of the difference: input, and the steps of each stage. They sum to it."""

    @property
    def relative(self) -> float:
        """The difference as a fraction of the planned time."""
        return self.realised / self.planned - 1

    @property
    def main_cause(self) -> str:
        """The cause that explains most of the difference."""
        sign = 1 if self.realised > self.planned else -1
        return max(self.causes, key=lambda cause: sign * self.causes[cause])


def time_difference(stages: Sequence[StageTime]) -> TimeDifference | None:
    """Compare realised with planned time.

    Args:
        stages: the times of each stage. Where the plan has no time for input, it is part of that of the steps.

    Returns:
        `None` if the plan is not calibrated.
    """
    planned = [stage.planned_seconds for stage in stages if stage.planned_seconds is not None]
    if not planned or len(planned) < len(stages):
        return None
    causes: dict[str, float] = {}
    for stage, planned_seconds in zip(stages, planned, strict=True):
        difference = stage.seconds - planned_seconds
        name = f"steps of stage {stage.stage + 1}"
        if stage.planned_input_seconds is None:
            name = f"steps and input of stage {stage.stage + 1}"
        else:
            of_input = stage.input_seconds - stage.planned_input_seconds
            causes[INPUT] = causes.get(INPUT, 0.0) + of_input
            difference -= of_input
        causes[name] = causes.get(name, 0.0) + difference
    return TimeDifference(sum(planned), sum(stage.seconds for stage in stages), causes)


class DriftWatch:
    """Says once in each direction that a run takes more, or less, time than planned by more than `MAX_DRIFT`."""

    def __init__(self) -> None:
        self._told: set[bool] = set()

    def check(self, progress: Progress) -> str | None:
        """A line to print, if there is something new to say.

        Args:
            progress: the progress of the run.
        """
        whole = progress.plan.seconds
        difference = time_difference(progress.stage_times())
        if whole is None or difference is None:
            return None
        whole /= progress.processes
        longer = difference.relative > 0
        if difference.planned < MIN_PLANNED_SHARE * whole or abs(difference.relative) <= MAX_DRIFT or longer in self._told:
            return None
        self._told.add(longer)
        cause = difference.main_cause
        expected = whole * (1 + difference.relative)
        return (
            f"training takes {abs(difference.relative):.1%} {'more' if longer else 'less'} time than planned so far: "
            f"{seconds_text(difference.realised)} instead of {seconds_text(difference.planned)}, mostly {cause} "
            f"({signed_seconds(difference.causes[cause])}); at this rate it ends at {seconds_text(expected)} instead of "
            f"{seconds_text(whole)}"
        )


def seconds_text(seconds: float) -> str:
    """Seconds with three digits or more: `0.12 s`, `12.3 s`, `4,321 s`."""
    digits = 2 if seconds < 10 else 1 if seconds < 100 else 0
    return f"{seconds:,.{digits}f} s"


def signed_seconds(seconds: float) -> str:
    """Seconds with their sign: `+12.3 s`, `-0.12 s`."""
    return f"{'-' if seconds < 0 else '+'}{seconds_text(abs(seconds))}"
