import math

import pytest

from explorer import Rates, Schedule, Stage
from explorer.frontier import trials_frame
from explorer.frontier.ranks import rank_correlations
from tests.ledger.test_ledger import make_record


def schedule(units: int) -> Schedule:
    stages = (Stage(rates=Rates(heads=0.5), duration_ratio=units / 20), Stage(rates=Rates(), duration_ratio=1 - units / 20))
    return Schedule(stages=stages, grid=20)


def trials(**accuracies):
    """By budget, the accuracies of schedules 1, 2, ..."""
    records = []
    for budget, values in accuracies.items():
        for number, value in enumerate(values, 1):
            record = make_record(f"{budget}-{number}", budget=f"{budget[1:]}%", validation=value)
            records.append(record.model_copy(update={"trial": record.trial.model_copy(update={"schedule": schedule(number)})}))
    return trials_frame(records)


def test_spearman_by_hand():
    # Ranks 1 2 3 4 5 against 2 1 3 5 4: 1 - 6 * (1 + 1 + 0 + 1 + 1) / (5 * 24) = .8; the sixth is not common.
    table = rank_correlations(trials(b25=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6), b50=(0.5, 0.4, 0.6, 0.9, 0.8)))
    assert table[["budget", "next_budget", "common"]].to_numpy().tolist() == [["25%", "50%", 5]]
    assert table.spearman[0] == pytest.approx(0.8)


def test_too_few_in_common_give_no_number():
    table = rank_correlations(trials(b25=(0.1, 0.2), b50=(0.5, 0.4)))
    assert table.common.tolist() == [2]
    assert math.isnan(table.spearman[0])


def test_one_budget_has_no_neighbour():
    assert rank_correlations(trials(b25=(0.1, 0.2))).empty
