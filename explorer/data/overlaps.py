"""Images that are in two splits, compared by content."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from itertools import combinations


def overlaps_of(contents: Mapping[str, Collection[Hashable]]) -> dict[str, int]:
    """Number of images of each later split whose content an earlier split has as well; see `Inventory.overlaps`.

    Args:
        contents: the contents of all images of each split, or their digests.
    """
    found = {}
    for earlier, later in combinations(contents, 2):
        known = set(contents[earlier])
        if count := sum(content in known for content in contents[later]):
            found[f"{earlier} and {later}"] = count
    return found
