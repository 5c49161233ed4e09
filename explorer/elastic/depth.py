"""Fewer blocks in a training step: the first ones or an evenly spaced subset in early stages, all of them in the last stage.

The axis is from Li et al., "Automated Progressive Learning for Efficient Training of Vision Transformers" (AutoProg), CVPR
2022, arXiv 2203.14509. Every block adds to a residual stream of constant width, so the active blocks are a shallower model of
the same class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import timm.models as zoo
import torch
from timm.models.eva import EvaBlockPostNorm
from timm.models.gemma4_vit import Gemma4Block
from timm.models.vision_transformer import ResPostBlock
from timm.models.vision_transformer_relpos import ResPostRelPosBlock
from torch import Tensor, nn
from torchvision.models import VisionTransformer as TorchvisionViT

from explorer.elastic.class_table import row_of
from explorer.errors import InvalidInput
from explorer.spec.staging import BlockSubset

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
    TorchvisionViT: "encoder.layers",
}
"""Model classes whose forward passes run one stack of blocks in order, and the path of that stack.

ConViT is not among them: its forward pass uses block numbers. `register_model` adds classes.
"""


OTHER_BRANCHES: list[type[nn.Module]] = [zoo.Xcit, zoo.TNT]
"""Classes whose blocks have residual branches besides attention and MLP: without those two, a block still adds something.
`register_model` adds classes."""

POST_NORMS: dict[type[nn.Module], tuple[str, ...]] = {
    ResPostBlock: ("norm1", "norm2"),
    ResPostRelPosBlock: ("norm1", "norm2"),
    EvaBlockPostNorm: ("norm1", "norm2"),
    Gemma4Block: ("norm2", "norm4"),
}
"""Classes of blocks that normalize the outputs of attention and MLP, and the names of these norms.

Such a block adds nothing if the weights and biases of these norms are zero, from which Swin V2 starts (Liu et al., CVPR 2022,
arXiv 2111.09883). Outputs of zero would not do: the norm adds its bias, and multiplies the gradient by 1 / sqrt(eps).
"""


class Depth:
    """A stack of blocks of which some are active.

    Args:
        model: a timm model at full depth.
        path: path of the stack, a `Sequential` or `ModuleList`.
        subset: which blocks are active: the first ones, or evenly spaced ones.

    Raises:
        InvalidInput: for an even subset of a model whose rotary positions are assigned by block number.
    """

    def __init__(self, model: nn.Module, path: str, subset: BlockSubset) -> None:
        if subset == "even" and getattr(model, "rope_mixed", getattr(model, "rope_is_mixed", False)):
            raise InvalidInput(
                "staging.blocks",
                subset,
                f"must be prefix: {type(model).__name__} has rotary positions for each block number",
            )
        parent, _, self._name = path.rpartition(".")
        self._owner: Any = model.get_submodule(parent)
        self._stack: Any = getattr(self._owner, self._name)
        self._subset = subset

    @property
    def count(self) -> int:
        """Number of blocks of the full model."""
        return len(self._stack)

    @property
    def active_blocks(self) -> list[nn.Module]:
        """The blocks that the model runs now, in order."""
        return list(getattr(self._owner, self._name))

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks of the full model, in order."""
        return list(self._stack)

    def active(self, rate: float) -> list[int]:
        """Numbers of the active blocks at a rate, ascending; their count is rounded to the nearest integer.

        An even subset of k among n blocks has the blocks 0, n/k, 2n/k, ..., rounded down: 0, 3, 6, 9 for 4 of 12. Even subsets
        are nested if each count divides the next.

        Raises:
            InvalidInput: if no block would be active.
        """
        kept = math.floor(rate * self.count + 0.5)
        if kept < 1:
            smallest = f"{0.5 / self.count:.3g}"
            allowed = f"leaves none of the {self.count} blocks; must be at least {smallest}"
            raise InvalidInput("rates.depth", rate, allowed)
        return [number * self.count // kept for number in range(kept)] if self._subset == "even" else list(range(kept))

    def set(self, rate: float) -> list[nn.Module]:
        """Make the model run only the active blocks; at rate 1 it has its original stack again.

        Inactive blocks keep their weights and optimizer states: optimizers skip parameters without gradients.

        Returns:
            The blocks that are newly active.
        """
        active = self.active(rate)
        for number, block in enumerate(self._stack):
            if number not in active:
                block.zero_grad(set_to_none=True)
        stack = self._stack
        if len(active) < self.count:
            active_blocks = [self._stack[number] for number in active]
            stack = nn.Sequential(*active_blocks) if isinstance(self._stack, nn.Sequential) else nn.ModuleList(active_blocks)
        before = set(getattr(self._owner, self._name))
        setattr(self._owner, self._name, stack.train(self._owner.training))
        return [block for block in stack if block not in before]


def post_norms(block: nn.Module) -> list[nn.Module]:
    """The norms of a block that are applied to the outputs of its attention and its MLP; see `POST_NORMS`."""
    return [block.get_submodule(name) for name in row_of(POST_NORMS, block) or ()]


def is_frozen(module: nn.Module) -> bool:
    """Whether a parameter of a module is frozen."""
    return not all(parameter.requires_grad for parameter in module.parameters())


@torch.no_grad()
def copy_blocks(sources: Sequence[nn.Module], new: Sequence[nn.Module]) -> None:
    """Copy the parameters and running statistics of blocks into new ones: source 0 into new block 0, and so on, in turn.

    Blocks of some models differ, such as those with global and with local attention in SAM. A new block is then a copy of the
    next source whose tensors have the same shapes; if there is none, it keeps its values. The optimizer state of a block that
    has never been trained is fresh anyway.

    Args:
        sources: the blocks that were active, in order, at their present width.
        new: the blocks that become active, in order, at the same width.
    """
    tensors_of = [_learned(source) for source in sources]
    for number, block in enumerate(new):
        own = _learned(block)
        shapes = {name: tensor.shape for name, tensor in own.items()}
        for turn in range(len(sources)):
            copied = tensors_of[(number + turn) % len(sources)]
            if {name: tensor.shape for name, tensor in copied.items()} == shapes:
                for name, tensor in own.items():
                    tensor.copy_(copied[name])
                break


def _learned(block: nn.Module) -> dict[str, Tensor]:
    """Parameters and running statistics; not constants such as masks, which depend on a block's place in the model."""
    statistics = {name: buffer for name, buffer in block.named_buffers() if name.endswith(("running_mean", "running_var"))}
    return {**dict(block.named_parameters()), **statistics}


def active_blocks(model: nn.Module) -> list[nn.Module] | None:
    """The blocks that a model with one stack of them runs now, in order; `None` for other models."""
    path = row_of(STACKS, model)
    stack: Any = model.get_submodule(path) if path else None
    return None if stack is None else list(stack)


def depth_of(model: nn.Module, subset: BlockSubset = "prefix") -> Depth | None:
    """The stack of a model whose depth can be reduced, `None` for other models.

    Raises:
        InvalidInput: see `Depth`.
    """
    if isinstance(model, zoo.NaFlexVit) and model.rope_is_mixed:
        return None  # one parameter holds the rotary frequencies of all blocks: weight decay would change inactive ones
    path = row_of(STACKS, model)
    depth = Depth(model, path, subset) if path else None
    return depth if depth and depth.count > 1 else None
