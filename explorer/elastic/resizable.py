"""One module that can be resized: its tensors and their optimizer state, cut and put back in place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.elastic.growth import SECOND_MOMENTS, initialize_moments, zero_new_inputs
from explorer.elastic.layout import LETTERS, Layout
from explorer.elastic.pattern import Dimension, Indices, active_indices, gather, parse, scatter
from explorer.errors import InvalidInput
from explorer.spec.staging import Growth

Kept = dict[tuple[Tensor, str], Tensor]
"""Full-width tensors of what is reduced now: parameters under ('', ...), optimizer state under its name."""


@dataclass
class Slot:
    """One tensor of a resizable module: a parameter or a buffer."""

    owner: nn.Module
    name: str
    pattern: tuple[Dimension, ...]
    full_shape: torch.Size

    @property
    def tensor(self) -> Tensor:
        tensor = getattr(self.owner, self.name)
        assert isinstance(tensor, Tensor)
        return tensor

    @property
    def reads(self) -> bool:
        """True for weights that are multiplied with what heads or channels give: `c (h d)`, `c m`, `h h`."""
        layer = isinstance(self.owner, nn.Linear | nn.Conv2d) and self.name == "weight"
        return layer and any(_is_cut(dimension) for dimension in self.pattern[1:])

    @property
    def output(self) -> bool:
        """True for those of them that lead back to the residual stream: not `h h`."""
        return self.reads and not _is_cut(self.pattern[0])


class ResizableModule:
    """A module with its layout, and which of its heads (`h`) and hidden channels (`m`) are active.

    Raises:
        ValueError: naming the module, when the layout does not match it.
    """

    def __init__(self, path: str, module: nn.Module, layout: Layout) -> None:
        self.path, self.module, self.layout = path, module, layout
        self.full_class = type(module)
        self.slots = list(_slots(module, layout))
        used = {factor for slot in self.slots for dimension in slot.pattern for term in dimension for factor in term}
        attributes = {"h": layout.heads, "m": layout.channels}
        self.counts = {letter: self._count(letter, attributes[letter]) for letter in LETTERS if letter in used}
        self.active = {letter: torch.arange(count, device="cpu") for letter, count in self.counts.items()}
        self._attributes = {(n, letter): _get(module, n) for letter in self.counts for n in attributes[letter]}
        if not self.counts:
            raise ValueError(f"{path}: {type(module).__name__} has none of the tensors of its row")
        for (name, letter), value in self._attributes.items():
            if value % self.counts[letter]:
                raise ValueError(f"{path}: {name} = {value} is not in proportion to {letter} = {self.counts[letter]}")
        for slot in self.slots:
            self._indices(slot, self.active)

    def _count(self, letter: str, attributes: tuple[str, ...]) -> int:
        if letter == "h" and attributes:
            return int(_get(self.module, attributes[0]))
        for slot in self.slots:
            for dimension, size in zip(slot.pattern, slot.full_shape, strict=False):
                if len(dimension) == 1 and all(factor == letter or factor.isdigit() for factor in dimension[0]):
                    return size // prod(int(factor) for factor in dimension[0] if factor != letter)
        if attributes:  # channels that share every dimension with something else
            return int(_get(self.module, attributes[0]))
        raise ValueError(f"{self.path}: no tensor of {type(self.module).__name__} tells how many {letter} there are")

    def _indices(self, slot: Slot, active: Mapping[str, Tensor]) -> Indices:
        if len(slot.pattern) > len(slot.full_shape):
            raise ValueError(f"{self.path}: {slot.name} has shape {tuple(slot.full_shape)}, not the one of its row")
        try:
            return tuple(
                active_indices(dimension, size, self.counts, active)
                for dimension, size in zip(slot.pattern, slot.full_shape, strict=False)
            )
        except ValueError as error:
            raise ValueError(f"{self.path} ({self.full_class.__name__}), {slot.name}: {error}") from None

    def active_at(self, letter: str, rate: float, most: int = 1) -> int:
        """Whole number of active heads or channels nearest to `rate` of all.

        Args:
            letter: heads (`h`) or hidden channels (`m`).
            rate: share that is wanted.
            most: the largest count of any module in the model. Where others have more, a module with a single head
                keeps it: the first stage of many pyramids has one.

        Raises:
            InvalidInput: when none is left.
        """
        active = math.floor(rate * self.counts[letter] + 0.5)
        if active < 1 and self.counts[letter] == 1 < most:
            return 1
        if active < 1:
            raise InvalidInput(
                f"rates.{LETTERS[letter]}",
                rate,
                f"leaves none of the {self.counts[letter]} of {self.path}; must be at least {0.5 / self.counts[letter]:.3g}",
            )
        return active

    def reads(self, letter: str) -> bool:
        """True when a layer of the module reads what its heads or channels give: not for a module of position biases."""
        return any(
            slot.output and any(letter in term for dimension in slot.pattern[1:] for term in dimension) for slot in self.slots
        )

    @torch.no_grad()
    def zero_output(self) -> None:
        """Make the module add nothing to its residual stream: output weights and biases of zero."""
        for slot in self.slots:
            if slot.output:
                slot.tensor.zero_()
                bias = getattr(slot.owner, "bias", None)
                if isinstance(bias, Tensor):
                    bias.zero_()

    def resize(self, active: Mapping[str, Tensor], kept: Kept, optimizer: Optimizer | None, grow: Growth | None = None) -> None:
        """Give every tensor of the module, and its optimizer state, these heads and channels.

        Args:
            active: int64 numbers for each letter, ascending.
            kept: what is cut away, of all modules.
            optimizer: whose state is cut with the tensors.
            grow: what is done to entries that were not active; none: nothing, they are as they were.
        """
        if all(torch.equal(active[letter], self.active[letter]) for letter in self.counts):
            return
        for slot in self.slots:
            old, new = self._indices(slot, self.active), self._indices(slot, active)
            tensor = slot.tensor
            state = optimizer.state.get(tensor, {}) if optimizer is not None else {}
            for name, value in list(state.items()):
                if isinstance(value, Tensor) and value.shape == tensor.shape:
                    state[name] = _moved(value, (tensor, name), old, new, slot, kept)
                    if grow and name in SECOND_MOMENTS:
                        initialize_moments(state[name], value, old, new)
                elif isinstance(value, Tensor) and value.numel() > 1:  # one number, such as a step count, stays
                    raise InvalidInput(
                        "optimizer",
                        type(optimizer).__name__,
                        f"its state {name!r} has another shape than its parameter and cannot be resized",
                    )
            tensor.grad = None
            moved = _moved(tensor.data, (tensor, ""), old, new, slot, kept)
            _forget_graphs(tensor)
            tensor.data = moved
            if grow == "zero" and slot.reads:
                zero_new_inputs(tensor.data, old, new)
            _set_sizes(slot.owner)
        self.active = {letter: active[letter] for letter in self.counts}
        for (name, letter), value in self._attributes.items():
            _set(self.module, name, value * len(self.active[letter]) // self.counts[letter])
        for cache in self.layout.caches:
            getattr(self.module, cache).clear()
        if self.layout.narrow is not None:
            reduced = any(len(self.active[letter]) < count for letter, count in self.counts.items())
            self.module.__class__ = self.layout.narrow if reduced else self.full_class


def _is_cut(dimension: Dimension) -> bool:
    return any(letter in term for term in dimension for letter in LETTERS)


def _forget_graphs(tensor: Tensor) -> None:
    """Part a tensor from the graphs of earlier steps.

    A loss that the caller still holds keeps the node that gathers the tensor's gradient, and that node knows the old shape.
    Torch makes a new one only where the type of the data changes (VariableHooks::set_data), so it does for a moment.
    """
    tensor.data = tensor.data.new_empty(0, dtype=torch.bfloat16 if tensor.dtype == torch.float16 else torch.float16)


def _moved(part: Tensor, key: tuple[Tensor, str], old: Indices, new: Indices, slot: Slot, kept: Kept) -> Tensor:
    """Put `part` back into its full-width tensor and take out what is active now."""
    if key in kept:
        whole = kept.pop(key)
        scatter(whole, part, old)
    elif part.shape == slot.full_shape:
        whole = part
    else:  # state that the optimizer made while the model was small: zero moments for the rest
        whole = part.new_zeros(slot.full_shape)
        scatter(whole, part, old)
    if all(index is None or len(index) == size for index, size in zip(new, slot.full_shape, strict=False)):
        return whole
    kept[key] = whole
    return gather(whole, new)


def _slots(module: nn.Module, layout: Layout) -> Iterator[Slot]:
    """Every tensor that a layout's patterns speak of, biases, norm weights and running statistics included."""
    for path, text in layout.tensors.items():
        *parents, name = path.split(".")
        parent: Any = module
        for step in parents:
            parent = getattr(parent, step, None)
        target = getattr(parent, name, None)
        pattern = parse(text)
        if isinstance(target, Tensor):  # a parameter, or a buffer such as a key bias that is always zero
            yield Slot(parent, name, pattern, target.shape)
        elif isinstance(target, nn.Module):
            own = [*target.named_parameters(recurse=False), *target.named_buffers(recurse=False)]
            for tensor_name, tensor in own:
                if tensor.ndim > 0:  # not a batch counter
                    first_only = tensor.ndim == 1 or tensor_name != "weight"
                    yield Slot(target, tensor_name, pattern[:1] if first_only else pattern, tensor.shape)


def _set_sizes(module: nn.Module) -> None:
    """Bring a layer's integer attributes in line with its tensors."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.Conv2d):
        if module.groups == module.in_channels and weight.shape[1] == 1:  # depthwise: as many groups as channels
            module.groups = weight.shape[0]
        elif module.groups > 1 and module.in_channels == weight.shape[1] * module.groups:  # groups that are head by head
            module.groups = module.groups * weight.shape[0] // module.out_channels
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.ConvTranspose2d) and module.groups == 1:
        module.in_channels, module.out_channels = weight.shape[:2]
    elif hasattr(module, "normalized_shape"):
        setattr(module, "normalized_shape", tuple(weight.shape))  # noqa: B010 (not declared on nn.Module)
    elif hasattr(module, "num_features"):
        setattr(module, "num_features", weight.shape[0])  # noqa: B010


def _get(module: nn.Module, path: str) -> int:
    """An integer attribute, or an entry of a list or tuple: `in_split[1]`."""
    name, *index = re.findall(r"-?\w+", path)
    value = getattr(module, name)
    return int(value[int(index[0])] if index else value)


def _set(module: nn.Module, path: str, value: int) -> None:
    name, *index = re.findall(r"-?\w+", path)
    if not index:
        setattr(module, name, value)
        return
    sequence = getattr(module, name)
    changed = list(sequence)
    changed[int(index[0])] = value
    setattr(module, name, type(sequence)(changed))
