"""Forward costs against "Budgeted Training for Vision Transformer" (ICLR 2023): its Table 6, and the totals of its Tables 1 and 14.

The paper's numbers are in `benchmarks/paper_costs.py`, which prints all of them. Counted on the meta device.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from explorer import Budget, LearningRateSchedule, Schedule, compile_plan
from explorer.spec.schedule import Stage

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import paper_costs  # a script, found by the line above

COSINE = LearningRateSchedule(kind="cosine")


@dataclass(frozen=True)
class ImageNet:
    """300 epochs of the paper's training set."""

    train_images: int = 1_281_167
    epochs: float = 300
    batch_size: int = 1024
    lr_schedule: LearningRateSchedule = COSINE


@pytest.mark.parametrize("label", list(paper_costs.MODELS))
def test_costs_are_within_one_percent_of_the_paper(label):
    compared = [row for row in paper_costs.rows(label) if row.compared]
    assert len(compared) == (4 if label == "DeiT-B" else 8)
    for row in compared:
        assert row.ours == pytest.approx(row.paper, rel=0.01), row


@pytest.mark.parametrize(
    ("label", "budget", "epochs", "full_epochs"),
    # The epochs of the paper's 25 % schedules, and 300 epochs of its full models at the same costs: 343.7 / 4.61, 648 / 8.77.
    [("DeiT-S", "343.7 GMACs-epochs", (29, 49, 50), 74.6), ("Swin-S", "648 GMACs-epochs", (29, 35, 55), 73.9)],
)
def test_a_budget_in_the_papers_unit_buys_the_papers_epochs(label, budget, epochs, full_epochs):
    task, counter = ImageNet(), paper_costs.counter(label)
    costs = [length * cost for length, cost in zip(epochs, paper_costs.MODELS[label].stage_gmacs, strict=True)]
    rates = paper_costs.MODELS[label].stages
    stages = [Stage(rates=each, duration_ratio=cost / sum(costs)) for each, cost in zip(rates, costs, strict=True)]

    def step_cost(rates):
        return counter.step_cost(rates, task.batch_size)

    plan = compile_plan(Schedule(stages=stages, grid=1000), task, Budget.parse(budget), step_cost)
    assert [plan.epochs(row.steps) for row in plan.stages()] == pytest.approx(epochs, rel=0.01)
    assert plan.gmacs_epochs == pytest.approx(plan.budget.amount, rel=1e-4)
    assert plan.gmacs_epochs <= plan.budget.amount
    full = compile_plan(Schedule.full_model(), task, Budget.parse(budget), step_cost)
    assert full.epochs(full.steps) == pytest.approx(full_epochs, rel=0.002)


def test_the_inconsistent_costs_of_deit_b_are_named_and_not_compared(capsys):
    assert [row.what for row in paper_costs.rows("DeiT-B") if not row.compared] == ["150 100 50", "100 100 100", "50 50 200"]
    assert paper_costs.main() == 0
    assert "DeiT-B: the paper's total costs do not follow from its own stage costs" in capsys.readouterr().out


def test_a_cost_that_is_off_is_seen():
    row = paper_costs.Row("Swin-S", "stage 1", "GMACs", 1.32, 1.725)  # before windows shrank with the image
    assert row.off
    assert not paper_costs.Row("Swin-S", "stage 1", "GMACs", 1.32, 1.31).off
