"""One module that can be resized: its tensors and their optimizer states are sliced and restored in place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.elastic.factored_state import averaged_dim, fit_factors, is_factored, state_indices, state_size
from explorer.elastic.growth import (
    SECOND_MOMENTS,
    divide_by_copies,
    initialize_moments,
    initialize_weight_state,
    reset_copies,
    zero_new_inputs,
)
from explorer.elastic.internals import renew_gradient_node
from explorer.elastic.layout import LETTERS, Layout
from explorer.elastic.optimizer_state import WEIGHT_STATES, initial_state
from explorer.elastic.pattern import Dimension, Indices, active_indices, gather, parse, scatter
from explorer.errors import InvalidInput
from explorer.spec.staging import Growth

Kept = dict[tuple[Tensor, str], Tensor]
"""Full-width values of tensors that are reduced now, by tensor and name: `""` for its data, else the optimizer state's name."""


@dataclass
class Part:
    """One tensor of a resizable module, a parameter or a buffer, with its pattern."""

    owner: nn.Module
    name: str
    pattern: tuple[Dimension, ...]
    full_shape: torch.Size

    @property
    def tensor(self) -> Tensor:
        """The tensor at its present size."""
        tensor = getattr(self.owner, self.name)
        assert isinstance(tensor, Tensor)
        return tensor

    @property
    def input_dims(self) -> tuple[int, ...]:
        """Dimensions of a weight along which it takes the outputs of heads or channels as inputs: 1 of `c (h d)`, `c m`, `h h`.

        Empty for all other tensors. A transposed convolution has its inputs along dimension 0.
        """
        if self.name != "weight" or not isinstance(self.owner, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            return ()
        dims = [0] if isinstance(self.owner, nn.ConvTranspose2d) else range(1, len(self.pattern))
        return tuple(dim for dim in dims if _is_cut(self.pattern[dim]))

    @property
    def output(self) -> bool:
        """True for weights that read and whose outputs go to the residual stream: not `h h`."""
        return bool(self.input_dims) and sum(_is_cut(dimension) for dimension in self.pattern) == len(self.input_dims)


class ResizableModule:
    """A module with its layout, and which of its heads (`h`) and hidden channels (`m`) are active.

    Args:
        path: name of the module in its model, for error messages.
        module: the module, at full size.
        layout: the row of its class in the table of layouts.

    Raises:
        ValueError: naming the module, if the layout does not match it.
    """

    def __init__(self, path: str, module: nn.Module, layout: Layout) -> None:
        self.path, self.module, self.layout = path, module, layout
        self.full_class = type(module)
        self.parts = list(_parts(module, layout))
        used = {factor for part in self.parts for dimension in part.pattern for term in dimension for factor in term}
        attributes = {"h": layout.heads, "m": layout.channels}
        self.counts = {letter: self._count(letter, attributes[letter]) for letter in LETTERS if letter in used}
        self.active = {letter: torch.arange(count, device="cpu") for letter, count in self.counts.items()}
        self.keeps_own = {letter: torch.zeros(count, dtype=torch.bool, device="cpu") for letter, count in self.counts.items()}
        """For each letter, which ones carry knowledge, so that growth must not overwrite them with copies, bool (count,)."""
        self._attributes = {(n, letter): _get(module, n) for letter in self.counts for n in attributes[letter]}
        if not self.counts:
            raise ValueError(f"{path}: {type(module).__name__} has none of the tensors of its layout")
        for (name, letter), value in self._attributes.items():
            if value % self.counts[letter]:
                raise ValueError(f"{path}: {name} = {value} is not a multiple of {letter} = {self.counts[letter]}")
        for part in self.parts:
            self.positions(part, self.active)

    def _count(self, letter: str, attributes: tuple[str, ...]) -> int:
        if letter == "h" and attributes:
            return int(_get(self.module, attributes[0]))
        for part in self.parts:
            for dimension, size in zip(part.pattern, part.full_shape, strict=False):
                if len(dimension) == 1 and all(factor == letter or factor.isdigit() for factor in dimension[0]):
                    return size // prod(int(factor) for factor in dimension[0] if factor != letter)
        if attributes:  # every dimension that contains channels contains something else too
            return int(_get(self.module, attributes[0]))
        raise ValueError(
            f"{self.path}: neither a tensor nor an attribute of {type(self.module).__name__} gives the number of {letter}"
        )

    def positions(self, part: Part, active: Mapping[str, Tensor]) -> Indices:
        """For each dimension of a tensor, the positions in the full tensor of given heads and channels."""
        if len(part.pattern) > len(part.full_shape):
            raise ValueError(f"{self.path}: {part.name} has shape {tuple(part.full_shape)}, which its layout does not fit")
        try:
            return tuple(
                active_indices(dimension, size, self.counts, active)
                for dimension, size in zip(part.pattern, part.full_shape, strict=False)
            )
        except ValueError as error:
            raise ValueError(f"{self.path} ({self.full_class.__name__}), {part.name}: {error}") from None

    def active_at(self, letter: str, rate: float, largest_count: int = 1) -> int:
        """Number of active heads or channels at a rate, rounded to the nearest integer.

        Args:
            letter: heads (`h`) or hidden channels (`m`).
            rate: requested fraction of them.
            largest_count: the largest count of any module in the model. If others have more, a module with a single head
                keeps it: the first stage of many pyramids has one.

        Raises:
            InvalidInput: if none would be active.
        """
        active = math.floor(rate * self.counts[letter] + 0.5)
        if active < 1 and self.counts[letter] == 1 < largest_count:
            return 1
        if active < 1:
            raise InvalidInput(
                f"rates.{LETTERS[letter]}",
                rate,
                f"leaves none of the {self.counts[letter]} of {self.path}; must be at least {0.5 / self.counts[letter]:.3g}",
            )
        return active

    def _started(self, active: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For each letter, those that were active, are copies, or carry knowledge; the others start from the initialization."""
        started = {}
        for letter, numbers in active.items():
            was_active, is_copy = torch.isin(numbers, self.active[letter]), sources[letter] != numbers
            started[letter] = numbers[was_active | is_copy | self.keeps_own[letter][numbers]]
        return started

    @property
    def is_trained(self) -> bool:
        """False if one of its parameters is frozen: growth then overwrites none of them."""
        return all(part.tensor.requires_grad for part in self.parts if isinstance(part.tensor, nn.Parameter))

    def reads(self, letter: str) -> bool:
        """True if a layer of the module takes the outputs of its heads or channels as inputs: false for position biases."""
        return any(
            part.output and any(letter in term for dim in part.input_dims for term in part.pattern[dim]) for part in self.parts
        )

    def keep_what_leaves(self, active: Mapping[str, Tensor]) -> None:
        """Note that the heads and channels that become inactive carry knowledge; see `keeps_own`.

        Args:
            active: for each letter, the numbers of those that stay or become active, int64 (count,).
        """
        for letter, numbers in self.active.items():
            self.keeps_own[letter][numbers[~torch.isin(numbers, active[letter])]] = True

    @torch.no_grad()
    def zero_output(self) -> None:
        """Make the module add nothing to its residual stream, by setting output weights and biases to zero."""
        for part in self.parts:
            if part.output:
                part.tensor.zero_()
                bias = getattr(part.owner, "bias", None)
                if isinstance(bias, Tensor):
                    bias.zero_()

    def resize(
        self,
        active: Mapping[str, Tensor],
        kept: Kept,
        optimizers: Sequence[Optimizer] = (),
        growth: Growth | None = None,
        sources: Mapping[str, Tensor] | None = None,
        for_training: bool = True,
    ) -> None:
        """Reduce or restore every tensor of the module, and its optimizer states, to the given heads and channels.

        Args:
            active: for each letter, the numbers of the active ones, int64 (count,), ascending.
            kept: full-width values of the reduced tensors of all modules; updated in place.
            optimizers: optimizers whose states are resized with the tensors; each tensor has one.
            growth: growth initialization; `None` restores the values that newly active entries had.
            sources: for each letter, the numbers of those from whose values the active ones start, int64 (count,); `None` if
                nothing is copied.
            for_training: whether gradients are computed at this size; see `renew_gradient_node`.

        Raises:
            InvalidInput: if an optimizer state is neither shaped like its parameter nor a factor of its second moments.
        """
        if all(torch.equal(active[letter], self.active[letter]) for letter in self.counts):
            return
        started_numbers = self.active if sources is None else self._started(active, sources)
        for part in self.parts:
            old, new = self.positions(part, self.active), self.positions(part, active)
            source = new if sources is None else self.positions(part, sources)
            tensor = part.tensor
            optimizer = next((each for each in optimizers if tensor in each.state), None)
            state = optimizer.state[tensor] if optimizer is not None else {}
            started = old if sources is None else self.positions(part, started_numbers)
            resized = _resized(tensor.data, (tensor, ""), old, new, part.full_shape, kept, source)
            if sources is not None and growth == "copy_normalized":
                divide_by_copies(resized, source, part.input_dims)
            if growth == "zero" or (sources is not None and growth == "copy_normalized"):
                zero_new_inputs(resized, started, new, part.input_dims)
            # Changes without growth lead to full size and back: states then have the form that they have at the smaller size.
            made_at = tensor.shape if growth else min(tensor.shape, resized.shape, key=prod)
            for name, value in list(state.items()):
                assert optimizer is not None
                averaged = averaged_dim(optimizer, tensor, name, made_at)
                if isinstance(value, Tensor) and (value.shape == tensor.shape or averaged is not None):
                    before, after, copied, ready = (
                        state_indices(optimizer, indices, averaged) for indices in (old, new, source, started)
                    )
                    full_shape = state_size(optimizer, part.full_shape, averaged)
                    state[name] = _resized(value, (tensor, name), before, after, full_shape, kept)
                    if sources is not None:
                        reset_copies(state[name], initial_state(optimizer, name, resized), copied, after)
                    if growth and name in SECOND_MOMENTS:
                        initialize_moments(state[name], value, before if is_factored(optimizer) else ready, after)
                    elif growth and name in WEIGHT_STATES:
                        initialize_weight_state(state[name], resized, ready, after)
                elif isinstance(value, Tensor) and value.numel() > 1:  # a single number, such as a step count, stays as it is
                    raise InvalidInput(
                        "optimizer",
                        type(optimizer).__name__,
                        f"its state {name!r} has another shape than its parameter and cannot be resized",
                    )
            tensor.grad = None
            if for_training:
                renew_gradient_node(tensor)
            tensor.data = resized
            if optimizer is not None and growth:
                fit_factors(optimizer, tensor, made_at, kept)
            _set_sizes(part.owner)
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


def _resized(
    value: Tensor,
    key: tuple[Tensor, str],
    old: Indices,
    new: Indices,
    full_shape: torch.Size,
    kept: Kept,
    source: Indices | None = None,
) -> Tensor:
    """Write `value` back into its full-width tensor and return what is active now.

    Args:
        value: data or optimizer state at the old size.
        key: where its full-width tensor is in `kept` while it is reduced.
        old: along each dimension, the positions in the full tensor that were active before.
        new: along each dimension, the positions in the full tensor that are active now.
        full_shape: of `value` at full size.
        kept: full-width values; updated in place.
        source: along each dimension, the positions whose values are returned if they are not `new` itself.
    """
    if key in kept:
        full = kept.pop(key)
        scatter(full, value, old)
    elif value.shape == full_shape:
        full = value
    else:  # the optimizer created this state while the model was reduced: other entries start from zero
        full = value.new_zeros(full_shape)
        scatter(full, value, old)
    if all(index is None or len(index) == size for index, size in zip(new, full_shape, strict=False)):
        return full if source is None or source is new else gather(full, source)
    kept[key] = full
    return gather(full, new if source is None else source)


def _parts(module: nn.Module, layout: Layout) -> Iterator[Part]:
    """Every tensor that a layout's patterns apply to, including biases, norm weights and running statistics."""
    for path, text in layout.tensors.items():
        *parents, name = path.split(".")
        parent: Any = module
        for step in parents:
            parent = getattr(parent, step, None)
        target = getattr(parent, name, None)
        pattern = parse(text)
        if isinstance(target, Tensor):  # a parameter, or a buffer such as a key bias that is always zero
            yield Part(parent, name, pattern, target.shape)
        elif isinstance(target, nn.Module):
            own = [*target.named_parameters(recurse=False), *target.named_buffers(recurse=False)]
            if not own and any(True for _ in target.parameters()):
                wrapping = f"{type(module).__name__}.{path} is a {type(target).__name__}, which holds other modules"
                raise ValueError(
                    f"{wrapping}: it cannot be resized, as with adapters (LoRA); add these after the staged training"
                )
            for tensor_name, tensor in own:
                if tensor.ndim > 0:  # not BatchNorm's counter of batches
                    first_only = tensor.ndim == 1 or tensor_name != "weight"
                    yield Part(target, tensor_name, pattern[:1] if first_only else pattern, tensor.shape)


def _set_sizes(module: nn.Module) -> None:
    """Set a layer's integer attributes to the sizes of its tensors."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.Conv2d):
        if module.groups == module.in_channels and weight.shape[1] == 1:  # depthwise: as many groups as channels
            module.groups = weight.shape[0]
        elif module.groups > 1 and module.in_channels == weight.shape[1] * module.groups:  # the groups are heads
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
