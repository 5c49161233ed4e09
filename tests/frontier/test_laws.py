"""The laws at costs where their values are worked out by hand."""

import numpy as np
import pytest

from explorer.frontier.laws import LAWS

BY_NAME = {law.name: law for law in LAWS}


@pytest.mark.parametrize(
    ("name", "error", "exponent", "floor", "at_four"),
    [
        ("power", 0.4, 0.5, 0.0, 0.2),  # .4 / sqrt(4)
        ("power with floor", 0.4, 0.5, 0.2, 0.3),  # .2 + .2 / 2
        ("log-logistic", 0.5, 0.5, 0.0, 1 / 3),  # odds of 1 become 1/2
        ("log-logistic with floor", 0.4, 0.5, 0.2, 0.2 + 0.8 / 7),  # q = 1/3 becomes 1/6: (.2 + 1/6) / (7/6) = 11/35
        ("Weibull", 0.5, 0.5, 0.0, 0.25),  # exp(-ln 2 * 2)
        ("Weibull with floor", 0.6, 0.5, 0.2, 0.4),  # half of .8 above the floor becomes a quarter
        ("exponential with floor", 0.4, 1 / 3, 0.2, 0.2 + 0.2 / np.e),  # 3 / 3 = 1 time constant later
    ],
)
def test_by_hand(name, error, exponent, floor, at_four):
    law = BY_NAME[name]
    column = [np.array([[value]]) for value in (error, exponent, floor)]
    assert law.error(np.array([1.0, 4.0]), *column)[0] == pytest.approx([error, at_four])
    assert law.logit(np.array([4.0]), *column)[0, 0] == pytest.approx(np.log(1 / at_four - 1))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_errors_fall_with_cost_and_stay_within_bounds(law):
    x = np.geomspace(1e-3, 1e3, 50)
    column = np.array([[0.01], [0.5], [0.99]])
    logits = law.logit(x, column, np.full((3, 1), 0.7), column / 2 * law.has_floor)
    assert np.isfinite(logits).all()
    assert (np.diff(logits, axis=1) >= 0).all()
