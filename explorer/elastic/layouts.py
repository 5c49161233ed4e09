"""What must be known of each timm class to resize it: a table row, not a forward pass.

A row says which tensors have heads (`h`) or MLP hidden channels (`m`) where, in einops notation: the
pattern names the tensor's dimensions in order, `(3 h d) c` is a first dimension made of three groups of h
heads of d values. Other letters stay whole; integers are literal group counts. A bias or norm weight
follows the first dimension of its module's pattern.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from timm.layers import Attention, AttentionPoolLatent, Mlp
from torch import nn

from explorer.schedule import Axis


@dataclass(frozen=True)
class Layout:
    """How one module class is laid out along one axis."""

    axis: Axis
    tensors: Mapping[str, str]
    """Submodule (or parameter) name -> pattern of its weight. Absent optional submodules are passed over."""
    counts: tuple[str, ...] = field(default=())
    """Integer attributes of the module in proportion to its heads or channels."""

    @property
    def letter(self) -> str:
        """The letter of the axis in the patterns."""
        return {"heads": "h", "mlp": "m"}[self.axis]


# Exact classes: a subclass may have another forward pass and needs a row of its own.
LAYOUTS: dict[type[nn.Module], Layout] = {
    Attention: Layout(
        "heads",
        {"qkv": "(3 h d) c", "proj": "c (h d)", "gate": "(h d) c", "norm": "(h d)"},
        ("num_heads", "attn_dim"),
    ),
    Mlp: Layout("mlp", {"fc1": "m c", "fc2": "c m", "norm": "m"}),
}

# Modules left whole with everything inside them.
WHOLE: tuple[type[nn.Module], ...] = (AttentionPoolLatent,)
