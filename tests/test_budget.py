import pytest

from explorer import Budget, InvalidInput


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
    ],
)
def test_parse(text, budget):
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    "text", ["", "25", "0", "-5%", "0%", "nan", "inf%", "25 %%", "twelve", "3 GPU-hours", "1.2.3%", "2000%"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidInput, match="budget"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["25%", "6.25%", "100%", "3e+17 FLOPs"])
def test_text_round_trip(text):
    assert str(Budget.parse(text)) == text
    assert Budget.parse(str(Budget.parse(text))) == Budget.parse(text)


def test_flops_are_rounded_down_and_flops_stay_flops():
    assert Budget(0.25).flops(1001) == 250
    assert Budget(5e3, "FLOPs").flops(1001) == 5000


def test_file_names():
    assert Budget.parse("6.25%").slug == "6.25pct"
    assert Budget.parse("3e17 FLOPs").slug == "3e17flops"
