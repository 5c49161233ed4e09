"""How far a run is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from explorer.plan import Plan


@dataclass(frozen=True)
class SegmentResult:
    """What one segment did."""

    stage: int
    steps: int
    flops: int
    mean_loss: float
    seconds: float


@dataclass
class Progress:
    """State of a run between two steps; what callbacks see and checkpoints keep."""

    plan: Plan
    segments: list[SegmentResult] = field(default_factory=list)
    """Those that are finished."""
    unfinished: SegmentResult | None = None
    """The steps that are done of the next one, in the middle of it."""
    reused: int = 0
    """Leading segments that were taken from a stage store."""

    @property
    def parts(self) -> list[SegmentResult]:
        """Finished segments and the unfinished one."""
        return [*self.segments, self.unfinished] if self.unfinished else self.segments

    @property
    def steps(self) -> int:
        """Steps done."""
        return sum(segment.steps for segment in self.parts)

    @property
    def flops(self) -> int:
        """Cost spent."""
        return sum(segment.flops for segment in self.parts)

    @property
    def executed_flops(self) -> int:
        """Cost of the segments that were not taken from a store."""
        return sum(segment.flops for segment in self.parts[self.reused :])

    @property
    def seconds(self) -> float:
        """Training time, without evaluation and checkpoints."""
        return sum(segment.seconds for segment in self.parts)

    def take(self, done: list[SegmentResult]) -> None:
        """Go on after segments that were finished before, here or in another run with the same steps."""
        self.segments = list(_as_segments_of(self.plan, done))


def _as_segments_of(plan: Plan, done: list[SegmentResult]) -> Iterator[SegmentResult]:
    """Finished steps as results of this plan's segments.

    A state from a store may come from a schedule whose stages have other numbers, or from a budget whose segments have
    other lengths; there, time is divided by cost and the loss is the mean of all.
    """
    steps, seconds = sum(result.steps for result in done), sum(result.seconds for result in done)
    loss = sum(result.mean_loss * result.steps for result in done) / max(1, steps)
    flops = sum(result.flops for result in done)
    for number, segment in enumerate(plan.segments):
        if steps <= 0:
            return
        if number < len(done) and done[number].steps == segment.steps:
            yield replace(done[number], stage=segment.stage)
        else:
            yield SegmentResult(segment.stage, segment.steps, segment.flops, loss, seconds * segment.flops / flops)
        steps -= segment.steps
