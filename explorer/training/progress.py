"""How far a training run is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from explorer.plan import Plan


@dataclass(frozen=True)
class SegmentResult:
    """What was done of one segment."""

    stage: int
    steps: int
    flops: int
    mean_loss: float
    seconds: float


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
        """Training time, without evaluation and checkpoints."""
        return sum(part.seconds for part in self.parts)

    def resume_after(self, finished: Sequence[SegmentResult]) -> None:
        """Continue after segments that were finished earlier, in this run or in another one that made the same steps."""
        self.segments = list(_as_segments_of(self.plan, finished))


def _as_segments_of(plan: Plan, finished: Sequence[SegmentResult]) -> Iterator[SegmentResult]:
    """Finished steps as results of this plan's segments.

    A state from a store may come from a schedule whose stages have other numbers, or from a budget whose segments have other
    lengths. In the latter case time is divided in proportion to cost, and every segment gets the mean loss of all steps.
    """
    steps, seconds = sum(result.steps for result in finished), sum(result.seconds for result in finished)
    mean_loss = sum(result.mean_loss * result.steps for result in finished) / max(1, steps)
    flops = sum(result.flops for result in finished)
    for number, segment in enumerate(plan.segments):
        if steps <= 0:
            return
        if number < len(finished) and finished[number].steps == segment.steps:
            yield replace(finished[number], stage=segment.stage)
        else:
            yield SegmentResult(segment.stage, segment.steps, segment.flops, mean_loss, seconds * segment.flops / flops)
        steps -= segment.steps
