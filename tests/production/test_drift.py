"""A run that takes longer, or is shorter, than planned says so once, with the main cause."""

import pytest

from explorer import Budget, compile_plan
from explorer.production.drift import DriftWatch, time_difference
from explorer.production.run_status import RunStatus
from explorer.segment import StepCost
from explorer.spec.time_spent import StageTime
from explorer.training.progress import Progress, SegmentResult


def stage(number, seconds, planned, input_seconds=0.0, planned_input=None) -> StageTime:
    return StageTime(
        stage=number,
        steps=10,
        seconds=seconds,
        input_seconds=input_seconds,
        planned_seconds=planned,
        planned_input_seconds=planned_input,
    )


def test_causes_sum_to_the_difference():
    """Stage 1 takes 3 s more, 2.5 s of which are input; stage 2 takes 1 s less, though .5 s more of input."""
    difference = time_difference([stage(0, 13, 10, 4.5, 2), stage(1, 19, 20, 1.5, 1)])
    assert difference.causes == {"input": 3.0, "steps of stage 1": 0.5, "steps of stage 2": -1.5}
    assert sum(difference.causes.values()) == difference.realised - difference.planned == 2
    assert difference.relative == pytest.approx(2 / 30)
    assert difference.main_cause == "input"
    assert time_difference([stage(0, 9, 10, 2, 2), stage(1, 19.5, 20, 1, 1)]).main_cause == "steps of stage 1"


def test_without_a_planned_time_of_input_it_is_part_of_the_steps():
    assert time_difference([stage(0, 13, 10, 4.5)]).causes == {"steps and input of stage 1": 3}
    assert time_difference([stage(0, 13, None)]) is None
    assert time_difference([]) is None


@pytest.fixture
def plan(tiny_task, three_stages):
    """100 s of steps of .1, .2 and .4 s, without input."""
    seconds = {each.rates: value for each, value in zip(three_stages.stages, (0.1, 0.2, 0.4), strict=True)}

    def cost(rates):
        counted = tiny_task.step_cost(rates)
        return StepCost(counted.rates, counted.flops, seconds[rates], counted.forward_macs, 0.0)

    return compile_plan(three_stages, tiny_task, Budget.parse("100 device-seconds"), cost)


def progress(plan, segments, factors, input_seconds=0.0) -> Progress:
    """After some segments, each of which took some times its planned time."""
    done = [
        SegmentResult(part.stage, part.steps, part.flops, 1.0, factors[part.stage] * part.seconds, input_seconds)
        for part in plan.segments[:segments]
    ]
    return Progress(plan, done)


def test_a_run_says_once_in_each_direction_that_it_leaves_its_plan(plan):
    """Each of the 20 segments is planned to take 5 s; the first stage has 6, the second 6."""
    watch = DriftWatch()
    assert watch.check(progress(plan, 1, (1.04, 1, 1))) is None
    assert watch.check(progress(plan, 2, (1.2, 1, 1))) == (
        "training takes 20.0% more time than planned so far: 12.0 s instead of 10.0 s, mostly steps of stage 1 (+2.00 s); "
        "at this rate it ends at 120 s instead of 100 s"
    )
    assert watch.check(progress(plan, 3, (1.3, 1, 1))) is None
    faster = watch.check(progress(plan, 12, (1.0, 0.8, 1)))
    assert faster.startswith(
        "training takes 10.0% less time than planned so far: 54.0 s instead of 60.0 s, mostly steps of stage 2 (-6"
    )
    assert watch.check(progress(plan, 20, (0.5, 0.5, 0.5))) is None
    waiting = DriftWatch().check(progress(plan, 2, (1.2, 1, 1), input_seconds=1.0))
    assert "mostly input (+2.00 s)" in waiting


def test_the_first_steps_do_not_decide(plan):
    early = Progress(plan, unfinished=SegmentResult(0, 19, 1, 1.0, 19.0))  # 1.9 of 100 s
    assert DriftWatch().check(early) is None
    assert DriftWatch().check(Progress(plan, unfinished=SegmentResult(0, 20, 1, 1.0, 20.0))) is not None


def test_plans_without_step_times_have_no_drift(tiny_task, three_stages):
    counted = compile_plan(three_stages, tiny_task, Budget.parse("50%"), tiny_task.step_cost)
    first = counted.segments[0]
    assert DriftWatch().check(Progress(counted, [SegmentResult(0, first.steps, first.flops, 1.0, 99.0)])) is None


def test_time_left_is_by_planned_time(plan):
    """50 s are planned for ten of twenty segments, which took 60 s: another 60 s. The budget in seconds is half spent."""
    status = RunStatus.of(progress(plan, 10, (1.2, 1.2, 1)), "drift")
    assert status.spent == pytest.approx(0.5, abs=0.01)
    assert status.seconds_left == pytest.approx(60, abs=1)
    assert status.drift == "drift"
