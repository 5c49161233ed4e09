"""What must be known about a module class to resize it: one row of a table instead of a new forward pass.

A row says where a class's tensors contain attention heads (`h`) or MLP hidden channels (`m`), in the notation of einops
(Rogozhnikov, "Einops: Clear and Reliable Tensor Manipulations with Einstein-like Notation", ICLR 2022). A pattern names the
dimensions of a tensor in order: in `(3 h d) c`, the first dimension consists of three groups of h heads with d values each.
Dimensions with other letters keep their size; integers are numbers of groups. Biases, norm weights and running statistics
follow the first dimension of their module's pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from explorer.spec.rates import Axis

LETTERS: dict[str, Axis] = {"h": "heads", "m": "mlp"}
"""The letters of dimensions that are resized, and the axis whose rate resizes them."""


@dataclass(frozen=True)
class Layout:
    """Where the tensors of one module class contain heads and hidden channels."""

    tensors: Mapping[str, str]
    """Pattern of each submodule's weight (`qkv`, `ln1.linear`) or parameter. Names that a module does not have are skipped."""
    heads: tuple[str, ...] = ()
    """Integer attributes proportional to the number of heads; the first is that number. `in_split[1]` is an entry of a list."""
    channels: tuple[str, ...] = ()
    """Integer attributes proportional to the number of hidden channels; the first is that number unless some dimension is `m`
    alone."""
    caches: tuple[str, ...] = ()
    """Attributes that are dictionaries to clear when the size changes."""
    narrow: type[nn.Module] | None = None
    """Subclass that replaces the module's class while it is reduced, if the forward pass assumes the full width."""
    whole: frozenset[str] = field(default=frozenset())
    """Submodules that must not be resized by a row of their own."""


Row = Layout | Callable[[nn.Module], Layout | None]
"""A layout, or a function that makes it from the module if it depends on how the module was built: `None` if the module has
nothing to resize."""
