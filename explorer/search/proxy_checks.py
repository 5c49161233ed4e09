"""Checks of the proxies of a search space that need timm and the data. They run before a sweep starts."""

from __future__ import annotations

import itertools

import torch

from explorer.errors import InvalidInput
from explorer.search.trial_plan import full_training_plan
from explorer.spec.rates import AXES, Rates
from explorer.spec.search_space import SearchSpace
from explorer.spec.task import TaskSpec
from explorer.training.architecture import create_model
from explorer.training.task import Task
from explorer.training.tensor_shapes import first_different_tensor


def check_costs(space: SearchSpace) -> None:
    """Check that every proxy costs less than the one after it, and the last one less than the target.

    Costs are counted in FLOPs: proxies of a sweep in device-seconds have steps of the same cost as the target.

    Raises:
        InvalidInput: naming the proxy that does not.
    """
    spaces = [space.proxy_space(number) for number in range(1, len(space.proxy) + 1)]
    costs = [full_training_plan(each.model_copy(update={"currency": "flops"})).full_flops for each in (*spaces, space)]
    for number, (cost, following) in enumerate(itertools.pairwise(costs)):
        if cost >= following:
            is_last = number == len(spaces) - 1
            other = "the target" if is_last else f"proxy.{number + 1}, which comes after it"
            reason = "must be cheaper" if is_last else "proxies are listed from the cheapest up"
            allowed = f"costs {cost / following:.3g} of the full training of {other}: {reason}"
            raise InvalidInput(f"proxy.{number}", str(space.proxy[number]), allowed)


def check_pretrained(space: SearchSpace) -> None:
    """Check that timm's pretrained weights fit the models of proxies: that these have the tensors of the target's model.

    Without it, timm would fail in the first trial, or leave tensors out. Files (`model.checkpoint`) are compared anyway.

    Raises:
        InvalidInput: naming the proxy and the first tensor that differs.
    """
    if not space.task.model.pretrained:
        return
    of_target = _tensor_shapes(space.task)
    for number, proxy in enumerate(space.proxy):
        same_images = proxy.model_copy(update={"image_size": None})  # timm resizes what depends on their size
        if proxy.model and (different := first_different_tensor(of_target, _tensor_shapes(same_images.task(space.task)))):
            allowed = (
                f"needs the tensors of the target's model, which starts from pretrained weights (model.pretrained): "
                f"{different.name} {different.in_file} there, and {different.in_model} with these options; use fewer images, "
                "fewer epochs or smaller images"
            )
            raise InvalidInput(f"proxy.{number}.model", proxy.model, allowed)


def _tensor_shapes(task: TaskSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = create_model(task.model, Task(task).model_arguments())
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def proxy_warnings(space: SearchSpace) -> tuple[str, ...]:
    """What to say before a sweep: rates of the search that a proxy cannot tell apart."""
    lines = []
    for number in range(1, len(space.proxy) + 1):
        task = Task(space.proxy_space(number).task)
        for axis in AXES:
            levels = getattr(space.search.rates, axis)
            realised = [getattr(task.step_cost(Rates(**{axis: level})).rates, axis) for level in levels]
            for (level, size), (higher, same) in itertools.pairwise(zip(levels, realised, strict=True)):
                if size == same:
                    lines.append(f"proxy {number} cannot tell {axis} {level:g} from {higher:g}: both are {size:g} of its model")
    return tuple(lines)
