"""A timm model at any activation rate, by surgery: parameters are sliced in place, nothing is masked.

The parameter objects keep their identity, so optimizers, hooks and references stay valid; the optimizer's
per-parameter state is sliced with them. What is cut away is kept aside and put back untouched when the model
grows. The leading heads and channels are the active ones (this project's choice; the paper's method section
is not at hand). At rates 1 nothing is left behind: the model is the plain timm model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import PatchDropout
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.elastic.layouts import LAYOUTS, WHOLE, Layout
from explorer.elastic.pattern import active_indices, gather, parse, scatter
from explorer.errors import InvalidInput
from explorer.schedule import AXES, Axis, Rates


@dataclass
class _Slot:
    """One tensor of a resizable module: a parameter or a buffer."""

    owner: nn.Module
    name: str
    pattern: tuple[tuple[str, ...], ...]
    full_shape: torch.Size

    @property
    def tensor(self) -> Tensor:
        tensor = getattr(self.owner, self.name)
        assert isinstance(tensor, Tensor)
        return tensor


class _Unit:
    """A module with its layout: so many heads or channels, of which the leading `active` ones take part."""

    def __init__(self, path: str, module: nn.Module, layout: Layout) -> None:
        self.path, self.module, self.layout = path, module, layout
        self.slots = list(_slots(module, layout))
        self.count = self._full_count()
        self.active = self.count
        self.full_attributes = {name: getattr(module, name) for name in layout.counts}
        for slot in self.slots:
            self._indices(slot, self.count)  # raises where the row does not fit the module

    def _full_count(self) -> int:
        if self.layout.counts:
            return int(getattr(self.module, self.layout.counts[0]))
        for slot in self.slots:
            if (self.layout.letter,) in slot.pattern:
                return slot.full_shape[slot.pattern.index((self.layout.letter,))]
        raise ValueError(f"{self.path}: no tensor tells how many {self.layout.letter} there are")

    def active_at(self, rate: float) -> int:
        """Whole number of active heads or channels nearest to `rate` of all."""
        active = math.floor(rate * self.count + 0.5)
        if active < 1:
            least = 0.5 / self.count
            raise InvalidInput(
                f"rates.{self.layout.axis}",
                rate,
                f"leaves none of the {self.count} of {self.path}; must be at least {least:.3g}",
            )
        return active

    def _indices(self, slot: _Slot, active: int) -> tuple[Tensor | None, ...]:
        if len(slot.pattern) > len(slot.full_shape):
            raise ValueError(f"{self.path}: {slot.name} {tuple(slot.full_shape)} does not match {slot.pattern}")
        leading = torch.arange(active)
        return tuple(
            active_indices(dimension, size, self.layout.letter, self.count, leading)
            for dimension, size in zip(slot.pattern, slot.full_shape, strict=False)
        )

    def resize(self, active: int, full: dict[tuple[Tensor, str], Tensor], optimizer: Optimizer | None) -> None:
        """Give every tensor of the module, and its optimizer state, `active` heads or channels."""
        if active == self.active:
            return
        for slot in self.slots:
            old, new = self._indices(slot, self.active), self._indices(slot, active)
            tensor = slot.tensor
            state = optimizer.state.get(tensor, {}) if optimizer is not None else {}
            for name, value in list(state.items()):
                if isinstance(value, Tensor) and value.numel() > 1:
                    if value.shape != tensor.shape:
                        raise InvalidInput(
                            "optimizer",
                            type(optimizer).__name__,
                            f"its state {name!r} has another shape than its parameter and cannot be resized",
                        )
                    state[name] = self._moved(value, (tensor, name), old, new, slot, full)
            tensor.grad = None
            tensor.data = self._moved(tensor.data, (tensor, ""), old, new, slot, full)
            _set_sizes(slot.owner)
        for name, value in self.full_attributes.items():
            setattr(self.module, name, value * active // self.count)
        self.active = active

    def _moved(
        self,
        part: Tensor,
        key: tuple[Tensor, str],
        old: tuple[Tensor | None, ...],
        new: tuple[Tensor | None, ...],
        slot: _Slot,
        full: dict[tuple[Tensor, str], Tensor],
    ) -> Tensor:
        """Put `part` back into its full-width tensor and take out what is active now."""
        if part.shape == slot.full_shape:
            whole = part
        else:
            # State that the optimizer made while the model was small has no full tensor yet: zero moments.
            whole = full.pop(key) if key in full else part.new_zeros(slot.full_shape)
            scatter(whole, part, old)
        taken = gather(whole, new)
        if taken.shape == slot.full_shape:
            return whole
        full[key] = whole
        return taken


class ElasticModel:
    """Handle on a timm model that sets its activation rates in place.

    Args:
        model: a model from `timm.create_model`, at full size. It stays an ordinary timm model; use it as such.

    Raises:
        InvalidInput: when nothing in the model can be resized.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._units = [_Unit(path, module, LAYOUTS[type(module)]) for path, module in _resizable(model)]
        self._full: dict[tuple[Tensor, str], Tensor] = {}
        self._patches = _patch_count(model)
        self._untouched_patch_drop: Any = getattr(model, "patch_drop", None)
        self.rates = Rates()
        """Realised rates the model is at."""
        if not self.axes:
            raise InvalidInput(
                "model", type(model).__name__, "nothing in it can be resized: no attention or MLP class known here"
            )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes on which this model can be reduced."""
        found: set[str] = {unit.layout.axis for unit in self._units}
        if self._patches:
            found.add("tokens")
        return tuple(axis for axis in AXES if axis in found)  # type: ignore[misc]

    def realise(self, rates: Rates) -> Rates:
        """The rates the model would really have: heads, channels and tokens are whole numbers.

        Raises:
            InvalidInput: when a rate leaves nothing, or is below 1 on an axis the model does not have.
        """
        for axis in AXES:
            if getattr(rates, axis) < 1 and axis not in self.axes:
                raise InvalidInput(
                    f"rates.{axis}",
                    getattr(rates, axis),
                    f"must be 1: {type(self.model).__name__} cannot be reduced on this axis, only on {', '.join(self.axes)}",
                )
        realised = {}
        for axis in ("heads", "mlp"):
            units = [unit for unit in self._units if unit.layout.axis == axis]
            active = sum(unit.active_at(getattr(rates, axis)) for unit in units)
            realised[axis] = active / sum(unit.count for unit in units) if units else 1.0
        realised["tokens"] = self._kept_tokens(rates.tokens) / self._patches if self._patches else 1.0
        return Rates(**realised)

    def set_rates(self, rates: Rates, optimizer: Optimizer | None = None) -> Rates:
        """Resize the model, and the optimizer's per-parameter state with it.

        Entries that wake up have the values they had when they were last active, or were initialised with;
        their optimizer moments likewise, or zero. Gradients are cleared. Wrappers made for the old size
        (torch.compile, DDP, EMA copies) must be made anew by the caller.

        Args:
            rates: requested rates.
            optimizer: an optimizer over this model's parameters; required once it has state.

        Returns:
            The realised rates, as `realise` gives.

        Raises:
            InvalidInput: as `realise`; also for optimizers whose state is not shaped like its parameter.
        """
        realised = self.realise(rates)
        with torch.no_grad():
            for unit in self._units:
                unit.resize(unit.active_at(getattr(rates, unit.layout.axis)), self._full, optimizer)
        if self._patches:
            self._set_tokens(self._kept_tokens(rates.tokens))
        self.rates = realised
        return realised

    def _kept_tokens(self, rate: float) -> int:
        kept = math.floor(rate * self._patches + 0.5)
        if kept < 1:
            raise InvalidInput(
                "rates.tokens", rate, f"leaves none of the {self._patches} tokens; must be at least {0.5 / self._patches:.3g}"
            )
        return kept

    def _set_tokens(self, kept: int) -> None:
        """Random patch dropout while training (PatchDropout, arXiv 2208.07220); evaluation keeps every token."""
        if kept == self._patches:
            self.model.patch_drop = self._untouched_patch_drop
            return
        # timm keeps int(patches * (1 - prob)) tokens; aim half a token above, out of reach of rounding.
        prob = 1 - (kept + 0.5) / self._patches
        prefix = int(getattr(self.model, "num_prefix_tokens", 0))
        dropout = PatchDropout(prob, num_prefix_tokens=prefix)
        self.model.patch_drop = dropout.train(self.model.training)


def _resizable(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules with a table row, outermost first, with their names; nothing from within WHOLE modules."""
    for name, child in model.named_children():
        child_path = f"{path}.{name}" if path else name
        if isinstance(child, WHOLE):
            continue
        if type(child) in LAYOUTS:
            yield child_path, child
        yield from _resizable(child, child_path)


def _slots(module: nn.Module, layout: Layout) -> Iterator[_Slot]:
    """Every tensor that a layout's patterns speak of, biases and norm weights included."""
    for name, text in layout.tensors.items():
        target = getattr(module, name, None)
        pattern = parse(text)
        if isinstance(target, nn.Parameter):
            yield _Slot(module, name, pattern, target.shape)
        elif isinstance(target, nn.Module):
            own = [*target.named_parameters(recurse=False), *target.named_buffers(recurse=False)]
            for tensor_name, tensor in own:
                if tensor.ndim == 0:  # a batch counter
                    continue
                first_only = tensor.ndim == 1 or tensor_name != "weight"
                yield _Slot(target, tensor_name, pattern[:1] if first_only else pattern, tensor.shape)


def _set_sizes(module: nn.Module) -> None:
    """Bring a layer's integer attributes in line with its tensors."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(weight.shape)


def _patch_count(model: nn.Module) -> int:
    """Number of patch tokens where timm's PatchDropout can drop some, else 0."""
    if not isinstance(model, VisionTransformer) or not hasattr(model, "patch_drop"):
        return 0
    return int(getattr(model.patch_embed, "num_patches", 0) or 0)
