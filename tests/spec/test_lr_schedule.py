import pytest

from explorer.spec.lr_schedule import LearningRateSchedule


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (LearningRateSchedule(kind="linear"), {0: 1, 0.25: 0.75, 0.5: 0.5, 1: 0}),
        (LearningRateSchedule(kind="linear", warmup=0.2), {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        (LearningRateSchedule(kind="cosine"), {0: 1, 0.5: 0.5, 1: 0}),
        # 1/3 of the way down after the warmup: (1 + cos(pi / 3)) / 2
        (LearningRateSchedule(kind="cosine", warmup=0.1), {0.1: 1, 0.4: 0.75, 1: 0}),
        # REX with half of the time left: .5 / (.5 + .25)
        (LearningRateSchedule(kind="rex"), {0: 1, 0.5: 2 / 3, 0.75: 0.4, 1: 0}),
        (LearningRateSchedule(kind="rex", warmup=0.2), {0.1: 0.5, 0.2: 1, 0.6: 2 / 3, 1: 0}),
        (LearningRateSchedule(), {0: 1, 0.8: 1, 0.9: 0.5, 1: 0}),
        (LearningRateSchedule(kind="wsd", warmup=0.1, cooldown=0.2), {0.05: 0.5, 0.1: 1, 0.8: 1, 0.9: 0.5, 1: 0}),
    ],
)
def test_factors(curve, expected):
    for time, factor in expected.items():
        assert curve.factor(time) == pytest.approx(factor)


def test_warmup_and_cooldown_must_not_overlap():
    with pytest.raises(ValueError, match="overlap"):
        LearningRateSchedule(kind="wsd", warmup=0.5, cooldown=0.6)


def test_the_peak_is_within_where_the_warmup_ends():
    curve = LearningRateSchedule(warmup=0.1)
    assert [curve.peak_within(*times) for times in ((0, 0.3), (0, 0.1), (0.1, 0.3))] == [(1.0,), (), ()]
