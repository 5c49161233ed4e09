"""The loop: executes the segments of a plan and decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from explorer.elastic import ElasticModel
from explorer.errors import InvalidInput
from explorer.plan import Plan, Segment
from explorer.schedule import Rates
from explorer.training.checkpoint import load_checkpoint, random_state, restore_random_state, save_checkpoint
from explorer.training.data import Split
from explorer.training.stage_store import StageStore, prefix_keys
from explorer.training.task import Task

CHECK_EVERY = 50
"""Steps between looks at the loss: each look waits for the device."""


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


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
    """State of a run after a segment; what callbacks see and checkpoints keep."""

    plan: Plan
    segments: list[SegmentResult] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Steps done."""
        return sum(segment.steps for segment in self.segments)

    @property
    def flops(self) -> int:
        """Cost spent."""
        return sum(segment.flops for segment in self.segments)

    reused: int = 0
    """Leading segments that were taken from a stage store."""

    @property
    def executed_flops(self) -> int:
        """Cost of the segments that were not taken from a store."""
        return sum(segment.flops for segment in self.segments[self.reused :])

    @property
    def seconds(self) -> float:
        """Training time, without evaluation and checkpoints."""
        return sum(segment.seconds for segment in self.segments)


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    model: nn.Module
    """The plain timm model at full size, in evaluation mode."""
    validation_accuracy: float
    test_accuracy: float
    """Shares of images classified right, in [0, 1]."""
    steps: int
    flops: int
    """Cost of the whole run: what was counted for each step, summed."""
    executed_flops: int
    """Cost of what was trained here and not taken from a store."""
    seconds: float
    """Training time of the whole run; of segments from a store as measured where they were trained."""
    executed_seconds: float
    """Time until the model was trained: segments trained here, reading and writing states."""
    evaluation_seconds: float
    peak_memory: int | None
    """Bytes of GPU memory that training held at its peak; none on the CPU."""
    segments: tuple[SegmentResult, ...]


def train(
    task: Task,
    plan: Plan,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    store: StageStore | None = None,
    on_segment: Callable[[Progress], None] | None = None,
) -> TrainingResult:
    """Train by the plan and evaluate the finished model once.

    The same task, plan, seed and thread count give the same weights on the CPU, with or without a stop.

    Args:
        task: model, data and recipe.
        plan: the segments to execute, compiled for this task.
        seed: of the initialisation, the data order, augmentation and dropout.
        device: where to train.
        checkpoint: file that is renewed after every segment; where it exists already, the run goes on from it.
        store: of segments that other runs have trained; used to start from and added to.
        on_segment: called after each segment.

    Raises:
        DivergedError: when the loss is NaN or infinite.
        InvalidInput: when the checkpoint is damaged or belongs to another run.
    """
    begun = time.perf_counter()
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    recipe = task.spec.recipe
    torch.manual_seed(seed)
    model = task.build_model().to(device)
    optimizer = task.build_optimizer(model)
    elastic = task.elastic(model, seed)
    progress = Progress(plan)
    identity = {"plan": plan.digest(), "seed": seed, "task": task.spec.model_dump_json()}
    amp = recipe.amp == "bf16" or (recipe.amp == "auto" and device.type == "cuda")
    keys = prefix_keys(task, plan.segments, seed, device, amp) if store else []
    if checkpoint is not None and checkpoint.exists():
        content = load_checkpoint(checkpoint)
        _check_identity(checkpoint, identity, content)
        _restore(content, elastic, optimizer, progress)
    elif store and (found := store.longest(keys)):
        progress.reused, content = found
        _restore(content, elastic, optimizer, progress)

    trained = model
    model.train()
    for number, segment in enumerate(plan.segments):
        if number < len(progress.segments):
            continue
        if elastic.requested != segment.requested:
            elastic.set_rates(segment.requested, optimizer)
            trained = model
        if recipe.compile and trained is model:
            # Sizes are constants within a stage: a compiler that guesses at dynamic ones is slower.
            trained = torch.compile(model, dynamic=False)  # type: ignore[assignment]
        started = time.perf_counter()
        batches = task.data.train_batches(seed, progress.steps, segment.steps, task.batch_size, recipe.augmentation, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            losses = training_steps(task, trained, optimizer, segment, batches)
            loss = _executed(losses, segment, progress.steps)
        seconds = time.perf_counter() - started
        progress.segments.append(SegmentResult(segment.stage, segment.steps, segment.flops, loss, seconds))
        offered = store if store and number < len(keys) and store.wants() else None
        if checkpoint or offered:
            with elastic.at_full_size(optimizer):
                content = _content(model, optimizer, progress)
                if checkpoint:
                    save_checkpoint(checkpoint, {**identity, **content})
                if offered:
                    offered.offer(keys[number], content)
        if on_segment is not None:
            on_segment(progress)

    elastic.set_rates(Rates(), optimizer)
    executed_seconds = time.perf_counter() - begun
    peak_memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    started = time.perf_counter()
    validation, test = accuracy(model, task, "validation", device, amp), accuracy(model, task, "test", device, amp)
    return TrainingResult(
        model=model.eval(),
        validation_accuracy=validation,
        test_accuracy=test,
        steps=progress.steps,
        flops=progress.flops,
        executed_flops=progress.executed_flops,
        seconds=progress.seconds,
        executed_seconds=executed_seconds,
        evaluation_seconds=time.perf_counter() - started,
        peak_memory=peak_memory,
        segments=tuple(progress.segments),
    )


def training_steps(
    task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, segment: Segment, batches: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[Tensor]:
    """Do the optimizer steps of a segment, yielding each loss (a scalar tensor on the device)."""
    recipe = task.spec.recipe
    parameters = list(model.parameters())
    for step, (images_BCHW, labels_B) in enumerate(batches):
        rate = recipe.learning_rate * segment.learning_rate_factor(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        loss = functional.cross_entropy(model(images_BCHW), labels_B, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(parameters, recipe.clip_grad)
        optimizer.step()
        yield loss.detach()


def _executed(losses: Iterator[Tensor], segment: Segment, steps_before: int) -> float:
    """Drive the steps to their end and return the mean loss; stop at a loss that is not finite."""
    total: Tensor | float = 0.0
    for step, loss in enumerate(losses, start=1):
        total = total + loss
        looked_at = step % CHECK_EVERY == 0 or step == segment.steps
        if looked_at and not torch.isfinite(torch.as_tensor(total)):
            raise DivergedError(f"the loss is not finite by step {steps_before + step} (stage {segment.stage + 1})")
    return float(total) / segment.steps


def _content(model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> dict[str, Any]:
    """All that a run needs to go on from here, the model at full size."""
    return {
        "segments": [list(vars(done).values()) for done in progress.segments],
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": random_state(),
    }


def _restore(content: dict[str, Any], elastic: ElasticModel, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    elastic.model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    restore_random_state(content["random"])
    progress.segments.extend(_results(progress.plan, [SegmentResult(*row) for row in content["segments"]]))
    # The rates it stopped at: what grows at the next change is what grew in a run without a stop.
    elastic.set_rates(progress.plan.segments[len(progress.segments) - 1].requested, optimizer, wake=False)


def _results(plan: Plan, done: list[SegmentResult]) -> Iterator[SegmentResult]:
    """Finished steps as results of this plan's segments.

    A state from a store may come from a schedule whose stages have other numbers, or from a budget whose segments have
    other lengths; there, time is divided by cost and the loss is the mean of all.
    """
    steps, seconds = sum(result.steps for result in done), sum(result.seconds for result in done)
    loss = sum(result.mean_loss * result.steps for result in done) / steps
    flops = sum(result.flops for result in done)
    for number, segment in enumerate(plan.segments):
        if steps <= 0:
            return
        if number < len(done) and done[number].steps == segment.steps:
            yield replace(done[number], stage=segment.stage)
        else:
            yield SegmentResult(segment.stage, segment.steps, segment.flops, loss, seconds * segment.flops / flops)
        steps -= segment.steps


def _check_identity(path: Path, identity: dict[str, Any], content: dict[str, Any]) -> None:
    for key, value in identity.items():
        if content.get(key) != value:
            raise InvalidInput(str(path), key, "the checkpoint belongs to a run with another one; remove it to start anew")


@torch.no_grad()
def accuracy(model: nn.Module, task: Task, split: Split, device: torch.device, amp: bool = False) -> float:
    """Share of a split's images that the model classifies right, in [0, 1]."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    seen = 0
    for images_BCHW, labels_B in task.data.evaluation_batches(split, device):
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            logits_BK = model(images_BCHW)
        right += (logits_BK.argmax(dim=1) == labels_B).sum()
        seen += len(labels_B)
    return int(right) / seen
