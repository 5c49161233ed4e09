"""Ledgers for the report's tests: a small real one, and a large one of invented numbers."""

import math
import random
import shutil

import pytest

from explorer import SearchSpace
from explorer.frontier import trials_frame
from explorer.ledger import Ledger, StageOutcome, SweepHeader
from explorer.schedule import Rates, Schedule, Stage
from explorer.sweep.search import Search
from explorer.sweep.trial import run_trial
from tests.conftest import TINY_SPACE, with_search
from tests.test_ledger import make_header, make_record


@pytest.fixture(scope="session")
def real_ledger(tmp_path_factory):
    """A real sweep, its trials run one after the other without Ray."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "tiny.yaml").write_text(TINY_SPACE.replace("epochs: 2", "epochs: 1"))
    space = SearchSpace.load(folder / "tiny.yaml")
    space = with_search(space, trials=8, baseline_trials=2, confirm=1, confirm_seeds=2)
    ledger = Ledger(folder / "tiny")
    ledger.create(
        SweepHeader(name="tiny", space=space.model_dump(mode="json"), created=1.0, versions={"torch": "2"}, hardware="here")
    )
    search = Search(space)
    while len(ledger.records()) < search.planned:
        trial = search.next()
        search.finished(run_trial(trial, space, ledger))
    return ledger


@pytest.fixture(scope="session")
def large_ledger(tmp_path_factory):
    """A thousand trials at five budgets: invented numbers in real files."""
    ledger = Ledger(tmp_path_factory.mktemp("large") / "large")
    fill(ledger, 1000)
    return ledger


def fill(ledger: Ledger, count: int) -> None:
    """Write a header and so many records with three-stage schedules."""
    generator = random.Random(0)
    header = make_header("large")
    space = {**header.space, "recipe": {"epochs": 10, "batch_size": 32, "curve": {"kind": "linear", "warmup": 0.05}}}
    ledger.create(header.model_copy(update={"space": space}))
    budgets = ("5%", "10%", "20%", "40%", "100%")
    for number in range(count):
        budget, kind = budgets[number % 5], "baseline" if number % 4 == 0 else "staged"
        share = float(budget.rstrip("%")) / 100
        first, second = sorted((generator.randint(0, 16), generator.randint(0, 16)))
        units = (first, second - first, 20 - second) if kind == "staged" else (0, 0, 20)
        rates = (Rates(heads=0.25, mlp=0.25, tokens=0.25), Rates(heads=0.5, mlp=0.5, tokens=0.5), Rates())
        pairs = [(r, u) for r, u in zip(rates, units, strict=True) if u]
        schedule = Schedule(stages=tuple(Stage(rates=r, duration_ratio=u / 20) for r, u in pairs))
        steps = {0.25: 16, 0.5: 4, 1.0: 1}
        stages = tuple(
            StageOutcome(
                rates=r,
                steps=max(1, round(share * 50 * u * steps[r.heads])),
                step_flops=1600 // steps[r.heads],
                flops=round(share * 1e6 * u / 20),
                seconds=share * 40 * u / 20,
                mean_loss=2.0,
            )
            for r, u in pairs
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
            }
        )
        trial = record.trial.model_copy(
            update={"schedule": schedule, "learning_rate": 10 ** generator.uniform(-4, -2), "batch_size": generator.choice((16, 32))}
        )
        started = 1000.0 + number // 4 * 40
        changes = {"trial": trial, "outcome": outcome, "started": started, "finished": started + share * 40}
        ledger.append(record.model_copy(update={**changes, "worker": f"node:{number % 4}"}))


@pytest.fixture
def copied(real_ledger, tmp_path):
    """The real sweep in a folder that a test may write to."""
    shutil.copytree(real_ledger.location, tmp_path / "tiny")
    return Ledger(tmp_path / "tiny")


@pytest.fixture(scope="session")
def real_trials(real_ledger):
    """The real sweep as a table."""
    return trials_frame(real_ledger.records())
