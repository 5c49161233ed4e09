"""`search.from`: winners of earlier sweeps in the variables of a search. Nothing is trained."""

import json

import pytest

from explorer import Budget, InvalidInput, Rates, Schedule, SearchSpace, Stage
from explorer.ledger import OtherTrial, Trial
from explorer.ledger.earlier_sweeps import EarlierSweep, Winner
from explorer.search.priced_limit import priced_limit
from explorer.search.search import Search
from explorer.search.spending import Spending
from explorer.search.warm_starts import MAX_AT_BUDGET, fitted_schedule, warm_starts
from tests.conftest import with_search
from tests.search.test_goal import goal_space
from tests.search.test_search import finish, run

OWN_STAGING = {"subset": "leading", "growth": "auto", "token_policy": "auto", "blocks": "prefix"}
OTHER = {"same_task": False}


def staged(*stages: tuple[float, dict[str, float]], grid: int = 10) -> Schedule:
    """Stages as (share, rates); what is left of the budget is the full model."""
    left = 1 - sum(share for share, _ in stages)
    made = [Stage(rates=Rates(**rates), duration_ratio=share) for share, rates in stages]
    return Schedule(stages=(*made, Stage(rates=Rates(), duration_ratio=left)), grid=grid)


HALF = staged((0.4, {"heads": 0.5, "mlp": 0.5, "tokens": 0.5}))


def winner(budget="25%", schedule=HALF, trial="25pct-staged-003", **changes) -> Winner:
    values = {"learning_rate": 3e-3, "batch_size": 16, "lr_schedule": "linear", "same_task": True, "staging": OWN_STAGING}
    return Winner(
        **{"trial": trial, "budget": budget, "share": Budget.parse(budget).amount, "schedule": schedule, **values, **changes}
    )


def earlier(*winners: Winner, name="A", currency="flops") -> EarlierSweep:
    return EarlierSweep(name=name, currency=currency, winners=winners)


@pytest.fixture
def space(space_file) -> SearchSpace:
    return with_search(SearchSpace.load(space_file), trials=4)


def shown(schedule: Schedule) -> list[tuple[float, float, float, float]]:
    return [(s.duration_ratio, s.rates.heads, s.rates.mlp, s.rates.tokens) for s in schedule.stages]


def test_they_are_tried_before_what_is_random_and_promoted_like_others(space):
    search = Search(space, earlier_sweeps=[earlier(winner("25%"), winner("50%", staged((0.7, {"tokens": 0.25})), "b"))])
    records = run(search, lambda trial: 0.9 if trial.from_sweep else 0.5)
    staged_trials = [record.trial for record in records if record.trial.kind == "staged"]
    assert [trial.from_sweep for trial in staged_trials if trial.from_sweep] == [
        OtherTrial(sweep="A", trial="25pct-staged-003"),
        OtherTrial(sweep="A", trial="b"),
    ]
    cheap = [trial for trial in staged_trials if trial.budget == space.budgets[0]]
    dear = [trial for trial in staged_trials if trial.budget == space.budgets[1]]
    assert shown(cheap[0].schedule) == [(0.4, 0.5, 0.5, 0.5), (0.6, 1, 1, 1)]
    assert shown(dear[0].schedule) == [(0.7, 1, 1, 0.25), (pytest.approx(0.3), 1, 1, 1)]
    assert dear[1].schedule == cheap[0].schedule  # the best of the budget below comes next
    assert (len(cheap), len(dear)) == (4, 3)  # they count as trials


def test_learning_rate_and_batch_size_carry_over_on_the_same_task_alone(space):
    for same, settings in ((True, (3e-3, 16)), (False, (2e-3, 32))):  # the other sweep's; the recipe's
        trial = Search(space, earlier_sweeps=[earlier(winner(same_task=same))]).next()
        assert trial.from_sweep is not None
        assert (trial.learning_rate, trial.batch_size) == settings


def test_at_dearer_budgets_another_task_takes_them_from_the_best_trial_of_the_budget_below(space):
    search = Search(space, earlier_sweeps=[earlier(winner("50%", same_task=False))])
    best = []
    records = run(search, lambda trial: best.append(trial) or 0.9 if trial.id == "25pct-staged-002" else 0.5)
    start = next(record.trial for record in records if record.trial.from_sweep)
    assert start.budget == space.budgets[1]
    assert (start.learning_rate, start.batch_size) == (best[0].learning_rate, best[0].batch_size)


@pytest.mark.parametrize(
    ("search", "reason"),
    [
        ({"batch_size": (32, 64)}, "batch size 16 is not searched"),
        ({"learning_rate": (1e-4, 1e-3)}, "learning rate 0.003 is not within 0.0001 and 0.001"),
        ({"learning_rate_grid": 3}, "learning rate 0.003 is not on the grid"),  # 1e-3, 2e-3, 4e-3
        ({"lr_schedule": ("cosine",)}, "learning-rate schedule linear is not searched"),
    ],
)
def test_settings_that_the_search_cannot_propose_are_left_out_together_and_said(space, search, reason):
    changed = with_search(space, **search)
    starts = warm_starts(changed, [earlier(winner())])
    assert starts.on_target[0].tuned is None
    assert warm_starts(space, [earlier(winner())]).on_target[0].tuned is not None
    assert starts.lines == (
        f"search.from: A: 25pct-staged-003 is tried at 25%: without its learning rate and batch size: {reason}",
    )


def test_a_learning_rate_of_another_schedule_than_that_of_the_recipe_is_left_out(space):
    starts = warm_starts(space, [earlier(winner(lr_schedule="cosine"))])
    assert starts.on_target[0].tuned is None
    assert "learning-rate schedule cosine is not searched" in starts.lines[0]


def test_a_learning_rate_on_the_grid_and_a_searched_schedule_of_it_are_taken(space):
    changed = with_search(space, learning_rate_grid=3, lr_schedule=("cosine", "linear"))
    (start,) = warm_starts(changed, [earlier(winner(learning_rate=2e-3))]).on_target
    assert start.tuned == {"batch_size": 16, "learning_rate_step": 1, "lr_schedule": "linear"}


def test_each_winner_goes_to_the_nearest_budget_by_ratio(space):
    # 35.4 % is in the middle of 25 and 50 %, as a ratio.
    starts = warm_starts(space, [earlier(winner("35%", trial="a"), winner("36%", trial="b"))]).on_target
    assert {(start.origin.trial, str(start.budget)) for start in starts} == {("a", "25%"), ("b", "50%")}


def test_budgets_in_flops_are_compared_as_shares_of_full_training(space):
    from explorer.search.trial_plan import full_training_plan

    full = full_training_plan(space).full_flops
    amounts = [Budget(full * share, "FLOPs") for share in (0.1, 0.5)]
    changed = space.model_copy(update={"budgets": tuple(amounts)})
    starts = warm_starts(changed, [earlier(winner("10%", trial="a"), winner("100%", trial="b"))]).on_target
    assert [(start.origin.trial, start.budget) for start in starts] == [("a", amounts[0]), ("b", amounts[1])]


def test_equal_schedules_and_more_than_a_few_are_left_out_and_said(space):
    others = [staged((0.1 * n, {"tokens": 0.5})) for n in (2, 3, 4)]
    winners = [winner("25%", trial="a"), winner("20%", trial="same")]
    more = [winner("25%", schedule, f"other{n}") for n, schedule in enumerate(others)]
    starts = warm_starts(space, [earlier(*winners), earlier(*more, name="C")])
    assert [str(start.origin) for start in starts.on_target] == ["a of A", "other0 of C"]
    assert MAX_AT_BUDGET == 2
    assert [line for line in starts.lines if "left out" in line] == [
        "search.from: A: same is left out: another winner is the same schedule at 25%",
        "search.from: C: other1 is left out: 2 are tried at 25% already",
        "search.from: C: other2 is left out: 2 are tried at 25% already",
    ]


def test_rates_become_the_nearest_levels_and_what_changed_is_said(space):
    found = staged((0.3, {"heads": 0.333, "mlp": 0.375, "depth": 0.5}), (0.3, {"heads": 0.667, "mlp": 1, "depth": 1}))
    fitted, changes = fitted_schedule(space.search, found)
    # .333 is nearest to .25, .375 as near to .25 as to .5 (the higher one), .667 to .5; there is no depth in this search.
    assert shown(fitted) == [(0.3, 0.25, 0.5, 1), (0.3, 0.5, 1, 1), (0.4, 1, 1, 1)]
    assert changes == ["heads 0.333 to 0.25, 0.667 to 0.5", "mlp 0.375 to 0.5", "depth 0.5 to 1"]


def test_tied_rates_get_one_position(space):
    tied = with_search(space, tied=True)
    fitted, changes = fitted_schedule(tied.search, staged((0.5, {"heads": 0.25, "mlp": 0.5, "tokens": 0.5})))
    assert shown(fitted) == [(0.5, 0.5, 0.5, 0.5), (0.5, 1, 1, 1)]  # .25 away in sum; the lowest position is .5 away
    assert changes == ["heads 0.25 to 0.5"]


def test_too_many_stages_are_joined_and_durations_are_put_on_the_grid(space):
    low = {"mlp": 0.5, "tokens": 0.25}
    found = staged((0.3, low), (0.05, {"mlp": 0.5, "tokens": 0.5}), (0.3, {"tokens": 0.5}), grid=20)
    fitted, changes = fitted_schedule(with_search(space, grid=5).search, found)
    # The stage of .05 is joined with the one after it: .3, .35, .35 are 1.5, 1.75, 1.75 slots of a fifth: 1, 2, 2.
    assert shown(fitted) == [(0.2, 1, 0.5, 0.25), (0.4, 1, 1, 0.5), (0.4, 1, 1, 1)]
    assert changes == ["3 stages for 4", "durations on a grid of 1/5"]


def test_settings_of_staging_are_taken_where_they_are_searched(space):
    changed = with_search(space, staging={"growth": ["initial", "copy"], "blocks": ["prefix"]})
    other = {**OWN_STAGING, "growth": "copy", "blocks": "even", "token_policy": "center"}
    starts = warm_starts(changed, [earlier(winner(staging=other))])
    (start,) = starts.on_target
    assert (start.variables["staging_growth"], start.variables["staging_blocks"]) == ("copy", "prefix")
    assert "token_policy auto for center; blocks prefix for even" in starts.lines[0]
    assert Search(changed, earlier_sweeps=[earlier(winner(staging=other))]).next().staging == {
        "growth": "copy",
        "blocks": "prefix",
    }


def test_other_axes_are_an_error_only_if_nothing_fits(space):
    deep, both = staged((0.5, {"depth": 0.5})), staged((0.5, {"depth": 0.5, "tokens": 0.5}))
    starts = warm_starts(space, [earlier(winner(schedule=deep, trial="a"), winner("50%", both, "b"))])
    assert [start.origin.trial for start in starts.on_target] == ["b"]
    assert starts.lines == (
        "search.from: A: a is left out: with the rates of this search it is the full model throughout",
        "search.from: A: b is tried at 50%: depth 0.5 to 1; with its learning rate and batch size",
    )
    with pytest.raises(InvalidInput, match=r"search\.from: 'A': nothing of it fits: .* the full model throughout"):
        warm_starts(space, [earlier(winner(schedule=deep))])


def test_durations_in_another_currency_are_said(space):
    lines = warm_starts(space, [earlier(winner(same_task=False), currency="device_seconds")]).lines
    assert lines[-1] == "search.from: A: durations are shares of another currency there, and taken as they are"


def test_with_proxies_another_task_is_tried_on_the_cheapest_and_the_same_task_on_the_target(space_file):
    text = space_file.read_text().replace("search:", "proxy: {images: 0.5, trials: 4}\nsearch:")
    space_file.write_text(text)
    space = with_search(SearchSpace.load(space_file), trials=4)
    sweeps = [
        earlier(winner(trial="same")),
        earlier(winner(schedule=staged((0.5, {"mlp": 0.5})), trial="o", **OTHER), name="C"),
    ]
    search = Search(space, earlier_sweeps=sweeps)
    records = run(search)
    tried = {str(r.trial.from_sweep): r.trial for r in records if r.trial.from_sweep}
    assert {origin: trial.proxy for origin, trial in tried.items()} == {"o of C": 1, "same of A": None}
    assert records[0].trial.from_sweep == OtherTrial(sweep="C", trial="o")
    on_target = [r.trial for r in records if r.trial.proxy is None and r.trial.kind == "staged"]
    assert on_target[0].from_sweep == OtherTrial(sweep="A", trial="same")
    assert search.untried_warm_starts == 0


def test_a_search_resumes_and_tries_none_of_them_twice(space):
    sweeps = [earlier(winner("25%"), winner("25%", staged((0.7, {"tokens": 0.25})), "b"))]
    first = Search(space, earlier_sweeps=sweeps)
    done = finish(first.next(), 0.9)
    running = first.next()
    again = Search(space, [done], [running], earlier_sweeps=sweeps)
    assert again.next() == running
    assert again.next().from_sweep is None
    assert Trial.model_validate(json.loads(running.model_dump_json())) == running


def test_those_without_a_place_are_counted(space):
    sweeps = [earlier(winner("50%"), winner("50%", staged((0.7, {"tokens": 0.25})), "b"))]
    search = Search(with_search(space, trials=(4, 1)), earlier_sweeps=sweeps)
    run(search)
    assert search.untried_warm_starts == 1


def test_within_a_limit_they_are_tried_where_something_is_trained(space_file):
    """With 25 % as the goal, the proxy is trained there alone, and the target at 2.5 % and at the goal."""
    planned = goal_space(space_file, trials=None, baseline_trials=None).up_to_goal()
    spending = Spending(planned, priced_limit(planned))
    winners = earlier(winner("5%", same_task=False), winner("6%", trial="b"))
    search = Search(planned, spending=spending, earlier_sweeps=[winners])
    assert [str(start.budget) for start in search.warm_starts.on_proxy] == ["25%"]
    assert [str(start.budget) for start in search.warm_starts.on_target] == ["2.5%"]
    assert search.next().from_sweep is not None
