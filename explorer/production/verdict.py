"""Compares a finished run with its plan, and with what the sweep measured for the schedule."""

from __future__ import annotations

import shlex
from itertools import zip_longest

from explorer.differences import first_difference
from explorer.plan import Plan
from explorer.production.drift import seconds_text, signed_seconds, time_difference
from explorer.production.result import RunResult
from explorer.spec.budget import CURRENCY_NAMES, Budget
from explorer.spec.inventory import Inventory
from explorer.spec.metric import ACCURACY, MetricSpec
from explorer.spec.provenance import PredictedAccuracy, Provenance
from explorer.spec.schedule import Schedule
from explorer.spec.task import TaskSpec
from explorer.training.checkpoint import MACHINE_FIELDS


def other_task(schedule: Schedule, task: TaskSpec, data: Inventory) -> str | None:
    """Why what was measured of a schedule is no prediction for a task.

    Args:
        schedule: the schedule.
        task: the task.
        data: what its data set contains; in which folder it is makes no difference.

    Returns:
        A clause that names the first field that differs with both values (`recipe.epochs is 300, was 40`), what differs of the
        data, or says that the schedule was edited; `None` if the schedule was measured on this task.
    """
    provenance = schedule.provenance
    if provenance is None:
        return "the schedule's file contains no measurement"
    if schedule.was_edited:
        return "the schedule's file was edited after it was measured"
    if provenance.task is None:
        return "the schedule's file does not say on which task it was measured"
    measured = provenance.task.measured_as(provenance)
    ignored: tuple[str, ...] = (*MACHINE_FIELDS, "objective.teacher.sha256")  # known where a task is opened
    if measured.data.unreadable == "skip" and {*measured.data.skip_files} <= {*task.data.skip_files}:
        ignored = (*ignored, "data.skip_files")  # the check of the images has added those that the sweep left out, too
    difference = first_difference(measured.model_dump(mode="json"), task.model_dump(mode="json"), ignored)
    if difference is not None:
        return f"the schedule was measured on another task ({difference.field} is {difference.after}, was {difference.before})"
    if (other := _other_data(provenance, task, data)) is not None:
        return f"the schedule was measured on other data ({other})"
    return None


def _other_data(provenance: Provenance, task: TaskSpec, data: Inventory) -> str | None:
    """What differs between the data of the sweep, as far as it is known, and that of a task."""
    if provenance.model_input is not None and (before := provenance.model_input.class_names) != data.class_names:
        for number, (was, name) in enumerate(zip_longest(before, data.class_names, fillvalue="missing")):
            if was != name:
                return f"class {number} is {name}, was {was}"
    if task.data.unreadable == "skip" and not data.checked:
        return None  # the sweep listed the images without those that cannot be read, which are not known here
    for role, listing in provenance.listings.items():
        now = data.splits[role].listing
        if listing and now and listing != now:
            return f"{role}: names, sizes or labels of the images differ"
    return None


def transfer_warning(schedule: Schedule, task: TaskSpec, data: Inventory) -> str | None:
    """A warning to print before a measured schedule is executed on another task, else `None`; see docs/howto/proxy.md."""
    reason = other_task(schedule, task, data)
    if schedule.provenance is None or reason is None:
        return None
    settings = f"learning rate {task.recipe.learning_rate:.4g} and batch size {task.recipe.batch_size}"
    measured = schedule.provenance.metric
    return f"{reason}: the {measured.label} in its file is not predicted here, and {settings} are also taken from there"


def verdict(schedule: Schedule, task: TaskSpec, data: Inventory, plan: Plan, result: RunResult) -> list[str]:
    """Lines that compare realised with planned cost, and the realised with the predicted metric.

    Args:
        schedule: the schedule that was executed, with its provenance.
        task: the task on which it was executed.
        data: what its data set contains.
        plan: the plan that was executed.
        result: the result of the run.
    """
    in_flops = "" if plan.currency == "flops" else " in FLOPs"
    lines = [
        f"cost: {result.cost:.3%} of full training{in_flops}, planned {plan.flops / plan.full_flops:.3%}; "
        f"{result.steps:,} steps in {result.train_seconds:.1f} s",
        *time_lines(plan, result),
        *_processes_lines(result),
        ", ".join(f"{split} {metric.label} {metric.text(value, 3)}" for metric, split, value in _measured(result)),
    ]
    provenance, reason = schedule.provenance, other_task(schedule, task, data)
    if provenance is None or reason:
        return [*lines, f"no prediction: {reason}"]
    predicted = provenance.prediction
    if predicted is not None and _is_of_plan(predicted.budget, provenance, plan):
        inside = "inside" if predicted.run_interval[0] <= result.test <= predicted.run_interval[1] else "OUTSIDE"
        return [*lines, f"{predicted_line(predicted)}: {inside}"]
    if not _is_of_plan(provenance.budget, provenance, plan):
        return [*lines, f"no prediction: {_other_budget(provenance, plan)}"]
    if provenance.expected_test and provenance.mean_test is not None:
        low, high = provenance.expected_test
        inside = "inside" if low <= result.test <= high else "OUTSIDE"
        lines.append(f"predicted {_expected(provenance, (low, high))}: {inside}")
    if provenance.seed == result.seed:
        same = provenance.validation == result.validation
        lines.append(
            f"the sweep measured validation {provenance.metric.label} {provenance.metric.text(provenance.validation, 3)} with "
            f"seed {provenance.seed}: "
            + ("reproduced exactly" if same else "NOT reproduced (another number of processes, machine, device or version?)")
        )
    return lines


def _processes_lines(result: RunResult) -> list[str]:
    """That the number of processes changed, if it did."""
    if not result.earlier_processes:
        return []
    counts = ", then ".join(map(str, (*result.earlier_processes, result.processes)))
    return [f"trained by {counts} processes: random numbers are not those of a run with one number of them"]


def _measured(result: RunResult) -> list[tuple[MetricSpec, str, float]]:
    """What was measured in a run: metric, split and value."""
    both = [(result.metric, "validation", result.validation), (result.metric, "test", result.test)]
    if (also := result.also) is not None:
        both += [(also.metric, "validation", also.validation), (also.metric, "test", also.test)]
    return both


def _expected(provenance: Provenance, interval: tuple[float, float]) -> str:
    """What to expect of a single run: `test accuracy 95.00%, for a single run 93.00% to 97.00% (95 %, 3 seeds)`."""
    metric, (low, high) = provenance.metric, (provenance.metric.text(bound, 1) for bound in interval)
    mean = metric.text(provenance.mean_test or 0.0, 1)
    return f"test {metric.label} {mean}, for a single run {low} to {high} (95 %, {provenance.seeds} seeds)"


def predicted_line(predicted: PredictedAccuracy) -> str:
    """What is predicted for a single run at a budget that the sweep did not train."""
    low, high = predicted.run_interval
    return (
        f"predicted test accuracy {predicted.test:.2%}, for a single run {low:.2%} to {high:.2%} (95 %; the sweep did "
        f"not train {predicted.budget}: by laws of error against cost through {predicted.trained_budgets} trained budgets)"
    )


def expectation(schedule: Schedule, task: TaskSpec, data: Inventory, plan: Plan) -> str | None:
    """What to expect of a schedule at the budget of a plan, as a line; `None` if nothing was measured on this task.

    Args:
        schedule: the schedule, with its provenance.
        task: the task on which it is to be executed.
        data: what its data set contains.
        plan: the plan.
    """
    provenance = schedule.provenance
    if provenance is None or other_task(schedule, task, data):
        return None
    if provenance.prediction is not None and _is_of_plan(provenance.prediction.budget, provenance, plan):
        return predicted_line(provenance.prediction)
    if not _is_of_plan(provenance.budget, provenance, plan):
        return f"{provenance.metric.label} not predicted: {_other_budget(provenance, plan)}"
    if provenance.expected_test is None or provenance.mean_test is None:
        return None
    return f"measured {_expected(provenance, provenance.expected_test)}"


def _is_of_plan(budget: Budget, provenance: Provenance, plan: Plan) -> bool:
    """Whether a budget of the sweep is that of a plan, which has time in place of money."""
    if budget.unit == "money" and provenance.price is None:
        return False  # the file is of an earlier release
    return budget.priced(provenance.price).is_same(plan.budget)


def _other_budget(provenance: Provenance, plan: Plan) -> str:
    """That a schedule file is for another budget, and which command makes one with a prediction."""
    predicted = f", and predicts {provenance.prediction.budget}" if provenance.prediction else ""
    if provenance.metric != ACCURACY:
        return f"the sweep measured this schedule at {provenance.budget}, not at {plan.budget}, and accuracy alone is predicted"
    measured = f"the sweep measured this schedule at {provenance.budget}{predicted}, not at {plan.budget}"
    budget = _in_currency_of(provenance, plan)
    if budget is None:
        return f"{measured}; budgets in {CURRENCY_NAMES[provenance.currency]} are predicted by its sweep"
    return f"{measured}; `explorer best {shlex.quote(provenance.sweep)} --budget {shlex.quote(str(budget))}` predicts"


def _in_currency_of(provenance: Provenance, plan: Plan) -> Budget | None:
    """The budget of a plan as its schedule's sweep counts, which takes no other; `None` if that is not known."""
    if plan.budget.currency(provenance.currency) == provenance.currency and plan.budget.unit != "GMACs-epochs":
        return plan.budget
    if provenance.currency == "flops":
        share = plan.flops / plan.full_flops
    elif plan.seconds is not None and plan.full_seconds:
        share = plan.seconds / plan.full_seconds
    else:
        return None
    return Budget(float(f"{share:.4g}"))


def time_lines(plan: Plan, result: RunResult) -> list[str]:
    """Lines that compare realised with planned time, and say what came on top of it.

    Args:
        plan: the plan that was executed.
        result: the result of the run. One of an earlier release has no times to compare.
    """
    if result.time is None:
        return []
    time, difference = result.time, time_difference(result.stage_times)
    each = f" on each of {result.processes} devices" if result.processes > 1 else ""
    training = f"time: {seconds_text(time.training)} of steps and input{each}"
    if difference is None:
        training += f", of which input {seconds_text(time.input)}"
    else:
        causes = ", ".join(f"{cause} {signed_seconds(seconds)}" for cause, seconds in difference.causes.items())
        training += f", planned {seconds_text(difference.planned)} ({difference.relative:+.1%}): {causes}"
    if plan.budget.unit == "device-seconds":
        realised = float(f"{result.processes * time.training:.4g}")
        spent = Budget(realised, "device-seconds", plan.budget.device)
        training += f"; {spent} of {plan.budget}"
    elif plan.currency == "device_seconds" and plan.full_seconds:
        training += (
            f"; {result.processes * time.training / plan.full_seconds:.2%} of full training's time, budget {plan.budget}"
        )
    on_top = ", ".join(f"{name} {seconds_text(seconds)}" for name, seconds in time.on_top.items())
    return [training, f"on top of the budget: {on_top}; {seconds_text(time.total)} in total{each}"]
