"""What the start of a stage takes is told apart from what its steps take."""

import pytest
import torch

from explorer import Budget, compile_plan
from explorer.segment import StepCost
from explorer.training import stopwatch
from explorer.training.loop import train
from explorer.training.progress import Progress, SegmentResult
from explorer.training.stopwatch import Lap, Laps, Stopwatch
from tests.training.runs import Interrupted, planned


def laps_of(first: list[Lap], *others: Lap) -> Laps:
    laps = Laps()
    for lap in first:
        laps.add(lap, is_first=True)
    for lap in others:
        laps.add(lap, is_first=False)
    return laps


def test_the_first_step_counts_as_long_as_the_others():
    """Nine steps of .2 s, .05 s of which is input; the first one took 3 s, of which 1 s was input."""
    time = laps_of([Lap(1, 3.0, 1.0)], Lap(4, 0.7, 0.15), Lap(5, 1.1, 0.3)).steady_time()
    assert time.steps == Lap(10, pytest.approx(2.0), pytest.approx(0.5))
    assert time.compilation_seconds == pytest.approx(2.0 - 0.15)
    assert time.input_start_seconds == pytest.approx(0.95)


def test_a_first_step_that_is_faster_changes_nothing():
    time = laps_of([Lap(1, 0.1, 0.0)], Lap(9, 1.8, 0.45)).steady_time()
    assert time.steps == Lap(10, pytest.approx(1.9), 0.45)
    assert (time.compilation_seconds, time.input_start_seconds) == (0, 0)


def test_the_planned_time_stands_in_for_the_other_steps():
    assert laps_of([Lap(1, 3.0, 0.1)]).steady_time().steps == Lap(1, 3.0, 0.1)
    time = laps_of([Lap(1, 3.0, 0.1)]).steady_time(planned_seconds=0.4)
    assert time.steps == Lap(1, pytest.approx(0.4), pytest.approx(0.1))
    assert time.compilation_seconds == pytest.approx(2.6)


def test_the_watch_counts_steps_and_what_is_between_them():
    watch = Stopwatch(torch.device("cpu"))
    batches = watch.reading(iter("abcde"))
    watch.start()
    assert [next(batches), next(batches), next(batches)] == ["a", "b", "c"]
    lap = watch.lap()
    assert lap.steps == 3
    assert 0 <= lap.input_seconds <= lap.seconds
    watch.start()
    assert list(batches) == ["d", "e"]
    assert watch.lap().steps == 2


def test_the_parts_of_a_runs_time_sum_to_all_of_it(tiny_task, three_stages):
    plan = planned(tiny_task, three_stages, "20%")
    result = train(tiny_task, plan, seed=0)
    time = result.time
    assert time.training == pytest.approx(result.seconds)
    assert time.evaluation == result.evaluation_seconds
    assert time.checkpoints == 0
    assert time.stage_changes > 0
    assert time.input > 0
    assert time.total - time.evaluation == pytest.approx(result.executed_seconds, rel=0.02)
    assert [stage.steps for stage in result.stage_times] == [row.steps for row in plan.stages()]
    assert all(stage.planned_seconds is None for stage in result.stage_times)


def test_the_times_of_an_interrupted_run_are_kept(tiny_task, three_stages, tmp_path):
    plan, checkpoint = planned(tiny_task, three_stages, "20%"), tmp_path / "checkpoint.pt"
    before = []

    def stop(progress):
        if len(progress.segments) == 7:
            before.append(progress.time_spent())
            raise Interrupted

    with pytest.raises(Interrupted):
        train(tiny_task, plan, seed=0, checkpoint=checkpoint, on_segment=stop)
    resumed = []
    train(tiny_task, plan, seed=0, checkpoint=checkpoint, on_segment=lambda progress: resumed.append(progress.time_spent()))
    assert resumed[0].steps > before[0].steps > 0
    assert resumed[0].checkpoints > 0


def test_planned_times_are_per_device(tiny_task, three_stages):
    """Steps of .1, .2 and .4 device-seconds, in two processes: .05, .1 and .2 s on each."""
    seconds = {stage.rates: value for stage, value in zip(three_stages.stages, (0.1, 0.2, 0.4), strict=True)}

    def cost(rates):
        counted = tiny_task.step_cost(rates)
        return StepCost(counted.rates, counted.flops, seconds[rates], counted.forward_macs, seconds[rates] / 4)

    plan = compile_plan(three_stages, tiny_task, Budget.parse("10 device-seconds"), cost)
    first, second = plan.segments[:2]
    progress = Progress(plan, processes=2, segments=[SegmentResult(0, first.steps, first.flops, 1.0, 2.0, 1.0)])
    progress.unfinished = SegmentResult(0, second.steps - 1, 1, 1.0, 1.0, 0.5)
    (stage,) = progress.stage_times()
    steps = first.steps + second.steps - 1
    assert (stage.steps, stage.seconds, stage.input_seconds) == (steps, 3.0, 1.5)
    assert stage.planned_seconds == progress.planned_seconds == pytest.approx(0.05 * steps)
    assert stage.planned_input_seconds == pytest.approx(0.0125 * steps)


def test_waiting_for_batches_is_input(monkeypatch):
    """By a clock that only reading moves, by 2 s per batch, and each step by 1 s."""
    clock = [0.0]
    monkeypatch.setattr(stopwatch, "now", lambda: clock[0])

    def batches():
        for number in range(3):
            clock[0] += 2
            yield number

    watch = Stopwatch(torch.device("cpu"))
    watch.start()
    for _ in watch.reading(batches()):
        clock[0] += 1
    assert watch.lap() == Lap(3, 9.0, 6.0)
