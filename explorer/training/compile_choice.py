"""`recipe.compile: auto`: whether compiling a training saves more time than it takes, measured on its device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from explorer.plan import Plan
from explorer.spec.rates import Rates
from explorer.spec.time_spent import duration_text
from explorer.training.compilation import can_compile
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.step_time import WARMUP_STEPS, StepTimer, TimedTraining
from explorer.training.task import Task

MIN_COMPILE_SECONDS = 5.0
"""Seconds that compiling one size takes at least: where even this is more than half of the training, nothing is measured."""
MAX_SAVED = 0.5
"""Largest fraction of a training's time that compiling is expected to save."""


@dataclass(frozen=True)
class CompileChoice:
    """Whether to compile, and why."""

    compile: bool
    reason: str
    """One line."""

    def applied_to(self, task: Task) -> Task:
        """The task with this choice."""
        return task.with_spec(task.spec.with_compilation(self.compile))


def with_compilation_chosen(
    task: Task, plan: Plan, device: str, processes: Processes = SINGLE_PROCESS
) -> tuple[Task, str | None]:
    """A task to train by a plan, where `recipe.compile: auto` has become a choice, and why; see `compile_choice`."""
    if task.spec.recipe.compile != "auto":
        return task, None
    full_steps = plan.flops / task.step_cost(Rates()).flops
    sizes = {(segment.rates, segment.batch_factor) for segment in plan.segments}
    choice = compile_choice(task, lambda step: full_steps * step, len(sizes), device, processes)
    return choice.applied_to(task), choice.reason


def compile_choice(
    task: Task, length: Callable[[float], float], sizes: int, device: str, processes: Processes = SINGLE_PROCESS
) -> CompileChoice:
    """Measure a step of the full model with and without compilation, and what compilation takes.

    Nothing is compiled where the training is too short for it to pay.

    Args:
        task: the task.
        length: seconds that a process trains if nothing is compiled, from the seconds of a step of the full model.
        sizes: number of different sizes that it compiles.
        device: `cuda` or `cpu`.
        processes: the processes that train together; each of them calls this function.

    Raises:
        InvalidInput: when the model cannot process the data.
    """
    plain = task.with_spec(task.spec.with_compilation(False))
    timer = StepTimer(TimedTraining(plain, Rates(), device, processes))
    step = timer.reference.seconds
    training = processes.broadcast(length(step))
    if training * MAX_SAVED <= sizes * MIN_COMPILE_SECONDS:
        short = f"training takes {duration_text(training)}, too short for {sizes} sizes"
        return CompileChoice(False, f"the model is not compiled: {short}")
    if not can_compile(device):
        return CompileChoice(False, "the model is not compiled: this machine cannot")
    started = time.perf_counter()
    compiled = TimedTraining(task.with_spec(task.spec.with_compilation(True)), Rates(), device, processes)
    compiling = time.perf_counter() - started - WARMUP_STEPS * step
    ratio = timer.relative(compiled).seconds
    saved, spent = training * (1 - ratio), sizes * max(0.0, compiling)
    pays = processes.broadcast(saved > spent)
    reason = (
        f"the model is {'' if pays else 'not '}compiled: a compiled step takes {ratio:.2f} of the time, which saves "
        f"{duration_text(max(0.0, saved))} of {duration_text(training)}; compiling {sizes} sizes takes {duration_text(spent)}"
    )
    return CompileChoice(pays, processes.broadcast(reason))
