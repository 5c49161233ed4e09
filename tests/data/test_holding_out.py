"""Images that are set aside for validation and test."""

from collections import Counter

import pytest
from sklearn.model_selection import train_test_split

from explorer import InvalidInput
from explorer.data.holding_out import divide

NAMES = [f"class {number}" for number in range(100)]


def counts(numbers, labels) -> dict[int, int]:
    return dict(sorted(Counter(labels[number] for number in numbers).items()))


def test_the_tenth_is_that_of_earlier_releases():
    """Published numbers depend on it."""
    labels = [number % 3 for number in range(101)]
    kept, held_out = train_test_split(range(101), test_size=0.1, stratify=labels, random_state=0)
    divided = divide(labels, NAMES, validation=True, test=False)
    assert (divided.train, divided.validation, divided.test) == (sorted(kept), sorted(held_out), [])
    assert len(held_out) == 11


def test_a_test_part_leaves_the_validation_images_as_they_are():
    labels = [number % 3 for number in range(300)]
    alone, both = (divide(labels, NAMES, validation=True, test=test) for test in (False, True))
    assert both.validation == alone.validation
    assert [counts(part, labels) for part in (both.train, both.validation, both.test)] == [
        {0: 80, 1: 80, 2: 80},
        {0: 10, 1: 10, 2: 10},
        {0: 10, 1: 10, 2: 10},
    ]
    assert sorted(both.train + both.validation + both.test) == list(range(300))


def test_small_classes_give_a_tenth_of_each_but_at_least_one_image():
    """A tenth of all 227 images is 23, fewer than the 41 classes. A tenth of the one class of 27 images is 3."""
    labels = [number % 40 for number in range(200)] + [40] * 27
    divided = divide(labels, NAMES, validation=True, test=True)
    parts = divided.train, divided.validation, divided.test
    for part, of_small, of_large in zip(parts, (3, 1, 1), (21, 3, 3), strict=True):
        assert counts(part, labels) == {**dict.fromkeys(range(40), of_small), 40: of_large}
    assert sorted(divided.train + divided.validation + divided.test) == list(range(227))


@pytest.mark.parametrize(
    ("settings", "images", "message"),
    [
        (
            {"validation": True, "test": False},
            1,
            r"data\.validation_split: None: the class 'tulip' has only 1 image: too few to ",
        ),
        (
            {"validation": False, "test": True},
            1,
            r"data\.test_split: None: the class 'tulip' has only 1 image: .* name a split",
        ),
        ({"validation": True, "test": True}, 2, r"'tulip' has only 2 images: .* one for validation and one for test aside"),
    ],
)
def test_a_class_that_is_too_small_is_named(settings, images, message):
    labels = [0] * 40 + [1] * images + [2] * 40
    with pytest.raises(InvalidInput, match=message):
        divide(labels, ["daisy", "tulip", "rose"], **settings)
    named = divide(labels, ["daisy", "tulip", "rose"], validation=False, test=False)
    assert named.train == list(range(80 + images))
