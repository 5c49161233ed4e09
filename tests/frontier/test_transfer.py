"""Whether ranks carry over from a proxy to the target: numbers by hand, and what is said of them."""

import math
from dataclasses import replace

import pytest

from explorer.frontier import best_by_budget, trials_frame
from explorer.frontier.transfer import Transfer, spearman_interval, transfers
from explorer.report.panels.transfer import transfer_table
from explorer.spec.rates import Rates
from explorer.spec.schedule import Schedule, Stage
from tests.ledger.test_ledger import make_record

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def staged(share: float) -> Schedule:
    return Schedule(
        stages=(Stage(rates=Rates(heads=0.5), duration_ratio=share), Stage(rates=Rates(), duration_ratio=1 - share)), grid=20
    )


def record(share, validation, number, *, proxy=None, from_proxy=None, budget="25%", **changes):
    made = make_record(
        f"{proxy}-{budget}-{number:03d}", budget=budget, validation=validation, finished=float(number), **changes
    )
    update = {"schedule": staged(share), "proxy": proxy, "from_proxy": from_proxy}
    return made.model_copy(update={"trial": made.trial.model_copy(update=update)})


def frame(on_proxy, on_target, controls=()):
    """Trials of seven schedules with these accuracies on the proxy and on the target."""
    records = [record(share, value, n, proxy=1) for n, (share, value) in enumerate(zip(SHARES, on_proxy, strict=True))]
    for n, (share, value) in enumerate(zip(SHARES, on_target, strict=True), start=len(records)):
        reason = "control" if share in controls else "promoted"
        records.append(record(share, value, n, from_proxy=reason))
    return trials_frame(records, of="all")


def test_rank_correlation_and_regret_by_hand():
    on_proxy = [0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70]
    on_target = [0.80, 0.82, 0.81, 0.86, 0.84, 0.90, 0.88]
    (found,) = transfers(frame(on_proxy, on_target, controls=(0.2, 0.3)))
    # Three pairs of neighbours changed places: the squared differences of ranks sum to 6, and 1 - 6 * 6 / (7 * 48) = .893.
    assert found.spearman == pytest.approx(1 - 36 / 336)
    assert (found.proxy, found.budget, found.promoted, found.controls) == (1, "25%", 5, 2)
    # The seventh schedule is best on the proxy, the sixth on the target.
    assert found.regret == pytest.approx(0.02)
    assert found.ahead_of_control == pytest.approx(0.90 - 0.82)
    # Neither seeds nor the number of images are known: no noise.
    assert found.regret_interval == (pytest.approx(0.02), pytest.approx(0.02))
    assert found.verdict == "carries over"
    assert "carry over to the target: rank correlation 0.89 (" in str(found)
    assert "over 7 schedules, regret 2.0 (2.0 to 2.0) points" in str(found)


def test_the_interval_of_a_rank_correlation_by_hand():
    # z = atanh(.8) = 1.0986; variance (1 + .32) / 7, so half of the interval is 1.96 * .43425 = .85112.
    low, high = spearman_interval(0.8, 10)
    assert low == pytest.approx(math.tanh(1.0986123 - 0.8511145), abs=1e-5)
    assert high == pytest.approx(math.tanh(1.0986123 + 0.8511145), abs=1e-5)
    low, high = spearman_interval(1.0, 7)
    assert high == 1
    assert low == pytest.approx(spearman_interval(1 - 12 / (7 * 48), 7)[0])  # as if two neighbours had changed places
    assert spearman_interval(-1.0, 7) == (-1, pytest.approx(-low))
    assert spearman_interval(0.8, 40)[0] > spearman_interval(0.8, 10)[0]


def test_transfer_that_is_poor_says_so():
    on_proxy = [0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70]
    reversed_ranks = [0.90, 0.88, 0.86, 0.84, 0.82, 0.81, 0.80]
    (found,) = transfers(frame(on_proxy, reversed_ranks, controls=(0.1,)))
    assert found.spearman == -1
    assert found.verdict == "poor"
    assert "carry over poorly, so that better ones may have been missed" in str(found)
    assert str(found).endswith("a control is 2.0 points ahead of all that were promoted")


def test_few_schedules_say_nothing():
    trials = frame([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    four = trials[trials.proxy.notna() | trials.id.isin(trials.id[trials.proxy.isna()].iloc[:4])]
    (found,) = transfers(four)
    assert math.isnan(found.spearman)
    assert found.verdict == "undecided"
    assert "4 schedules are too few to say" in str(found)
    assert transfers(trials[trials.proxy.isna()]) == []
    # Ranks 3 1 2 6 4 7 5 against 1 to 7: squared differences 4 1 1 4 1 1 4, and 1 - 6 * 16 / 336 = .714, from -.2 to .96.
    noisy = transfers(frame([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [0.3, 0.1, 0.2, 0.6, 0.4, 0.7, 0.5]))[0]
    assert noisy.spearman == pytest.approx(1 - 96 / 336)
    assert noisy.spearman_low < 0
    assert noisy.verdict == "undecided"


def test_noise_is_that_of_the_images_and_of_the_seeds():
    on_proxy = list(SHARES)
    on_target = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.52]
    images_alone = transfers(frame(on_proxy, on_target), 96)[0]
    # (.52 * 96 + 2) / 100 = .5192 right of 100: a variance of .5192 * .4808 / 100; twice that for a difference.
    assert images_alone.noise == pytest.approx(1.96 * math.sqrt(2 * 0.5192 * 0.4808 / 100), rel=1e-3)
    assert not images_alone.has_seeds
    records = [record(share, share, n, proxy=1) for n, share in enumerate(SHARES)]
    for n, (share, value) in enumerate(zip(SHARES, on_target, strict=True)):
        records.append(record(share, value, 10 + n, from_proxy="promoted"))
    for seed, value in enumerate((0.5, 0.54), start=1):
        records.append(record(0.7, value, 20 + seed, seed=seed, repeat_of="None-25%-016"))
    found = transfers(trials_frame(records, of="all"))[0]
    assert found.has_seeds
    assert found.noise == pytest.approx(1.96 * math.sqrt(2 * 0.0008), rel=1e-3)  # .5 and .54: a variance of .0008


def test_on_the_target_the_trial_with_the_common_learning_rate_counts():
    records = [record(share, share, n, proxy=1) for n, share in enumerate(SHARES)]
    # The first schedule was tried before with a learning rate of its own, and is promoted from the budget below as well.
    records.append(record(0.1, 0.99, 8))
    records += [record(share, share / 2, 10 + n, from_proxy="promoted") for n, share in enumerate(SHARES)]
    (found,) = transfers(trials_frame(records, of="all"))
    assert (found.spearman, found.regret) == (1, 0)


def test_what_the_proxy_did_not_choose_does_not_count_as_promoted():
    """A control that is best at the cheapest budget comes to the next one from below, and the first guess .5 is of both tasks."""
    proxy = {"5%": (0.5, 0.4, 0.3, 0.45), "25%": (0.7, 0.65, 0.6, 0.68)}
    shares = (0.1, 0.2, 0.3, 0.5)
    records = [
        record(share, value, n, proxy=1, budget=budget)
        for budget, values in proxy.items()
        for n, (share, value) in enumerate(zip(shares, values, strict=True))
    ]
    cheap = [(0.1, 0.50, "promoted"), (0.2, 0.55, "control"), (0.3, 0.40, "control"), (0.5, 0.60, None)]
    records += [record(share, value, 10 + n, budget="5%", from_proxy=why) for n, (share, value, why) in enumerate(cheap)]
    # At 25 %, the control and the first promoted schedule come from below; the proxy promotes .3 here, a control at 5 %.
    large = [(0.5, 0.90, None), (0.2, 0.85, None), (0.1, 0.80, None), (0.3, 0.75, "promoted")]
    records += [record(share, value, 20 + n, from_proxy=why) for n, (share, value, why) in enumerate(large)]
    cheapest, next_one = transfers(trials_frame(records, of="all"))
    assert (cheapest.promoted, cheapest.controls, cheapest.others, cheapest.schedules) == (1, 2, 1, 4)
    assert cheapest.ahead_of_control == pytest.approx(0.50 - 0.55)
    assert (next_one.promoted, next_one.controls, next_one.others, next_one.schedules) == (2, 1, 1, 4)
    assert next_one.ahead_of_control == pytest.approx(0.80 - 0.85)
    assert next_one.regret == pytest.approx(0.90 - 0.80)  # over all four
    table = transfer_table([cheapest, next_one, replace(next_one, promoted=0, others=3, ahead_of_control=math.nan)])
    assert [row[2:4] + row[6:7] for row in table.rows] == [
        ("4", "2", "-5.0"),
        ("4", "1", "-5.0"),
        ("4", "1", "none promoted"),
    ]


def test_an_earlier_proxy_is_not_blamed_for_what_the_last_one_chose():
    """The first proxy ranks the schedules as the target does, the second in reverse, and promotes the worst three."""
    ranked = SHARES[:6]
    records = [record(share, share, n, proxy=1) for n, share in enumerate(ranked)]
    records += [record(share, 1 - share, n, proxy=2, from_proxy="promoted") for n, share in enumerate(ranked)]
    reasons = ["promoted"] * 3 + [None, "control", "control"]
    records += [record(share, share, n, from_proxy=why) for n, (share, why) in enumerate(zip(ranked, reasons, strict=True))]
    first, last = transfers(trials_frame(records, of="all"))
    assert (first.promoted, first.controls, first.others, first.schedules) == (0, 0, 6, 6)
    assert math.isnan(first.ahead_of_control)
    assert (first.spearman, first.regret, first.verdict) == (1, 0, "carries over")
    assert (last.promoted, last.controls, last.others) == (3, 2, 1)
    assert last.ahead_of_control == pytest.approx(0.3 - 0.6)
    assert (last.spearman, last.verdict) == (-1, "poor")


def test_trials_of_proxies_are_in_no_curve():
    records = [record(0.1, 0.99, 0, proxy=1), record(0.2, 0.98, 1, proxy=2), record(0.3, 0.5, 2)]
    trials = trials_frame(records)
    assert list(trials.validation_score) == [0.5]
    assert list(best_by_budget(trials).validation_mean) == [0.5]
    every = trials_frame(records, of="all")
    assert len(every) == 3
    assert every.proxy.isna().tolist() == [False, False, True]


def test_a_transfer_is_described_with_its_proxy_and_budget():
    made = Transfer(
        proxy=2,
        budget="5%",
        promoted=4,
        controls=2,
        spearman=0.6,
        spearman_low=-0.4,
        spearman_high=0.95,
        regret=0.0,
        ahead_of_control=0.03,
        noise=0.01,
        has_seeds=True,
    )
    expected = "proxy 2 at 5%: too few schedules to say whether ranks carry over: rank correlation 0.60 (-0.40 to 0.95) over 6 "
    assert str(made) == expected + "schedules, regret 0.0 (0.0 to 1.0) points"


def test_a_budget_that_a_proxy_leaves_out_is_compared_with_the_next_larger_one():
    """As within a spending limit: the proxy is trained at 25 % alone, the target at 5 % and at 25 %."""
    records = [record(share, value, n, proxy=1) for n, (share, value) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.4)])]
    records.append(record(0.2, 0.3, 10, budget="5%", from_proxy="promoted"))
    records.append(record(0.1, 0.35, 11, budget="5%", from_proxy="control"))
    records.append(record(0.2, 0.8, 12, from_proxy="promoted"))
    (found,) = transfers(trials_frame(records, of="all"))  # at 25 % there is a single schedule
    assert found.budget == "25%, on the target at 5%"
    assert (found.promoted, found.controls) == (1, 1)
    assert found.ahead_of_control == pytest.approx(-0.05)
    assert found.regret == pytest.approx(0.05)
    assert str(found).startswith("proxy 1 at 25%, on the target at 5%: 2 schedules are too few to say")
