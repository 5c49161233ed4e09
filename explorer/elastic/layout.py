"""What must be known of each timm class to resize it: a table row, not a forward pass.

A row says which tensors have heads (`h`) or MLP hidden channels (`m`) where, in einops notation: the
pattern names the tensor's dimensions in order, `(3 h d) c` is a first dimension made of three groups of h
heads of d values. Other letters stay whole; integers are literal group counts. A bias, norm weight or running
statistic follows the first dimension of its module's pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from explorer.spec.rates import Axis

LETTERS: dict[str, Axis] = {"h": "heads", "m": "mlp"}
"""The letters that are cut, and the axis whose rate cuts them."""


@dataclass(frozen=True)
class Layout:
    """How one module class is laid out."""

    tensors: Mapping[str, str]
    """Submodule (`qkv`, `ln1.linear`) or parameter -> pattern of its weight. What a module lacks is passed over."""
    heads: tuple[str, ...] = ()
    """Integer attributes in proportion to the heads, the number of heads first; `in_split[1]` for a list's entry."""
    channels: tuple[str, ...] = ()
    """Integer attributes in proportion to the hidden channels; their number first if no tensor dimension is just `m`."""
    caches: tuple[str, ...] = ()
    """Dictionaries to empty when the size changes."""
    narrow: type[nn.Module] | None = None
    """Subclass that takes the module's place while it is reduced, for a forward pass that assumes full width."""
    whole: frozenset[str] = field(default=frozenset())
    """Submodules inside that must not be resized by a row of their own."""


Row = Layout | Callable[[nn.Module], Layout | None]
"""A layout, or what makes one from the module where it depends on how the module was built: None if it has no part."""
