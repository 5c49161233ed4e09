"""Which heads and channels are active at a rate: the leading ones, random ones, or those of the largest weights.

The choice is a function of the setting, the seed, the weights a model came with and how many are wanted, so whoever goes on
with a run arrives at the same ones and nothing need be kept. How the paper chooses is not known here (its method section is
not at hand); a sweep can compare.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import timm.models as zoo
import torch
from torch import Tensor, nn

from explorer.elastic.layout import LETTERS
from explorer.elastic.pattern import Dimension, active_indices
from explorer.elastic.resizable import ResizableModule
from explorer.errors import InvalidInput

SubsetChoice = Literal["leading", "random", "importance"]
LEADING_ONLY: dict[type[nn.Module], str] = {
    zoo.GlobalContextVit: "its global queries are made for all heads and read in their order",
}
"""Models in which only the leading heads can be active, and why."""


class Subset:
    """Chooses the active heads and channels of a model's modules.

    Leading and important ones are nested: what is active stays active while rates rise. Random ones are drawn anew for
    each number, the same for all modules of one width: position biases that several layers share then fit them all.

    Importance is the L2 norm of all weights that belong to a head or channel, in whatever tensor (filter norms: Li et al.,
    "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv 1608.08710; summed over coupled tensors: Fang et al., "DepGraph",
    CVPR 2023, arXiv 2301.12900), read once from the weights the model comes with. With fresh weights it says little.

    Args:
        choice: as in `Staging`.
        model: the timm model.
        units: its resizable modules, at full size.
        seed: of the random choice.

    Raises:
        InvalidInput: when the model allows the leading ones only.
    """

    def __init__(self, choice: SubsetChoice, model: nn.Module, units: Sequence[ResizableModule], seed: int) -> None:
        allowed = subsets(model)
        if choice not in allowed:
            reason = next(why for kind, why in LEADING_ONLY.items() if isinstance(model, kind))
            raise InvalidInput("staging.subset", choice, f"must be {allowed[0]} for {type(model).__name__}: {reason}")
        self._choice, self._seed = choice, seed
        weightless = any(parameter.is_meta for parameter in model.parameters())  # to count costs, any will do
        self._orders = _orders(units) if choice == "importance" and not weightless else {}

    def active(self, unit: ResizableModule, letter: str, count: int) -> Tensor:
        """Numbers of the active heads (`h`) or channels (`m`) of a module, int64 (count,), ascending."""
        total = unit.counts[letter]
        if count < total and self._choice == "random":
            generator = torch.Generator("cpu").manual_seed(zlib.crc32(f"{self._seed} {letter} {total} {count}".encode()))
            return torch.randperm(total, generator=generator, device="cpu")[:count].sort().values
        order = self._orders.get((unit.path, letter))
        return torch.arange(count, device="cpu") if order is None else order[:count].sort().values

    @property
    def orders(self) -> dict[str, list[int]]:
        """Numbers of heads (`path h`) and channels (`path m`) from the most to the least important; plain data."""
        return {f"{path} {letter}": order.tolist() for (path, letter), order in self._orders.items()}

    @orders.setter
    def orders(self, orders: dict[str, list[int]]) -> None:
        split = {tuple(name.rsplit(" ", 1)): torch.tensor(order, device="cpu") for name, order in orders.items()}
        self._orders = {(path, letter): order for (path, letter), order in split.items()}


def subsets(model: nn.Module) -> tuple[SubsetChoice, ...]:
    """The choices that a timm model allows."""
    return ("leading",) if isinstance(model, tuple(LEADING_ONLY)) else ("leading", "random", "importance")


def _orders(units: Sequence[ResizableModule]) -> dict[tuple[str, str], Tensor]:
    """For each module and letter, the numbers of its heads or channels from the most to the least important."""
    orders = {}
    for letter in LETTERS:
        norms = {unit.path: _norms(unit, letter) for unit in units if letter in unit.counts}
        reading = [unit.path for unit in units if unit.reads(letter)]
        # Position biases stand in modules of their own: inside the attention that they serve, or shared by all layers.
        served = {path: [other for other in reading if f"{path}.".startswith(f"{other}.")] for path in norms}
        shared = not all(served.values())
        for path, own in norms.items():
            sources = [other for other in reading if len(norms[other]) == len(own)] if shared else served[path]
            total = torch.stack([norms[source] for source in sources]).sum(0)
            orders[path, letter] = total.argsort(descending=True, stable=True)
    return orders


@torch.no_grad()
def _norms(unit: ResizableModule, letter: str) -> Tensor:
    """L2 norm of the weights of each head or channel, float64 (count,)."""
    squares = torch.zeros(unit.counts[letter], dtype=torch.float64)
    for slot in unit.slots:
        if not isinstance(slot.tensor, nn.Parameter):
            continue
        values = slot.tensor.detach().to("cpu", torch.float64).square()
        for dim, (dimension, size) in enumerate(zip(slot.pattern, slot.full_shape, strict=False)):
            if any(letter in term for term in dimension):
                owner, owned = _owners(dimension, size, unit, letter)
                along = values.movedim(dim, 0).flatten(1).sum(1) if values.ndim > 1 else values
                squares.index_add_(0, owner[owned], along[owned])
    return squares.sqrt()


def _owners(dimension: Dimension, size: int, unit: ResizableModule, letter: str) -> tuple[Tensor, Tensor]:
    """For each position along a dimension the head or channel it belongs to, and whether it belongs to any.

    Read off bit by bit: the positions of all channels whose number has the bit set.
    """
    count = unit.counts[letter]
    everything = {other: torch.arange(number, device="cpu") for other, number in unit.counts.items()}

    def positions(chosen: Tensor) -> Tensor:
        indices = active_indices(dimension, size, unit.counts, {**everything, letter: chosen})
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
