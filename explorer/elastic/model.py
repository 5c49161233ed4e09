"""A timm model at any activation rates: its parameters are sliced in place, and nothing is masked.

The parameter objects keep their identity, so that optimizers, hooks and references stay valid; the optimizer's per-parameter
state is sliced with them. Inactive entries are stored, and restored unchanged when the model grows. At rates 1 the model is the
plain timm model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.elastic.depth import OTHER_BRANCHES, copy_blocks, depth_of, is_frozen, post_norms
from explorer.elastic.growth import newly_initialized, sources
from explorer.elastic.image_resizing import ImageResizing
from explorer.elastic.layout import LETTERS, Layout
from explorer.elastic.layouts import LAYOUTS, WHOLE
from explorer.elastic.levels import Levels
from explorer.elastic.optimizer_state import as_sequence, has_state
from explorer.elastic.resizable import Kept, ResizableModule
from explorer.elastic.subset import LEADING_ONLY, Subset
from explorer.elastic.tokens import NoTokenReduction, token_reduction
from explorer.errors import InvalidInput
from explorer.spec.rates import AXES, Axis, Rates, is_count
from explorer.spec.staging import COPIES, PRESERVING, Growth, Staging


class ElasticModel:
    """Handle on a timm model that sets its activation rates in place.

    Args:
        model: a model from `timm.create_model`, at full size. It remains an ordinary timm model, and is used as such.
        staging: which parts are active, and how newly active entries are initialized.
        image_size: height and width of full images in pixels, or the side of square ones; `None`: the size that the model was
            built for.
        seed: seed of random subsets.
        average_of: the model that is trained, if this one is an average of its weights: what is frozen there grows with its own
            weights here too, and only that.

    Raises:
        InvalidInput: when nothing in the model can be resized.
        ValueError: when a module does not match its row of the table of layouts.
    """

    def __init__(
        self,
        model: nn.Module,
        staging: Staging = Staging(),  # noqa: B008 (frozen)
        *,
        image_size: int | tuple[int, int] | None = None,
        seed: int = 0,
        average_of: ElasticModel | None = None,
    ) -> None:
        self.model = model
        self._trained_model = average_of or self
        _add_rows_of_transformers(model)
        self.resizable_modules = [ResizableModule(path, module, layout) for path, module, layout in _resizable(model)]
        """The attention and MLP modules that have a row in the table of layouts, outermost first."""
        self.levels = Levels(self.resizable_modules)
        """The levels for which rates may be given one by one."""
        self._kept: Kept = {}
        self.staging = staging
        self._subset = Subset(staging.subset, model, self.resizable_modules, seed)
        self._tokens = token_reduction(model, staging.token_policy, image_size)
        self._depth = depth_of(model, staging.blocks)
        self._kept_blocks: set[int] = set()
        self._on_meta = any(parameter.is_meta for parameter in model.parameters())
        self._was_trained = False
        self._pretrained = False
        self.growth = growth_of(staging, model)
        """Growth initialization: never `auto`. It becomes `initial` when growth is `auto` and the optimizer has no state."""
        if self.growth != "initial" and not self._on_meta:
            self.pretrained = not newly_initialized(model)
        self.requested = Rates()
        """The rates that the model was last set to."""
        self.rates = Rates()
        """The rates that were realised."""
        self.unknown = _unknown(model)
        """Attention and MLP modules without a row in the table, which stay at full size: `path (Class)`."""
        if not self.resizable_modules:  # smaller images alone do not make a convolutional network elastic
            reason = f"{self.unknown[0]} has no row in the table of layouts" if self.unknown else "it has no attention or MLP"
            allowed = f"nothing in it can be resized: {reason}; explorer.elastic.register_layout adds a row"
            raise InvalidInput("model", type(model).__name__, allowed)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes on which this model can be reduced."""
        present: set[str] = {LETTERS[letter] for module in self.resizable_modules for letter in module.counts}
        if self._tokens.smallest < 1:
            present.add("tokens")
        if self._depth:
            present.add("depth")
        return tuple(axis for axis in AXES if axis in present)

    def training_image_size(self, rates: Rates) -> tuple[int, int] | None:
        """Height and width of the images that the model sees in training at these rates; `None` for full images.

        Training may give it images of this size, or full ones, which it makes smaller.

        Raises:
            InvalidInput: see `realise`.
        """
        tokens = self._tokens
        if not isinstance(tokens, ImageResizing) or tokens.policy != "resize" or not rates.reduces("tokens"):
            return None
        return tokens.size(self._token_rate(rates))

    @property
    def smallest_rates(self) -> Rates:
        """The smallest rate that each axis can have: 1 / heads, or 1 if a layer has a single head, which must stay."""
        requested: dict[str, float] = {}
        for letter, axis in LETTERS.items():
            counts = [module.counts[letter] for module in self.resizable_modules if letter in module.counts]
            several = [count for count in counts if count > 1]
            if several:
                requested[axis] = min(1.0, 0.51 / min(several))  # rounds to one, with a margin for rounding errors
        requested["tokens"] = self._tokens.smallest
        if self._depth:
            requested["depth"] = 0.51 / self._depth.count
        return self.realise(Rates(**requested))

    def realise(self, rates: Rates) -> Rates:
        """The rates that the model would have: the numbers of heads, channels, tokens and blocks are whole.

        Raises:
            InvalidInput: when a rate leaves nothing active, or is below 1 on an axis that the model does not have; when the
                model does not have a number, or a list does not have one rate for each level.
        """
        for axis in AXES:
            if rates.reduces(axis) and axis not in self.axes:
                self._token_rate(rates)
                raise InvalidInput(
                    f"rates.{axis}",
                    getattr(rates, axis),
                    f"must be 1: {type(self.model).__name__} cannot be reduced on this axis, only on {', '.join(self.axes)}",
                )
        growth, kind = self.growth, type(self.model).__name__
        if rates.reduces("depth") and growth in PRESERVING and isinstance(self.model, tuple(OTHER_BRANCHES)):
            reason = f"must be 1 with growth: {growth}: blocks of {kind} have more than attention and MLP"
            raise InvalidInput("rates.depth", rates.depth, reason)
        if rates.reduces("heads") and growth in COPIES and isinstance(self.model, tuple(LEADING_ONLY)):
            why = next(reason for leading, reason in LEADING_ONLY.items() if isinstance(self.model, leading))
            raise InvalidInput("rates.heads", rates.heads, f"must be 1 with growth: {growth} for {kind}: {why}")
        realised = {}
        for letter, axis in LETTERS.items():
            modules = [module for module in self.resizable_modules if letter in module.counts]
            active = sum(self._active(module, letter, rates) for module in modules)
            realised[axis] = active / sum(module.counts[letter] for module in modules) if modules else 1.0
        realised["tokens"] = self._tokens.realise(self._token_rate(rates))
        realised["depth"] = len(self._depth.active(self._depth_rate(rates))) / self._depth.count if self._depth else 1.0
        return Rates(**realised)

    def set_rates(
        self,
        rates: Rates,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        *,
        grow: bool = True,
        for_training: bool = True,
    ) -> Rates:
        """Resize the model, and the optimizer's per-parameter state with it.

        Newly active entries have the values that they had when they were last active, or their initial values, or output
        columns of zero with `growth: zero`, or the values of active ones with growth by copies. Their first moments start from
        zero and their second moments from the mean of those that were active. Gradients are cleared. The caller must create
        wrappers made for the old size (torch.compile, DDP, EMA copies) again.

        Args:
            rates: requested rates.
            optimizer: an optimizer over this model's parameters, or several that divide them; required once they have state.
            grow: whether newly active entries get their growth initialization. `False` for changes that training must not see:
                to full size for a checkpoint, and back.
            for_training: whether gradients are computed at these rates. `False` leaves what refers to the graphs of earlier
                steps as it is, such as DistributedDataParallel, for a return to the rates of those steps.

        Returns:
            The realised rates, as `realise` returns.

        Raises:
            InvalidInput: as `realise`; also when the state of the optimizer is not shaped like its parameter.
        """
        realised = self.realise(rates)
        copies = grow and self.growth in COPIES and not self._on_meta
        trained = copies and self._trained
        optimizers = as_sequence(optimizer)
        if trained and not self._pretrained and optimizers and not any(has_state(each) for each in optimizers):
            copies = self._copies_that_stay_equal(optimizers[0])
        growth = self.growth if grow else None
        if growth == "zero" and self._pretrained:
            growth = "initial"
        inactive = self._inside_inactive_blocks()
        with torch.no_grad():
            for module, in_training in zip(self.resizable_modules, self._trained_model.resizable_modules, strict=True):
                active = {
                    letter: self._subset.active(module, letter, self._active(module, letter, rates)) for letter in module.counts
                }
                if trained:
                    module.keep_what_leaves(active)
                grows_by_copies = copies and in_training.is_trained and id(module.module) not in inactive
                copied = self._sources(module, active) if grows_by_copies else None
                module_growth = growth if growth is None or in_training.is_trained else "initial"
                module.resize(active, self._kept, optimizers, module_growth, copied, for_training)
        self._tokens.set(self._token_rate(rates))
        if self._depth:
            self._set_depth(self._depth_rate(rates), growth, trained)
        self.requested, self.rates = rates, realised
        return realised

    @property
    def pretrained(self) -> bool:
        """Whether growth must not overwrite inactive weights with copies or zeros, because all of them carry knowledge.

        Told by `newly_initialized` when the model is given to this class, where it matters: unless growth is `initial`. Growth
        then acts as `initial`. With growth by copies, heads, channels and blocks that are trained and become inactive keep
        their weights in any case.
        """
        return self._pretrained

    @pretrained.setter
    def pretrained(self, pretrained: bool) -> None:
        self._pretrained = pretrained
        for module in self.resizable_modules:
            for numbers in module.keeps_own.values():
                numbers.fill_(pretrained)
        self._kept_blocks = {id(block) for block in self._depth.blocks} if pretrained and self._depth else set()

    @property
    def sleeping_parameters(self) -> list[Tensor]:
        """The parameters of the blocks that are not active now."""
        if self._depth is None:
            return []
        active = set(self._depth.active_blocks)
        return [parameter for block in self._depth.blocks if block not in active for parameter in block.parameters()]

    @contextmanager
    def at_full_size(self, optimizer: Optimizer | Sequence[Optimizer] | None = None) -> Iterator[None]:
        """Set the model and its optimizer to full size within the context, for a checkpoint; training does not see this.

        No gradients can be computed within it.
        """
        rates = self.requested
        self.set_rates(Rates(), optimizer, grow=False, for_training=False)
        try:
            yield
        finally:
            self.set_rates(rates, optimizer, grow=False, for_training=False)

    @property
    def subset_orders(self) -> dict[str, list[int]]:
        """The order in which heads and channels become active, read from the first weights; empty unless by importance."""
        return self._subset.orders

    @subset_orders.setter
    def subset_orders(self, orders: dict[str, list[int]]) -> None:
        self._subset.orders = orders

    def _set_depth(self, rate: float, growth: Growth | None, trained: bool) -> None:
        """Set which blocks are active, and initialize new ones."""
        assert self._depth is not None
        before = self._depth.active_blocks
        new = self._depth.set(rate)
        if trained:
            active = set(self._depth.active_blocks)
            self._kept_blocks.update(id(block) for block in before if block not in active)
        if growth in COPIES and not self._on_meta:
            new = [block for block in new if id(block) not in self._kept_blocks]
            copy_blocks(before, [block for block in new if not is_frozen(self._in_training(block))])
        if growth in PRESERVING:
            for block in new:
                self._let_add_nothing(block)

    @torch.no_grad()
    def _let_add_nothing(self, block: nn.Module) -> None:
        """Set what attention and MLP of a block add to the residual stream to zero, except for what is frozen."""
        if norms := post_norms(block):
            for norm, trained_norm in zip(norms, post_norms(self._in_training(block)), strict=True):
                for parameter in norm.parameters() if not is_frozen(trained_norm) else ():
                    parameter.zero_()
            return
        inside = {id(inner) for inner in block.modules()}
        for module, in_training in zip(self.resizable_modules, self._trained_model.resizable_modules, strict=True):
            if id(module.module) in inside and in_training.is_trained:
                module.zero_output()

    def _in_training(self, block: nn.Module) -> nn.Module:
        """The block of the model that is trained in the place of one of this model; see `average_of`."""
        assert self._depth is not None
        assert self._trained_model._depth is not None
        return self._trained_model._depth.blocks[self._depth.blocks.index(block)]

    def _inside_inactive_blocks(self) -> set[int]:
        """Identities of the modules in blocks that are not active."""
        if self._depth is None:
            return set()
        active = set(self._depth.active_blocks)
        return {id(inner) for block in self._depth.blocks if block not in active for inner in block.modules()}

    def _sources(self, module: ResizableModule, active: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """For each letter, the numbers of those that the active ones are copies of; `None` if nothing is copied."""
        copied = {
            letter: sources(module.active[letter], numbers, self._subset.order(module, letter), module.keeps_own[letter])
            for letter, numbers in active.items()
        }
        return copied if any(not torch.equal(copied[letter], active[letter]) for letter in active) else None

    def _copies_that_stay_equal(self, optimizer: Optimizer) -> bool:
        """Whether to copy although a copy and its source have equal gradients, and only states part them: not with `auto`."""
        if self.staging.growth == "auto":
            self.growth = "initial"
            return False
        message = (
            f"staging.growth: {self.growth}: {type(optimizer).__name__} has no state, so copies stay equal to their sources"
        )
        warnings.warn(f"{message}; use initial", stacklevel=3)
        return True

    @property
    def _trained(self) -> bool:
        self._was_trained = self._was_trained or not newly_initialized(self.model)
        return self._was_trained

    def _active(self, module: ResizableModule, letter: str, rates: Rates) -> int:
        rate = self.levels.rate(module, letter, getattr(rates, LETTERS[letter]))
        if is_count(rate):
            return rate
        largest_count = max(other.counts.get(letter, 0) for other in self.resizable_modules)
        return module.active_at(letter, rate, largest_count)

    def _token_rate(self, rates: Rates) -> float:
        """The fraction of tokens for a requested rate, which may be a number of tokens.

        Raises:
            InvalidInput: when the number is larger than the model has, or no image and no selection has exactly so many.
        """
        count = rates.tokens
        if not is_count(count) or isinstance(self._tokens, NoTokenReduction):
            self._tokens.realise(count)
            return count
        total = self._tokens.tokens
        realised = self._tokens.realise(min(1.0, count / total))
        if round(realised * total) != count:
            allowed = f"the model has {total} tokens, and the nearest number that it can have is {round(realised * total)}"
            raise InvalidInput("rates.tokens", count, allowed)
        return count / total

    def _depth_rate(self, rates: Rates) -> float:
        """The fraction of blocks for a requested rate, which may be a number of blocks."""
        count = rates.depth
        if not is_count(count):
            return count
        total = self._depth.count if self._depth else 1
        if count > total:
            raise InvalidInput("rates.depth", count, f"must be at most the {total} blocks of the model")
        return count / total


def _add_rows_of_transformers(model: nn.Module) -> None:
    """Add the rows for classes of transformers to the tables if a module of the model is from there."""
    kinds = {kind.__module__.partition(".")[0] for module in model.modules() for kind in type(module).__mro__}
    if "transformers" in kinds:
        import_module("explorer.elastic.layouts.hugging_face")


def growth_of(staging: Staging, model: nn.Module) -> Growth:
    """The growth initialization that `auto` stands for: copies that do not change the output, if they can be made."""
    if staging.growth != "auto":
        return staging.growth
    nested = staging.subset != "random" and staging.blocks == "prefix"
    return "copy_normalized" if nested and not isinstance(model, (*OTHER_BRANCHES, *LEADING_ONLY)) else "initial"


def _unknown(model: nn.Module) -> tuple[str, ...]:
    """Modules that look like attention or an MLP and are neither in the table, nor in WHOLE, nor made of modules that are."""
    unknown = []
    inside: set[nn.Module] = set()
    for path, module in model.named_modules():
        if module in inside:
            continue
        if type(module) in LAYOUTS or isinstance(module, tuple(WHOLE)):
            inside.update(module.modules())
            continue
        named = type(module).__name__.lower().endswith(("attention", "attn", "mlp")) or hasattr(module, "num_heads")
        plain = not any(type(inner) in LAYOUTS for inner in module.modules())
        if path and named and plain and any(True for _ in module.parameters()):
            unknown.append(f"{path} ({type(module).__name__})")
            inside.update(module.modules())
    return tuple(unknown)


def _resizable(model: nn.Module) -> Iterator[tuple[str, nn.Module, Layout]]:
    """Names, modules and rows of the modules in the table, outermost first, each once; without those within WHOLE modules."""
    seen: set[int] = set()

    def walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module, Layout]]:
        for name, child in module.named_children():
            child_path = f"{path}.{name}" if path else name
            if id(child) in seen or isinstance(child, tuple(WHOLE)):
                continue
            seen.add(id(child))
            row = LAYOUTS.get(type(child))
            layout = row(child) if callable(row) else row
            if layout is not None:
                seen.update(id(child.get_submodule(inner)) for inner in layout.whole)
                yield child_path, child, layout
            yield from walk(child, child_path)

    yield from walk(model, "")
