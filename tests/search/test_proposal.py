import itertools
import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer import Rates
from explorer.search.proposal import distributions, every_setting, first_guesses, schedule_for, staging_for, variables_of
from explorer.spec.recipe import Recipe
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_settings import RateLevels, SearchSettings, StagingChoices

LEVELS = (0.25, 0.5, 0.75, 1.0)


def first_guess(search, kind, learning_rate, batch_size, lr_schedule="wsd"):
    recipe = Recipe(epochs=1, learning_rate=learning_rate, batch_size=batch_size, lr_schedule={"kind": lr_schedule})
    return first_guesses(search, kind, recipe)[0]


def settings(**changes) -> SearchSettings:
    return SearchSettings(
        **{
            "trials": 1,
            "baseline_trials": 1,
            "stages": 3,
            "grid": 20,
            "rates": RateLevels(heads=LEVELS, mlp=LEVELS, tokens=LEVELS),
            "learning_rate": (1e-4, 1e-2),
            "batch_size": (16, 32),
            **changes,
        }
    )


unit = st.floats(0, 1)


@given(st.integers(2, 5), st.booleans(), st.data())
def test_any_variables_give_a_schedule_on_the_grid(stages, tied, data):
    search = settings(stages=stages, tied=tied)
    names = [n for n in distributions(search, "staged") if n not in ("learning_rate", "batch_size")]
    schedule = schedule_for(search, "staged", {name: data.draw(unit) for name in names})
    # Schedule itself checks that rates rise to the full model and ratios sum to 1.
    assert all(abs(s.duration_ratio * 20 - round(s.duration_ratio * 20)) < 1e-9 for s in schedule.stages)
    assert all(s.duration_ratio > 0 for s in schedule.stages)
    rates = [s.rates for s in schedule.stages]
    assert all(a != b for a, b in itertools.pairwise(rates))
    assert all(r.heads in LEVELS for r in rates)
    if tied:
        assert all(r.heads == r.mlp == r.tokens for r in rates)


def test_stick_breaking_is_uniform_on_the_simplex():
    search = settings(stages=4, grid=1000, tied=True)
    generator = random.Random(0)
    sums = [[], [], []]
    for _ in range(2000):
        values = {n: generator.random() for n in distributions(search, "staged")} | {f"rates_{i}": 0.3 * i for i in range(3)}
        stages = schedule_for(search, "staged", values).stages
        for rates, total in zip(LEVELS, sums, strict=False):
            total.append(sum(s.duration_ratio for s in stages if s.rates.heads == rates))
    # rates_0, _1, _2 of 0, .3, .6 pick levels 0, 0 and 2 of 4: two stages at .25 (half the stick), one at .75.
    assert mean(sums[0]) == pytest.approx(0.5, abs=0.02)
    assert mean(sums[2]) == pytest.approx(0.25, abs=0.02)


def test_k_stages_take_k_minus_one_durations():
    names = set(distributions(settings(stages=4, tied=True), "staged"))
    assert {n for n in names if n.startswith("duration")} == {"duration_0", "duration_1", "duration_2"}


def test_baseline_searches_the_same_learning_rates_and_batch_sizes_and_nothing_else():
    search = settings()
    staged, baseline = (distributions(search, kind) for kind in ("staged", "baseline"))
    assert set(baseline) == {"learning_rate", "batch_size"}
    assert all(staged[name] == baseline[name] for name in baseline)
    assert schedule_for(search, "baseline", {}).stages[0].rates.full


def test_axes_with_one_level_are_not_searched():
    names = distributions(settings(rates=RateLevels(tokens=(0.5, 1.0))), "staged")
    assert set(names) == {"duration_0", "duration_1", "tokens_0", "tokens_1", "learning_rate", "batch_size"}


def test_the_first_guess_is_even_steps_for_equal_durations():
    search = settings(stages=4, grid=12, tied=False)
    guess = first_guess(search, "staged", 1e-3, 32)
    schedule = schedule_for(search, "staged", guess)
    assert [s.rates.heads for s in schedule.stages] == [0.25, 0.5, 0.75, 1.0]
    assert [s.duration_ratio for s in schedule.stages] == pytest.approx([0.25] * 4)
    assert (guess["learning_rate"], guess["batch_size"]) == (1e-3, 32)
    assert set(guess) == set(distributions(search, "staged"))


def test_where_seconds_count_each_axis_is_reduced_alone_for_most_of_the_budget_depth_first():
    search = settings(rates=RateLevels(tokens=(0.5, 1.0), depth=LEVELS))
    recipe = Recipe(epochs=1, learning_rate=1e-3, batch_size=16)
    together, *alone = (
        schedule_for(search, "staged", guess) for guess in first_guesses(search, "staged", recipe, "device_seconds")
    )
    assert together.stages[0].rates == Rates(tokens=0.5, depth=0.25)
    depth, tokens = alone
    assert [(stage.rates, stage.duration_ratio) for stage in depth.stages] == [
        (Rates(depth=0.25), 0.5),
        (Rates(depth=0.5), 0.4),
        (Rates(), 0.1),
    ]
    assert [(stage.rates, stage.duration_ratio) for stage in tokens.stages] == [(Rates(tokens=0.5), 0.9), (Rates(), 0.1)]


def test_a_first_guess_outside_the_space_is_brought_into_it():
    guess = first_guess(settings(), "baseline", 1.0, 64)
    assert guess == {"learning_rate": 1e-2, "batch_size": 16}


def test_depth_is_searched_where_it_has_levels_and_stays_full_where_not():
    levels = RateLevels(heads=LEVELS, mlp=LEVELS, tokens=LEVELS, depth=LEVELS)
    guess = first_guess(settings(tied=True, rates=levels), "staged", 1e-3, 32)
    assert all(s.rates.depth == s.rates.heads for s in schedule_for(settings(tied=True, rates=levels), "staged", guess).stages)
    assert all(s.rates.depth == 1 for s in schedule_for(settings(tied=True), "staged", guess).stages)
    alone = settings(rates=RateLevels(depth=(0.5, 1.0)))
    assert "depth_0" in distributions(alone, "staged")


def test_ways_of_staging_are_searched_for_staged_trials_alone():
    choices = StagingChoices(subset=("leading", "random"), blocks=("prefix", "even"))
    search = settings(staging=choices)
    assert distributions(search, "staged")["staging_subset"].choices == ("leading", "random")
    assert not any(name.startswith("staging") for name in distributions(search, "baseline"))
    guess = first_guess(search, "staged", 1e-3, 32)
    assert staging_for(search, "staged", guess) == {"subset": "leading", "blocks": "prefix"}
    assert staging_for(search, "baseline", guess) == {}
    assert len(choices.combinations()) == 4
    assert StagingChoices().combinations() == [{}]


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_the_variables_of_a_schedule_give_it_again(values):
    """The inverse of `schedule_for`, for anything that it makes."""
    search = settings(tied=False)
    names = [name for name in distributions(search, "staged") if name.startswith(("duration", "heads", "mlp", "tokens"))]
    schedule = schedule_for(search, "staged", dict(zip(names, values, strict=True)))
    variables = variables_of(search, schedule)
    again = schedule_for(search, "staged", variables)
    assert [stage.rates for stage in again.stages] == [stage.rates for stage in schedule.stages]
    assert again.slots() == schedule.slots()


@pytest.mark.parametrize(
    "stage",
    [
        Stage(rates=Rates(heads=0.3), duration_ratio=0.5),  # no level
        Stage(rates=Rates(heads=0.5), duration_ratio=0.51),  # not on the grid
        Stage(rates=Rates(heads=0.5), duration_ratio=0.5, batch_factor=2),
    ],
)
def test_a_schedule_outside_the_space_has_no_variables(stage):
    full = Stage(rates=Rates(), duration_ratio=1 - stage.share)
    assert variables_of(settings(), Schedule(stages=(stage, full), grid=100)) is None


def test_learning_rate_schedules_are_searched_for_both_kinds_and_the_baseline_tries_each():
    search = settings(lr_schedule=("linear", "rex", "cosine"), learning_rate_grid=3)
    for kind in ("staged", "baseline"):
        assert distributions(search, kind)["lr_schedule"].choices == ("linear", "rex", "cosine")
    recipe = Recipe(epochs=1, learning_rate=1e-3, batch_size=16, lr_schedule={"kind": "rex"})
    assert [guess["lr_schedule"] for guess in first_guesses(search, "baseline", recipe)] == ["rex", "linear", "cosine"]
    assert [guess["lr_schedule"] for guess in first_guesses(search, "staged", recipe)] == ["rex"]
    assert len(every_setting(search, "baseline")) == 3 * 3 * 2
