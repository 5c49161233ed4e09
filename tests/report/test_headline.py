"""The headline, worked out by hand: a difference counts only where the 95 % intervals are apart."""

from dataclasses import replace

import pytest

from explorer.frontier import trials_frame
from explorer.report.frontier_data import frontier_data
from explorer.report.headline import ahead_count, headline, match_verdict, undecided_text, verdict_text
from tests.ledger.test_ledger import make_header, make_inventory, make_record


def sweep(*means, spread=0.001, seeds=3, test_images=None):
    """Trials from (kind, budget, mean test accuracy): one searched run each, and its repeats around the mean.

    Three seeds at mean - spread, mean and mean + spread have a standard error of spread / sqrt(3) and an interval of
    4.303 * spread / sqrt(3) = 2.48 * spread on either side.
    """
    records = []
    for kind, budget, mean in means:
        name = f"{kind}-{budget}"
        records.append(make_record(name, kind=kind, budget=budget, validation=mean, test=mean))
        steps = {0: (), 3: (-spread, 0.0, spread)}[0 if seeds == 1 else seeds]
        for seed, step in enumerate(steps, start=1):
            accuracies = {"validation": mean + step, "test": mean + step}
            repeat = {"repeat_of": name, "seed": seed, "finished": 2.0}
            records.append(make_record(f"{name}-{seed}", kind=kind, budget=budget, **accuracies, **repeat))
    header = make_header()
    if test_images:
        header = header.model_copy(update={"inventory": make_inventory(test_images)})
    return frontier_data(trials_frame(records, header))


def test_what_remains_at_equal_time_is_said_where_budgets_count_flops():
    data = sweep(("staged", "25%", 0.8), ("baseline", "25%", 0.6), ("staged", "50%", 0.9), ("baseline", "50%", 0.88))
    by_budget = {"25%": {"staged": 20.0, "baseline": 10.0}, "50%": {"staged": 40.0, "baseline": 20.0}}
    seconds = [by_budget[row.budget][row.kind] for row in data.curves.itertuples()]
    slow = replace(data, curves=data.curves.assign(train_seconds=seconds))
    # In the 20 s of the second baseline there is the first staged training, with 80 against 88 %.
    assert slow.summary.startswith(
        f"{slow.headline} Where the two can be compared at equal measured time, staging is ahead at none of 1 budget, behind at 1. "
        "Found for "
    )
    by_time = replace(slow, runs=slow.runs.assign(currency="device_seconds"))
    several = replace(slow, runs=slow.runs.assign(device=["cpu", *["NVIDIA L4"] * (len(slow.runs) - 1)]))
    single = sweep(("staged", "25%", 0.8), ("baseline", "25%", 0.6), seeds=1)
    assert not any("at equal measured time" in other.summary for other in (by_time, several, single))
    assert by_time.at_equal_time
    assert not several.at_equal_time


def test_apart():
    data = sweep(("staged", "25%", 0.8), ("baseline", "25%", 0.6))
    assert [comparison.verdict for comparison in data.comparisons] == ["ahead"]
    assert data.headline == (
        "Staging is ahead at 1 of 1 budget, most at 25% of full training: 80.0% against 60.0% "
        "(95 % intervals apart, means of 3 seeds)."
    )


def test_the_intervals_decide_to_the_digit():
    # Intervals of 2.48 * .01 on either side of .65 and .60 meet at a distance of .0497.
    assert sweep(("staged", "25%", 0.6497), ("baseline", "25%", 0.6), spread=0.01).comparisons[0].verdict == "ahead"
    assert sweep(("staged", "25%", 0.6496), ("baseline", "25%", 0.6), spread=0.01).comparisons[0].verdict == "undecided"


def test_few_test_images_decide_nothing_however_much_the_seeds_agree():
    points = ("staged", "25%", 0.318), ("baseline", "25%", 0.3)
    assert sweep(*points, spread=0).headline == (  # three seeds with equal results have no interval
        "Whether staging is ahead is not decided at 25% of full training: one seed, or seeds with equal results, give no "
        "interval, and only repeats with fresh seeds can decide."
    )
    assert sweep(*points, spread=1e-6).comparisons[0].verdict == "ahead"  # the number of test images is not known
    data = sweep(*points, spread=0, test_images=96)
    # (.318 * 96 + 2) / 100 is .3253, and half of the interval 1.96 * sqrt(.3253 * .6747 / 100), about .092.
    assert data.curves.test_high[0] - data.curves.test_mean[0] == pytest.approx(1.96 * (0.3253 * 0.6747 / 100) ** 0.5, abs=1e-4)
    assert [verdict_text(comparison) for comparison in data.comparisons] == ["not distinguishable with 3 seeds"]
    assert ahead_count(data.comparisons) == "none of 1 budget"


def test_an_interrupted_sweep_counts_what_is_decided_and_names_the_rest():
    repeated = sweep(("staged", "25%", 0.8), ("baseline", "25%", 0.6))
    single = sweep(("staged", "100%", 0.95), ("baseline", "100%", 0.7), seeds=1)
    comparisons = [*repeated.comparisons, *single.comparisons]
    assert headline(comparisons, None) == (
        "Staging is ahead at 1 of 2 budgets, most at 25% of full training: 80.0% against 60.0% "
        "(95 % intervals apart, means of 3 seeds). At 1 other, nothing is decided: one seed each gives no interval."
    )
    assert ahead_count(comparisons) == "1 of 2 budgets"


def test_overlapping_intervals_are_no_win():
    data = sweep(("staged", "25%", 0.64), ("baseline", "25%", 0.6), spread=0.01)
    assert data.headline == (
        "Staged and baseline training are not distinguishable with 3 seeds at 25% of full training: "
        "their 95 % intervals overlap."
    )
    by_time = headline(data.comparisons, data.match, "device_seconds")
    assert "at 25% of full training, at equal device-seconds: their" in by_time


def test_one_seed_each_decides_nothing():
    data = sweep(
        ("staged", "25%", 0.93), ("baseline", "25%", 0.6), ("staged", "100%", 0.95), ("baseline", "100%", 0.92), seeds=1
    )
    assert [comparison.verdict for comparison in data.comparisons] == ["undecided", "undecided"]
    assert data.headline == (
        "Whether staging is ahead is not decided at any of 2 budgets: "
        "one seed each gives no interval, and only repeats with fresh seeds can decide."
    )
    assert {verdict_text(each) for each in data.comparisons} == {"not decided: one seed each gives no interval"}
    assert match_verdict(data.match) == ("undecided", "estimate 25% or less; one seed, no interval")


def test_budgets_with_and_without_intervals_are_told_apart():
    repeated = sweep(("staged", "25%", 0.64), ("baseline", "25%", 0.6), spread=0.01)
    single = sweep(("staged", "100%", 0.95), ("baseline", "100%", 0.7), seeds=1)
    comparisons = [*repeated.comparisons, *single.comparisons]
    assert undecided_text(comparisons) == "not distinguishable with 3 seeds, or not decided where there is no interval"
    one_sided = replace(repeated.comparisons[0], staged=single.comparisons[0].staged)
    assert verdict_text(one_sided) == "not decided: one seed gives no interval"


def test_staging_loses():
    data = sweep(("staged", "25%", 0.5), ("baseline", "25%", 0.6))
    assert data.headline == (
        "Staging is ahead at no budget and behind at 1 of 1 budget (95 % intervals apart, means of 3 seeds)."
    )
    assert match_verdict(data.match) == ("not measured", "")


def test_ahead_at_one_budget_and_behind_at_another():
    data = sweep(("staged", "25%", 0.8), ("baseline", "25%", 0.6), ("staged", "100%", 0.9), ("baseline", "100%", 0.92))
    assert data.headline == (
        "Staging is ahead at 1 of 2 budgets, most at 25% of full training: 80.0% against 60.0% "
        "(95 % intervals apart, means of 3 seeds). It is behind at 1."
    )
    assert match_verdict(data.match) == ("not reached", "below the cost of full training")


def test_what_staging_does_above_its_measured_budgets_is_not_known():
    """Staged training was tried at 5 and 10 % only, and is below full training there. At 100 % it may be far above."""
    data = sweep(("staged", "5%", 0.5), ("staged", "10%", 0.6), ("baseline", "5%", 0.4), ("baseline", "100%", 0.9))
    assert match_verdict(data.match) == ("not known", "staged training was measured up to 10% only")
    assert data.headline.startswith("Staging is ahead at 1 of 1 budget, most at 5% of full training")
    reached = sweep(("staged", "5%", 0.5), ("staged", "10%", 0.92), ("baseline", "5%", 0.4), ("baseline", "100%", 0.9))
    assert match_verdict(reached.match)[1].startswith("of its cost; 95 % interval ")  # by what was measured


def test_a_certain_match_of_full_training():
    data = sweep(("staged", "25%", 0.80), ("staged", "100%", 0.96), ("baseline", "25%", 0.6), ("baseline", "100%", 0.88))
    # .88 is half way from .80 to .96: at half way between the logarithms of 25 % and 100 %, which is 50 %.
    assert data.match.match.cost == pytest.approx(0.5, rel=1e-3)
    assert data.match.match.low < 0.5 < data.match.match.high
    assert data.headline.startswith("Staging matches full training (88.0% test accuracy) at 50% of its cost (95 % interval ")
    value, remark = match_verdict(data.match)
    assert value == "50%"
    assert remark.startswith("of its cost; 95 % interval 4")


def test_an_uncertain_match_is_not_claimed():
    data = sweep(
        ("staged", "25%", 0.80), ("staged", "100%", 0.90), ("baseline", "25%", 0.79), ("baseline", "100%", 0.88), spread=0.02
    )
    assert data.match.reached
    assert not data.match.certain
    assert data.headline.startswith("Staged and baseline training are not distinguishable with 3 seeds at any of 2 budgets")
    value, remark = match_verdict(data.match)
    assert value == "undecided"
    assert remark.startswith("estimate ")
    assert remark.endswith("to above 100%")


def test_budgets_of_one_kind_only_are_not_compared():
    data = sweep(("staged", "25%", 0.5), ("baseline", "50%", 0.6))
    assert data.headline == "Staged and baseline training have no budget in common yet."


def test_what_finding_out_cost_contains_the_trials_on_proxies():
    """Two of six trials of a quarter of full training each were on a proxy; they are in no curve."""
    records = [make_record(f"{kind}-{seed}", kind=kind, seed=seed) for kind in ("staged", "baseline") for seed in (0, 1)]
    for number in (0, 1):
        record = make_record(f"proxy1-{number}")
        records.append(record.model_copy(update={"trial": record.trial.model_copy(update={"proxy": 1})}))
    header = make_header()
    trials, all_trials = trials_frame(records, header), trials_frame(records, header, of="all")
    each = trials.executed_cost.iloc[0]
    assert frontier_data(trials).break_even.search_cost == pytest.approx(4 * each)
    assert frontier_data(trials, all_trials).break_even.search_cost == pytest.approx(6 * each)
