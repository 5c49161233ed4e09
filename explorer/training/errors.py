"""Why a training failed, or ended before its last step."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """Training failed; the message is one line that says why."""


class DivergedError(TrainingError):
    """The loss, a weight or a number of the optimizer's state is no longer finite."""


class PreemptedError(TrainingError):
    """Training was asked to stop, and its state is kept for another process."""
