"""Evaluations during training: when, of what, and without any effect on it."""

import csv
import math

import pytest
import timm
import torch

from explorer import InvalidInput, Schedule
from explorer.production.evaluation_points import evaluation_steps, parse_share
from explorer.production.loggers import METRICS
from explorer.production.run import Run, train_to_folder
from explorer.production.run_status import RunStatus
from explorer.training import saved_state
from explorer.training.checkpoint import load_checkpoint
from explorer.training.loop import train
from explorer.training.progress import Evaluation, Progress, SegmentResult
from explorer.training.task import Task
from tests.conftest import quiet
from tests.loggers.event_files import read_events
from tests.training.runs import Interrupted, planned, same_weights


def with_recipe(spec, **recipe):
    return Task(spec.model_copy(update={"recipe": spec.recipe.model_copy(update=recipe)}))


def run_of(task, plan, out, **settings):
    return Run(task=task.spec, plan=plan, seed=0, threads=1, device="cpu", out=out, **settings)


@pytest.mark.slow
def test_evaluations_do_not_change_a_bit_of_the_training(tiny_spec, three_stages):
    """With dropped tokens, stochastic depth, and an average of the weights; within segments, at their ends, and at once after
    a stage has begun."""
    model = tiny_spec.model.model_copy(update={"options": {**tiny_spec.model.options, "drop_path_rate": 0.2}})
    task = with_recipe(tiny_spec.model_copy(update={"model": model}), ema_decay=0.9)
    plan = planned(task, three_stages.model_copy(update={"grid": 10}), "30%")
    ends = [sum(segment.steps for segment in plan.segments[: number + 1]) for number in range(10)]
    straight = train(task, plan, seed=1)
    reports = []
    evaluated = train(
        task,
        plan,
        seed=1,
        evaluate_after={2, ends[1], ends[2] + 1, ends[7] - 1},
        on_segment=lambda progress: reports.append(list(progress.evaluations)),
    )
    assert [(each.steps, each.stage) for each in reports[-1]] == [(2, 0), (ends[1], 0), (ends[2] + 1, 1), (ends[7] - 1, 2)]
    assert same_weights(straight.model, evaluated.model)
    losses = [[segment.mean_loss for segment in result.segments] for result in (straight, evaluated)]
    assert losses[0] == losses[1]
    assert (straight.validation, straight.test) == (evaluated.validation, evaluated.test)
    assert evaluated.time.evaluation > evaluated.evaluation_seconds
    assert straight.time.evaluation == straight.evaluation_seconds


def test_what_is_evaluated_is_the_average_of_the_weights(tiny_spec, tmp_path):
    """By the weights in the checkpoint of the same step, in a plain timm model."""
    task = with_recipe(tiny_spec, ema_decay=0.8, learning_rate=1e-2)
    plan = planned(task, Schedule.full_model(grid=4), "100%")
    step = sum(segment.steps for segment in plan.segments[:3])
    evaluations = []

    def stop(progress):
        if progress.steps == step:
            evaluations.extend(progress.evaluations)
            raise Interrupted

    with pytest.raises(Interrupted):
        train(task, plan, seed=0, checkpoint=tmp_path / "c.pt", evaluate_after=[step], on_segment=stop)
    content = load_checkpoint(tmp_path / "c.pt")
    batches = task.data.evaluation_batches("validation", torch.device("cpu"))
    images, labels = (torch.cat(each) for each in zip(*batches, strict=True))
    accuracies = []
    for name in ("average", "model"):
        model = timm.create_model(**task.model_arguments())
        model.load_state_dict(content[name])
        with torch.inference_mode():
            accuracies.append((model.eval()(images).argmax(1) == labels).double().mean().item())
    assert evaluations == [Evaluation(step, 0, (pytest.approx(accuracies[0]),))]
    assert accuracies[0] != accuracies[1]


@pytest.mark.slow
def test_a_resumed_run_has_each_evaluation_once(tiny_task, three_stages, tmp_path, monkeypatch):
    """Killed after a checkpoint, and after evaluations that are not in it, which are made again."""
    plan = planned(tiny_task, three_stages, "15%")
    straight = train_to_folder(run_of(tiny_task, plan, tmp_path / "straight", evaluate_every=0.08), quiet())
    save = saved_state.save_checkpoint

    def lose_power(path, content):
        if len(content["segments"]) == 9:
            raise KeyboardInterrupt
        if len(content["segments"]) < 7:
            save(path, content)

    monkeypatch.setattr(saved_state, "save_checkpoint", lose_power)
    run = run_of(tiny_task, plan, tmp_path / "killed", evaluate_every=0.08)
    with pytest.raises(KeyboardInterrupt):
        train_to_folder(run, quiet())
    monkeypatch.setattr(saved_state, "save_checkpoint", save)
    console = quiet()
    resumed = train_to_folder(run, console)
    assert resumed.test == straight.test

    def rows(folder):
        rows = list(csv.DictReader((tmp_path / folder / METRICS).open()))
        return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]

    assert rows("killed") == rows("straight")
    evaluated = [row for row in rows("killed") if row["validation_accuracy"]]
    assert [int(row["step"]) for row in evaluated] == sorted(evaluation_steps(plan, 0.08))
    assert {row["stage"] for row in evaluated} == {"1", "2", "3"}
    assert [evaluated[number]["heads"] for number in (0, -1)] == ["0.25", "1.0"]
    shown = [(step, value) for name, step, value in read_events(tmp_path / "killed") if name == "validation_accuracy"]
    expected = [(int(row["step"]), float(row["validation_accuracy"])) for row in evaluated]
    assert shown == [(step, pytest.approx(value)) for step, value in [*expected, (plan.steps, straight.validation)]]
    last = evaluated[-1]
    text = f"validation accuracy {float(last['validation_accuracy']):.2%} after step {last['step']} (stage 3 of 3)"
    assert text in console.file.getvalue().splitlines()


@pytest.mark.parametrize("share", [0.03, 0.1, 0.25, 0.5, 0.99])
def test_each_evaluation_follows_the_first_step_that_has_spent_its_share(tiny_task, three_stages, share):
    plan = planned(tiny_task, three_stages)
    spent = []
    for segment in plan.segments:
        length = segment.end_time - segment.start_time
        spent += [segment.start_time + length * (step + 1) / segment.steps for step in range(segment.steps)]
    expected = set()
    for number in range(1, math.ceil(1 / share)):
        if number * share < 1 - 1e-9:
            expected.add(next(step for step, time in enumerate(spent, start=1) if time >= number * share - 1e-9))
    assert evaluation_steps(plan, share) == expected - {plan.steps}


@pytest.mark.parametrize("text", ["0%", "100%", "10", "1 epoch", "5 minutes", "-10%", "3e17 FLOPs", "", "often"])
def test_other_intervals_than_shares_are_refused(text):
    with pytest.raises(InvalidInput, match=r"^evaluate_every: .*: must be a share of the budget from 0\.1% to below 100%"):
        parse_share(text)
    assert parse_share("10%") == parse_share("0.1") == 0.1


def test_a_status_marks_the_accuracy_of_a_smaller_model(tiny_task, three_stages, tmp_path):
    plan = planned(tiny_task, three_stages)
    first = plan.segments[0]
    done = SegmentResult(0, first.steps, first.flops, 1.25, 5.0)
    status = RunStatus.of(Progress(plan, [done], evaluations=[Evaluation(first.steps, 0, (0.5,))]))
    expected = f"after step {first.steps} (stage 1 of 3, a smaller model: heads 0.25, mlp 0.25)"
    assert (status.validation, status.evaluation) == (0.5, f"validation accuracy 50.00% {expected}")
    status.save(tmp_path)
    assert RunStatus.read(tmp_path) == status
    nothing = RunStatus.of(Progress(plan, [done], evaluations=[Evaluation(first.steps, 0, (math.nan,))]))
    assert (nothing.validation, nothing.evaluation) == (None, f"validation accuracy is no number {expected}")
