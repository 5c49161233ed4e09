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
    frozen_until: float = 0.0


@pytest.mark.nightly
def test_costs_are_within_one_percent_of_the_paper(capsys):
    """One test, so that each model is counted once."""
    for label in paper_costs.MODELS:
        table = list(paper_costs.rows(label))
        compared = [row for row in table if row.compared]
        assert len(compared) == (4 if label == "DeiT-B" else 8)
        for row in compared:
            assert row.ours == pytest.approx(row.paper, rel=0.01), row
        left_out = [row.what for row in table if not row.compared]
        assert left_out == (["150 100 50", "100 100 100", "50 50 200"] if label == "DeiT-B" else [])
    assert paper_costs.main() == 0
    assert "DeiT-B: the paper's total costs do not follow from its own stage costs" in capsys.readouterr().out


def test_a_budget_in_the_unit_of_the_paper_buys_the_epochs_of_the_paper():
    """Its DeiT-S at 25 %: 29, 49 and 50 epochs, or 343.7 / 4.61 = 74.6 epochs of the full model."""
    task, counter, epochs = ImageNet(), paper_costs.counter("DeiT-S"), (29, 49, 50)
    model, budget = paper_costs.MODELS["DeiT-S"], Budget.parse("343.7 GMACs-epochs")
    costs = [length * cost for length, cost in zip(epochs, model.stage_gmacs, strict=True)]
    stages = [Stage(rates=each, duration_ratio=cost / sum(costs)) for each, cost in zip(model.stages, costs, strict=True)]

    def step_cost(rates):
        return counter.step_cost(rates, task.batch_size)

    plan = compile_plan(Schedule(stages=stages, grid=1000), task, budget, step_cost)
    assert [plan.epochs(row.steps) for row in plan.stages()] == pytest.approx(epochs, rel=0.01)
    assert plan.gmacs_epochs == pytest.approx(343.7, rel=1e-4)
    assert plan.gmacs_epochs <= 343.7
    full = compile_plan(Schedule.full_model(), task, budget, step_cost)
    assert full.epochs(full.steps) == pytest.approx(74.6, rel=0.002)


def test_a_cost_that_is_off_is_seen():
    row = paper_costs.Row("Swin-S", "stage 1", "GMACs", 1.32, 1.725)  # before windows shrank with the image
    assert row.off
    assert not paper_costs.Row("Swin-S", "stage 1", "GMACs", 1.32, 1.31).off
