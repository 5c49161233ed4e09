"""Where a run keeps its state, so that it, or another run that makes the same first steps, resumes from there."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from explorer.training import stopwatch
from explorer.training.checkpoint import identity, keep_checkpoint, own_checkpoint, processes_before, save_checkpoint
from explorer.training.errors import DivergedError
from explorer.training.progress import Evaluation, Progress, SegmentResult
from explorer.training.stage_store import StageStore, interrupted_key, prefix_keys
from explorer.training.task import Task
from explorer.training.training_state import TrainingState
from explorer.training_key import trunk_length


class SavedState:
    """The checkpoint of a run, and its states in a stage store; a run may have one, both, or neither.

    Args:
        task, seed: the run, whose plan is that of its progress.
        state: its model, optimizer and random numbers.
        progress: how far it is; times and errors of writing are noted there.
        device: where it trains.
        checkpoint: file that is rewritten.
        keep_checkpoints: number of earlier checkpoints to keep in a folder beside it.
        store: store of states that other runs can start from.
        begun: when the run began, by `stopwatch.now`.

    Attributes:
        earlier_seconds: time that the run took until it was interrupted.
        was_interrupted: whether it resumed from a state that the store kept when it was interrupted.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        state: TrainingState,
        progress: Progress,
        device: torch.device,
        *,
        checkpoint: Path | None,
        keep_checkpoints: int,
        store: StageStore | None,
        begun: float,
    ) -> None:
        plan = progress.plan
        self._task, self._seed = task, seed
        self._state, self._progress, self._processes = state, progress, state.processes
        self._checkpoint, self._keep_checkpoints, self._store = checkpoint, keep_checkpoints, store
        self._begun, self._last_saved, self._steps_of_checkpoint = begun, begun, 0
        self.earlier_seconds, self.was_interrupted = 0.0, False
        described = seed, device, task.amp(device), self._processes.count
        self._identity = identity(task.spec, task.data.inventory, plan, seed, self._processes.count)
        self._trunk = trunk_length(plan.segments)
        self._keys = prefix_keys(task, plan.segments, *described) if store else []
        self._key_of_interrupted = interrupted_key(task, plan, *described) if store else ""

    @property
    def elapsed_seconds(self) -> float:
        """Time of the run so far, with that before it was interrupted."""
        return self.earlier_seconds + stopwatch.now() - self._begun

    def restore(self) -> None:
        """Resume from the checkpoint, or else from the state of the store with the most steps, if there is one.

        Raises:
            InvalidInput: when the checkpoint is damaged or belongs to another run.
        """
        progress, count = self._progress, self._processes.count
        if self._checkpoint is not None and self._checkpoint.exists():
            task = self._task
            content = own_checkpoint(self._checkpoint, task.spec, task.data.inventory, progress.plan, self._seed, count)
            self._resume_from(content)
            progress.checkpoint_seconds = content.get("checkpoint_seconds", 0.0)
            progress.evaluations = [Evaluation(*row) for row in content.get("evaluations", [])]
            progress.evaluation_seconds = content.get("evaluation_seconds", 0.0)
            progress.earlier_processes = processes_before(content, count)
            self._steps_of_checkpoint = progress.steps
            self.earlier_seconds = content.get("elapsed_seconds", 0.0)
        elif self._store and (stored := self._store.longest_of_all([*self._keys, self._key_of_interrupted], self._processes)):
            progress.reused, content = stored
            self._resume_from(content)
            if progress.reused > len(self._keys):
                self.was_interrupted = True
                progress.reused = content["reused"]
                progress.checkpoint_seconds, self.earlier_seconds = content["checkpoint_seconds"], content["elapsed_seconds"]
        self._last_saved = stopwatch.now()

    def is_due(self, seconds: float) -> bool:
        """Whether the checkpoint was written so long ago, by the main process's clock. Every process has to call this."""
        return self._checkpoint is not None and self._processes.broadcast(stopwatch.now() - self._last_saved >= seconds)

    def save(self) -> None:
        """Write the checkpoint within a segment."""
        check_weights(self._state, self._progress)
        self._write()

    def save_segment(self) -> None:
        """Write the checkpoint after a segment, and the state to the store if others can start from it and it wants it.

        `check_weights` comes first.
        """
        number, keys, store = len(self._progress.segments), self._keys, self._store
        wanted = store is not None and number <= len(keys) and self._processes.broadcast(store.wants(number == self._trunk))
        if self._checkpoint or wanted:
            self._write(keys[number - 1] if wanted else None)

    def save_interrupted(self) -> bool:
        """Write the state of a run that has to stop to checkpoint and store; whether it is kept in all that there are."""
        check_weights(self._state, self._progress)
        written = self._write(self._key_of_interrupted, replace=True)
        return written and (self._store is not None or self._checkpoint is not None)

    def forget_interrupted(self) -> None:
        """Remove what `save_interrupted` wrote to the store: the run is finished."""
        if self._store and self.was_interrupted and self._processes.is_main:
            self._store.remove(self._key_of_interrupted)

    def _write(self, key: str | None = None, *, replace: bool = False) -> bool:
        """Write the checkpoint if there is one, and the state to the store under a key; whether all was written."""
        progress, processes = self._progress, self._processes
        written, started = True, stopwatch.now()
        with self._state.content() as trained:
            content = {
                "segments": [list(astuple(result)) for result in progress.segments],
                "unfinished": list(astuple(progress.unfinished)) if progress.unfinished else None,
                "checkpoint_seconds": progress.checkpoint_seconds,
                "elapsed_seconds": self.elapsed_seconds,
                "reused": progress.reused,
                **trained,
            }
            if self._checkpoint and processes.is_main:
                written = self._write_checkpoint(self._checkpoint, content)
            if self._store and key and processes.is_main:
                written = self._store.offer(key, content, replace=replace) and written
        self._last_saved = stopwatch.now()
        progress.checkpoint_seconds += self._last_saved - started
        return written

    def _write_checkpoint(self, path: Path, content: dict[str, Any]) -> bool:
        """Whether it was written; otherwise the last one stays, and `Progress.checkpoint_error` says why."""
        progress = self._progress
        in_training = {
            "evaluations": [list(astuple(each)) for each in progress.evaluations],
            "evaluation_seconds": progress.evaluation_seconds,
            "earlier_processes": list(progress.earlier_processes),
        }
        try:
            if self._keep_checkpoints and self._steps_of_checkpoint:
                keep_checkpoint(path, self._steps_of_checkpoint, self._keep_checkpoints)
            save_checkpoint(path, {**self._identity, **content, **in_training})
        except OSError as error:
            progress.checkpoint_error = error.strerror or str(error)
            return False
        progress.checkpoint_error, self._steps_of_checkpoint = "", progress.steps
        return True

    def _resume_from(self, content: dict[str, Any]) -> None:
        progress = self._progress
        progress.resume_after([SegmentResult(*row) for row in content["segments"]])
        if content["unfinished"]:
            progress.unfinished = SegmentResult(*content["unfinished"])
        current = len(progress.segments) - (0 if progress.unfinished else 1)
        self._state.restore(content, progress.plan.segments[current])


def check_weights(state: TrainingState, progress: Progress) -> None:
    """Check that all weights and numbers of the optimizer's state are finite. Every process has to call this.

    A finite loss may have led to others: the next loss would show it, after the checkpoint.

    Raises:
        DivergedError: when one of them is not.
    """
    if not all(state.processes.all_gather(state.is_finite)):
        raise DivergedError(f"weights are not finite after step {progress.steps} (stage {progress.parts[-1].stage + 1})")
