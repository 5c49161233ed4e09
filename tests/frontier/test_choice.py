import pytest

from explorer import Budget, InvalidInput
from explorer.frontier import best_by_budget, best_schedule, candidates, trials_frame, untrained_budget
from explorer.spec.metric import MetricSpec
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
    assert (provenance.trial, provenance.seed, provenance.validation) == ("base", 0, 0.85)
    assert (provenance.mean_validation, provenance.seeds, provenance.model) == (0.83, 1, "vit")


def test_seeds_that_agree_exactly_predict_no_other_run_without_the_floor_of_the_images():
    """Three fresh seeds of AUC 1.0: an interval without width would call a run of .9999 outside."""
    auc = MetricSpec(name="auc", label="AUC", direction="maximize", low=0, high=1)
    records = [make_record("a", test=1.0)]
    records += [make_record(f"a-seed{seed}", repeat_of="a", seed=seed, test=1.0) for seed in (1, 2, 3)]

    def provenance(records):
        return best_schedule(trials_frame(records, make_header()), make_header(), Budget(0.25)).provenance

    of_auc = [each.model_copy(update={"outcome": each.outcome.model_copy(update={"metric": auc})}) for each in records]
    assert (provenance(of_auc).seeds, provenance(of_auc).mean_test) == (3, 1.0)
    assert provenance(of_auc).expected_test is None
    # Seeds that differ by .1 have one: 4.3027 * .1 / sqrt(3) * sqrt(1 + 3) on either side of the mean, up to 1.
    values = (0.7, 0.8, 0.9)
    spread = [
        each.model_copy(update={"outcome": each.outcome.model_copy(update={"test": value})})
        for each, value in zip(of_auc[1:], values, strict=True)
    ]
    assert provenance([of_auc[0], *spread]).expected_test == pytest.approx((0.8 - 0.49683, 1.0), abs=1e-5)


def trained(**means):
    """Records of staged training and baseline at budgets: `staged_10=.8`, the mean of two fresh seeds."""
    records = []
    for name, mean in means.items():
        kind, percent = name.split("_")
        records.append(make_record(name, kind=kind, budget=f"{percent}%", validation=mean, test=mean))
        for seed, step in ((1, -0.005), (2, 0.005)):
            accuracies = {"validation": mean + step, "test": mean + step}
            records.append(
                make_record(f"{name}-{seed}", kind=kind, budget=f"{percent}%", repeat_of=name, seed=seed, **accuracies)
            )
    return trials_frame(records)


CURVES = {"staged_10": 0.7, "staged_20": 0.8, "staged_40": 0.86, "baseline_10": 0.5, "baseline_20": 0.65, "baseline_40": 0.87}


def test_a_budget_that_was_not_trained_has_a_neighbours_schedule_and_a_prediction():
    trials = trained(**CURVES)
    between, above = (best_schedule(trials, make_header(), Budget(amount)).provenance for amount in (0.15, 0.8))
    assert between.trial == "staged_20"  # the next more expensive budget
    assert above.trial == "baseline_40"  # the most expensive budget, where the baseline is better on validation data
    assert (str(between.prediction.budget), between.prediction.trained_budgets) == ("15%", 3)
    low, high = between.prediction.interval
    assert 0.7 < low < between.prediction.test < high < 0.85
    assert between.prediction.run_interval[0] < low
    assert between.prediction.run_interval[1] > high
    assert above.prediction.test > 0.87
    assert best_schedule(trials, make_header(), Budget(0.2)).provenance.prediction is None


def test_a_budget_in_the_sweeps_currency_is_a_share_of_full_training():
    trials = trained(**CURVES)  # full training costs 100,000 FLOPs
    in_flops, share = (
        untrained_budget(best_by_budget(trials), trials, make_header(), Budget.parse(budget))
        for budget in ("30000 FLOPs", "30%")
    )
    assert in_flops.cost == share.cost == pytest.approx(0.3)
    assert in_flops.expected("staged") == share.expected("staged")
    for other in ("2 GPU-hours", "100 GMACs-epochs"):
        with pytest.raises(InvalidInput, match="must be a share of full training or in FLOPs"):
            best_schedule(trials, make_header(), Budget.parse(other))


@pytest.mark.parametrize(("flops", "trained_budget"), [("20000", "20%"), ("19990", "20%"), ("19900", None), ("40000", "40%")])
def test_a_trained_budget_is_known_in_another_unit(flops, trained_budget):
    trials = trained(**CURVES)  # full training costs 100,000 FLOPs: 19,990 are 20 % less one part in 2,000
    provenance = best_schedule(trials, make_header(), Budget.parse(f"{flops} FLOPs")).provenance
    assert (provenance.prediction is None) == (trained_budget is not None)
    if trained_budget:
        assert str(provenance.budget) == trained_budget


@pytest.mark.parametrize(("gpus", "own", "other"), [(0, "CPU", "GPU"), (1, "GPU", "CPU")])
def test_time_of_another_kind_of_device_is_no_budget_of_a_sweep(gpus, own, other):
    header = make_header()
    resources = header.space.resources.model_copy(update={"gpus": gpus})
    space = header.space.model_copy(update={"currency": "device_seconds", "resources": resources, "price": 36.0})
    header = header.model_copy(update={"space": space})
    seconds = {"currency": "device_seconds", "planned_seconds": 2.0, "charged_seconds": 2.0, "full_seconds": 10.0}
    record = make_record("a", budget="20%")
    record = record.model_copy(update={"outcome": record.outcome.model_copy(update=seconds)})
    trials = trials_frame([record], header)
    for budget in (f"2 {own}-seconds", "2 device-seconds", "20%", "$0.02"):  # at 36 an hour, .02 buys 2 seconds
        assert best_schedule(trials, header, Budget.parse(budget)).provenance.trial == "a"
    with pytest.raises(InvalidInput, match=rf"2 {other}-seconds': the sweep counts time of {own}s"):
        best_schedule(trials, header, Budget.parse(f"2 {other}-seconds"))


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ("5%", "cannot be predicted: only 10% to 400% of full training can be predicted: from the cheapest trained budget"),
        ("500%", "from the cheapest trained budget to 10 times the most expensive one, 40%; the sweep trained 10%, 20%, 40%"),
    ],
)
def test_budgets_that_no_law_reaches_are_refused_in_one_line(budget, reason):
    with pytest.raises(InvalidInput) as caught:
        best_schedule(trained(**CURVES), make_header(), Budget.parse(budget))
    assert str(caught.value).startswith(f"budget: '{budget}': not trained, and the accuracy of ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_budget_predicts_nothing():
    with pytest.raises(InvalidInput, match=r"budget: '30%': not trained, .* needs at least 2 trained budgets, and there is 1"):
        best_schedule(trials_frame([make_record()]), make_header(), Budget(0.3))


def test_accuracies_that_fall_with_cost_predict_nothing():
    with pytest.raises(
        InvalidInput, match=r"falls from 80.0% at 20% to 60.0% at 40%, which no law of error against cost allows"
    ):
        best_schedule(trained(staged_10=0.7, staged_20=0.8, staged_40=0.6), make_header(), Budget(0.3))


def test_a_sweep_without_a_finished_trial_is_refused():
    for records in ([], [make_record(status="failed", reason="x", outcome=None)]):
        with pytest.raises(InvalidInput, match="has no finished trial"):
            best_schedule(trials_frame(records), make_header(), Budget(0.25))
