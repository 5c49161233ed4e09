"""Strings in one block of memory."""

import os

import pytest

from explorer.data.packed_strings import PackedStrings


def test_it_holds_what_it_was_given_also_names_that_are_not_utf8():
    names = ["a/1.jpg", "", "b/ä.jpg", os.fsdecode(b"c/\xff.jpg")]
    packed = PackedStrings(iter(names))
    assert list(packed) == names
    assert (len(packed), packed[-1], packed[1:3]) == (4, names[3], ["", "b/ä.jpg"])
    with pytest.raises(IndexError):
        packed[4]
