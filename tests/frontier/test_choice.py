import pytest

from explorer import Budget, InvalidInput
from explorer.frontier import best_by_budget, best_schedule, candidates, trials_frame
from explorer.spec.model_input import ModelInput
from tests.ledger.test_ledger import make_header, make_record


def test_means_are_over_fresh_seeds_only():
    records = [
        make_record("a", validation=0.95, test=0.94),
        make_record("a-seed1", repeat_of="a", seed=1, validation=0.80, test=0.78),
        make_record("a-seed2", repeat_of="a", seed=2, validation=0.90, test=0.88),
    ]
    (row,) = candidates(trials_frame(records)).to_dict("records")
    assert (row["id"], row["seeds"], row["repeated"]) == ("a", 2, True)
    assert row["validation_mean"] == pytest.approx(0.85)
    assert row["test_mean"] == pytest.approx(0.83)


def test_a_lucky_seed_does_not_win_against_a_repeated_trial():
    records = [
        make_record("lucky", validation=0.99),
        make_record("steady", validation=0.95),
        make_record("steady-seed1", repeat_of="steady", seed=1, validation=0.94),
    ]
    assert best_by_budget(trials_frame(records)).id.tolist() == ["steady"]


def test_the_choice_is_made_on_validation_and_by_budget_and_kind():
    records = [
        make_record("a", validation=0.8, test=0.9),
        make_record("b", validation=0.9, test=0.8),
        make_record("base", kind="baseline", validation=0.7),
        make_record("cheap", budget="5%", validation=0.5),
        make_record("failed", status="failed", reason="x", outcome=None),
    ]
    table = best_by_budget(trials_frame(records))
    assert table[["budget", "kind", "id"]].to_numpy().tolist() == [
        ["5%", "staged", "cheap"],
        ["25%", "staged", "b"],
        ["25%", "baseline", "base"],
    ]
    assert table.cost.tolist() == [0.05, 0.25, 0.25]


def test_the_best_schedule_carries_its_provenance():
    records = [
        make_record("a", validation=0.8),
        make_record("base", kind="baseline", validation=0.85, test=0.84),
        make_record("base-seed1", kind="baseline", repeat_of="base", seed=1, validation=0.83, test=0.82),
    ]
    seen = ModelInput(class_names=("cat", "dog"), image_size=8, channels=3)
    header = make_header().model_copy(update={"model_input": seen})
    provenance = best_schedule(trials_frame(records), header, Budget(0.25)).provenance
    assert provenance.model_input == seen
    assert (provenance.trial, provenance.seed, provenance.validation_accuracy) == ("base", 0, 0.85)
    assert (provenance.mean_validation_accuracy, provenance.seeds, provenance.model) == (0.83, 1, "vit")


def test_budgets_that_were_not_measured_are_refused():
    with pytest.raises(InvalidInput, match="budget: '30%': not measured; the sweep has 25%"):
        best_schedule(trials_frame([make_record()]), make_header(), Budget(0.3))


def test_a_sweep_without_a_finished_trial_is_refused():
    for records in ([], [make_record(status="failed", reason="x", outcome=None)]):
        with pytest.raises(InvalidInput, match="has no finished trial"):
            best_schedule(trials_frame(records), make_header(), Budget(0.25))
