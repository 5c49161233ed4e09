"""What every family must keep, whatever its classes: the same tests over small real models of each.

A new timm release that changes a class must fail here with the family's name, not train wrongly in silence.
"""

import copy
import pickle

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2

from explorer import Rates
from explorer.elastic import ElasticModel
from explorer.elastic.resizable import ResizableModule
from explorer.elastic.subset import subsets
from explorer.spec.staging import Staging
from tests.elastic import families_hierarchical, families_isotropic

FAMILIES = {**families_isotropic.FAMILIES, **families_hierarchical.FAMILIES}
WIDTH_NORMED = families_isotropic.WIDTH_NORMED | families_hierarchical.WIDTH_NORMED
"""Families with a norm over the attention or hidden width: at a smaller width its output differs, inherently."""

pytestmark = pytest.mark.parametrize("name", FAMILIES)


def build(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """The family's small model in double precision, and the shape of one batch for it."""
    model, options = FAMILIES[name]
    torch.manual_seed(0)
    built = timm.create_model(model, **options).double()
    randomise(built)
    size = families_hierarchical.image_size(name) if name in families_hierarchical.FAMILIES else options.get("img_size", 32)
    return built, (2, 3, size, size)


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Values far from timm's initialisation, whose zero scales would hide most of what a test compares."""
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d) and module.running_var is not None:
            module.running_var.uniform_(0.5, 1.5)


def logits(model: torch.nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    images = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    output = model(images)
    return output if isinstance(output, torch.Tensor) else torch.stack(list(output)).mean(0)


def width(axes: tuple[str, ...], rate: float) -> Rates:
    """The same rate on heads and channels, where the model has them."""
    return Rates(**{axis: rate for axis in ("heads", "mlp") if axis in axes})


def inactive(unit: ResizableModule, slot) -> torch.Tensor:
    """Which entries of a slot's full tensor are cut away now."""
    taken = torch.zeros(slot.full_shape, dtype=torch.bool)
    index = [
        i if i is not None else torch.arange(size)
        for i, size in zip(unit._indices(slot, unit.active), slot.full_shape, strict=False)
    ]
    index += [torch.arange(size) for size in slot.full_shape[len(index) :]]
    taken[torch.meshgrid(*index, indexing="ij")] = True
    return ~taken


def test_forward_and_backward_at_lower_rates_and_back_to_untouched_timm(name):
    model, shape = build(name)
    untouched = copy.deepcopy(model)
    elastic = ElasticModel(model)
    classes = [type(module) for module in model.modules()]
    for rate in (0.75, 0.5, 0.25):
        elastic.set_rates(width(elastic.axes, rate))
        logits(model.eval(), shape).sum().backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is None or parameter.grad.shape == parameter.shape, key
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key
        assert elastic.rates.at_most(Rates())
        assert not elastic.rates.full
    elastic.set_rates(Rates())
    assert [type(module) for module in model.modules()] == classes
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), untouched.state_dict().values(), strict=True))
    assert vars_of_modules(model) == vars_of_modules(untouched)
    assert torch.equal(logits(model.eval(), shape), logits(untouched.eval(), shape))
    model.zero_grad(), untouched.zero_grad()
    for candidate in (model.train(), untouched.train()):
        torch.manual_seed(2)
        logits(candidate, shape).sum().backward()
    for (key, mine), other in zip(model.named_parameters(), untouched.parameters(), strict=True):
        assert (mine.grad is None and other.grad is None) or torch.equal(mine.grad, other.grad), key


def vars_of_modules(model: torch.nn.Module) -> list[dict]:
    """Integer attributes, and sequences of them, of every module."""
    simple = (int, tuple, list)
    return [
        {k: v for k, v in vars(m).items() if isinstance(v, simple) and not isinstance(v, bool) and not k.startswith("_")}
        for m in model.modules()
    ]


@pytest.mark.parametrize("subset", ["leading", "importance"])
def test_a_shrunk_model_equals_the_full_one_with_inactive_columns_zeroed(name, subset):
    if name in WIDTH_NORMED:
        pytest.skip("a norm sees the width")
    model, shape = build(name)
    if subset not in subsets(model):
        pytest.skip("leading heads only")
    zeroed = copy.deepcopy(model)
    elastic = ElasticModel(model, Staging(subset=subset))
    elastic.set_rates(width(elastic.axes, 0.5))
    theirs = {unit.path: unit for unit in ElasticModel(zeroed)._units}
    with torch.no_grad():
        for unit in elastic._units:
            for slot, full in zip(unit.slots, theirs[unit.path].slots, strict=True):
                for dim, index in enumerate(unit._indices(slot, unit.active)):
                    if dim >= 1 and index is not None:
                        columns = torch.ones(slot.full_shape[dim], dtype=torch.bool)
                        columns[index] = False
                        full.tensor[(slice(None),) * dim + (columns,)] = 0
    ours, theirs_zeroed = logits(model.eval(), shape), logits(zeroed.eval(), shape)
    assert (ours - theirs_zeroed).abs().max() <= 1e-9 * max(1, ours.abs().max())


def test_growth_that_preserves_the_function(name):
    if name in WIDTH_NORMED:
        pytest.skip("a norm sees the width")
    model, shape = build(name)
    elastic = ElasticModel(model, Staging(subset=subsets(model)[-1], growth="zero"))
    elastic.set_rates(width(elastic.axes, 0.5))
    small = logits(model.eval(), shape)
    elastic.set_rates(width(elastic.axes, 0.75))
    assert (logits(model, shape) - small).abs().max() <= 1e-9 * max(1, small.abs().max())
    elastic.set_rates(Rates())
    assert (logits(model, shape) - small).abs().max() <= 1e-9 * max(1, small.abs().max())


def test_shrinking_training_and_growing_leave_the_inactive_untouched(name):
    model, shape = build(name)
    elastic = ElasticModel(model)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-2, weight_decay=0.1)
    step(model, optimizer, shape)
    before = [[(slot.tensor.detach().clone(), moment(optimizer, slot)) for slot in unit.slots] for unit in elastic._units]
    identities = [id(parameter) for parameter in model.parameters()]
    elastic.set_rates(width(elastic.axes, 0.5), optimizer)
    cut = [[inactive(unit, slot) for slot in unit.slots] for unit in elastic._units]
    step(model, optimizer, shape)
    elastic.set_rates(Rates(), optimizer, grow=False)  # moments of zero stay too; what growth does is tested elsewhere
    assert [id(parameter) for parameter in model.parameters()] == identities
    changed = False
    for unit, tensors, masks in zip(elastic._units, before, cut, strict=True):
        for slot, (value, old_moment), mask in zip(unit.slots, tensors, masks, strict=True):
            assert slot.tensor.shape == slot.full_shape
            assert torch.equal(slot.tensor[mask], value[mask]), f"{unit.path}.{slot.name}"
            changed |= not torch.equal(slot.tensor[~mask], value[~mask])
            if old_moment is not None:
                assert torch.equal(moment(optimizer, slot)[mask], old_moment[mask]), f"{unit.path}.{slot.name}"
    assert changed
    plain = timm.create_model(FAMILIES[name][0], **FAMILIES[name][1]).double()
    plain.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(logits(plain.eval(), shape), logits(model.eval(), shape))


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, shape: tuple[int, ...]) -> None:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(logits(model.train(), shape), torch.tensor([0, 1])).backward()
    optimizer.step()


def moment(optimizer: torch.optim.Optimizer, slot) -> torch.Tensor | None:
    state = optimizer.state.get(slot.tensor, {})
    return state["exp_avg_sq"].clone() if "exp_avg_sq" in state else None


@torch.no_grad()  # some attention biases are cached in evaluation, and would be with their graph
def test_copies_and_pickles_of_a_shrunk_model_work(name):
    model, shape = build(name)
    elastic = ElasticModel(model)
    elastic.set_rates(width(elastic.axes, 0.5))
    wanted = logits(model.eval(), shape)
    assert torch.equal(logits(copy.deepcopy(model), shape), wanted)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model)), shape), wanted)


def test_gradient_checkpointing_gives_the_same_gradients(name):
    model, shape = build(name)
    elastic = ElasticModel(model)
    elastic.set_rates(width(elastic.axes, 0.5))
    if not hasattr(model, "set_grad_checkpointing"):
        pytest.skip("timm has none for this family")
    gradients = []
    for enabled in (False, True):
        try:
            model.set_grad_checkpointing(enabled)
        except AssertionError:
            pytest.skip("timm has none for this family")
        model.zero_grad()
        torch.manual_seed(3)
        logits(model.train(), shape).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-9, rtol=1e-7) for a, b in zip(*gradients, strict=True))


COMPILED = {"beit": "inductor"} | dict.fromkeys(
    ("eva02", "relpos, mlp", "swin", "twins svt", "pvt_v2", "xcit", "hiera", "davit"), "aot_eager"
)


def test_a_compiled_shrunk_model_computes_the_same(name):
    if name not in COMPILED:
        pytest.skip("compiling takes long: one family of each kind")
    model, shape = build(name)
    elastic = ElasticModel(model)
    elastic.set_rates(width(elastic.axes, 0.5))
    torch.compiler.reset()
    compiled = torch.compile(model.eval(), dynamic=False, backend=COMPILED[name])
    logits(model, shape).sum().backward()
    wanted = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    logits(compiled, shape).sum().backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-8, rtol=1e-6) for a, b in zip(wanted, found, strict=True))
