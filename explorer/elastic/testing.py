"""Checks that every model family must pass, for the tests of this package and for families that live outside it.

    from explorer.elastic.testing import check_model
    check_model(lambda: timm.create_model("my_vit", img_size=32), image_shape=(2, 3, 32, 32))

Each check takes a `Family`, builds the model as often as it needs, and raises `AssertionError` if the resized model is wrong. A
small model is enough: a few blocks, at least four heads in some layer, double precision is set here.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim import Optimizer

from explorer.elastic.depth import OTHER_BRANCHES
from explorer.elastic.growth import norm_weights
from explorer.elastic.model import ElasticModel
from explorer.elastic.resizable import Part, ResizableModule
from explorer.elastic.subset import LEADING_ONLY, subsets
from explorer.spec.rates import Rates
from explorer.spec.staging import Growth, Staging, SubsetChoice

TOLERANCE = 1e-9
"""Largest difference, relative to the largest output, between two ways to compute the same in double precision."""


class NotApplicable(Exception):  # noqa: N818 (the outcome of a check, not a failure)
    """The check does not apply to this family."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One small model of a family."""

    build: Callable[[], nn.Module]
    """Makes the model at full size, the same weights each time."""
    image_shape: tuple[int, int, int, int]
    """Shape of a batch of images, BCHW, with at least two images."""
    norm_over_width: bool = False
    """Whether a norm is applied over the attention or hidden width: its output changes with the width, so a reduced model
    cannot equal the full one with zeroed columns."""


def check_model(
    build: Callable[[], nn.Module], image_shape: tuple[int, int, int, int], *, norm_over_width: bool = False
) -> list[str]:
    """Run all checks on one model.

    Args:
        build: makes the model at full size.
        image_shape: shape of a batch of images, BCHW, with at least two images.
        norm_over_width: see `Family.norm_over_width`.

    Returns:
        Names of the checks that passed; those that do not apply are left out.

    Raises:
        AssertionError: if a check fails.
        InvalidInput: if nothing in the model can be resized.
    """
    torch.manual_seed(0)
    template = randomized(build())
    family = Family(build=lambda: copy.deepcopy(template), image_shape=image_shape, norm_over_width=norm_over_width)
    passed = []
    for check in CHECKS:
        try:
            check(family)
        except NotApplicable:
            continue
        passed.append(check.__name__)
    return passed


@torch.no_grad()
def randomized(model: nn.Module) -> nn.Module:
    """The model in double precision with random weights: many weights are zero initially, which would hide differences."""
    model = model.double()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.running_var is not None:
            module.running_var.uniform_(0.5, 1.5)
    return model


def logits(model: nn.Module, image_shape: tuple[int, ...]) -> Tensor:
    """Output of a model for fixed random images, (B, K); the mean over its heads if it has several."""
    images_BCHW = torch.randn(image_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    output = model(images_BCHW)
    return output if isinstance(output, Tensor) else torch.stack(list(output)).mean(0)


def reduced_width(elastic: ElasticModel, rate: float) -> Rates:
    """One rate on heads and channels, for the axes that the model has."""
    return Rates(**{axis: rate for axis in ("heads", "mlp") if axis in elastic.axes})


def check_rates_and_return_to_full_size(family: Family) -> None:
    """Forward and backward passes work at lower rates; back at full size, nothing differs from the untouched model."""
    model, untouched = family.build(), family.build()
    elastic = ElasticModel(model, Staging(growth="initial"))
    classes = [type(module) for module in model.modules()]
    for rate in (0.75, 0.5, 0.25):
        elastic.set_rates(reduced_width(elastic, rate))
        logits(model.eval(), family.image_shape).sum().backward()
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.shape == parameter.shape, key
                assert torch.isfinite(parameter.grad).all(), key
        assert not elastic.rates.full, f"nothing is reduced at {rate}"
    elastic.set_rates(Rates())
    assert [type(module) for module in model.modules()] == classes
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), untouched.state_dict().values(), strict=True))
    assert _integer_attributes(model) == _integer_attributes(untouched)
    assert torch.equal(logits(model.eval(), family.image_shape), logits(untouched.eval(), family.image_shape))
    model.zero_grad()
    untouched.zero_grad()
    for candidate in (model.train(), untouched.train()):
        torch.manual_seed(2)
        logits(candidate, family.image_shape).sum().backward()
    for (key, ours), theirs in zip(model.named_parameters(), untouched.parameters(), strict=True):
        assert (ours.grad is None and theirs.grad is None) or torch.equal(ours.grad, theirs.grad), key  # type: ignore[arg-type]


def check_equals_full_model_with_zeroed_columns(family: Family, subset: SubsetChoice = "leading") -> None:
    """A reduced model computes what the full model computes if the columns of inactive entries are zero."""
    if family.norm_over_width:
        raise NotApplicable("a norm is applied over the width")
    model, zeroed = family.build(), family.build()
    if subset not in subsets(model):
        raise NotApplicable(f"only {', '.join(subsets(model))} subsets are allowed")
    elastic = ElasticModel(model, Staging(subset=subset))
    elastic.set_rates(reduced_width(elastic, 0.5))
    full_modules = {module.path: module for module in ElasticModel(zeroed).resizable_modules}
    with torch.no_grad():
        for module in elastic.resizable_modules:
            for part, full in zip(module.parts, full_modules[module.path].parts, strict=True):
                for dim, positions in enumerate(module.positions(part, module.active)):
                    if dim >= 1 and positions is not None:
                        inactive = torch.ones(part.full_shape[dim], dtype=torch.bool)
                        inactive[positions] = False
                        full.tensor[(slice(None),) * dim + (inactive,)] = 0
    _assert_close(logits(model.eval(), family.image_shape), logits(zeroed.eval(), family.image_shape))


def check_equals_full_model_with_zeroed_columns_by_importance(family: Family) -> None:
    """The same for the subset of the largest weights."""
    check_equals_full_model_with_zeroed_columns(family, "importance")


def check_zero_growth_preserves_the_function(family: Family) -> None:
    """With `growth: zero`, the output does not change when heads and channels become active."""
    if family.norm_over_width:
        raise NotApplicable("a norm is applied over the width")
    model = family.build()
    elastic = ElasticModel(model, Staging(subset=subsets(model)[-1], growth="zero"))
    elastic.pretrained = False  # random weights of norms look as if they were
    elastic.set_rates(reduced_width(elastic, 0.5))
    before = logits(model.eval(), family.image_shape)
    for rate in (0.75, 1.0):
        elastic.set_rates(reduced_width(elastic, rate))
        _assert_close(logits(model, family.image_shape), before)


def check_normalized_copies_preserve_the_function(family: Family) -> None:
    """With `growth: copy_normalized`, the output does not change when heads and channels become active, once and twice.

    A norm over the width does not change if all have equally many copies, as when half of them grow to all.
    """
    model = _with_constant_norms(family.build())
    elastic = ElasticModel(model, Staging(subset=subsets(model)[-1], growth="copy_normalized"))
    axes = [axis for axis in elastic.axes if axis == "mlp" or (axis == "heads" and not isinstance(model, tuple(LEADING_ONLY)))]
    elastic.set_rates(Rates(**dict.fromkeys(axes, 0.5)))
    before = logits(model.eval(), family.image_shape)
    if not family.norm_over_width:
        elastic.set_rates(Rates(**dict.fromkeys(axes, 0.75)))  # some have two copies now and some one
    elastic.set_rates(Rates())
    _assert_close(logits(model, family.image_shape), before)


def check_growth_of_depth_preserves_the_function(family: Family) -> None:
    """With `growth: zero` and `copy_normalized`, the output does not change when blocks become active.

    For blocks that have more than attention and MLP, see `other_branches` of `register_model`.
    """
    growths: tuple[Growth, ...] = ("zero", "copy_normalized")
    for growth in growths:
        model = _with_constant_norms(family.build())
        elastic = ElasticModel(model, Staging(growth=growth))
        if "depth" not in elastic.axes or isinstance(model, tuple(OTHER_BRANCHES)):
            raise NotApplicable("fewer blocks are not possible, or not with such growth")
        elastic.set_rates(Rates(depth=0.5))
        before = logits(model.eval(), family.image_shape)
        elastic.set_rates(Rates())
        _assert_close(logits(model, family.image_shape), before)


def check_training_leaves_inactive_entries_unchanged(family: Family) -> None:
    """Training at a lower rate changes active entries only, optimizer states included; parameters keep their identity."""
    model = family.build()
    elastic = ElasticModel(model)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-2, weight_decay=0.1)
    _step(model, optimizer, family.image_shape)
    before = [
        [(p.tensor.detach().clone(), _moment(optimizer, p)) for p in module.parts] for module in elastic.resizable_modules
    ]
    identities = [id(parameter) for parameter in model.parameters()]
    elastic.set_rates(reduced_width(elastic, 0.5), optimizer)
    inactive = [[_inactive(module, part) for part in module.parts] for module in elastic.resizable_modules]
    _step(model, optimizer, family.image_shape)
    elastic.set_rates(Rates(), optimizer, grow=False)  # moments that are zero stay zero
    assert [id(parameter) for parameter in model.parameters()] == identities
    changed = False
    for module, values, masks in zip(elastic.resizable_modules, before, inactive, strict=True):
        for part, (value, moment), mask in zip(module.parts, values, masks, strict=True):
            name = f"{module.path}.{part.name}"
            assert part.tensor.shape == part.full_shape, name
            assert torch.equal(part.tensor[mask], value[mask]), name
            changed |= not torch.equal(part.tensor[~mask], value[~mask])
            if moment is not None:
                new_moment = _moment(optimizer, part)
                assert new_moment is not None, name
                assert torch.equal(new_moment[mask], moment[mask]), name
    assert changed, "training changed no active entry"
    plain = family.build()
    plain.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(logits(plain.eval(), family.image_shape), logits(model.eval(), family.image_shape))


@torch.no_grad()  # evaluation caches some attention biases, which would keep their graph
def check_copies_and_pickles(family: Family) -> None:
    """A copy and a pickle of a reduced model compute the same."""
    model = family.build()
    elastic = ElasticModel(model)
    elastic.set_rates(reduced_width(elastic, 0.5))
    expected = logits(model.eval(), family.image_shape)
    assert torch.equal(logits(copy.deepcopy(model), family.image_shape), expected)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model)), family.image_shape), expected)


def check_gradient_checkpointing(family: Family) -> None:
    """A reduced model has the same gradients with gradient checkpointing."""
    model = family.build()
    elastic = ElasticModel(model)
    elastic.set_rates(reduced_width(elastic, 0.5))
    gradients = []
    for enabled in (False, True):
        try:
            model.set_grad_checkpointing(enabled)  # type: ignore[operator]
        except (AttributeError, AssertionError, TypeError):
            raise NotApplicable("the model has no gradient checkpointing") from None
        model.zero_grad()
        torch.manual_seed(3)
        logits(model.train(), family.image_shape).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-9, rtol=1e-7) for a, b in zip(*gradients, strict=True))


CHECKS: tuple[Callable[[Family], None], ...] = (
    check_rates_and_return_to_full_size,
    check_equals_full_model_with_zeroed_columns,
    check_equals_full_model_with_zeroed_columns_by_importance,
    check_zero_growth_preserves_the_function,
    check_normalized_copies_preserve_the_function,
    check_training_leaves_inactive_entries_unchanged,
    check_copies_and_pickles,
    check_gradient_checkpointing,
    check_growth_of_depth_preserves_the_function,
)
"""All checks that take a family only."""


def check_compiled(family: Family, backend: str = "aot_eager") -> None:
    """A reduced model has the same gradients when it is compiled. Not among `CHECKS`, because it takes long.

    Args:
        family: the family.
        backend: backend of `torch.compile`.
    """
    model = family.build()
    elastic = ElasticModel(model)
    elastic.set_rates(reduced_width(elastic, 0.5))
    torch.compiler.reset()
    compiled: nn.Module = torch.compile(model.eval(), dynamic=False, backend=backend)  # type: ignore[assignment]
    gradients = []
    for candidate in (model, compiled):
        model.zero_grad()
        logits(candidate, family.image_shape).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-8, rtol=1e-6) for a, b in zip(*gradients, strict=True))


def _assert_close(output: Tensor, expected: Tensor) -> None:
    difference = float((output - expected).detach().abs().max())
    assert difference <= TOLERANCE * max(1.0, float(expected.detach().abs().max())), f"outputs differ by {difference:.3g}"


@torch.no_grad()
def _with_constant_norms(model: nn.Module) -> nn.Module:
    """The model with one weight for all features of each norm, by which a newly initialized model is told."""
    for weight in norm_weights(model):
        weight.fill_(float(weight[0]))
    return model


def _inactive(module: ResizableModule, part: Part) -> Tensor:
    """Which entries of the full tensor are not active now, bool (full shape)."""
    active = torch.zeros(part.full_shape, dtype=torch.bool)
    positions = [
        torch.arange(size) if index is None else index
        for index, size in zip(module.positions(part, module.active), part.full_shape, strict=False)
    ]
    positions += [torch.arange(size) for size in part.full_shape[len(positions) :]]
    active[torch.meshgrid(*positions, indexing="ij")] = True
    return ~active


def _integer_attributes(model: nn.Module) -> list[dict[str, object]]:
    """Integers and sequences among the public attributes of every module."""
    return [
        {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, int | tuple | list) and not isinstance(value, bool) and not name.startswith("_")
        }
        for module in model.modules()
    ]


def _step(model: nn.Module, optimizer: Optimizer, image_shape: tuple[int, ...]) -> None:
    optimizer.zero_grad()
    output = logits(model.train(), image_shape)
    nn.functional.cross_entropy(output, torch.arange(len(output)) % 2).backward()
    optimizer.step()


def _moment(optimizer: Optimizer, part: Part) -> Tensor | None:
    state = optimizer.state.get(part.tensor, {})
    return state["exp_avg_sq"].clone() if "exp_avg_sq" in state else None
