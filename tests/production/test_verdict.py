"""What a finished run is compared with."""

import json
import re
from dataclasses import replace

import pytest
import yaml

from explorer import Budget, Schedule, compile_plan
from explorer.frontier.uncertainty import run_interval
from explorer.production.result import RunResult
from explorer.production.verdict import expectation, other_task, time_lines, transfer_warning, verdict
from explorer.spec.base import read_mapping
from explorer.spec.provenance import PredictedAccuracy
from explorer.spec.task import TaskSpec
from explorer.spec.time_spent import StageTime, TimeSpent
from explorer.training.task import Task
from tests.production.finished_runs import measured_provenance

RESULT = {
    "timm_create_model": {},
    "seed": 3,
    "planned_flops": 1,
    "realised_flops": 1,
    "train_seconds": 1.5,
    "cost": 0.5,
    "steps": 1,
    "validation": 0.5,
    "test": 0.5,
}


@pytest.fixture
def measured(three_stages, tiny_spec) -> Schedule:
    """As a sweep exports it, with the task as people write it: defaults left out."""
    provenance = measured_provenance(tiny_spec.model_dump(mode="json", exclude_defaults=True))
    return three_stages.model_copy(update={"provenance": provenance})


@pytest.fixture
def data(tiny_task):
    """What the data set of the task contains."""
    return tiny_task.data.inventory


def judged(schedule: Schedule, spec: TaskSpec, budget="50%", **result) -> list[str]:
    task = Task(spec)
    compiled = compile_plan(schedule, task, Budget.parse(budget), task.step_cost)
    settings = {
        **RESULT,
        "budget": budget,
        "planned_flops": compiled.flops,
        "realised_flops": compiled.flops,
        "planned_seconds": None,
        "cost": compiled.cost,
        "steps": compiled.steps,
        "processes": 1,
    }
    return verdict(schedule, spec, task.data.inventory, compiled, RunResult(**{**settings, **result}))


def test_realised_time_is_compared_with_the_planned_time_and_its_causes(measured, tiny_spec):
    """Two processes: 6 s of steps and input on each device, planned 5 s; .7 s of the difference is input."""
    stages = (
        StageTime(stage=0, steps=9, seconds=2, input_seconds=1, planned_seconds=1.5, planned_input_seconds=0.5),
        StageTime(stage=1, steps=9, seconds=4, input_seconds=0.7, planned_seconds=3.5, planned_input_seconds=0.5),
    )
    time = TimeSpent(steps=4.3, input=1.7, compilation=100, stage_changes=0.25, checkpoints=2, evaluation=3, other=1)
    result = {"time": time, "stage_times": stages, "processes": 2, "train_seconds": 6}
    _, realised, on_top, *_ = judged(measured, tiny_spec, **result)
    assert realised == (
        "time: 6.00 s of steps and input on each of 2 devices, planned 5.00 s (+20.0%): "
        "input +0.70 s, steps of stage 1 +0.00 s, steps of stage 2 +0.30 s"
    )
    assert on_top == (
        "on top of the budget: compilation 100 s, stage changes 0.25 s, checkpoints 2.00 s, evaluation 3.00 s, other 1.00 s; "
        "112 s in total on each of 2 devices"
    )
    uncalibrated = tuple(stage.model_copy(update={"planned_seconds": None}) for stage in stages)
    realised = judged(measured, tiny_spec, **{**result, "stage_times": uncalibrated, "processes": 1})[1]
    assert realised == "time: 6.00 s of steps and input, of which input 1.70 s"


def test_a_budget_in_time_is_compared_with_the_time_of_all_devices(measured, tiny_spec):
    task = Task(tiny_spec)

    def cost(rates):
        return replace(task.step_cost(rates), seconds=0.1)

    plan = compile_plan(measured, task, Budget.parse("12 CPU-seconds"), cost)
    result = RunResult(**RESULT, budget="12 CPU-seconds", planned_seconds=12, time=TimeSpent(steps=6, input=0.123), processes=2)
    assert time_lines(plan, result)[0].endswith("; 12.25 CPU-seconds of 12 CPU-seconds")


@pytest.mark.parametrize(("of_sweep", "planned"), [("$40", "16 device-hours"), ("2 GPU-hours", "2 device-hours")])
def test_a_budget_in_money_or_of_a_named_device_is_that_of_the_sweep(measured, tiny_spec, of_sweep, planned, data):
    task = Task(tiny_spec)

    def cost(rates):
        return replace(task.step_cost(rates), seconds=1600.0)

    plan = compile_plan(measured, task, Budget.parse(planned), cost)
    result = RunResult(**RESULT, budget=planned, planned_seconds=1.0, processes=1)
    for price, is_known in ((2.5, True), (2.4, of_sweep != "$40"), (None, of_sweep != "$40")):
        changes = {"budget": Budget.parse(of_sweep), "currency": "device_seconds", "price": price}
        schedule = measured.model_copy(update={"provenance": measured.provenance.model_copy(update=changes)})
        assert any("predicted test accuracy" in line for line in verdict(schedule, tiny_spec, data, plan, result)) is is_known
        assert expectation(schedule, tiny_spec, data, plan).startswith("measured" if is_known else "accuracy not predicted")


def test_a_share_of_full_trainings_time_is_compared_with_it(measured, tiny_spec, data):
    """Full training takes 100 s: 25.3 s of it were trained for a budget of 25 %."""
    task = Task(tiny_spec)

    def cost(rates):
        return replace(task.step_cost(rates), seconds=0.1)

    plan = compile_plan(measured, task, Budget.parse("25%"), cost, currency="device_seconds", full_seconds=100.0)
    time = TimeSpent(steps=25, input=0.3)
    result = RunResult(**RESULT, budget="25%", planned_seconds=25, time=time, processes=1)
    assert time_lines(plan, result)[0].endswith("; 25.30% of full training's time, budget 25%")
    assert verdict(measured, tiny_spec, data, plan, result)[0].startswith("cost: 50.000% of full training in FLOPs, planned ")


@pytest.mark.parametrize(
    ("budget", "currency", "named"),
    [
        ("10 device-seconds", "flops", "a share"),  # `explorer best` takes no time of a sweep that counts FLOPs
        ("10 device-seconds", "device_seconds", "10 device-seconds"),
        ("0.0005 GMACs-epochs", "flops", "a share"),
        ("1e8 FLOPs", "flops", "100000000 FLOPs"),
        ("1e8 FLOPs", "device_seconds", "a share"),
    ],
)
def test_the_command_that_predicts_another_budget_names_one_that_it_takes(measured, tiny_spec, data, budget, currency, named):
    task = Task(tiny_spec)

    def cost(rates):
        return replace(task.step_cost(rates), seconds=0.1)

    plan = compile_plan(measured, task, Budget.parse(budget), cost)
    provenance = measured.provenance.model_copy(update={"currency": currency, "sweep": "my sweep"})
    line = expectation(measured.model_copy(update={"provenance": provenance}), tiny_spec, data, plan)
    text = re.search(r"`explorer best 'my sweep' --budget '?([^'`]+)'?` predicts", line).group(1)
    if named == "a share":
        again = compile_plan(measured, task, Budget.parse(text), cost, currency=currency)
        assert text.endswith("%")
        assert again.cost == pytest.approx(
            plan.flops / plan.full_flops if currency == "flops" else plan.seconds / plan.full_seconds, abs=0.03
        )
    else:
        assert text == named


def test_where_a_share_of_time_is_not_known_no_command_is_named(measured, tiny_spec, data):
    task = Task(tiny_spec)
    plan = compile_plan(measured, task, Budget.parse("1e8 FLOPs"), task.step_cost)
    provenance = measured.provenance.model_copy(update={"currency": "device_seconds"})
    line = expectation(measured.model_copy(update={"provenance": provenance}), tiny_spec, data, plan)
    assert line.endswith("not at 100000000 FLOPs; budgets in device-seconds are predicted by its sweep")


def with_recipe(spec: TaskSpec, **recipe) -> TaskSpec:
    return spec.model_copy(update={"recipe": spec.recipe.model_copy(update=recipe)})


def test_an_interval_without_width_in_the_file_of_an_earlier_release_is_no_prediction(measured, tiny_spec):
    content = json.loads(measured.model_dump_json())
    content["provenance"] |= {"expected_test_accuracy": [0.48, 0.48]}
    content["provenance"].pop("expected_test", None)
    assert not any("predicted" in line for line in judged(Schedule.model_validate(content), tiny_spec, test=0.49))


def test_a_run_on_the_same_task_is_compared_with_the_prediction(measured, tiny_spec, data):
    cost, accuracies, predicted, reproduced = judged(measured, tiny_spec)
    assert "steps in 1.5 s" in cost
    assert accuracies == "validation accuracy 50.0000%, test accuracy 50.0000%"
    assert predicted == "predicted test accuracy 48.00%, for a single run 40.00% to 56.00% (95 %, 3 seeds): inside"
    assert reproduced.endswith("with seed 3: reproduced exactly")
    assert judged(measured, tiny_spec, test=0.39)[2].endswith("OUTSIDE")
    assert "NOT reproduced" in judged(measured, tiny_spec, validation=0.51)[3]
    assert len(judged(measured, tiny_spec, seed=4)) == 3
    assert transfer_warning(measured, tiny_spec, data) is None


@pytest.mark.parametrize(
    ("recipe", "difference"),
    [({"epochs": 3.0}, "recipe.epochs is 3.0, was 2.0"), ({"batch_size": 16}, "recipe.batch_size is 16, was 32")],
)
def test_on_another_task_there_is_no_prediction(measured, tiny_spec, recipe, difference, data):
    other = with_recipe(tiny_spec, **recipe)
    reason = f"the schedule was measured on another task ({difference})"
    assert other_task(measured, other, data) == reason
    assert (transfer_warning(measured, other, data) or "").startswith(
        f"{reason}: the accuracy in its file is not predicted here"
    )
    assert judged(measured, other)[2:] == [f"no prediction: {reason}"]


def test_a_warning_names_the_settings_that_come_from_the_other_task(measured, tiny_spec, data):
    other = with_recipe(tiny_spec, epochs=3.0, learning_rate=9e-3).measured_as(measured.provenance)
    assert "learning rate 0.002 and batch size 32 are also taken from there" in transfer_warning(measured, other, data)


def test_a_file_that_does_not_say_its_task_predicts_nothing(measured, tiny_spec, data):
    unknown = measured.model_copy(update={"provenance": measured.provenance.model_copy(update={"task": None})})
    reason = "the schedule's file does not say on which task it was measured"
    assert judged(unknown, tiny_spec)[2:] == [f"no prediction: {reason}"]
    assert transfer_warning(unknown, tiny_spec, data).startswith(reason)


EDITED = "the schedule's file was edited after it was measured"


def edited(schedule: Schedule, path, change) -> Schedule:
    """A schedule from its file, after a change to the content."""
    content = read_mapping(schedule.with_provenance(schedule.provenance).save(path))
    change(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return Schedule.load(path)


def longer_first_stage(content):
    content["stages"][0]["duration_ratio"] += 0.05
    content["stages"][-1]["duration_ratio"] -= 0.05


@pytest.mark.parametrize(
    "change",
    [
        longer_first_stage,
        lambda content: content["stages"][0]["rates"].update(mlp=0.3),
        lambda content: content.update(grid=40),
        lambda content: content.update(staging={"growth": "zero"}),
        lambda content: content["provenance"].update(learning_rate=4e-3),
        lambda content: content["provenance"].update(batch_size=16),
    ],
)
def test_the_file_of_an_edited_schedule_predicts_nothing(measured, tiny_spec, tmp_path, change, data):
    schedule = edited(measured, tmp_path / "schedule.yaml", change)
    task = tiny_spec.measured_as(schedule.provenance)
    assert judged(schedule, task)[2:] == [f"no prediction: {EDITED}"]
    assert transfer_warning(schedule, task, data).startswith(EDITED)
    assert expectation(schedule, task, data, compile_plan(schedule, Task(task), Budget(0.5), Task(task).step_cost)) is None


def test_a_file_in_another_form_was_not_edited(measured, tiny_spec, tmp_path, data):
    """Keys in another order, whole numbers without a point, and defaults that are written."""

    def other_form(content):
        content["stages"][-1]["rates"] = {"tokens": 1, "mlp": 1, "heads": 1}
        content["stages"][-1]["batch_factor"] = 1

    assert other_task(edited(measured, tmp_path / "schedule.yaml", other_form), tiny_spec, data) is None
    assert other_task(measured, tiny_spec, data) is None  # of an earlier release, which did not note what was trained


def test_moved_data_and_another_number_of_loader_workers_are_the_same_task(measured, tiny_spec, data):
    moved = tiny_spec.model_copy(update={"data": tiny_spec.data.model_copy(update={"root": "/elsewhere", "num_workers": 3})})
    assert other_task(measured, moved, data) is None


def test_at_another_budget_there_is_no_prediction(measured, tiny_spec):
    assert judged(measured, tiny_spec, "25%")[2] == (
        "no prediction: the sweep measured this schedule at 50%, not at 25%; `explorer best s --budget 25%` predicts"
    )


def test_a_schedule_without_provenance_predicts_nothing(three_stages, tiny_spec, data):
    assert judged(three_stages, tiny_spec)[2:] == ["no prediction: the schedule's file contains no measurement"]
    assert transfer_warning(three_stages, tiny_spec, data) is None


def test_where_one_more_run_is_expected():
    """Three values .4 .5 .6: mean .5, deviation .1, error .1 / 3 ** .5; t(.975, 2) = 4.3027, times .1 * (1 + 1/3) ** .5."""
    low, high = run_interval(0.5, 0.1 / 3**0.5, 3)
    assert (low, high) == pytest.approx((0.5 - 0.49683, 0.5 + 0.49683), abs=1e-5)
    assert run_interval(0.99, 0.1 / 3**0.5, 3)[1] == 1.0
    assert run_interval(0.5, float("nan"), 1) is None


PREDICTED = {
    "budget": "25%",
    "test": 0.45,
    "interval": (0.42, 0.5),
    "run_interval": (0.41, 0.53),
    "trained_budgets": 4,
}


def predicted(measured: Schedule) -> Schedule:
    """The schedule of a budget beside the one that it is to be executed at."""
    provenance = measured.provenance.model_copy(update={"prediction": PredictedAccuracy(**PREDICTED)})
    return measured.model_copy(update={"provenance": provenance})


def test_a_budget_that_was_not_trained_is_compared_with_the_predicted_interval_and_says_so(measured, tiny_spec):
    by_laws = "(95 %; the sweep did not train 25%: by laws of error against cost through 4 trained budgets)"
    line = f"predicted test accuracy 45.00%, for a single run 41.00% to 53.00% {by_laws}"
    assert judged(predicted(measured), tiny_spec, budget="25%", test=0.53)[-1] == f"{line}: inside"
    assert judged(predicted(measured), tiny_spec, budget="25%", test=0.54)[-1] == f"{line}: OUTSIDE"
    assert "predicted test accuracy 48.00%" in judged(predicted(measured), tiny_spec)[-2]  # its own budget is measured


def test_a_plan_says_what_to_expect(measured, tiny_spec):
    task = Task(tiny_spec)

    def expected(schedule, budget, spec=tiny_spec):
        return expectation(
            schedule, spec, task.data.inventory, compile_plan(schedule, task, Budget.parse(budget), task.step_cost)
        )

    assert expected(predicted(measured), "25%").startswith("predicted test accuracy 45.00%, for a single run 41.00% to 53.00%")
    assert expected(measured, "50%") == "measured test accuracy 48.00%, for a single run 40.00% to 56.00% (95 %, 3 seeds)"
    assert expected(predicted(measured), "30%") == (
        "accuracy not predicted: the sweep measured this schedule at 50%, and predicts 25%, not at 30%; "
        "`explorer best s --budget 30%` predicts"
    )
    other = tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update={"epochs": 99})})
    assert expected(predicted(measured), "25%", other) is None


def test_on_other_classes_or_images_there_is_no_prediction(measured, tiny_spec, data):
    """The folder may be another one, so what is in it is compared."""
    seen = Task(tiny_spec).model_input
    named = measured.provenance.model_copy(
        update={"model_input": seen, "listings": {"test": "abc", "train": data.train.listing}}
    )
    digits = measured.model_copy(update={"provenance": named.model_copy(update={"listings": {"train": data.train.listing}})})
    assert other_task(digits, tiny_spec, data) is None
    other = measured.model_copy(update={"provenance": named})
    reason = "the schedule was measured on other data (test: names, sizes or labels of the images differ)"
    assert other_task(other, tiny_spec, data) == reason
    assert transfer_warning(other, tiny_spec, data).startswith(reason)
    renamed = data.model_copy(update={"class_names": ("zero", *data.class_names[1:])})
    assert other_task(digits, tiny_spec, renamed) == "the schedule was measured on other data (class 0 is zero, was 0)"
    fewer = data.model_copy(update={"class_names": data.class_names[:-1]})
    assert other_task(digits, tiny_spec, fewer) == "the schedule was measured on other data (class 9 is missing, was 9)"


def test_images_that_a_sample_could_not_tell_unreadable_are_not_compared(measured, tiny_spec, data):
    """The sweep read every image and left some out; `explorer plan` reads a sample."""
    skips = tiny_spec.model_copy(update={"data": tiny_spec.data.model_copy(update={"unreadable": "skip"})})
    changes = {"listings": {"train": "abc"}, "task": skips}
    schedule = measured.model_copy(update={"provenance": measured.provenance.model_copy(update=changes)})
    assert other_task(schedule, skips, data.model_copy(update={"checked": False})) is None
    assert other_task(schedule, skips, data).endswith("(train: names, sizes or labels of the images differ)")
