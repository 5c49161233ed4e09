"""Rates that are numbers, or lists with one rate for each level of a pyramid, for one model."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.elastic.layout import LETTERS
from explorer.elastic.resizable import ResizableModule
from explorer.errors import InvalidInput
from explorer.spec.rates import Rate, is_count

WORDS = {"h": "heads", "m": "channels"}


class Levels:
    """The levels of a model: blocks with equally many heads, or hidden channels, in the order of the blocks.

    The levels of heads and those of channels may differ: the first levels of some pyramids have no attention.

    Args:
        modules: the resizable modules of the model, at full size.
    """

    def __init__(self, modules: Sequence[ResizableModule]) -> None:
        self._together = {(module.path, letter): _together(module, letter) for module in modules for letter in module.counts}
        self._sizes = {
            letter: list(dict.fromkeys(self._size(module, letter) for module in modules if letter in module.counts))
            for letter in LETTERS
        }

    def sizes(self, letter: str) -> tuple[int, ...]:
        """Number of heads (`h`) or hidden channels (`m`) of each level of the full model."""
        return tuple(self._sizes[letter])

    def rate(self, module: ResizableModule, letter: str, rate: Rate) -> float | int:
        """The rate of one module: a fraction of its heads or channels, or the number of entries of its letter.

        Args:
            module: the module.
            letter: heads (`h`) or hidden channels (`m`).
            rate: the requested rate, for all levels or a list.

        Raises:
            InvalidInput: when a list has another length than the model has levels, and when a level does not have as many
                heads or channels as requested, or only multiples of another number are possible.
        """
        sizes, size = self._sizes[letter], self._size(module, letter)
        field, level = f"rates.{LETTERS[letter]}", sizes.index(size)
        shown = list(rate) if isinstance(rate, tuple) else rate
        if isinstance(rate, tuple):
            if len(rate) != len(sizes):
                levels = f"{len(sizes)} levels, which have" if len(sizes) > 1 else "one level, which has"
                raise InvalidInput(field, shown, f"must have one entry for each of the model's {levels} {self._text(letter)}")
            rate = rate[level]
        if not is_count(rate):
            return rate
        if rate > size:
            raise InvalidInput(field, shown, f"{rate} is more than level {level + 1} has; the model has {self._text(letter)}")
        together = self._together[module.path, letter]
        if rate % together:
            reason = f"{rate} must be a multiple of {together}: so many {WORDS[letter]} of {module.path} only change together"
            raise InvalidInput(field, shown, reason)
        return rate // together

    def _size(self, module: ResizableModule, letter: str) -> int:
        return module.counts[letter] * self._together[module.path, letter]

    def _text(self, letter: str) -> str:
        return f"{', '.join(map(str, self._sizes[letter]))} {WORDS[letter]}"


def _together(module: ResizableModule, letter: str) -> int:
    """Number of heads that share keys and values, or of groups of a convolution that keep equally many channels; usually 1."""
    names = {"h": ("num_heads", module.layout.heads), "m": ("hidden_features", module.layout.channels)}
    name, proportional = names[letter]
    total = getattr(module.module, name, 0) if name in proportional else 0
    return max(1, int(total) // module.counts[letter])
