"""Patterns of tensors: how they are parsed, and which positions they select."""

import pytest
import torch

from explorer.elastic.pattern import active_indices, gather, parse, scatter


def test_parse():
    assert parse("(3 h d) c") == ((("3", "h", "d"),), (("c",),))
    assert parse("(m + 3 h d) c") == ((("m",), ("3", "h", "d")), (("c",),))


@pytest.mark.parametrize("pattern", ["", "(3 h d c", "h-d c", "3*h"])
def test_other_text_is_refused(pattern):
    with pytest.raises(ValueError, match="not a tensor pattern"):
        parse(pattern)


def test_heads_inside_groups():
    # Three groups (q, k, v) of 4 heads of 2 values: head 0 and 2 of each group.
    positions = active_indices((("3", "h", "d"),), 24, {"h": 4}, {"h": torch.tensor([0, 2])})
    assert positions.tolist() == [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21]


def test_a_dimension_without_the_letter_is_not_resized():
    assert active_indices((("c",),), 5, {"h": 4}, {"h": torch.tensor([0])}) is None


def test_parts_of_a_sum_are_consecutive():
    # 3 hidden channels, then two groups of 2 heads of 2 values: channels 0 and 2, head 1.
    active = {"m": torch.tensor([0, 2]), "h": torch.tensor([1])}
    assert active_indices((("m",), ("2", "h", "d")), 11, {"m": 3, "h": 2}, active).tolist() == [0, 2, 5, 6, 9, 10]


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"a dimension of 25 is not \(3 h d\) with h = 4"):
        active_indices((("3", "h", "d"),), 25, {"h": 4}, {"h": torch.tensor([0])})
    with pytest.raises(ValueError, match="a dimension of 8 is not"):
        active_indices((("m",),), 8, {"m": 4}, {"m": torch.tensor([0])})


@pytest.mark.parametrize(
    "indices", [(torch.tensor([0, 3]), None), (None, torch.tensor([1])), (torch.tensor([0, 2]),) * 2, (None, None)]
)
def test_scatter_is_the_inverse_of_gather_and_keeps_other_entries(indices):
    full = torch.arange(20.0).reshape(4, 5)
    part = gather(full, indices)
    changed = full.clone()
    scatter(changed, part + 100, indices)
    touched = torch.zeros(4, 5, dtype=torch.bool)
    scatter(touched, torch.ones_like(part, dtype=torch.bool), indices)
    assert touched.sum() == part.numel()
    assert torch.equal(changed, torch.where(touched, full + 100, full))
