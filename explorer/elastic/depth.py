"""Fewer blocks in a training step: a stage trains the first ones or an even subset, later stages more, the last one all.

The axis of AutoProg (Li et al., "Automated Progressive Learning for Efficient Training of Vision Transformers", CVPR 2022,
arXiv 2203.14509). Every block adds to a residual stream of one width, so what is left is a shallower model of the same class.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import timm.models as zoo
from torch import nn

from explorer.errors import InvalidInput

BlockSubset = Literal["prefix", "even"]
STACKS: dict[type[nn.Module], str] = {
    zoo.VisionTransformer: "blocks",
    zoo.VisionTransformerRelPos: "blocks",
    zoo.VisionTransformerSAM: "blocks",
    zoo.Beit: "blocks",
    zoo.Eva: "blocks",
    zoo.NaFlexVit: "blocks",
    zoo.Cait: "blocks",
    zoo.Xcit: "blocks",
    zoo.TNT: "blocks",
    zoo.DeepseekVitEncoder: "blocks",
    zoo.DeepseekVitClassifier: "encoder.blocks",
    zoo.Qwen3VitEncoder: "blocks",
    zoo.Qwen3VitClassifier: "encoder.blocks",
    zoo.Gemma4VitEncoder: "blocks",
    zoo.Gemma4VitClassifier: "encoder.blocks",
}
"""Classes whose forward passes run plainly over a stack of blocks, and where it is. ConViT's looks at block numbers."""


OTHER_BRANCHES: tuple[type[nn.Module], ...] = (zoo.Xcit, zoo.TNT)
"""Classes whose blocks add more to their streams than attention and MLP: new blocks cannot be silenced by these alone."""


class Depth:
    """A stack of blocks of which some are active.

    Args:
        model: a timm model at full depth.
        path: of its stack, a `Sequential` or `ModuleList`.
        subset: which blocks stay: the first ones, or evenly spread ones.

    Raises:
        InvalidInput: when an even subset is asked of a model whose rotary positions belong to block numbers.
    """

    def __init__(self, model: nn.Module, path: str, subset: BlockSubset) -> None:
        if subset == "even" and getattr(model, "rope_mixed", getattr(model, "rope_is_mixed", False)):
            raise InvalidInput(
                "staging.blocks",
                subset,
                f"must be prefix: {type(model).__name__} has rotary positions block by block",
            )
        parent, _, self._name = path.rpartition(".")
        self._owner: Any = model.get_submodule(parent)
        self._stack: Any = getattr(self._owner, self._name)
        self._subset = subset

    @property
    def count(self) -> int:
        """Number of blocks in full."""
        return len(self._stack)

    def active(self, rate: float) -> list[int]:
        """Numbers of the blocks that are active at a rate: as many as come nearest to it.

        Even subsets are blocks 0, n/k, 2n/k, ... of n, rounded down: 0, 3, 6, 9 for 4 of 12. They are nested when each number
        of active blocks divides the next.

        Raises:
            InvalidInput: when none would be left.
        """
        kept = math.floor(rate * self.count + 0.5)
        if kept < 1:
            least = f"{0.5 / self.count:.3g}"
            raise InvalidInput("rates.depth", rate, f"leaves none of the {self.count} blocks; must be at least {least}")
        return [number * self.count // kept for number in range(kept)] if self._subset == "even" else list(range(kept))

    def set(self, rate: float) -> list[nn.Module]:
        """Run only the active blocks from now on; at rate 1 the model has its own stack again.

        The others keep their weights and optimizer state: without gradients no optimizer touches them.

        Returns:
            The blocks that were not active and are now.
        """
        active = self.active(rate)
        for number, block in enumerate(self._stack):
            if number not in active:
                block.zero_grad(set_to_none=True)
        stack = self._stack
        if len(active) < self.count:
            chosen = [self._stack[number] for number in active]
            stack = nn.Sequential(*chosen) if isinstance(self._stack, nn.Sequential) else nn.ModuleList(chosen)
        before = set(getattr(self._owner, self._name))
        setattr(self._owner, self._name, stack.train(self._owner.training))
        return [block for block in stack if block not in before]


def depth_of(model: nn.Module, subset: BlockSubset = "prefix") -> Depth | None:
    """The stack of a model whose depth can be reduced, else none. Raises as `Depth`."""
    if isinstance(model, zoo.NaFlexVit) and model.rope_is_mixed:
        return None  # rotary frequencies of all blocks are one parameter: weight decay would reach those of sleeping ones
    path = next((STACKS[kind] for kind in type(model).__mro__ if kind in STACKS), None)
    depth = Depth(model, path, subset) if path else None
    return depth if depth and depth.count > 1 else None
