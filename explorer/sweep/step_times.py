"""The table of step times of a sweep, measured where its trials run, before the first of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import torch

from explorer.errors import InvalidInput
from explorer.frontier import best_by_budget, trials_frame
from explorer.ledger import Ledger, Record
from explorer.search.step_times import measure_again, measure_table, measured_first, steps_of, steps_to_verify, verified_table
from explorer.spec.rates import Rates
from explorer.spec.search_space import SearchSpace
from explorer.spec.step_times import StepTimeTable
from explorer.spec.task_file import Resources
from explorer.sweep.placement import kinds_of_gpu
from explorer.sweep.worker_group import ProcessFailedError, worker_group
from explorer.training.calibration import Calibration, check_setting, setting_of
from explorer.training.device import device_for
from explorer.training.distributed import SINGLE_PROCESS, Processes
from explorer.training.task import Task

T = TypeVar("T")


def sweep_table(
    space: SearchSpace,
    ledger: Ledger,
    given: StepTimeTable | None,
    excluded: Collection[str],
    say: Callable[[str], None],
) -> StepTimeTable:
    """The table by which all trials of a sweep are planned: the one that is kept with it, else a given one, else a new one.

    A table that is kept or given is checked where the trials run. A new one is measured there, and kept.

    Args:
        space: the search space, with its data as it was checked.
        ledger: of the sweep.
        given: a table to use instead of measuring one; `None` measures one.
        excluded: ids of nodes that get no trials.
        say: called with lines for the user.

    Raises:
        InvalidInput: when the hosts have several kinds of GPU, a table is of another device, version or recipe, the sweep has
            another table already, or the step times scatter too much.
    """
    check_one_kind_of_gpu(space.resources)
    kept = ledger.step_times()
    if kept is not None and given is not None and given.steps != kept.steps:
        raise InvalidInput("calibration", ledger.location, "the sweep has a table of step times already; leave this one out")
    if table := kept or given:
        on_worker(space, excluded, _check_table, space, table)
        if kept is None:
            ledger.keep_step_times(table)
        return table
    count = len(measured_first(space))
    say(f"measuring the step times of {count} model sizes and batch sizes, in turn with the full model")
    table = on_worker(space, excluded, measure_table, space)
    ledger.keep_step_times(table)
    say(table_text(table, len(steps_of(space)) - count))
    return table


def check_one_kind_of_gpu(resources: Resources) -> None:
    """Check that trials would run on one kind of GPU.

    Raises:
        InvalidInput: naming the kinds that the hosts have.
    """
    kinds = kinds_of_gpu(resources)
    if len(kinds) > 1 and resources.accelerator is None:
        reason = f"step times are of one kind of GPU, and the cluster has {' and '.join(kinds)}; set one of them"
        raise InvalidInput("resources.accelerator", None, reason)


def table_text(table: StepTimeTable, unmeasured: int) -> str:
    """What was measured, in a line."""
    batch_size = table.setting.task.recipe.batch_size
    full = table.measured(Rates(), batch_size, {}) or 0.0
    line = f"step times on {table.setting.device}: full model {1000 * full:.3g} ms at batch {batch_size}"
    if table.scatter is not None:
        line += f", scatter {table.scatter:.0%}"
    if table.model is None:
        return line
    model = table.model
    others = f"; {unmeasured} more come from a model" if unmeasured > 0 else "; a model of them"
    return f"{line}{others} (error on held-out rows: median {model.held_out_median:.1%}, largest {model.held_out_largest:.1%})"


def verify_winners(
    space: SearchSpace,
    ledger: Ledger,
    table: StepTimeTable,
    records: Sequence[Record],
    excluded: Collection[str],
    say: Callable[[str], None],
) -> None:
    """Measure the steps of the best schedules that were planned with the table's model, and add them to the table."""
    best = set(best_by_budget(trials_frame(records)).id)
    variants = steps_to_verify(space, table, [record for record in records if record.trial.id in best])
    if not variants:
        return
    try:
        measured = on_worker(space, excluded, measure_again, space, table, variants)
    except InvalidInput as error:
        say(f"warning: the steps of {len(best)} winners could not be measured again: {error}")
        return
    ledger.keep_step_times(verified_table(table, measured))
    costs = Calibration.of_table(table)
    errors = []
    for variant, step in zip(variants, measured, strict=True):
        planned = costs.step_cost(variant.of(Task(space.task)), processes=space.resources.process_count)(variant.rates).seconds
        errors.append(abs((planned or 0.0) / (space.resources.process_count * step.seconds) - 1))
    say(f"measured {len(measured)} steps of the winners; the model's error was {max(errors):.1%} at most")


def _check_table(space: SearchSpace, table: StepTimeTable, *, processes: Processes = SINGLE_PROCESS) -> None:
    """Check on a worker that a table is of its device, of its versions, and of the task."""
    torch.set_num_threads(space.resources.cpus)
    device = device_for(space.resources.process_gpus)
    check_setting(table.setting, setting_of(Task(space.task), device, processes.count))


def on_worker(space: SearchSpace, excluded: Collection[str], function: Callable[..., T], *arguments: Any) -> T:
    """Call a function where trials run, in as many processes as a trial has, each with its resources.

    Args:
        space: the search space.
        excluded: ids of nodes that get no trials.
        function: called with `arguments` and `processes`; what the main process returns is returned.
        arguments: passed on.
    """
    with worker_group(space.resources, excluded) as group:
        try:
            return group.run(function, *arguments)
        except ProcessFailedError as error:
            raise error.refused or error from None
