"""Whether a data set is that of an earlier training."""

import pytest

from explorer.spec.changed_data import changed_data
from explorer.spec.inventory import Inventory, SplitInventory, ValueRange


def of_values(**changes) -> Inventory:
    ages = SplitInventory(
        name="train", images=3, per_class=(), values=(ValueRange(**{"min": 1, "mean": 2, "max": 3, **changes}),)
    )
    return Inventory(source="folder", class_names=("age",), target_kind="values", train=ages, validation=ages, test=ages)


def test_equal_data_did_not_change():
    assert changed_data(of_values(), of_values()) is None


def test_the_standard_deviation_that_earlier_releases_did_not_note_is_no_change():
    assert changed_data(of_values(), of_values(std=0.8)) is None


@pytest.mark.parametrize("changes", [{"min": 0}, {"mean": 2.1}, {"max": 4}])
def test_other_values_are_a_change(changes):
    change = changed_data(of_values(), of_values(**changes))
    assert change == ("data: train images", 3, "as many, but their values have changed")


def test_other_kinds_of_targets_come_first():
    labels = of_values().model_copy(update={"target_kind": "labels", "class_names": ("x",)})
    assert changed_data(of_values(), labels) == ("data: targets", "labels", "values")
