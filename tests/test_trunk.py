"""One trunk, many budgets: with a warmup that is a fraction of full training, budgets have the same steps until a cooldown."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer import Budget, InvalidInput, Rates, Schedule, Stage, StepCost, compile_plan
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.training_key import prefix_keys, trunk_length

TRUNK = LearningRateSchedule(kind="wsd", warmup=0.003, warmup_of="full_training")
HALF, THIRD = Rates(heads=0.5), Rates(heads=0.3)


@dataclass(frozen=True)
class Shape:
    """Full training has 3600 steps, so that 4 % are 144 steps exactly: rounding would tell."""

    train_images: int = 1440
    epochs: float = 40
    batch_size: int = 16
    lr_schedule: LearningRateSchedule = TRUNK
    frozen_until: float = 0.0


def cost(rates: Rates) -> StepCost:
    return StepCost(rates, {0.3: 211, 0.5: 401, 1.0: 997}[rates.heads], seconds={0.3: 0.02, 0.5: 0.03, 1.0: 0.07}[rates.heads])


def staged(third: int, half: int, grid: int) -> Schedule:
    slots = ((THIRD, third), (HALF, half), (Rates(), grid - third - half))
    return Schedule(stages=tuple(Stage(rates=rates, duration_ratio=n / grid) for rates, n in slots if n), grid=grid)


def described(segments):
    """What training does in each step."""
    return [(s.requested, s.learning_rate_factor(step)) for s in segments for step in range(s.steps)]


def test_worked_example():
    """Budgets of 5 % and 100 %: 180 and 3600 steps. The warmup is .3 % or 10.8 steps, the cooldown of 5 % begins after 144."""
    small, large = (compile_plan(Schedule.full_model(grid), Shape(), Budget(b), cost) for b, grid in ((0.05, 20), (1.0, 400)))
    assert (small.steps, large.steps) == (180, 3600)
    factors = [factor for _, factor in described(small.segments)]
    assert factors[:12] == pytest.approx([*(n / 10.8 for n in range(1, 11)), 1, 1])
    assert factors[:144] == [factor for _, factor in described(large.segments)][:144]  # in equal bits
    assert set(factors[11:144]) == {1.0}
    assert factors[145] == pytest.approx(35 / 36)
    assert trunk_length(small.segments) == 16  # slots of 9 steps
    assert trunk_length(large.segments) == 320
    assert set(prefix_keys("", small.segments)[:16]) <= set(prefix_keys("", large.segments))
    assert prefix_keys("", small.segments)[15] == prefix_keys("", large.segments)[15]
    assert not set(prefix_keys("", small.segments)[16:]) & set(prefix_keys("", large.segments))


SHARES = ("5%", "7%", "10%", "12.5%", "20%", "29%", "40%", "70%", "100%")


@given(
    st.sampled_from(SHARES),
    st.sampled_from(SHARES),
    st.tuples(st.integers(0, 40), st.integers(0, 40)),
    st.sampled_from([Shape(), Shape(train_images=1437, batch_size=24), Shape(epochs=33.3)]),
    st.sampled_from(["flops", "device_seconds"]),
)
def test_plans_of_two_budgets_have_the_same_steps_until_the_cooldown_of_the_smaller_begins(one, other, stages, task, currency):
    """Slots of .1 % of full training at every budget, with early stages that end within the smaller one."""
    budgets = sorted({Budget.parse(one), Budget.parse(other)})
    slots = [int(Fraction(f"{budget.amount:.12g}") * 1000) for budget in budgets]
    third, half = (share * slots[0] // 100 for share in stages)
    plans = [
        compile_plan(staged(third, half, grid), task, budget, cost, currency=currency)
        for budget, grid in zip(budgets, slots, strict=True)
    ]
    for plan in plans:
        assert (
            plan.planned_cost
            <= plan.budget_cost
            < plan.planned_cost + max(s.amount(currency) // s.steps for s in plan.segments)
        )
    begins = [described(plan.segments[: trunk_length(plan.segments)]) for plan in plans]
    for smaller, larger in pairwise(begins):
        assert smaller == larger[: len(smaller)]
    for plan in plans:
        ends = list(accumulate(s.amount(currency) for s in plan.segments))
        trunk_cost = ends[trunk_length(plan.segments) - 1]
        slot, step = plan.budget_cost / slots[plans.index(plan)], max(s.amount(currency) // s.steps for s in plan.segments)
        assert 0.8 * plan.budget_cost - trunk_cost <= slot + step  # nothing but a slot that the cooldown cuts is left out
    small_keys, large_keys = prefix_keys("", plans[0].segments), prefix_keys("", plans[-1].segments)
    shared = trunk_length(plans[0].segments)
    assert small_keys[: shared - 1] == large_keys[: shared - 1]


@pytest.mark.parametrize("kind", ["linear", "cosine", "rex"])
def test_other_decays_share_the_warmup_alone(kind):
    schedule = LearningRateSchedule(kind=kind, warmup=0.0125, warmup_of="full_training")
    plans = [
        compile_plan(Schedule.full_model(grid), Shape(lr_schedule=schedule), Budget(budget), cost)
        for budget, grid in ((0.05, 20), (0.1, 40))
    ]
    small, large = (prefix_keys("", plan.segments) for plan in plans)
    assert [key in large for key in small] == [True] * 5 + [False] * 14  # slots of .25 %
    factors = [factor for _, factor in described(plans[0].segments)]
    assert factors[44] == 1  # the 45 steps of the warmup
    assert factors[45] == pytest.approx(schedule.at_budget(0.05).factor(45 / 180))


def test_a_budget_without_room_for_the_warmup_is_refused_by_name():
    def compiled(warmup, budget, kind="wsd"):
        schedule = LearningRateSchedule(kind=kind, warmup=warmup, warmup_of="full_training")
        return compile_plan(Schedule.full_model(), Shape(lr_schedule=schedule), Budget.parse(budget), cost)

    assert compiled(0.04, "5%").segments[15].learning_rate_factor(8) == 1
    with pytest.raises(InvalidInput, match=r"lr_schedule.warmup: 0.041: .* 80% of the budget 5%.*: 0.04 of full training"):
        compiled(0.041, "5%")
    assert compiled(0.049, "5%", "linear").steps == 180
    with pytest.raises(InvalidInput, match=r"lr_schedule.warmup: 0.06: .* 100% of the budget 5%: 0.05 of full training"):
        compiled(0.06, "5%", "linear")


def test_the_same_warmup_is_another_share_of_each_budget():
    schedule = LearningRateSchedule(kind="wsd", warmup=0.02, warmup_of="full_training")
    at_budget = schedule.at_budget(0.1)
    assert (at_budget.warmup, at_budget.warmup_of) == (pytest.approx(0.2), "budget")
    assert LearningRateSchedule(warmup=0.02).at_budget(0.1) == LearningRateSchedule(warmup=0.02)
    assert "warmup_of" not in LearningRateSchedule(warmup=0.02).model_dump()
    assert schedule.model_dump()["warmup_of"] == "full_training"
    assert LearningRateSchedule.model_validate(schedule.model_dump()) == schedule


def test_plans_without_such_a_warmup_have_no_trunk():
    task = Shape(lr_schedule=LearningRateSchedule(kind="wsd"))
    assert trunk_length(compile_plan(Schedule.full_model(), task, Budget(0.1), cost).segments) == 0
