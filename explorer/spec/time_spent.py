"""Where the time of a training run went, as trial records and production results keep it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from explorer.spec.base import Frozen

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number of seconds, not negative."""


class TimeSpent(Frozen):
    """Seconds of a training run on its device, or on each of its devices, by what they were spent on.

    A budget in time pays for `training`: the steps, and the input for them. All else comes on top of it.
    """

    steps: Seconds
    """Optimizer steps: forward, backward, optimizer."""
    input: Seconds
    """Waiting for training images, and copying and augmenting them on the device."""
    compilation: Seconds = 0.0
    """What the first steps after stage changes took longer than later ones: compilation, choice of kernels, allocations."""
    stage_changes: Seconds = 0.0
    """Resizing the model, and starting to read batches of another size or augmentation."""
    checkpoints: Seconds = 0.0
    """Writing checkpoints, and states for other trials."""
    evaluation: Seconds = 0.0
    """Evaluation of the finished model, and of models during training."""
    other: Seconds = 0.0
    """Building the model, reading a checkpoint, and metric loggers."""

    @property
    def training(self) -> float:
        """Seconds that a budget in time pays for."""
        return self.steps + self.input

    @property
    def on_top(self) -> dict[str, float]:
        """Seconds that come on top of a budget in time, by what they were spent on."""
        return {
            "compilation": self.compilation,
            "stage changes": self.stage_changes,
            "checkpoints": self.checkpoints,
            "evaluation": self.evaluation,
            "other": self.other,
        }

    @property
    def total(self) -> float:
        """All seconds."""
        return self.training + sum(self.on_top.values())


class StageTime(Frozen):
    """Planned and realised time of the finished steps of one stage, in seconds on each device."""

    stage: int
    """Number of the stage, from 0."""
    steps: int
    seconds: Seconds
    """Realised time of the steps, with the input for them."""
    input_seconds: Seconds = 0.0
    """The part of it that was spent on input."""
    planned_seconds: Seconds | None = None
    """Planned time of the same steps; `None` if not calibrated."""
    planned_input_seconds: Seconds | None = None
    """The part of it that was planned for input; `None` if it was not measured."""


def duration_text(seconds: float) -> str:
    """A number of seconds as text: `12.3 s`, or `4.5 min`."""
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
