"""How far a training run is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from explorer.plan import Plan
from explorer.segment import Segment
from explorer.spec.time_spent import StageTime, TimeSpent

SECONDS = ("seconds", "input_seconds", "compilation_seconds", "stage_change_seconds")
"""Fields of a segment's result that are divided where segments have other lengths."""


@dataclass(frozen=True)
class SegmentResult:
    """What was done of one segment."""

    stage: int
    steps: int
    flops: int
    mean_loss: float
    seconds: float
    """Time of the steps, with the input for them: what a budget in time pays for."""
    input_seconds: float = 0.0
    """The part of `seconds` in which the device waited for images, or copied and augmented them."""
    compilation_seconds: float = 0.0
    """What the first steps took longer than the others; not in `seconds`."""
    stage_change_seconds: float = 0.0
    """Resizing the model, and starting to read batches; not in `seconds`."""

    @property
    def all_seconds(self) -> float:
        """All time that was spent on the segment, without checkpoints."""
        return self.seconds + self.compilation_seconds + self.stage_change_seconds


@dataclass(frozen=True)
class Evaluation:
    """What was measured on the validation images during training."""

    steps: int
    """Number of steps after which it was measured."""
    stage: int
    """The stage whose model it was: before the last one, a smaller model than the finished one."""
    values: tuple[float, ...]
    """The objective's metric, and the second one if there is one. NaN where it was no number."""


@dataclass
class Progress:
    """The progress of a run between two steps: what callbacks receive and checkpoints keep."""

    plan: Plan
    segments: list[SegmentResult] = field(default_factory=list)
    """Finished segments."""
    unfinished: SegmentResult | None = None
    """The finished steps of the segment that follows them, in the middle of a segment."""
    reused: int = 0
    """Number of leading segments that were taken from a stage store."""
    processes: int = 1
    """Number of processes that train together, each on a device of its own."""
    checkpoint_seconds: float = 0.0
    """Time of writing checkpoints and states so far."""
    checkpoint_error: str = ""
    """Why the last checkpoint could not be written; empty if it was written."""
    evaluations: list[Evaluation] = field(default_factory=list)
    """Evaluations during training."""
    evaluation_seconds: float = 0.0
    """Time of these evaluations."""
    earlier_processes: tuple[int, ...] = ()
    """Numbers of processes that trained the run before it was resumed with another one."""

    @property
    def parts(self) -> list[SegmentResult]:
        """Finished segments, and the unfinished one."""
        return [*self.segments, self.unfinished] if self.unfinished else self.segments

    @property
    def steps(self) -> int:
        """Finished steps."""
        return sum(part.steps for part in self.parts)

    @property
    def flops(self) -> int:
        """FLOPs of the finished steps."""
        return sum(part.flops for part in self.parts)

    @property
    def executed_flops(self) -> int:
        """FLOPs of the finished steps without those taken from a store."""
        return sum(part.flops for part in self.parts[self.reused :])

    @property
    def seconds(self) -> float:
        """Time of the finished steps on each device, with the input for them, without all that comes on top."""
        return sum(part.seconds for part in self.parts)

    @property
    def executed_seconds(self) -> float:
        """All time of segments, checkpoints and evaluations that this run spent itself, and did not take from a store."""
        on_top = self.checkpoint_seconds + self.evaluation_seconds
        return sum(part.all_seconds for part in self.parts[self.reused :]) + on_top

    @property
    def planned_seconds(self) -> float | None:
        """Planned time of the finished steps on each device; `None` if the plan is not calibrated."""
        planned = [stage.planned_seconds for stage in self.stage_times()]
        measured = [seconds for seconds in planned if seconds is not None]
        return sum(measured) if len(measured) == len(planned) else None

    def stage_times(self) -> list[StageTime]:
        """Planned and realised time of the finished steps, by stage."""
        pairs = zip(self.plan.segments, self.parts, strict=False)
        return [
            StageTime(
                stage=stage,
                steps=sum(part.steps for _, part in group),
                seconds=sum(part.seconds for _, part in group),
                input_seconds=sum(part.input_seconds for _, part in group),
                planned_seconds=self._planned(group, "step_seconds"),
                planned_input_seconds=self._planned(group, "step_input_seconds"),
            )
            for stage, group in ((stage, list(group)) for stage, group in groupby(pairs, key=lambda pair: pair[0].stage))
        ]

    def _planned(self, group: Sequence[tuple[Segment, SegmentResult]], name: str) -> float | None:
        """Planned seconds on each device for finished steps of some segments, which are in device-seconds per step."""
        each = [(getattr(segment, name), part.steps) for segment, part in group]
        if any(seconds is None for seconds, _ in each):
            return None
        return sum(seconds * steps for seconds, steps in each) / self.processes

    def time_spent(self, evaluation: float = 0.0, elapsed: float = 0.0) -> TimeSpent:
        """Where the time went. For segments from a store, the time that was measured when they were trained.

        Args:
            evaluation: seconds of the evaluation of the finished model.
            elapsed: seconds that the run took until the model was trained, of which all that is not told apart is `other`.
        """
        parts = self.parts
        return TimeSpent(
            steps=max(0.0, self.seconds - sum(part.input_seconds for part in parts)),
            input=sum(part.input_seconds for part in parts),
            compilation=sum(part.compilation_seconds for part in parts),
            stage_changes=sum(part.stage_change_seconds for part in parts),
            checkpoints=self.checkpoint_seconds,
            evaluation=evaluation + self.evaluation_seconds,
            other=max(0.0, elapsed - self.executed_seconds),
        )

    def resume_after(self, finished: Sequence[SegmentResult]) -> None:
        """Continue after segments that were finished earlier, in this run or in another one that made the same steps."""
        self.segments = list(_as_segments_of(self.plan, finished))


def _as_segments_of(plan: Plan, finished: Sequence[SegmentResult]) -> Iterator[SegmentResult]:
    """Finished steps as results of this plan's segments.

    A state from a store may come from a schedule whose stages have other numbers, or from a budget whose segments have other
    lengths. In the latter case time is divided in proportion to cost, and every segment gets the mean loss of all steps.
    """
    steps, flops = sum(result.steps for result in finished), sum(result.flops for result in finished)
    mean_loss = sum(result.mean_loss * result.steps for result in finished) / max(1, steps)
    seconds = [sum(getattr(result, name) for result in finished) for name in SECONDS]
    for number, segment in enumerate(plan.segments):
        if steps <= 0:
            return
        if number < len(finished) and finished[number].steps == segment.steps:
            yield replace(finished[number], stage=segment.stage)
        else:
            part = segment.flops / flops
            yield SegmentResult(segment.stage, segment.steps, segment.flops, mean_loss, *(each * part for each in seconds))
        steps -= segment.steps
