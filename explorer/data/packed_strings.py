"""Strings in one block of memory, which processes share.

Each string of a list is an object whose count of references changes when it is read. In a process that was forked, the
system then copies the memory around it, so that every process of a data loader ends with a copy of all paths of a data set.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import overload


class PackedStrings(Sequence[str]):
    """A sequence of strings that cannot be changed; names of files with bytes that are not UTF-8 included."""

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [os.fsencode(string) for string in strings]
        self._text = b"".join(encoded)
        self._ends = array("q", accumulate(map(len, encoded), initial=0))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        return os.fsdecode(self._text[self._ends[places] : self._ends[places + 1]])
