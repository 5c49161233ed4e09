"""The table of step times of a sweep: which steps are measured before its first trial, and the measurement. No ray."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence

import torch

from explorer.errors import InvalidInput
from explorer.ledger import Record
from explorer.search.known_schedules import known_schedules
from explorer.search.proposal import even_positions
from explorer.spec.rates import AXES, Rates
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTime, StepTimeTable
from explorer.training.calibration import MEASURED_SECONDS, STEP_STAGING, Calibration, Variant
from explorer.training.device import device_for
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.task import Task

MAX_MEASURED = 48
"""Steps that are measured at most before the first trial; a model gives the others."""
SECONDS = 1.0
"""How long each of them is measured, the turns of the full model included."""


def steps_of(space: SearchSpace) -> list[Variant]:
    """Every step that a trial of the search may have: rates, batch sizes, and settings of `staging`."""
    search = space.search
    if search.tied:
        rates = list(search.tied_rates())
    else:
        rates = [search.rates_at(dict(zip(AXES, positions, strict=True))) for positions in _positions(space)]
    for known in known_schedules(space):
        rates += [stage.rates for stage in known.schedule.stages]
    rates = list(dict.fromkeys((Rates(), *rates)))
    return [
        Variant(each, size, staging)
        for size, staging, each in itertools.product(dict.fromkeys(search.batch_size), _stagings(space), rates)
    ]


def check_covers(space: SearchSpace, table: StepTimeTable) -> None:
    """Check that a table gives the time of every step that a trial of the search may have.

    Raises:
        InvalidInput: when it has neither their rows nor a model.
    """
    if table.model is not None:
        return
    every = steps_of(space)
    missing = [each for each in every if table.measured(each.rates, each.batch_size, each.staging) is None]
    if missing:
        example = f"{missing[0].rates} at batch {missing[0].batch_size}"
        reason = (
            f"lacks {len(missing)} of the {len(every)} steps that trials may have, such as {example}, and has too few rows for "
            "a model of them: `explorer calibrate --task SPACE` without --schedule measures what the search needs"
        )
        raise InvalidInput("calibration", f"{len(table.steps)} steps", reason)


def measured_first(space: SearchSpace, limit: int = MAX_MEASURED) -> list[Variant]:
    """The steps to measure: all of them up to a limit, else those that tell most, and others drawn at random.

    The full model at every batch size, the lowest rates, each axis reduced alone, rates in even steps, and known schedules.
    """
    every = steps_of(space)
    if len(every) <= limit:
        return every
    search = space.search
    top = {axis: len(getattr(search.rates, axis)) - 1 for axis in AXES}
    telling = [Rates(), search.rates_at(dict.fromkeys(AXES, 0))]
    telling += [search.rates_at(even_positions(search, stage)) for stage in range(search.stages)]
    telling += [search.rates_at({**top, axis: level}) for axis in AXES for level in range(top[axis])]
    telling += [stage.rates for known in known_schedules(space) for stage in known.schedule.stages]
    rank = {rates: number for number, rates in enumerate(dict.fromkeys(telling))}
    ordered = sorted(every, key=lambda variant: rank.get(variant.rates, len(rank)))
    first = [variant for variant in ordered if variant.rates in rank]
    others = [variant for variant in ordered if variant.rates not in rank]
    random.Random(search.seed).shuffle(others)
    full = [variant for variant in first if variant.rates.full]
    return [*full, *(variant for variant in (*first, *others) if variant not in full)][: max(limit, len(full))]


def measure_table(space: SearchSpace, seconds: float = SECONDS, processes: Processes = SINGLE_PROCESS) -> Calibration:
    """Measure the table of a sweep on this device, with the CPUs and GPUs of a trial.

    For the forecast of a sweep that has not chosen yet whether to compile (`recipe.compile: auto`), without compilation.

    Args:
        space: the search space.
        seconds: how long each step is measured.
        processes: the processes that train together; each of them calls this function.

    Raises:
        InvalidInput: when the step times scatter too much, or the device cannot be used.
    """
    torch.set_num_threads(space.resources.cpus)
    device = device_for(space.resources.process_gpus)
    spec = space.task if space.task.recipe.compile != "auto" else space.task.with_compilation(False)
    variants = measured_first(space)
    return Calibration.measure_variants(Task(spec), variants, device, seconds=seconds, processes=processes)


def steps_to_verify(space: SearchSpace, table: StepTimeTable, winners: Iterable[Record]) -> list[Variant]:
    """The steps of winners that were planned with the table's model and have not been measured since."""
    own = space.task.staging
    wanted: dict[object, Variant] = {}
    for record in winners:
        trial = record.trial
        staging = {name: value for name, value in trial.staging.items() if name in STEP_STAGING and value != getattr(own, name)}
        for stage in trial.schedule.stages:
            variant = Variant(stage.rates, trial.batch_size, staging)
            known = (table.measured(*variant.key[:2], staging), table.measured_later(*variant.key[:2], staging))
            if known == (None, None):
                wanted[variant.key] = variant
    return list(wanted.values())


def measure_again(
    space: SearchSpace,
    table: StepTimeTable,
    variants: Sequence[Variant],
    seconds: float = MEASURED_SECONDS,
    processes: Processes = SINGLE_PROCESS,
) -> list[StepTime]:
    """Measure further steps on this device, on the scale of a table: relative to its step of the full model.

    Args:
        space: the search space.
        table: the sweep's step times.
        variants: what to measure.
        seconds: how long each step is measured.
        processes: as for `measure_table`.

    Raises:
        InvalidInput: as `measure_table`.
    """
    torch.set_num_threads(space.resources.cpus)
    own = space.task.recipe.batch_size
    device = device_for(space.resources.process_gpus)
    measured = Calibration.measure_variants(Task(space.task), variants, device, seconds=seconds, processes=processes)
    scale = (table.measured(Rates(), own, {}) or 0.0) / (measured.measured(Rates(), own, {}) or 1.0)
    rows = []
    for variant in variants:
        row = measured.row(variant.rates, variant.batch_size, variant.staging)
        assert row is not None
        rows.append(row.model_copy(update={"seconds": row.seconds * scale, "input_seconds": (row.input_seconds or 0) * scale}))
    return rows


def verified_table(table: StepTimeTable, measured: Sequence[StepTime]) -> StepTimeTable:
    """The table with further rows, which plans of the sweep do not use: those that were made keep their digests."""
    return table.model_copy(update={"verified": (*table.verified, *measured)})


def _positions(space: SearchSpace) -> Iterable[tuple[int, ...]]:
    return itertools.product(*(range(len(getattr(space.search.rates, axis))) for axis in AXES))


def _stagings(space: SearchSpace) -> list[dict[str, str]]:
    """Settings of `staging` that change the time of a step and differ from the task's."""
    own = space.task.staging
    found: list[dict[str, str]] = []
    for combination in space.search.staging.combinations():
        staging = {name: value for name, value in combination.items() if name in STEP_STAGING and value != getattr(own, name)}
        if staging not in found:
            found.append(staging)
    return found
