import pytest

from explorer.frontier import trials_frame
from explorer.frontier.settings import settings_table
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage
from tests.ledger.test_ledger import make_record


def record(id, *stages, learning_rate=1e-3, staging=None, **changes):
    """From (rates, duration ratio)."""
    schedule = Schedule(stages=tuple(Stage(rates=rates, duration_ratio=ratio) for rates, ratio in stages))
    made = make_record(id, **changes)
    trial = made.trial.model_copy(update={"schedule": schedule, "learning_rate": learning_rate, "staging": staging or {}})
    return made.model_copy(update={"trial": trial})


HALF, QUARTER = Rates(heads=0.5, mlp=0.5, tokens=0.5), Rates(heads=0.25, mlp=0.25, tokens=0.25)


def test_schedules_are_aligned_at_the_full_model():
    table = settings_table(
        trials_frame(
            [
                record("a", (QUARTER, 0.2), (HALF, 0.3), (Rates(), 0.5), validation=0.9),
                record("b", (HALF, 0.6), (Rates(), 0.4), learning_rate=2e-3, finished=2.0),
                record("c", (Rates(), 1.0), finished=3.0),
            ]
        )
    )
    assert table.columns.tolist()[4:] == ["share 1", "share 2", "full share", "rate 1", "rate 2", "learning_rate"]
    assert table.iloc[:, 4:].to_numpy().tolist() == [
        pytest.approx([0.2, 0.3, 0.5, 0.25, 0.5, 1e-3]),
        pytest.approx([0, 0.6, 0.4, 0.5, 0.5, 2e-3]),  # a first stage of zero length, with the rates of the next
        pytest.approx([0, 0, 1, 1, 1, 1e-3]),
    ]
    assert table.id.tolist() == ["a", "b", "c"]
    assert table.validation[0] == 0.9


def test_axes_that_move_separately_have_their_own_columns_and_constant_ones_have_none():
    wide = Rates(heads=0.25, mlp=0.5)
    table = settings_table(
        trials_frame(
            [
                record("a", (wide, 0.5), (Rates(), 0.5), staging={"subset": "leading"}),
                record("b", (Rates(heads=0.5, mlp=0.5), 0.5), (Rates(), 0.5), staging={"subset": "random"}, finished=2.0),
            ]
        )
    )
    assert table.columns.tolist()[4:] == ["share 1", "full share", "heads 1", "subset"]  # mlp is .5 in both
    assert table.subset.tolist() == ["leading", "random"]


def test_only_completed_staged_search_trials_count():
    records = [
        record("a", (Rates(), 1.0)),
        record("a-seed1", (Rates(), 1.0), repeat_of="a", seed=1, finished=2.0),
        make_record("b", kind="baseline", finished=3.0),
        make_record("c", status="failed", outcome=None, reason="x", finished=4.0),
    ]
    assert settings_table(trials_frame(records)).id.tolist() == ["a"]
    assert settings_table(trials_frame(records[2:])).empty
