"""Which heads and channels are active at a rate: the leading ones, random ones, or those with the largest weights.

The choice is a function of the setting, the seed, the initial weights and the number of active entries, so a resumed run
makes the same choice without having stored it. In the paper, parts become active in order, as with the leading ones;
the other choices are this project's own, and a sweep can compare them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import timm.models as zoo
import torch
from torch import Tensor, nn

from explorer.elastic.layout import LETTERS
from explorer.elastic.pattern import Dimension, active_indices
from explorer.elastic.resizable import ResizableModule
from explorer.errors import InvalidInput
from explorer.spec.staging import SubsetChoice

LEADING_ONLY: dict[type[nn.Module], str] = {
    zoo.GlobalContextVit: "its global queries are computed for all heads and used in their order",
}
"""Models in which only the leading heads can be active, and why."""


class Subset:
    """Chooses the active heads and channels of a model's resizable modules.

    Leading and important subsets are nested: entries stay active as rates rise. Random subsets are drawn independently for each
    count, and are the same for all modules of one width, so that they fit position biases that several layers share.

    Importance is the L2 norm of all weights that belong to a head or channel, in all tensors: filter norms are from Li et al.,
    "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv 1608.08710; sums over coupled tensors from Fang et al.,
    "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv 2301.12900. It is computed once from the initial weights, so
    it is meant for pretrained models.

    Args:
        choice: see `Staging.subset`.
        model: the timm model.
        modules: its resizable modules, at full size.
        seed: seed of random subsets.

    Raises:
        InvalidInput: if the model allows only the leading heads.
    """

    def __init__(self, choice: SubsetChoice, model: nn.Module, modules: Sequence[ResizableModule], seed: int) -> None:
        allowed = subsets(model)
        if choice not in allowed:
            reason = next(why for kind, why in LEADING_ONLY.items() if isinstance(model, kind))
            raise InvalidInput("staging.subset", choice, f"must be {allowed[0]} for {type(model).__name__}: {reason}")
        self._choice, self._seed = choice, seed
        on_meta = any(parameter.is_meta for parameter in model.parameters())  # has no weights; its cost is the same for all
        self._orders = _orders(modules) if choice == "importance" and not on_meta else {}

    def active(self, module: ResizableModule, letter: str, count: int) -> Tensor:
        """Numbers of the active heads (`h`) or channels (`m`) of a module, int64 (count,), ascending."""
        total = module.counts[letter]
        if count < total and self._choice == "random":
            generator = torch.Generator("cpu").manual_seed(zlib.crc32(f"{self._seed} {letter} {total} {count}".encode()))
            return torch.randperm(total, generator=generator, device="cpu")[:count].sort().values
        return self.order(module, letter)[:count].sort().values

    def order(self, module: ResizableModule, letter: str) -> Tensor:
        """Numbers of all heads (`h`) or channels (`m`) of a module in the order in which they become active, int64 (total,).

        Random subsets have no order; for them, the order is that of the numbers.
        """
        order = self._orders.get((module.path, letter))
        return torch.arange(module.counts[letter], device="cpu") if order is None else order

    @property
    def orders(self) -> dict[str, list[int]]:
        """Numbers of heads (`path h`) and channels (`path m`) from the most to the least important, as plain data."""
        return {f"{path} {letter}": order.tolist() for (path, letter), order in self._orders.items()}

    @orders.setter
    def orders(self, orders: dict[str, list[int]]) -> None:
        split = {tuple(name.rsplit(" ", 1)): torch.tensor(order, device="cpu") for name, order in orders.items()}
        self._orders = {(path, letter): order for (path, letter), order in split.items()}


def subsets(model: nn.Module) -> tuple[SubsetChoice, ...]:
    """The choices that a timm model allows."""
    return ("leading",) if isinstance(model, tuple(LEADING_ONLY)) else ("leading", "random", "importance")


def _orders(modules: Sequence[ResizableModule]) -> dict[tuple[str, str], Tensor]:
    """For each module and letter, the numbers of its heads or channels from the most to the least important, int64 (count,)."""
    orders = {}
    for letter in LETTERS:
        norms = {module.path: _norms(module, letter) for module in modules if letter in module.counts}
        consumers = [module.path for module in modules if module.reads(letter)]
        # Position biases are modules of their own: inside the attention that uses them, or shared by all layers.
        containing = {path: [other for other in consumers if f"{path}.".startswith(f"{other}.")] for path in norms}
        shared = not all(containing.values())
        for path, own in norms.items():
            sources = [other for other in consumers if len(norms[other]) == len(own)] if shared else containing[path]
            total = torch.stack([norms[source] for source in sources]).sum(0)
            orders[path, letter] = total.argsort(descending=True, stable=True)
    return orders


@torch.no_grad()
def _norms(module: ResizableModule, letter: str) -> Tensor:
    """L2 norm of the weights of each head or channel, float64 (count,)."""
    squares = torch.zeros(module.counts[letter], dtype=torch.float64)
    for part in module.parts:
        if not isinstance(part.tensor, nn.Parameter):
            continue
        values = part.tensor.detach().to("cpu", torch.float64).square()
        for dim, (dimension, size) in enumerate(zip(part.pattern, part.full_shape, strict=False)):
            if any(letter in term for term in dimension):
                owner, owned = _owners(dimension, size, module, letter)
                sums = values.movedim(dim, 0).flatten(1).sum(1) if values.ndim > 1 else values
                squares.index_add_(0, owner[owned], sums[owned])
    return squares.sqrt()


def _owners(dimension: Dimension, size: int, module: ResizableModule, letter: str) -> tuple[Tensor, Tensor]:
    """For each position along a dimension, the head or channel to which it belongs, and whether it belongs to any.

    The numbers are found bit by bit, from the positions of all heads or channels whose number has that bit set.

    Returns:
        int64 (size,) and bool (size,).
    """
    count = module.counts[letter]
    everything = {other: torch.arange(number, device="cpu") for other, number in module.counts.items()}

    def positions(numbers: Tensor) -> Tensor:
        indices = active_indices(dimension, size, module.counts, {**everything, letter: numbers})
        assert indices is not None
        return indices

    owner = torch.zeros(size, dtype=torch.int64)
    for bit in range(count.bit_length()):
        numbers = everything[letter]
        with_bit = positions(numbers[(numbers >> bit) % 2 == 1])
        owner[with_bit] += 1 << bit
    owned = torch.ones(size, dtype=torch.bool)
    others = positions(everything[letter][:0])
    owner[others] = 0
    owned[others] = False
    return owner, owned
