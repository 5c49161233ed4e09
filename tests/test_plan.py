from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer import Budget, InvalidInput, Rates, Schedule, Stage, StepCost, compile_plan
from explorer.spec.lr_schedule import LearningRateSchedule

LINEAR = LearningRateSchedule(kind="linear")


@dataclass(frozen=True)
class Shape:
    train_images: int = 1000
    epochs: float = 10
    batch_size: int = 10
    lr_schedule: LearningRateSchedule = LINEAR
    frozen_until: float = 0.0


def quadratic(rates: Rates) -> StepCost:
    """A step costs 1000 at rates 1, less on each axis; whole numbers, like counted FLOPs."""
    return StepCost(rates, max(1, round(500 * rates.tokens * (rates.heads + rates.mlp))))


@st.composite
def schedules(draw) -> Schedule:
    count = draw(st.integers(1, 5))
    grid = draw(st.integers(count, 40))
    levels = {axis: sorted(draw(st.lists(st.floats(0.05, 1), min_size=count - 1, max_size=count - 1))) for axis in "hmt"}
    weights = [draw(st.integers(0, 20)) for _ in range(count - 1)] + [draw(st.integers(1, 20))]
    rates = [Rates(heads=h, mlp=m, tokens=t) for h, m, t in zip(*levels.values(), strict=True)] + [Rates()]
    factors = [draw(st.sampled_from([1.0, 1.0, 2.0, 3.0])) for _ in range(count - 1)] + [1.0]
    stages = tuple(
        Stage(rates=r, duration_ratio=w / sum(weights), batch_factor=f) for r, w, f in zip(rates, weights, factors, strict=True)
    )
    return Schedule(stages=stages, grid=grid)


lr_schedules = st.sampled_from(
    [
        LINEAR,
        LearningRateSchedule(kind="linear", warmup=0.1),
        LearningRateSchedule(kind="cosine", warmup=0.05),
        LearningRateSchedule(kind="rex", warmup=0.1),
        LearningRateSchedule(kind="wsd", warmup=0.05, cooldown=0.3),
    ]
)


@settings(max_examples=300)
@given(schedules(), st.floats(0.01, 1), st.sampled_from([1, 7, 10, 64]), lr_schedules)
def test_every_plan_keeps_the_promises(schedule, fraction, batch_size, lr_schedule):
    task = Shape(batch_size=batch_size, lr_schedule=lr_schedule)
    compiled = compile_plan(schedule, task, Budget(fraction), quadratic)
    full = quadratic(Rates()).flops

    assert 0 <= compiled.budget_cost - compiled.flops < full
    for before, after in zip(compiled.segments, compiled.segments[1:], strict=False):
        assert before.rates.at_most(after.rates)
        assert after.start_time == pytest.approx(before.end_time)
    assert compiled.segments[-1].rates.full
    assert compiled.segments[-1].end_time == 1
    assert compiled.segments[-1].lr_schedule.factor(compiled.segments[-1].end_time) == 0
    assert all(segment.steps > 0 for segment in compiled.segments)

    factors = [s.learning_rate_factor(i) for s in compiled.segments for i in range(s.steps)]
    assert len(factors) == compiled.steps
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0 or compiled.steps == 1
    decaying = [
        f for s in compiled.segments for i, f in enumerate(factors[-s.steps :]) if s.start_time > lr_schedule.warmup and i
    ]
    assert all(f <= 1 for f in decaying)


@settings(max_examples=100)
@given(schedules(), st.floats(0.1, 1))
def test_stages_get_their_share(schedule, fraction):
    """A stage's cost is its grid slots of the budget, up to one step of its own and of its neighbours."""
    compiled = compile_plan(schedule, Shape(), Budget(fraction), quadratic)
    spent = {row.stage: row.flops for row in compiled.stages()}
    largest = quadratic(Rates()).flops * max(stage.batch_factor for stage in schedule.stages)
    for number, slots in enumerate(schedule.slots()):
        share = compiled.budget_cost * slots / schedule.grid
        assert abs(spent.get(number, 0) - share) <= 2 * largest + 1


def test_worked_example():
    # Full training: 10 epochs of 100 steps of cost 1000 = 1,000,000. A quarter: 250,000.
    half = Rates(heads=0.5, mlp=0.5, tokens=0.5)  # a step costs 500 * .5 * 1 = 250
    schedule = Schedule(stages=(Stage(rates=half, duration_ratio=0.4), Stage(rates=Rates(), duration_ratio=0.6)), grid=5)
    compiled = compile_plan(schedule, Shape(), Budget(0.25), quadratic)
    assert (compiled.full_flops, compiled.budget_cost, compiled.flops) == (1_000_000, 250_000, 250_000)
    # Five slots of 50,000: two of 200 small steps, three of 50 full steps.
    assert [(s.stage, s.steps) for s in compiled.segments] == [(0, 200), (0, 200), (1, 50), (1, 50), (1, 50)]
    assert [s.start_time for s in compiled.segments] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert compiled.segments[0].learning_rate_factor(0) == pytest.approx(1)
    assert compiled.segments[2].learning_rate_factor(0) == pytest.approx(0.6)
    # The last step starts when 249,000 of 250,000 are spent.
    assert compiled.segments[4].learning_rate_factor(49) == pytest.approx(0.004)
    assert compiled.epochs(compiled.steps) == pytest.approx(5.5)
    assert [(row.steps, row.flops) for row in compiled.stages()] == [(400, 100_000), (150, 150_000)]


def paper_stages(*epochs: float) -> Schedule:
    rates = (Rates(heads=1 / 3, mlp=1 / 4, tokens=100 / 196), Rates(heads=2 / 3, mlp=1 / 2, tokens=144 / 196), Rates())
    return Schedule(stages=tuple(Stage(rates=each, epochs=length) for each, length in zip(rates, epochs, strict=True)))


def paper_cost(rates: Rates) -> StepCost:
    """DeiT-S: .69, 1.91 and 4.61 G (the paper's Table 6), for a batch of 100."""
    return StepCost(rates, {1 / 3: 69, 2 / 3: 191, 1.0: 461}[rates.heads])


@pytest.mark.parametrize(
    ("budget", "epochs", "cost"),
    [
        (0.25, (29, 49, 50), 343.7),
        (0.5, (49, 71, 113), 689.8),
        (0.75, (55, 55, 193), 1032.1),
        (1.0, (86, 105, 243), 1379.1),
        (0.25, (0, 0, 75), 345.75),
    ],
)
def test_the_papers_schedules_in_epochs_spend_its_budgets(budget, epochs, cost):
    """Table 1, in G times epochs. The little that is left, .5 % at most, is spent by all stages alike."""
    shape = Shape(train_images=100_000, epochs=300, batch_size=100)
    compiled = compile_plan(paper_stages(*epochs), shape, Budget(budget), paper_cost)
    written = sum(length * each for length, each in zip(epochs, (0.69, 1.91, 4.61), strict=True))
    assert written == pytest.approx(cost, rel=0.002)
    longer = budget * 1383 / written
    assert 1 <= longer < 1.006
    planned = {row.stage: row.epochs for row in compiled.stages()}
    for stage, length in enumerate(epochs):
        assert planned.get(stage, 0) == pytest.approx(longer * length, abs=0.01)
    assert 0 <= compiled.budget_cost - compiled.flops < 461


def test_epochs_that_cost_more_than_the_budget_are_refused():
    shape = Shape(epochs=300)
    with pytest.raises(
        InvalidInput, match=r"schedule: epochs: '29, 49, 51': cost 100\.9% of the budget 25%; write fewer epochs"
    ):
        compile_plan(paper_stages(29, 49, 51), shape, Budget(0.25), paper_cost)
    assert compile_plan(paper_stages(29, 49, 51), shape, Budget(0.26), paper_cost).stages()[0].epochs > 29


def test_larger_batches_cost_more_and_see_more_images():
    """A step of 20 images instead of 10 costs 500 instead of 250."""
    half = Rates(heads=0.5, mlp=0.5, tokens=0.5)
    first = Stage(rates=half, duration_ratio=0.4, batch_factor=2)
    schedule = Schedule(stages=(first, Stage(rates=Rates(), duration_ratio=0.6)), grid=5)
    compiled = compile_plan(schedule, Shape(), Budget(0.25), quadratic)
    assert [(row.steps, row.batch_size, row.flops, row.epochs) for row in compiled.stages()] == [
        (200, 20, 100_000, 4.0),
        (150, 10, 150_000, 1.5),
    ]
    assert compiled.epochs(compiled.steps) == 5.5
    assert compiled.epochs(201) == pytest.approx(4.01)


def test_what_is_left_of_a_unit_passes_to_the_next():
    # Three slots of 10,000 / 3 = 3333; steps of 1000: 3 by 3333, 6 by 6666, 10 by 10,000.
    compiled = compile_plan(Schedule.full_model(grid=3), Shape(), Budget(0.01), quadratic)
    assert [s.steps for s in compiled.segments] == [3, 3, 4]


def test_schedules_that_begin_alike_have_equal_leading_segments():
    low, half = Rates(heads=0.25, mlp=0.25, tokens=0.25), Rates(heads=0.5, mlp=0.5, tokens=0.5)

    def three(first: float, second: float) -> Schedule:
        return Schedule(
            stages=(
                Stage(rates=low, duration_ratio=first),
                Stage(rates=half, duration_ratio=second),
                Stage(rates=Rates(), duration_ratio=1 - first - second),
            )
        )

    one, other = (compile_plan(three(*shares), Shape(), Budget(0.3), quadratic) for shares in ((0.3, 0.2), (0.3, 0.4)))
    common = [a == b for a, b in zip(one.segments, other.segments, strict=False)]
    assert common[:10] == [True] * 10  # six slots at .25, four at .5
    assert not common[10]
    assert one.digest() != other.digest()


def test_a_position_is_a_segment_and_a_step_within_it():
    # Segments of 3, 3 and 4 steps.
    compiled = compile_plan(Schedule.full_model(grid=3), Shape(), Budget(0.01), quadratic)
    first, second, third = compiled.segments
    assert [compiled.position(step) for step in (0, 2, 3, 9)] == [(first, 0), (first, 2), (second, 0), (third, 3)]
    with pytest.raises(IndexError, match="step 10 of a plan of 10 steps"):
        compiled.position(10)


def test_finer_grids_do_not_change_the_steps():
    low = Rates(heads=0.25, mlp=0.25, tokens=0.3)
    stages = (Stage(rates=low, duration_ratio=0.3), Stage(rates=Rates(), duration_ratio=0.7))
    coarse, fine = (compile_plan(Schedule(stages=stages, grid=g), Shape(), Budget(0.37), quadratic) for g in (10, 40))
    assert [(r.stage, r.steps) for r in coarse.stages()] == [(r.stage, r.steps) for r in fine.stages()]


def test_batch_size_does_not_change_the_cost_of_full_training():
    def cost(rates: Rates) -> StepCost:
        return StepCost(rates, 64_000)

    small = compile_plan(Schedule.full_model(), Shape(batch_size=64), Budget(1.0), cost)
    assert small.full_flops == 10 * 1000 * 1000


def test_a_budget_below_one_step_is_refused():
    with pytest.raises(InvalidInput, match=r"at least one step of the full model, 0\.10% of full training"):
        compile_plan(Schedule.full_model(), Shape(), Budget(0.0009), quadratic)


def test_one_step_is_a_plan():
    compiled = compile_plan(Schedule.full_model(), Shape(), Budget(0.001), quadratic)
    assert [s.steps for s in compiled.segments] == [1]
    assert compiled.segments[0].learning_rate_factor(0) == 1


def test_flops_budgets():
    compiled = compile_plan(Schedule.full_model(), Shape(), Budget(5000, "FLOPs"), quadratic)
    assert (compiled.flops, compiled.steps) == (5000, 5)
    assert compiled.cost == pytest.approx(0.005)


def test_a_budget_of_seconds_is_cut_in_seconds():
    """Half the rates take a quarter of the FLOPs, but half of the time: a step of .5 ms against 1 ms."""

    def cost(rates: Rates) -> StepCost:
        return StepCost(rates, 1000 if rates.full else 250, 1e-3 if rates.full else 5e-4)

    half = Rates(heads=0.5, mlp=0.5, tokens=0.5)
    schedule = Schedule(stages=(Stage(rates=half, duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=2)
    timed = compile_plan(schedule, Shape(), Budget(0.1, "device-seconds"), cost)
    assert [(row.steps, row.share, row.seconds) for row in timed.stages()] == [(100, 0.5, 0.05), (50, 0.5, 0.05)]
    assert timed.seconds == pytest.approx(0.1)
    assert timed.flops == 100 * 250 + 50 * 1000
    counted = compile_plan(schedule, Shape(), Budget(0.1), cost)  # 1,000 steps of 1,000 in full
    assert [row.steps for row in counted.stages()] == [200, 50]
    assert counted.seconds == pytest.approx(0.15)
    for device in ("device", "CPU"):
        least = rf"budget: '0\.0005 {device}-seconds': must hold at least one step of the full model, 0\.001 {device}-seconds"
        with pytest.raises(InvalidInput, match=least):
            compile_plan(schedule, Shape(), Budget.parse(f"0.0005 {device}-seconds"), cost)


def test_a_budget_of_gmacs_epochs_is_cut_in_forward_passes():
    """Half the rates take a quarter of the FLOPs, but half of the forward pass: 1e9 against 2e9 multiply-adds for 10 images.

    5 epochs of 1,000 images at .2 G and .1 G: .25 G x epochs for each half are 1.25 and 2.5 epochs, 125 and 250 steps.
    """

    def cost(rates: Rates) -> StepCost:
        return StepCost(rates, 1000 if rates.full else 250, forward_macs=2 * 10**9 if rates.full else 10**9)

    half = Rates(heads=0.5, mlp=0.5, tokens=0.5)
    schedule = Schedule(stages=(Stage(rates=half, duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=2)
    plan = compile_plan(schedule, Shape(), Budget.parse("0.5 GMACs-epochs"), cost)
    assert [(row.steps, row.share, row.step_forward_macs) for row in plan.stages()] == [
        (250, 0.5, 10**9),
        (125, 0.5, 2 * 10**9),
    ]
    assert plan.gmacs_epochs == pytest.approx(0.5)
    assert plan.flops == 250 * 250 + 125 * 1000
    with pytest.raises(InvalidInput, match=r"must hold at least one step of the full model, 0\.002 GMACs-epochs"):
        compile_plan(schedule, Shape(), Budget.parse("0.001 GMACs-epochs"), cost)
    with pytest.raises(InvalidInput, match=r"must be at most 1000% of full training; it is 15 full trainings"):
        compile_plan(schedule, Shape(), Budget.parse("30 GMACs-epochs"), cost)  # full training: 10 epochs of .2 G
    with pytest.raises(InvalidInput, match="needs the cost of forward passes, not counted for all 1"):
        compile_plan(schedule, Shape(), Budget.parse("1 GMACs-epochs"), quadratic)


def test_the_cost_of_forward_passes_does_not_change_what_a_plan_is():
    def cost(rates: Rates) -> StepCost:
        return replace(quadratic(rates), forward_macs=7)

    plans = [compile_plan(Schedule.full_model(), Shape(), Budget(0.5), each) for each in (quadratic, cost)]
    assert plans[0].digest() == plans[1].digest()
    assert [plan.gmacs_epochs is None for plan in plans] == [True, False]


def test_more_seconds_than_ten_full_trainings_take_are_refused():
    """Full training: 1,000 steps of a second."""

    def cost(rates: Rates) -> StepCost:
        return StepCost(rates, 1000, 1.0)

    assert compile_plan(Schedule.full_model(), Shape(), Budget(1e4, "device-seconds"), cost).seconds == 1e4
    with pytest.raises(InvalidInput, match=r"budget: '5 GPU-hours': must be at most 1000% of full training; it is 18 full"):
        compile_plan(Schedule.full_model(), Shape(), Budget.parse("5 GPU-hours"), cost)


def test_a_row_shows_the_peak_where_the_warmup_ends():
    shape = Shape(lr_schedule=LearningRateSchedule(warmup=0.25))
    half = Rates(heads=0.5, mlp=0.5, tokens=0.5)
    schedule = Schedule(stages=(Stage(rates=half, duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)), grid=2)
    first, last = compile_plan(schedule, shape, Budget(0.5), quadratic).stages()
    assert first.factors[1] == 1.0
    assert len(first.factors) == 3
    assert len(last.factors) == 2


def test_a_budget_of_seconds_without_measurement_names_the_command():
    with pytest.raises(InvalidInput, match=r"needs measured step times for rates all 1: explorer calibrate"):
        compile_plan(Schedule.full_model(), Shape(), Budget(10, "device-seconds"), quadratic)
    with pytest.raises(InvalidInput, match="--price"):
        compile_plan(Schedule.full_model(), Shape(), Budget(10, "money"), quadratic)


def test_measured_seconds_do_not_change_what_a_counted_plan_is():
    def timed(rates: Rates) -> StepCost:
        return StepCost(rates, quadratic(rates).flops, 0.1)

    schedule = Schedule.full_model()
    assert (
        compile_plan(schedule, Shape(), Budget(0.5), timed).digest()
        == compile_plan(schedule, Shape(), Budget(0.5), quadratic).digest()
    )
