"""The batches of a plan: stages may have batch sizes and augmentations of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch

from explorer.data import Batch, TrainStream
from explorer.errors import InvalidInput
from explorer.plan import Plan
from explorer.segment import Segment
from explorer.spec.recipe import Augmentation
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.task import Task


def plan_batches(
    task: Task, plan: Plan, seed: int, first_step: int, device: torch.device, processes: Processes = SINGLE_PROCESS
) -> Iterator[Batch]:
    """This process's part of the batches of a plan, from a step on.

    Segments with equal batch size, augmentation and image size are read as one section of the stream, so that the processes of
    the data loader start once for each section.

    Args:
        task: the task; it has the data.
        plan: compiled for this task.
        seed: seed of the run.
        first_step: number of the first step, from 0.
        device: where batches are placed.
        processes: the processes that train together.
    """
    end, start = 0, 0
    for (images, augmentation, image_size), segments in groupby(
        plan.segments, key=lambda segment: _reading(segment, task, plan)
    ):
        steps = sum(segment.steps for segment in segments)
        end += steps
        skipped = steps - min(steps, max(0, end - first_step))
        if skipped < steps:
            stream = TrainStream(
                seed=seed,
                first_step=end - steps + skipped,
                start=start + skipped * images,
                steps=steps - skipped,
                batch_size=images,
                augmentation=augmentation,
                image_size=image_size,
                device=device,
                local_slice=processes.local_slice(images),
                order=task.objective.order,
            )
            yield from task.batches_of(stream)
        start += steps * images


def check_batches(task: Task, plan: Plan, processes: Processes = SINGLE_PROCESS) -> None:
    """Check that every process gets a slice of equal size of every batch, which the recipe can process.

    Raises:
        InvalidInput: naming the setting that does not fit the size of a batch.
    """
    for segment in plan.segments:
        size, augmentation, _ = _reading(segment, task, plan)
        if segment.batch_factor == 1:
            check_batch(task, size, augmentation, processes, "recipe.batch_size")
        else:
            field = f"stages.{segment.stage}.batch_factor"
            check_batch(task, size, augmentation, processes, field, segment.batch_factor)


def check_batch(
    task: Task, size: int, augmentation: Augmentation, processes: Processes, field: str, factor: float | None = None
) -> None:
    """Check that every process gets a slice of equal size of a batch, which the recipe can process.

    Args:
        task: the task; it has the data.
        size: number of images in the batch.
        augmentation: of the batch.
        processes: the processes that train together.
        field: the setting that gives the size, for messages.
        factor: the setting's value where it is a factor on the batch size.

    Raises:
        InvalidInput: naming the setting that does not fit.
    """
    recipe = task.spec.recipe
    value = size if factor is None else factor
    if size > task.train_images:
        raise InvalidInput(field, value, f"makes batches of {size} of the {task.train_images} training images")
    if size % processes.count:
        makes = "" if factor is None else f"makes batches of {size} images, which "
        raise InvalidInput(field, value, f"{makes}must be a multiple of the {processes.count} processes")
    images = size // processes.count
    if images % recipe.accumulation:
        reason = f"must divide a process's {images} images equally"
        raise InvalidInput("recipe.accumulation", recipe.accumulation, reason)
    if augmentation.mixes and images % 2:
        raise InvalidInput(field, value, f"a process's {images} images must be even to be mixed")


def _reading(segment: Segment, task: Task, plan: Plan) -> tuple[int, Augmentation, tuple[int, int] | None]:
    """Images per step of a segment, how they are augmented, and the size that they are cropped to if it is not the full one."""
    augmentation = segment.augmentation.applied_to(task.spec.recipe.augmentation)
    return segment.images_per_step(plan.batch_size), augmentation, task.cropped_size(segment.requested)
