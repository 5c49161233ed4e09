"""A synthetic ledger of any size: made-up numbers in real files."""

import math
import random

from explorer.ledger import Ledger, StageOutcome
from explorer.spec.budget import Budget
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.rates import Rates
from explorer.spec.recipe import Recipe
from explorer.spec.schedule import Schedule, Stage
from tests.ledger.test_ledger import make_header, make_record

LINEAR = LearningRateSchedule(kind="linear", warmup=0.05)


def fill(ledger: Ledger, count: int, lr_schedule: LearningRateSchedule = LINEAR) -> None:
    """Write a header and `count` records of three-stage schedules and baselines."""
    generator = random.Random(0)
    header = make_header("large")
    recipe = Recipe(epochs=10, batch_size=32, learning_rate=1e-3, lr_schedule=lr_schedule)
    task = header.space.task.model_copy(update={"recipe": recipe})
    budgets = ("5%", "10%", "20%", "40%", "100%")
    space = header.space.model_copy(update={"task": task, "budgets": tuple(map(Budget.parse, budgets))})
    ledger.create(header.model_copy(update={"space": space}))
    for number in range(count):
        budget, kind = budgets[number % 5], "baseline" if number % 4 == 0 else "staged"
        share = float(budget.rstrip("%")) / 100
        first, second = sorted((generator.randint(0, 16), generator.randint(0, 16)))
        slots = (first, second - first, 20 - second) if kind == "staged" else (0, 0, 20)
        rates = (Rates(heads=0.25, mlp=0.25, tokens=0.25), Rates(heads=0.5, mlp=0.5, tokens=0.5), Rates())
        pairs = [(r, n) for r, n in zip(rates, slots, strict=True) if n]
        schedule = Schedule(stages=tuple(Stage(rates=r, duration_ratio=n / 20) for r, n in pairs))
        steps = {0.25: 16, 0.5: 4, 1.0: 1}
        stages = tuple(
            StageOutcome(
                rates=r,
                steps=max(1, round(share * 50 * n * steps[r.heads])),
                step_flops=1600 // steps[r.heads],
                flops=round(share * 1e6 * n / 20),
                seconds=share * 40 * n / 20,
                mean_loss=2.0,
            )
            for r, n in pairs
        )
        accuracy = 1 - 0.04 * math.exp(-generator.gauss(0, 0.2)) / share ** (0.5 if kind == "staged" else 0.7)
        record = make_record(
            f"{budget.rstrip('%')}pct-{kind}-{number:03d}", kind=kind, budget=budget, validation=accuracy, test=accuracy - 0.01
        )
        outcome = record.outcome.model_copy(
            update={
                "stages": stages,
                "planned_flops": round(share * 1e6),
                "executed_flops": round(share * 5e5),
                "full_flops": 1_000_000,
                "train_seconds": share * 40,
                "losses": tuple(2 * 0.9**step for step in range(20)),
                "segment_ends": tuple((step + 1) / 20 for step in range(20)),
            }
        )
        trial = record.trial.model_copy(
            update={
                "schedule": schedule,
                "learning_rate": 10 ** generator.uniform(-4, -2),
                "batch_size": generator.choice((16, 32)),
            }
        )
        started = 1000.0 + number // 4 * 40
        changes = {"trial": trial, "outcome": outcome, "started": started, "finished": started + share * 40}
        ledger.append(record.model_copy(update={**changes, "worker": f"node:{number % 4}"}))
