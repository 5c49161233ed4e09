"""Rates: fractions, numbers, and lists with one for each level, as files and Python write them."""

import pytest

from explorer import InvalidInput, Rates, Schedule
from explorer.errors import validated
from explorer.spec.schedule import Stage

PVT_FIRST = Rates(heads=(1, 1, 2, 2), mlp=(128, 256, 320, 512), tokens=1600)
PVT_SECOND = Rates(heads=(1, 2, 4, 4), mlp=(256, 512, 640, 1024), tokens=2304)


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        (0.5, 0.5),
        (1, 1.0),  # the full model, as before there were numbers
        ("0.25", 0.25),
        (2, 2),
        ([1, 1, 2, 2], (1, 1, 2, 2)),
        ([1], (1,)),
        ([0.5, 1, 1], (0.5, 1.0, 1.0)),
        ([1.0, 1.0], 1.0),
    ],
)
def test_rates_as_written_in_files(written, rate):
    rates = validated(Rates, {"heads": written}, "rates")
    assert rates.heads == rate
    assert type(rates.heads) is type(rate)
    assert Rates.model_validate_json(rates.model_dump_json()) == rates
    assert rates.full == (rate == 1.0)


def test_plain_rates_are_written_as_they_were():
    assert Rates(heads=0.5, mlp=1).model_dump_json() == '{"heads":0.5,"mlp":1.0,"tokens":1.0,"depth":1.0}'


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("heads", 0, "fraction in"),
        ("heads", 1.5, "fraction in"),
        ("heads", 2.0, "fraction in"),
        ("heads", -3, "fraction in"),
        ("heads", True, "fraction in"),
        ("mlp", [], "list of fractions"),
        ("mlp", [0.5, 2], "list of fractions"),
        ("mlp", [0, 1], "list of fractions"),
        ("mlp", [1.5, 1], "list of fractions"),
        ("tokens", [100, 25], "fraction in"),
        ("depth", [2, 2], "fraction in"),
    ],
)
def test_other_values_are_refused_in_one_line(field, value, allowed):
    with pytest.raises(InvalidInput, match=rf"^stages: {field}: .*must be a {allowed}"):
        validated(Rates, {field: value}, "stages")


def test_one_head_per_level_is_not_the_full_model():
    assert Rates(heads=(1, 1)) != Rates()
    assert not Rates(heads=(1, 1)).full
    assert Rates(heads=(1, 1)).reduces("heads")
    assert not Rates(heads=(1, 1)).reduces("mlp")


def test_text():
    assert str(PVT_FIRST) == "heads [1,1,2,2] mlp [128,256,320,512] tokens 1600"
    assert str(Rates(heads=2, mlp=0.25, depth=6)) == "heads 2 mlp 0.25 tokens 1 depth 6"
    assert str(Rates(heads=0.5, mlp=0.5, tokens=0.5)) == "all 0.5"
    assert PVT_FIRST.text("heads") == "[1,1,2,2]"


def test_schedules_with_numbers_rise_to_the_full_model(tmp_path):
    stages = tuple(Stage(rates=rates, duration_ratio=share) for rates, share in ((PVT_FIRST, 0.1), (PVT_SECOND, 0.2)))
    schedule = Schedule(stages=(*stages, Stage(rates=Rates(), duration_ratio=0.7)))
    for name in ("schedule.yaml", "schedule.json"):
        assert Schedule.load(schedule.save(tmp_path / name)) == schedule
    with pytest.raises(ValueError, match=r"stages\.1\.rates.*must not fall"):
        Schedule(stages=(stages[1], stages[0], schedule.stages[2]))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (Rates(heads=0.5), Rates(heads=4), "a fraction and a number cannot be compared"),
        (Rates(mlp=(1, 2)), Rates(mlp=(1, 2, 3)), "2 levels cannot be compared with 3"),
    ],
)
def test_stages_written_in_ways_that_cannot_be_compared_are_refused(before, after, message):
    stages = [Stage(rates=rates, duration_ratio=0.25) for rates in (before, after)]
    with pytest.raises(ValueError, match=message):
        Schedule(stages=(*stages, Stage(rates=Rates(), duration_ratio=0.5)))


def test_one_number_for_all_levels_is_compared_with_each_of_a_list():
    assert Rates(heads=2).at_most(Rates(heads=(2, 4)))
    assert not Rates(heads=3).at_most(Rates(heads=(2, 4)))
    assert Rates(heads=(0.5, 1)).at_most(Rates())
