import operator

import pytest
from pydantic import TypeAdapter

from explorer import Budget, InvalidInput
from explorer.spec.budget import BudgetField


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("25%", Budget(0.25)),
        (" 6.25 % ", Budget(0.0625)),
        ("0.25", Budget(0.25)),
        (0.5, Budget(0.5)),
        ("200%", Budget(2.0)),
        ("3e17 FLOPs", Budget(3e17, "FLOPs")),
        ("3e+17flops", Budget(3e17, "FLOPs")),
        ("343.7 GMACs-epochs", Budget(343.7, "GMACs-epochs")),
        ("1e3 gmac-epoch", Budget(1000, "GMACs-epochs")),
        ("12 GPU-hours", Budget(43_200, "device-seconds")),
        ("1.5 device-hour", Budget(5_400, "device-seconds")),
        ("90 cpu-seconds", Budget(90, "device-seconds")),
        ("2 GPU-days", Budget(172_800, "device-seconds")),
        ("$40", Budget(40, "money")),
        (" $ 2.5e3 ", Budget(2500, "money")),
    ],
)
def test_parse(text, budget):
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "given", ["100 GPU-minutes", "5000 GPU-seconds", 1 / 3, "33.333333333333%", "1234567.89012 FLOPs", "$0.1", "7 CPU-days"]
)
def test_a_budget_in_a_file_is_the_same_one_after_it_was_written_and_read(given):
    field = TypeAdapter(BudgetField)
    budget = field.validate_python(given)
    assert field.validate_python(field.dump_python(budget)) == budget
    assert budget.is_same(Budget.parse(given))


def test_the_same_amount_of_another_device_is_the_same_budget():
    assert Budget.parse("2 GPU-hours").is_same(Budget.parse("2 device-hours"))
    assert not Budget.parse("2 GPU-hours").is_same(Budget.parse("2.0001 GPU-hours"))
    assert not Budget.parse("25%").is_same(Budget(0.25, "FLOPs"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "25",
        "0",
        "-5%",
        "0%",
        "nan",
        "inf%",
        "25 %%",
        "twelve",
        "3 hours",
        "1.2.3%",
        "2000%",
        "$5%",
        "$-3",
        "1e400 FLOPs",
        "3 GMACs",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidInput, match="budget"):
        Budget.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "25%",
        "6.25%",
        "100%",
        "3e+17 FLOPs",
        "343.7 GMACs-epochs",
        "12 device-hours",
        "90 device-seconds",
        "90 CPU-seconds",
        "$40",
    ],
)
def test_text_round_trip(text):
    assert str(Budget.parse(text)) == text
    assert Budget.parse(str(Budget.parse(text))) == Budget.parse(text)


def test_flops_are_rounded_down_and_flops_stay_flops():
    assert Budget(0.25).of(1001) == 250
    assert Budget(5e3, "FLOPs").of(1001) == 5000


def test_gmacs_epochs_are_multiply_adds_of_all_images_of_an_epoch():
    assert Budget.parse("1.5 GMACs-epochs").of(10**13, 2000) == 3 * 10**12
    with pytest.raises(InvalidInput, match=r"budget: '1\.5 GMACs-epochs': needs the number of images in an epoch"):
        Budget.parse("1.5 GMACs-epochs").of(10**13)


def test_time_is_nanoseconds_and_money_needs_a_price():
    assert Budget.parse("1.5 GPU-seconds").of(10**9) == 1_500_000_000
    assert Budget.parse("$40").priced(2.5) == Budget.parse("16 GPU-hours")
    assert Budget(0.25).priced(None) == Budget(0.25)
    for wrong in (None, 0, -1):
        with pytest.raises(InvalidInput, match="price"):
            Budget.parse("$40").priced(wrong)
    with pytest.raises(InvalidInput, match=r"budget: '\$40': needs the price of a device-hour: --price"):
        Budget.parse("$40").of(1001)


def test_file_names():
    assert Budget.parse("6.25%").slug == "6.25pct"
    assert Budget.parse("3e17 FLOPs").slug == "3e17flops"
    assert Budget.parse("343.7 GMACs-epochs").slug == "343.7gmacs-epochs"
    assert Budget.parse("12 GPU-hours").slug == "12gpu-hours"
    assert Budget.parse("$40").slug == "40money"


def test_a_named_device_is_kept():
    assert [Budget.parse(f"2 {name}-hours").device for name in ("GPU", "cpu", "device")] == ["GPU", "CPU", None]


def test_values_are_quoted_in_their_unit():
    with pytest.raises(InvalidInput, match=r"budget: '-3%': must be a finite number above 0"):
        Budget.parse("-3%")
    with pytest.raises(InvalidInput, match=r"budget: 'inf FLOPs': must be a finite number above 0"):
        Budget.parse("1e400 FLOPs")


def test_more_than_ten_full_trainings_are_refused():
    assert Budget(1e4, "FLOPs").of(1000) == 10_000
    with pytest.raises(InvalidInput, match=r"must be at most 1000% of full training; it is 11 full trainings"):
        Budget(1.1e4, "FLOPs").of(1000)


def test_budgets_of_one_unit_are_ordered_by_amount():
    cheap, expensive = Budget.parse("25%"), Budget.parse("100%")
    assert cheap < expensive
    assert cheap <= Budget(0.25)
    assert expensive > cheap
    assert expensive >= Budget(1.0)
    assert sorted([Budget.parse("2 GPU-hours"), Budget.parse("90 GPU-seconds")])[0].amount == 90


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_budgets_of_different_units_cannot_be_ordered(compare):
    message = r"cannot compare budgets of different units: 25% \(fraction\) and 1e\+17 FLOPs \(FLOPs\)"
    with pytest.raises(TypeError, match=message):
        compare(Budget(0.25), Budget(1e17, "FLOPs"))
    with pytest.raises(TypeError, match="which is not a budget"):
        compare(Budget(0.25), 0.5)
    assert Budget(0.25) != Budget(0.25, "FLOPs")
